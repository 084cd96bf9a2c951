"""Makes shards, each by one process at a time: by claims, and in worker processes.

Any number of processes may make the shards of one folder: tasks of a cluster, a task that was
started again while its predecessor still runs, the same command given twice. Each shard is claimed
when its files are read; what another process has claimed is left to it, and made here if it dies.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from ..storage.claims import Claim, holder, take
from ..storage.stages import worker_pool
from .convert_pool import Conversion, Converter, File, Row, bound_memory
from .shard_files import Shard, files_of, write_shard

logger = logging.getLogger(__name__)

_MOST_BROKEN_POOLS = 5  # in a row, for one shard
_POLL_SECONDS = 1.0


def make_shards(
    shards: list[Shard],
    conversion: Conversion,
    workers: int | None,
    advance: Callable[[int], object],
) -> int:
    """Converts the files of shards, and writes each shard once it is complete.

    Returns when all of them exist, including those that other processes make. A worker that dies
    before it has reported its task takes its whole pool down; the remaining shards then go to a new
    pool.

    Args:
        shards: Grouped by source, in the order of the plan.
        conversion: How each file is converted.
        workers: Number of processes; all cores if None.
        advance: Called with the number of files newly done.

    Returns:
        Number of files that were converted here.

    Raises:
        SourceError: If a source changed since the plan.
        OSError: If a shard cannot be written; earlier ones are kept.
        BrokenProcessPool: If pools keep breaking before a shard is complete.
    """
    ours, n_broken, n_files, told = _ClaimedShards(shards), 0, 0, 0

    def tell(n_more: int) -> None:
        nonlocal told
        told += n_more
        advance(n_more)

    try:
        while ours.missing:
            try:
                with worker_pool(workers, bound_memory) as pool:
                    for rows in Converter(pool, conversion).rows(ours.claimed_files(), tell):
                        n_files += ours.write(rows)
                        n_broken = told = 0
            except BrokenProcessPool:
                n_broken += 1
                if n_broken > _MOST_BROKEN_POOLS:
                    raise
                tell(-told)
            else:
                ours.wait_for_others(advance)
    finally:
        ours.release()
    return n_files


class _ClaimedShards:
    """The shards that are missing, and the claims of this process on some of them."""

    def __init__(self, shards: list[Shard]) -> None:
        self.missing = {shard.path: shard for shard in shards}
        self._claims: dict[Path, Claim] = {}
        self._being_made: deque[Shard] = deque()

    def claimed_files(self) -> Iterator[Iterator[File]]:
        """Yields the files of each shard that is free; it is claimed when they are read ahead."""
        self._being_made.clear()
        shards = list(self.missing.values())
        for shard, files in zip(shards, files_of(shards), strict=True):
            if self._claim(shard):
                self._being_made.append(shard)
                yield files
            else:
                deque(files, maxlen=0)  # read past them: an archive is read in one pass

    def write(self, rows: list[Row]) -> int:
        """Writes the first of the shards that are being made; returns its number of files."""
        shard = self._being_made.popleft()
        write_shard(shard, rows)
        del self.missing[shard.path]
        self._claims.pop(shard.path).release()
        return len(shard.members)

    def wait_for_others(self, advance: Callable[[int], object]) -> None:
        """Returns when no shard is missing, or when some have become free: their maker died."""
        self._forget_made(advance)
        for shard in list(self.missing.values())[:1]:
            logger.warning(
                "waiting for %s that others are making; the first is %s, by %s",
                f"{len(self.missing):,} shard" + "s" * (len(self.missing) > 1),
                shard.path.name,
                holder(shard.claim),
            )
        while self.missing and not [s for s in self.missing.values() if self._claim(s)]:
            time.sleep(_POLL_SECONDS)
            self._forget_made(advance)

    def release(self) -> None:
        """Releases all claims."""
        for claim in self._claims.values():
            claim.release()

    def _forget_made(self, advance: Callable[[int], object]) -> None:
        for shard in [shard for path, shard in self.missing.items() if path.exists()]:
            del self.missing[shard.path]
            advance(len(shard.members))

    def _claim(self, shard: Shard) -> bool:
        """Claims a shard, unless it is another's or was made in the meantime."""
        if shard.path in self._claims:
            return True
        claim = take(shard.claim)
        if claim is None:
            return False
        if shard.path.exists():
            claim.release()
            return False
        self._claims[shard.path] = claim
        return True
