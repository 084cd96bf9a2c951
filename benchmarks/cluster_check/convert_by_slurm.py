"""The conversion by datatrove on Slurm: the command given twice, one task killed and requeued."""

from pathlib import Path

from .checks import Checks
from .collection import Collection, shards_in
from .commands import run, wait_until
from .slurm_host import TASKS_AT_ONCE, Slurm

OUT = "on_slurm"
COMMAND = """\
python -m data_prep.convert_datatrove $MUSIC $OUT --executor slurm \\
  --tasks 3 --workers 2 --partition cpu --time 00:30:00"""


def check(collection: Collection, place: Path, slurm: Slurm, checks: Checks) -> None:
    """Converts the collection, and kills the first task after its first shard.

    The tasks of the second command have the same shards as those of the first.

    Raises:
        CheckError: If a command fails, or what must happen does not.
    """
    env = {**slurm.env, "MUSIC": collection.sources, "OUT": OUT}
    for _ in range(2):
        run(["bash", "-c", COMMAND], env, place)
    victim = slurm.first_task()
    first = "part-00000-*.parquet"
    wait_until(lambda: list((place / OUT).glob(first)), "the first shard of a Slurm task")
    n_made = len(shards_in(place / OUT))
    slurm.kill_and_requeue(victim)
    at_once = slurm.wait_for_all()
    n_all, n_restarts = len(collection.shards), slurm.n_restarts(victim)
    what = "conversion task killed and requeued by Slurm"
    found = f"task {victim} after {n_made} of {n_all} shards, {n_restarts} restart"
    checks.tell(n_restarts == 1 and n_made < n_all, what, found)
    checks.tell(at_once == TASKS_AT_ONCE, "Slurm tasks at once, at most", str(at_once))
    collection.compare(place / OUT, "Slurm", checks)
