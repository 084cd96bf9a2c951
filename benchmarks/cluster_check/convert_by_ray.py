"""The conversion by datatrove on two nodes of Ray, with the process of one task killed."""

from functools import partial
from pathlib import Path

from .checks import Checks
from .collection import Collection, shards_in
from .commands import CheckError, wait_until
from .processes import Daemon, kill
from .ray_nodes import Ray

OUT, N_TASKS = "on_ray", 3
COMMAND = "python -m data_prep.convert_datatrove $MUSIC $OUT --executor ray --tasks 3 --workers 2"


def check(collection: Collection, place: Path, ray: Ray, checks: Checks) -> None:
    """Converts the collection, and kills the process of the first task after its first shard.

    What that process has started lives on for a while, beside the task that takes its place.

    Raises:
        CheckError: If the command fails, or what must happen does not.
    """
    out, seen = place / OUT, {}
    env = {**ray.env, "MUSIC": collection.sources, "OUT": OUT}
    command = Daemon(["bash", "-c", COMMAND], place / "on_ray.log", env, place)
    try:
        wait_until(partial(_has_begun, command, ray, out, seen), "the first shard of a Ray task")
        n_made, victim = len(shards_in(out)), min(ray.tasks(), default=None)
        if victim is None:
            raise CheckError(f"no Ray task was running after {n_made} shards; see {command.log}")
        kill([victim])
        wait_until(partial(_has_ended, command, ray, seen), "the end of the conversion on Ray")
    finally:
        command.stop()
    what = "process of a conversion task killed on Ray"
    found = f"process {victim} after {n_made} of {len(collection.shards)} shards"
    is_restarted = n_made < len(collection.shards) and len(seen) > N_TASKS
    checks.tell(is_restarted, what, f"{found}, {len(seen)} processes for {N_TASKS} tasks")
    n_nodes = len(set(seen.values()))
    checks.tell(n_nodes == 2, "nodes of Ray that ran tasks", str(n_nodes))
    collection.compare(out, "Ray", checks)


def _has_begun(command: Daemon, ray: Ray, out: Path, seen: dict[int, int]) -> bool:
    command.check_alive()
    seen.update(ray.tasks())
    return any(out.glob("part-00000-*.parquet"))


def _has_ended(command: Daemon, ray: Ray, seen: dict[int, int]) -> bool:
    seen.update(ray.tasks())
    if command.process.poll():
        command.check_alive()
    return command.process.poll() is not None
