"""Conversion and training on a real Slurm and a real Ray: the same bytes as on one machine.

    make cluster-check

A Slurm of one host that runs two tasks at a time, and a Ray of two nodes, are set up in a temporary
folder and ended afterwards; systemd is not needed. As root on Debian, missing packages are
installed; an installation that exists is used with a configuration of its own and left as it is.

On Slurm, a small collection is converted by a command that is given twice, and a small study is
trained by an array job; in each, all processes of one task are killed (kill -9) in the middle, and
the task is requeued. On Ray, the collection is converted by both nodes, and the process of one task
is killed. What they leave is compared with what one process on one machine leaves.

Prints a line per check. Exit status 1 if one failed; the folder is kept then, and named.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from . import convert_by_ray, convert_by_slurm, train_by_slurm
from .checks import Checks
from .collection import make_collection
from .commands import CheckError
from .installed import install_slurm
from .ray_nodes import start_ray
from .slurm_host import start_slurm


def run(place: Path, checks: Checks) -> None:
    """Runs all parts; one that breaks off does not stop the others."""
    music = place / "music"
    try:
        collection = make_collection(music)
    except CheckError as error:
        checks.tell(False, "conversion by one process", str(error))
        return
    with checks.part("Slurm"), start_slurm(place / "slurm") as slurm:
        with checks.part("conversion on Slurm"):
            convert_by_slurm.check(collection, music, slurm, checks)
        with checks.part("study on Slurm"):
            train_by_slurm.check(place / "study", slurm, checks)
    with checks.part("conversion on Ray"), start_ray(place / "ray") as ray:
        convert_by_ray.check(collection, music, ray, checks)


def main() -> int:
    """Command line; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leaves no daemon behind either
    started = time.monotonic()
    try:
        install_slurm()
    except CheckError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    place, checks = Path(tempfile.mkdtemp(prefix="cluster-")), Checks()
    os.environ["TMPDIR"] = str(place)  # where datatrove and torch leave files, too
    try:
        run(place, checks)
    except KeyboardInterrupt:
        shutil.rmtree(place)
        print("interrupted; all that was started is ended", file=sys.stderr)
        return 130
    seconds = time.monotonic() - started
    print(f"{checks.n_passed} checks passed, {checks.n_failed} failed; {seconds:.0f} s")
    if checks.n_failed:
        print(f"logs are kept in {place}")
        return 1
    shutil.rmtree(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
