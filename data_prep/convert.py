"""Stage 1 over a whole collection: worker processes, limits, shards, resume.

Each shard of the output is one parquet file that appears whole or not at all, under a name that
holds a digest of its input and of the converter's code. A broken-off conversion therefore goes on
at the first missing shard, and a changed converter does its work again.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pebble import ProcessExpired, ProcessFuture, ProcessPool
from tqdm import tqdm

from . import midi_to_abc as converter
from .sources import Member, Source
from .stages import worker_pool

SHARD_FILES = 128  # what an interruption costs at most
# A last resort: the limits of `midi_file.LIMITS` decide, and they do not depend on the machine.
FILE_TIMEOUT_SECONDS = 60.0

SCHEMA = pa.schema(
    [
        ("digest", pa.string()),
        ("source", pa.string()),
        ("path", pa.string()),
        ("abc", pa.string()),
        ("drop_reason", pa.string()),
        ("message", pa.string()),
    ]
)


def convert_file(name: str, midi: bytes, layout: str) -> dict[str, Any]:
    """Converts one file to a row; a failure is a row with its reason."""
    row = {"digest": hashlib.sha256(midi).hexdigest(), "path": _printable(name), "abc": None}
    try:
        abc = converter.midi_to_abc(midi, layout=layout)
    except converter.MidiError as error:
        return row | {"drop_reason": error.reason, "message": str(error)}
    return row | {"abc": abc, "drop_reason": None, "message": None}


def _printable(name: str) -> str:
    """A file's name as text; bytes that are no UTF-8 are replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def convert_collection(
    source: Source, folder: Path, *, layout: str, code_digest: str, workers: int | None = None
) -> list[Path]:
    """Converts all files of a source into shards.

    Args:
        source: What to convert.
        folder: Where the shards go; shards of other inputs are removed from it.
        layout: One of `tune.LAYOUTS`.
        code_digest: Digest of the converter's code, part of the shards' names.
        workers: Processes; all cores if None.

    Returns:
        The shards, in order.

    Raises:
        SourceError: If the source cannot be read or is empty.
    """
    members = source.members()
    folder.mkdir(parents=True, exist_ok=True)
    shards = [members[start : start + SHARD_FILES] for start in range(0, len(members), SHARD_FILES)]
    paths = [
        folder / f"part-{number:05d}-{_shard_digest(shard, source, layout, code_digest)}.parquet"
        for number, shard in enumerate(shards)
    ]
    for stale in set(folder.glob("part-*")) - set(paths):
        stale.unlink()
    todo = [(path, shard) for path, shard in zip(paths, shards, strict=True) if not path.exists()]
    if todo:
        _convert_shards(source, todo, len(members), layout, workers)
    return paths


def _shard_digest(shard: list[Member], source: Source, layout: str, code_digest: str) -> str:
    text = "\n".join([source.name, layout, code_digest, *(f"{m.name} {m.stamp}" for m in shard)])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _convert_shards(
    source: Source,
    todo: list[tuple[Path, list[Member]]],
    total: int,
    layout: str,
    workers: int | None,
) -> None:
    """Converts shard after shard; the files of one shard in parallel."""
    left = sum(len(shard) for _, shard in todo)
    files = source.read([member for _, shard in todo for member in shard])
    with (
        tqdm(desc="MIDI -> ABC", total=total, initial=total - left, unit="file") as progress,
        worker_pool(workers) as pool,
    ):
        for path, shard in todo:
            rows = list(_convert_rows(pool, files, len(shard), layout, progress))
            for row in rows:
                row["source"] = source.name
            part = path.with_suffix(".part")
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), part, compression="zstd")
            part.rename(path)


def _convert_rows(
    pool: ProcessPool,
    files: Iterator[tuple[Member, bytes | converter.MidiError]],
    count: int,
    layout: str,
    progress: tqdm,
) -> Iterator[dict[str, Any]]:
    jobs: list[tuple[dict[str, Any], ProcessFuture | None]] = []
    for member, midi in itertools.islice(files, count):
        row: dict[str, Any] = {"digest": "", "path": _printable(member.name), "abc": None}
        if isinstance(midi, converter.MidiError):
            jobs.append((row | {"drop_reason": midi.reason, "message": str(midi)}, None))
            continue
        row["digest"] = hashlib.sha256(midi).hexdigest()
        arguments = [member.name, midi, layout]
        jobs.append((row, pool.schedule(convert_file, arguments, timeout=FILE_TIMEOUT_SECONDS)))
    for row, future in jobs:
        try:
            yield future.result() if future else row
        except FutureTimeoutError:
            message = f"not done after {FILE_TIMEOUT_SECONDS:.0f} s"
            yield row | {"drop_reason": "timeout", "message": message}
        except ProcessExpired as error:
            message = f"worker died with code {error.exitcode}"
            yield row | {"drop_reason": "crash", "message": message}
        progress.update()
