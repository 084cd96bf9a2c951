"""The plan of a conversion as a file, so that the tasks of a cluster need not list the sources."""

import gzip
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

from ..collections.members import Member
from ..collections.sources import Source
from .shard_files import Shard


def write_plan(folder: Path, shards: list[Shard]) -> Path:
    """Writes a line for the sources, and one per shard that refers to its source by index.

    The plan is named by its content, so that a task finds the one for which it was queued. Plans
    for other inputs are deleted, which ends their tasks: their shards are no longer wanted. JSON
    round-trips bytes in names that are not UTF-8.

    Args:
        folder: Where the plan goes; only one process may write there.
        shards: All shards; their sources have absolute paths, since tasks start anywhere.
    """
    part, digest = folder / "plan.part", hashlib.sha256()
    sources = list(dict.fromkeys(shard.source for shard in shards))
    header = [(str(source.path), source.name) for source in sources]
    rows = (
        (shard.path.name, sources.index(shard.source), [astuple(each) for each in shard.members])
        for shard in shards
    )
    with gzip.open(part, "wt", encoding="ascii", compresslevel=1) as file:
        for row in itertools.chain([header], rows):
            line = json.dumps(row) + "\n"
            digest.update(line.encode("ascii"))
            file.write(line)
    plan = folder / f"shards-{digest.hexdigest()[:12]}.plan"
    part.replace(plan)
    for other in set(folder.glob("shards*.plan")) - {plan}:
        other.unlink()
    return plan


def read_plan(plan: Path, folder: Path, rank: int, world_size: int) -> Iterator[Shard]:
    """Yields every `world_size`-th shard of a plan, starting at `rank`.

    Args:
        plan: From `write_plan`.
        folder: Folder of the shards.
        rank: Number of the task, from 0.
        world_size: Number of tasks.

    Raises:
        ValueError: If the folder has been planned for other inputs since.
    """
    if not plan.exists():
        raise ValueError(
            f"{folder} was planned for other inputs after this task was queued, so it makes "
            "nothing; to keep both conversions, give each a folder of its own"
        )
    with gzip.open(plan, "rt", encoding="ascii") as lines:
        sources = [Source(Path(path), name) for path, name in json.loads(next(lines))]
        for line in itertools.islice(lines, rank, None, world_size):
            name, source, members = json.loads(line)
            yield Shard(folder / name, sources[source], [Member(*each) for each in members])
