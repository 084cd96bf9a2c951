"""The conversion by datatrove on two nodes of Ray, with the process of one task killed."""

import subprocess
from pathlib import Path

from .checks import Checks
from .collection import Collection, shards_in
from .commands import CheckError, wait_until
from .processes import kill
from .ray_nodes import Ray

OUT = "on_ray"
COMMAND = "python -m data_prep.convert_datatrove $MUSIC $OUT --executor ray --tasks 3 --workers 2"


def check(collection: Collection, place: Path, ray: Ray, checks: Checks) -> None:
    """Converts the collection, and kills the process of the first task after its first shard.

    What that process has started lives on for a while, beside the task that takes its place.

    Raises:
        CheckError: If the command fails, or what must happen does not.
    """
    env = {**ray.env, "MUSIC": collection.sources, "OUT": OUT}
    log = place / "on_ray.log"
    with log.open("w") as output:
        options = {"stdout": output, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        command = subprocess.Popen(["bash", "-c", COMMAND], cwd=place, env=env, **options)
    try:
        nodes: dict[int, int] = {}

        def has_begun() -> bool:
            nodes.update(ray.tasks())
            return command.poll() is not None or bool(
                list((place / OUT).glob("part-00000-*.parquet"))
            )

        wait_until(has_begun, "the first shard of a Ray task")
        n_made, victim = len(shards_in(place / OUT)), min(ray.tasks(), default=None)
        if victim is None:
            raise CheckError(f"no Ray task was running after {n_made} shards; see {log}")
        kill([victim])

        def has_ended() -> bool:
            nodes.update(ray.tasks())
            return command.poll() is not None

        wait_until(has_ended, "the end of the conversion on Ray")
    finally:
        command.kill()
        command.wait()
    if command.returncode:
        raise CheckError(f"the conversion on Ray ended with {command.returncode}; see {log}")
    n_all, n_nodes = len(collection.shards), len(set(nodes.values()))
    what = "process of a conversion task killed on Ray"
    found = f"process {victim} after {n_made} of {n_all} shards"
    checks.tell(n_made < n_all, what, found)
    checks.tell(n_nodes == 2, "nodes of Ray that ran tasks", str(n_nodes))
    collection.compare(place / OUT, "Ray", checks)
