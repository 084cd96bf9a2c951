"""Commands, the environment they run in, and waiting for what they do."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 600.0  # for what takes seconds, unless the machine is busy
POLL_SECONDS = 0.1
_OF_SCHEDULERS = ("SLURM", "SBATCH", "SRUN", "SALLOC", "SQUEUE", "SINFO", "SCANCEL", "RAY")


class CheckError(Exception):
    """A part cannot go on; its message says why."""


def environment(**more: str) -> dict[str, str]:
    """Returns the environment of all commands: this `python`, one thread, no GPU.

    What an existing cluster has set is left out. Weights are equal bit by bit only if all are
    computed on the same kind of device.
    """
    own = {k: v for k, v in os.environ.items() if not k.startswith(_OF_SCHEDULERS)}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    fixed = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(PROJECT)}
    return {**own, "PATH": path, **fixed, **more}


def run(command: list[str], env: dict[str, str], folder: Path | None = None) -> str:
    """Runs a command to its end; returns its stdout.

    Raises:
        CheckError: If it fails; the message has its last lines.
    """
    options = {"capture_output": True, "text": True, "errors": "replace"}
    done = subprocess.run(command, env=env, cwd=folder, stdin=subprocess.DEVNULL, **options)
    if done.returncode:
        tail = " | ".join((done.stdout + done.stderr).strip().splitlines()[-3:])
        raise CheckError(f"{' '.join(command)} ended with {done.returncode}: {tail}")
    return done.stdout


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Waits for something that must happen.

    Raises:
        CheckError: If it does not happen in time.
    """
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise CheckError(f"{what} did not happen within {LIMIT_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
