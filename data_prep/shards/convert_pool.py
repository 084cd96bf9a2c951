"""Worker processes that convert files in order, several per task, and survive bad files.

Files of a task whose worker dies or times out are retried alone, one by one, once the rest of their
shard is done; those that fail again are recorded. Only enough is read ahead to keep the workers
busy across shard boundaries.
"""

import itertools
import resource
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from ..collections.members import Content
from ..storage.drop_reasons import DropReason
from .convert_file import failed, row_before
from .convert_member import convert_member, kind_of_member

Row = dict[str, Any]
File = tuple[str, Content]

BATCH_BYTES = 4_000_000  # per task
AHEAD_FILES = 256  # two shards
AHEAD_BYTES = 64_000_000
# A last resort: normally `midi.limits.LIMITS` apply, which do not depend on the machine.
FILE_TIMEOUT_SECONDS = 60.0
WORKER_BYTES = 2 << 30  # address space on top of what a worker has when it starts


@dataclass(frozen=True)
class Conversion:
    """How each file is converted.

    Attributes:
        layout: One of `tune.LAYOUTS`.
        timeout_seconds: For a task, and for a file that is retried alone; times the patience with
            its kind.
        convert: (name, bytes, layout) -> row; a function that a new process can import.
    """

    layout: str = "bars"
    timeout_seconds: float = FILE_TIMEOUT_SECONDS
    convert: Callable[[str, bytes, str], Row] = convert_member


@dataclass
class _Batch:
    shard: int
    files: list[File] = field(default_factory=list)
    n_bytes: int = 0
    future: ProcessFuture | None = None


class Converter:
    """Converts files in a pool of worker processes."""

    def __init__(self, pool: ProcessPool, conversion: Conversion) -> None:
        self._pool, self._conversion = pool, conversion

    def rows(
        self, shards: Iterable[Iterable[File]], advance: Callable[[int], object]
    ) -> Iterator[list[Row]]:
        """Yields the rows of each shard, in the order of its files.

        Args:
            shards: The files of each shard; they are read ahead, in order.
            advance: Called with the number of files newly done.
        """
        scheduled = self._scheduled(shards)
        for _, batches in itertools.groupby(scheduled, key=lambda batch: batch.shard):
            rows, again = [], []
            for batch in batches:
                for file, row in zip(batch.files, self._result(batch), strict=True):
                    if row is None:
                        again.append((len(rows), file))
                    rows.append(row)
                    advance(row is not None)
            for place, file in again:
                rows[place] = self._alone(file)
                advance(1)
            yield rows

    def _scheduled(self, shards: Iterable[Iterable[File]]) -> Iterator[_Batch]:
        """Yields batches in order; the following ones are already in the workers' queue."""
        ahead: deque[_Batch] = deque()
        for batch in _batches(shards):
            batch.future = self._schedule(batch.files)
            ahead.append(batch)
            while sum(len(b.files) for b in ahead) > AHEAD_FILES or (
                len(ahead) > 1 and sum(b.n_bytes for b in ahead) > AHEAD_BYTES
            ):
                yield ahead.popleft()
        yield from ahead

    def _schedule(self, files: list[File]) -> ProcessFuture:
        task = partial(_convert_batch, files, self._conversion)
        return self._pool.schedule(task, timeout=self._seconds(files))

    def _seconds(self, files: list[File]) -> float:
        patience = max(kind_of_member(name).patience for name, _ in files)
        return self._conversion.timeout_seconds * patience

    def _result(self, batch: _Batch) -> list[Row | None]:
        """Returns the rows of a batch, or None for each of its files if they must be retried."""
        try:
            return batch.future.result()
        except (FutureTimeoutError, ProcessExpired, MemoryError):
            return [None] * len(batch.files)

    def _alone(self, file: File) -> Row:
        row = row_before(*file)
        if row["drop_reason"]:  # it could not be read, so it did not cause the failure
            return row
        try:
            return self._schedule([file]).result()[0]
        except FutureTimeoutError:
            seconds = self._seconds([file])
            return failed(row, DropReason.TIMEOUT, f"not done after {seconds:g} s")
        except ProcessExpired as error:
            return failed(row, DropReason.CRASH, f"the worker died with code {error.exitcode}")
        except MemoryError:
            return failed(row, DropReason.CRASH, f"more than {WORKER_BYTES >> 30} GiB of memory")


def _batches(shards: Iterable[Iterable[File]]) -> Iterator[_Batch]:
    for number, files in enumerate(shards):
        batch = _Batch(number)
        for name, content in files:
            batch.files.append((name, content))
            batch.n_bytes += len(content) if isinstance(content, bytes) else 0
            most = kind_of_member(name).files_a_task
            if len(batch.files) >= most or batch.n_bytes >= BATCH_BYTES:
                yield batch
                batch = _Batch(number)
        if batch.files:
            yield batch


def _convert_batch(files: list[File], conversion: Conversion) -> list[Row]:
    """Converts the files of one task; runs in a worker."""
    return [
        conversion.convert(name, content, conversion.layout)
        if isinstance(content, bytes)
        else row_before(name, content)
        for name, content in files
    ]


def bound_memory() -> None:
    """Limits a worker's memory, so that it fails by itself before the machine stalls."""
    if not sys.platform.startswith("linux"):  # elsewhere the limit is not enforced, or unknown
        return
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + WORKER_BYTES
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
