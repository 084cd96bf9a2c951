"""Stage 1 over whole collections: MIDI, ABC, scores -> shards of ABC text, each failure as a row.

    python -m data_prep.convert SOURCE [SOURCE ...] OUT [--workers N] [--layout bars]

Each shard is one parquet file, written atomically under a name that contains a digest of its input
and of the converter's code (shard_files.py). An interrupted conversion therefore resumes at the
first missing shard, and a changed converter starts over. The output is byte-identical for any
number of workers and interruptions.
"""

import argparse
import hashlib
import itertools
import json
import logging
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .collections.passed_over import PassedOverFiles, told
from .collections.sources import Source, open_source
from .dialect.tune import LAYOUTS
from .shards.convert_pool import Conversion
from .shards.make_shards import make_shards
from .shards.shard_files import converter_code, missing_shards, plan_shards
from .storage.claims import lock
from .storage.drop_reasons import counted, reasons_help
from .storage.explain import command
from .storage.stages import describe_files, read_stage, write_json


@dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    Attributes:
        shards: All shards, in order.
        sources: Paths of the sources.
        n_files: Files that this run converted; the others were done already, or by others.
        seconds: Wall time of this run.
        passed_over: Kind -> number and names of files that are not taken, as in `PassedOverFiles`.
    """

    shards: list[Path]
    sources: list[str]
    n_files: int
    seconds: float
    passed_over: dict[str, dict[str, Any]] = field(default_factory=dict)


def convert_collection(
    sources: list[Source],
    folder: Path,
    *,
    conversion: Conversion | None = None,
    workers: int | None = None,
) -> Converted:
    """Converts all files of the sources into shards; keeps shards that exist already.

    Args:
        sources: What to convert; their order makes no difference.
        folder: Where the shards go; shards of other inputs are deleted from it.
        conversion: How each file is converted.
        workers: Number of processes; all cores if None.

    Raises:
        SourceError: If a source cannot be read or is empty.
        OSError: If a shard cannot be written; earlier ones are kept.
        ValueError: If another conversion is writing to the folder.
    """
    start = time.monotonic()
    conversion = conversion or Conversion()
    passed_over = PassedOverFiles()
    shards = plan_shards(sources, folder, conversion.layout, passed_over)
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        todo = missing_shards(folder, shards)
        n_files = 0
        if todo:
            total, left = (sum(len(shard.members) for shard in of) for of in (shards, todo))
            with tqdm(desc="convert", total=total, initial=total - left, unit="file") as bar:
                n_files = make_shards(todo, conversion, workers, bar.update)
    seconds = time.monotonic() - start
    return Converted(
        [shard.path for shard in shards],
        recorded_paths(sources),
        n_files,
        seconds,
        passed_over.by_kind(),
    )


def recorded_paths(sources: list[Source]) -> list[str]:
    """Returns the paths of the sources as stage.json records them."""
    return sorted({str(source.path) for source in sources})


# ---------------------------------------------------------------- summary

_SUMMED = ("n_notes", "n_doubled", "n_bars", "n_seconds")
_MOST_NAMED = 1000  # dropped files listed in stage.json; the shards have all of them


def write_summary(folder: Path, converted: Converted, layout: str) -> dict[str, Any]:
    """Counts the rows of the shards by reason and writes stage.json next to them.

    Its `digest` covers the content: the names and bytes of the converted files, in order, the
    layout and the converter's code. File times and location do not count. The folder that all
    files share is left out of their names, since an archive of a folder may contain it or not; it
    is recorded in `top_folders`.

    Args:
        folder: Folder of the shards.
        converted: The conversion. If it converted no file, stage.json keeps the `seconds` and files
            per second of the last run that did.
        layout: Layout of the text.

    Returns:
        The content of stage.json.
    """
    shards, before = converted.shards, read_stage(folder)
    if before and _is_of(before, converted):
        return before
    inputs, dropped, named, sums = _count_rows(shards)
    code = converter_code(path for files in inputs.values() for path, *_ in files)
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
        "passed_over": converted.passed_over,
        **{name: sums[name] for name in ("n_chars", *_SUMMED)},
        **speed,
        "files": describe_files(shards),
    }
    write_json(folder / "stage.json", stage)
    return stage


def _is_of(stage: dict[str, Any], converted: Converted) -> bool:
    """Whether a stage.json describes this conversion."""
    return (
        stage["files"].keys() == {shard.name for shard in converted.shards}
        and stage["sources"] == converted.sources
        and stage.get("passed_over", {}) == converted.passed_over
    )


def _top_folder(files: list[tuple[str, ...]]) -> str:
    """Returns the folder that contains all of the files, with its slash; "" if there is none."""
    folders = [path.split("/")[:-1] for path, *_ in files]
    shared = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*folders, strict=False))
    return "".join(f"{names[0]}/" for names in shared)


def _count_rows(
    shards: list[Path],
) -> tuple[dict[str, list[tuple[str, ...]]], Counter[str], list[str], Counter[str]]:
    """Reads the rows of shards.

    Returns:
        Source -> (path, digest, reason) of all rows; reason -> number of dropped files; the names
        of the first dropped files, with their messages; and the sums over the tunes.
    """
    # imported here: datasets takes a second to import, and each worker imports this file
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
    """Returns the counts of a conversion in one line, and in another what was passed over."""
    line = (
        f"{folder}: {stage['rows_in']:,} files -> {stage['rows_out']:,} tunes, "
        f"{stage['n_chars']:,} characters; dropped: {counted(stage['dropped'])}"
    )
    return "\n".join(filter(None, [line, told(stage["passed_over"])]))


# ---------------------------------------------------------------- command line


def argument_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the arguments that all engines share: sources, folder, layout."""
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
        "music21, openscore_lieder, openscore_quartets, lmd_full or lmd_matched",
    )
    parser.add_argument("out", type=Path, help="output folder for the shards")
    parser.add_argument("--layout", choices=LAYOUTS, default="bars")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="for downloads")
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
