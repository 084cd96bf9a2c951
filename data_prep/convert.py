"""Stage 1 over whole collections: MIDI files -> shards of ABC text, with every failure as a row.

    python -m data_prep.convert SOURCE [SOURCE ...] OUT [--workers N] [--layout bars]

Each shard is one parquet file that appears whole or not at all, under a name that holds a digest
of its input and of the converter's code (shard_files.py). A broken-off conversion therefore goes on
at the first missing shard, and a changed converter does its work again. The output is the same,
byte by byte, for any number of workers and interruptions.
"""

import argparse
import fcntl
import hashlib
import itertools
import json
import logging
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .collections.sources import Source, open_source
from .dialect.tune import LAYOUTS
from .shards.convert_pool import Conversion, Converter, bound_memory
from .shards.shard_files import (
    Shard,
    converter_code,
    files_of,
    missing_shards,
    plan_shards,
    write_shard,
)
from .storage.drop_reasons import counted, reasons_help
from .storage.explain import command
from .storage.stages import describe_files, read_stage, worker_pool, write_json


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


_MOST_BROKEN_POOLS = 5  # one after another, for one shard


def make_shards(
    shards: list[Shard],
    conversion: Conversion,
    workers: int | None,
    advance: Callable[[int], object],
) -> None:
    """Converts the files of shards, and writes each shard when it is whole.

    A worker that dies before it has told what it works at ends all others of its pool; what is left
    then goes to a new one.

    Args:
        shards: Those of one source stand together and in the order of the plan.
        conversion: What is done to each file.
        workers: Processes; all cores if None.
        advance: Is told how many files more are done.

    Raises:
        SourceError: If a source changed since the plan.
        OSError: If a shard cannot be written; those before it are kept.
        BrokenProcessPool: If that happens again and again before a shard is whole.
    """
    left, n_broken, told = list(shards), 0, 0

    def tell(n_files: int) -> None:
        nonlocal told
        told += n_files
        advance(n_files)

    while left:
        try:
            with worker_pool(workers, bound_memory) as pool:
                for rows in Converter(pool, conversion).rows(files_of(tuple(left)), tell):
                    write_shard(left.pop(0), rows)
                    n_broken = told = 0
        except BrokenProcessPool:
            n_broken += 1
            if n_broken > _MOST_BROKEN_POOLS:
                raise
            tell(-told)


# ---------------------------------------------------------------- summary

_SUMMED = ("n_notes", "n_doubled", "n_bars", "n_seconds")
_MOST_NAMED = 1000  # dropped files, in stage.json; the shards have all of them


def write_summary(folder: Path, converted: Converted, layout: str) -> dict[str, Any]:
    """Counts the rows of the shards by reason and writes stage.json beside them.

    Its `digest` is of the content: the names and bytes of the files that were converted, in order,
    the layout and the converter's code. Neither times count nor where the files lie: the folder
    that all of them are in is not part of their names, since an archive of a folder holds it or
    not. It is in `top_folders`.

    Args:
        folder: Of the shards.
        converted: Its `seconds` and files a second stay those of the last run that did something.
        layout: Of the text.

    Returns:
        The content of stage.json.
    """
    shards, code = converted.shards, converter_code()
    before = read_stage(folder)
    files = {shard.name for shard in shards}
    if before and before["files"].keys() == files and before["sources"] == converted.sources:
        return before
    inputs, dropped, named, sums = _count_rows(shards)
    top_folders = {source: _top_folder(files) for source, files in inputs.items()}
    names = [
        [(path.removeprefix(top_folders[source]), *content) for path, *content in files]
        for source, files in inputs.items()
    ]
    n_rows = sum(map(len, names))
    speed = {
        "files_converted": converted.n_files,
        "seconds": round(converted.seconds, 1),
        "files_per_second": round(converted.n_files / converted.seconds, 1),
    }
    if before and not converted.n_files:
        speed = {name: before[name] for name in speed}
    stage = {
        "stage": folder.name,
        "digest": hashlib.sha256(json.dumps([[layout, code], names]).encode()).hexdigest(),
        "top_folders": top_folders,
        "sources": converted.sources,
        "code": code,
        "settings": {"layout": layout},
        "rows_in": n_rows,
        "rows_out": n_rows - dropped.total(),
        "dropped": dict(sorted(dropped.items())),
        "dropped_files": named,
        **{name: sums[name] for name in ("n_chars", *_SUMMED)},
        **speed,
        "files": describe_files(shards),
    }
    write_json(folder / "stage.json", stage)
    return stage


def _top_folder(files: list[tuple[str, ...]]) -> str:
    """Returns the folder, with its slash, that all of some files are in; "" if there is none."""
    folders = [path.split("/")[:-1] for path, *_ in files]
    shared = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*folders, strict=False))
    return "".join(f"{names[0]}/" for names in shared)


def _count_rows(
    shards: list[Path],
) -> tuple[dict[str, list[tuple[str, ...]]], Counter[str], list[str], Counter[str]]:
    """Reads the rows of shards.

    Returns:
        Source -> (path, digest, reason) of all; how many were dropped for which reason; the first
        of these by name, with what was wrong; and the sums of the tunes.
    """
    # datasets takes a second to import, and each worker imports this file
    from .storage.parts import Part

    inputs, dropped, named, sums = defaultdict(list), Counter(), [], Counter()
    columns = ["source", "path", "digest", "drop_reason", "message", "abc", *_SUMMED]
    for row in (row for shard in shards for row in Part((shard,)).read(columns).to_pylist()):
        inputs[row["source"]].append((row["path"], row["digest"], row["drop_reason"]))
        if row["drop_reason"]:
            dropped[row["drop_reason"]] += 1
            if len(named) < _MOST_NAMED:
                named.append(f"{row['source']}: {row['path']}: {row['message']}")
            continue
        sums["n_chars"] += len(row["abc"])
        for name in _SUMMED:
            sums[name] += row[name]
    return inputs, dropped, named, sums


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


@command(ValueError, OSError)
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argument_parser("data_prep.convert", __doc__)
    parser.add_argument("--workers", type=int, help="default: all cores")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sources = [open_source(source, options.data_root) for source in options.sources]
    converted = convert_collection(
        sources, options.out, conversion=Conversion(options.layout), workers=options.workers
    )
    stage = write_summary(options.out, converted, options.layout)
    print(summary_line(stage, options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
