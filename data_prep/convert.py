"""Stage 1 over whole collections: MIDI files -> shards of ABC text, with every failure as a row.

    python -m data_prep.convert SOURCE [SOURCE ...] OUT [--workers N] [--layout bars]

Each shard is one parquet file that appears whole or not at all, under a name that holds a digest
of its input and of the converter's code. A broken-off conversion therefore goes on at the first
missing shard, and a changed converter does its work again. The output is the same, byte by byte,
for any number of workers and interruptions.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import itertools
import logging
import os
import re
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from .archives import Member
from .convert_file import CONVERTER
from .convert_pool import Conversion, Converter, File, Row, bound_memory
from .drop_reasons import counted, reasons_help
from .explain import explain
from .sources import Source, open_source
from .stages import code_digest, describe_files, read_stage, worker_pool, write_json
from .tune import LAYOUTS

SHARD_FILES = 128  # what an interruption costs at most
SCHEMA = pa.schema(
    [
        ("digest", pa.string()),  # sha256 of the bytes; "" if they could not be read
        ("source", pa.string()),
        ("path", pa.string()),
        ("abc", pa.string()),
        ("drop_reason", pa.string()),
        ("message", pa.string()),
        ("n_notes", pa.int64()),
        ("n_bars", pa.int64()),
        ("n_seconds", pa.float64()),
        ("n_voices", pa.int32()),
        ("programs", pa.list_(pa.int32())),
        ("has_drums", pa.bool_()),
    ]
)
_SHARD_NAME = re.compile(r"part-\d{5,}-[0-9a-f]{12}\.(parquet|[0-9a-f]{8}\.part)")


@dataclass(frozen=True)
class Converted:
    """What a conversion left and did.

    Attributes:
        shards: All shards, in order.
        sources: Paths of what was converted.
        n_files: Files that this run converted; the others were there.
        seconds: Wall time of this run.
    """

    shards: list[Path]
    sources: list[str]
    n_files: int
    seconds: float


@dataclass(frozen=True)
class Shard:
    """One file of the output, and what goes into it; it is done when it lies at its path."""

    path: Path
    source: Source
    members: list[Member]


def convert_collection(
    sources: list[Source],
    folder: Path,
    *,
    conversion: Conversion | None = None,
    workers: int | None = None,
) -> Converted:
    """Converts all files of some sources into shards; those that are there already stay.

    Args:
        sources: What to convert; their order makes no difference.
        folder: Where the shards go; shards of other inputs are removed from it.
        conversion: What is done to each file.
        workers: Processes; all cores if None.

    Raises:
        SourceError: If a source cannot be read or is empty.
        OSError: If a shard cannot be written; those before it are kept.
        ValueError: If another conversion writes to the folder.
    """
    start = time.monotonic()
    conversion = conversion or Conversion()
    shards = plan_shards(sources, folder, conversion.layout)
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        todo = missing_shards(folder, shards)
        n_files = sum(len(shard.members) for shard in todo)
        if todo:
            total = sum(len(shard.members) for shard in shards)
            with tqdm(
                desc="MIDI -> ABC", total=total, initial=total - n_files, unit="file"
            ) as progress:
                make_shards(todo, conversion, workers, progress.update)
    seconds = time.monotonic() - start
    return Converted([shard.path for shard in shards], recorded_paths(sources), n_files, seconds)


def recorded_paths(sources: list[Source]) -> list[str]:
    """Returns what stage.json says of the sources."""
    return sorted({str(source.path) for source in sources})


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keeps a second process that writes out of a folder; the lock ends with the process.

    Raises:
        ValueError: If another process has it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ValueError(f"{folder}: another process is writing there; let it end") from error
    finally:
        os.close(handle)


def missing_shards(folder: Path, shards: list[Shard]) -> list[Shard]:
    """Removes shards of other inputs from a folder, and returns those that are still to be made."""
    wanted = {shard.path for shard in shards}
    for path in folder.iterdir():
        if _SHARD_NAME.fullmatch(path.name) and path not in wanted:
            path.unlink()
    return [shard for shard in shards if not shard.path.exists()]


def plan_shards(sources: list[Source], folder: Path, layout: str) -> list[Shard]:
    """Cuts each source into shards; a shard holds files of one source.

    Raises:
        SourceError: If a source cannot be read or is empty.
    """
    code = code_digest(CONVERTER)
    shards: list[Shard] = []
    for source in sorted(set(sources), key=lambda source: (source.name, str(source.path))):
        members = source.members()
        for start in range(0, len(members), SHARD_FILES):
            part = members[start : start + SHARD_FILES]
            lines = [source.name, layout, code, *(f"{m.name} {m.stamp}" for m in part)]
            text = "\n".join(lines).encode("utf-8", "surrogateescape")
            digest = hashlib.sha256(text).hexdigest()[:12]
            path = folder / f"part-{len(shards):05d}-{digest}.parquet"
            shards.append(Shard(path, source, part))
    return shards


def make_shards(
    shards: list[Shard],
    conversion: Conversion,
    workers: int | None,
    advance: Callable[[int], object],
) -> None:
    """Converts the files of shards, and writes each shard when it is whole.

    Args:
        shards: Those of one source stand together and in the order of the plan.
        conversion: What is done to each file.
        workers: Processes; all cores if None.
        advance: Is told how many files more are done.

    Raises:
        SourceError: If a source changed since the plan.
        OSError: If a shard cannot be written; those before it are kept.
    """
    with worker_pool(workers, bound_memory) as pool:
        done = Converter(pool, conversion).rows(_files(shards), advance)
        for shard, rows in zip(shards, done, strict=True):
            _write_shard(shard, rows)


def _files(shards: list[Shard]) -> Iterator[Iterator[File]]:
    """Yields the files of each shard; they are read as they are taken, in one pass a source."""
    for source, group in itertools.groupby(shards, key=lambda shard: shard.source):
        ours = list(group)
        contents = source.read([member for shard in ours for member in shard.members])
        for shard in ours:
            yield (
                (member.name, content)
                for member, content in itertools.islice(contents, len(shard.members))
            )


def _write_shard(shard: Shard, rows: list[Row]) -> None:
    # A name of its own for each try: on a cluster, a lost task may still write when its
    # successor does. Both put the same bytes there.
    part = shard.path.with_suffix(f".{secrets.token_hex(4)}.part")
    try:
        table = pa.Table.from_pylist([row | {"source": shard.source.name} for row in rows], SCHEMA)
        pq.write_table(table, part, compression="zstd")
        part.replace(shard.path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


# ---------------------------------------------------------------- summary


def write_summary(folder: Path, converted: Converted, layout: str) -> dict[str, Any]:
    """Counts the rows of the shards by reason and writes stage.json beside them.

    Args:
        folder: Of the shards.
        converted: Its `seconds` and files a second stay those of the last run that did something.
        layout: Of the text.

    Returns:
        The content of stage.json.
    """
    shards = converted.shards
    names = "\n".join(shard.name for shard in shards)
    digest = hashlib.sha256(names.encode()).hexdigest()
    before = read_stage(folder)
    if before and (before["digest"], before.get("sources")) == (digest, converted.sources):
        return before
    sums: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for shard in shards:
        _add_counts(shard, sums, dropped)
    stage = {
        "stage": folder.name,
        "digest": digest,
        "sources": converted.sources,
        "code": code_digest(CONVERTER),
        "settings": {"layout": layout},
        "rows_in": sums["rows"],
        "rows_out": sums["rows"] - dropped.total(),
        "dropped": dict(sorted(dropped.items())),
        **{name: sums[name] for name in ("n_chars", "n_notes", "n_bars", "n_seconds")},
        "files_converted": converted.n_files,  # by the last run, in these seconds
        "seconds": round(converted.seconds, 1),
        "files_per_second": round(converted.n_files / converted.seconds, 1),
        "files": describe_files(shards),
    }
    write_json(folder / "stage.json", stage)
    return stage


def _add_counts(shard: Path, sums: Counter[str], dropped: Counter[str]) -> None:
    from .parts import Part  # datasets takes a second to import, and each worker imports this file

    columns = ["abc", "drop_reason", "n_notes", "n_bars", "n_seconds"]
    rows = Part((shard,)).read(columns).to_pylist()
    sums["rows"] += len(rows)
    for row in rows:
        if row["drop_reason"]:
            dropped[row["drop_reason"]] += 1
            continue
        sums["n_chars"] += len(row["abc"])
        for name in columns[2:]:
            sums[name] += row[name]


def summary_line(stage: dict[str, Any], folder: Path) -> str:
    """Returns the counts of a conversion in one line."""
    return (
        f"{folder}: {stage['rows_in']:,} files -> {stage['rows_out']:,} tunes, "
        f"{stage['n_chars']:,} characters; dropped: {counted(stage['dropped'])}"
    )


# ---------------------------------------------------------------- command line


def argument_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Returns a command line with what every engine is told: sources, folder, layout."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=reasons_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folder, .zip, .tar.gz, .parquet, hf://datasets/<user>/<name>[@<revision>][/<path>], "
        "music21, lmd_full or lmd_matched",
    )
    parser.add_argument("out", type=Path, help="folder of the shards")
    parser.add_argument("--layout", choices=LAYOUTS, default="bars")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="for what is fetched")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argument_parser("data_prep.convert", __doc__)
    parser.add_argument("--workers", type=int, help="default: all cores")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        sources = [open_source(source, options.data_root) for source in options.sources]
        conversion = Conversion(options.layout)
        converted = convert_collection(
            sources, options.out, conversion=conversion, workers=options.workers
        )
        stage = write_summary(options.out, converted, options.layout)
    except (ValueError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    print(summary_line(stage, options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
