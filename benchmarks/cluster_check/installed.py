"""Which programs of Slurm are there, and how they get there."""

import os
import shutil
from pathlib import Path

from .commands import CheckError, run

PACKAGES = ("slurm-wlm", "munge")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "sinfo", "squeue", "munged")


def find_program(name: str) -> str | None:
    """Returns the path of a program, also if only root has its folder in PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def install_slurm() -> None:
    """Installs Slurm and munge by apt, if a program is missing.

    Raises:
        CheckError: If they are missing and this is not root on Debian, or apt fails.
    """
    missing = [name for name in PROGRAMS if not find_program(name)]
    if not missing:
        return
    by_hand = f"apt-get install {' '.join(PACKAGES)}"
    if os.geteuid() or not Path("/etc/debian_version").exists():
        raise CheckError(
            f"no program {', '.join(missing)}; install Slurm and munge (on Debian, as root: "
            f"{by_hand}), and repeat the command"
        )
    print(f"installing {' and '.join(PACKAGES)} by apt-get", flush=True)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update"], env)
    run(["apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES], env)
    if left := [name for name in PROGRAMS if not find_program(name)]:
        raise CheckError(f"{by_hand} brought no {', '.join(left)}")
