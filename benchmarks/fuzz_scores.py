"""Fuzz campaign for the conversion of scores: mutated files give rows, and nothing else.

    python -m benchmarks.fuzz_scores [--files 5000] [--seed 0] [--sources FOLDER_OR_ARCHIVE ...]

Scores from tests/data/scores and --sources are changed at random, in their elements, text or bytes,
and converted as `make convert` does. Verovio may crash, hang or ask for too much memory: that must
cost one row, with its reason. Each text must be sound: readable, its bars full.

Input i of a seed depends only on the seed, on i and on the scores. The inputs of rows that crashed
or timed out, and those of findings, are saved in runs/fuzz_scores/. Exit status 1 if a file has no
row, or an unsound text.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fuzzing.score_inputs import score_inputs

from data_prep.collections.sources import open_source
from data_prep.convert import convert_collection
from data_prep.dialect.tune import read_bars
from data_prep.dialect.tune_parser import parse_tune
from data_prep.importers.verovio_scores.score_file import read_score_file
from data_prep.midi.limits import MidiError
from data_prep.shards.convert_pool import Conversion
from data_prep.storage.drop_reasons import DropReason

ROOT = Path(__file__).resolve().parent.parent
OWN = ROOT / "tests" / "data" / "scores"
OUT = ROOT / "runs" / "fuzz_scores"
MOST_SEED_BYTES = 400_000  # of text: larger scores take too long to repeat often
_SUFFIXES = {"xml": ".musicxml", "mei": ".mei", "humdrum": ".krn"}
_SAVED = (DropReason.CRASH, DropReason.TIMEOUT)


def seeds_of(sources: Iterable[Path]) -> list[tuple[str, str]]:
    """Returns (suffix, text) of the scores in folders or archives that are not too large."""
    found = []
    for source in sources:
        opened = open_source(str(source), ROOT / "data")
        for _, content in opened.read(opened.members()):
            try:
                text, file_format = read_score_file(content)
            except MidiError:
                continue  # other music
            if len(text) <= MOST_SEED_BYTES:
                found.append((_SUFFIXES[file_format], text))
    return found


def campaign(
    seeds: list[tuple[str, str]], folder: Path, *, files: int, seed: int, seconds: float
) -> dict[str, Any]:
    """Converts mutated scores; returns the counts, and the names of the files with findings.

    Args:
        seeds: (suffix, text) of real scores.
        folder: Empty; gets the mutated files, and the shards in `1_abc`.
        files: Number of mutated files.
        seed: Of the random generator.
        seconds: After which a file is given up.
    """
    music = folder / "music"
    music.mkdir()
    inputs = score_inputs(seeds, random.Random(seed))
    for number, (suffix, content) in enumerate(itertools.islice(inputs, files)):
        (music / f"{number:06d}{suffix}").write_bytes(content)
    converted = convert_collection(
        [open_source(str(music), folder)],
        folder / "1_abc",
        conversion=Conversion(timeout_seconds=seconds),
        workers=1,
    )
    rows = [row for shard in converted.shards for row in pq.read_table(shard).to_pylist()]
    missing = {path.name for path in music.iterdir()} - {row["path"] for row in rows}
    unsound = [row["path"] for row in rows if row["abc"] and not _is_sound(row["abc"])]
    reasons = Counter(row["drop_reason"] or "converted" for row in rows)
    return {
        "files": files,
        "rows": len(rows),
        "reasons": dict(reasons.most_common()),
        "saved": sorted(row["path"] for row in rows if row["drop_reason"] in _SAVED),
        "findings": sorted([*missing, *unsound]),
        "messages": {row["path"]: row["message"] for row in rows if row["drop_reason"] in _SAVED},
    }


def _is_sound(abc: str) -> bool:
    tune = parse_tune(abc)
    return not read_bars(tune)[1]


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0, help="most of a file")
    parser.add_argument("--sources", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    seeds = seeds_of([OWN, *options.sources])
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(
            seeds, Path(folder), files=options.files, seed=options.seed, seconds=options.seconds
        )
        OUT.mkdir(parents=True, exist_ok=True)
        for name in {*found["saved"], *found["findings"]}:
            (OUT / name).write_bytes((Path(folder) / "music" / name).read_bytes())
    found |= {"scores": len(seeds), "seconds": round(time.monotonic() - start)}
    (OUT / f"seed_{options.seed}.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps({k: v for k, v in found.items() if k != "messages"}, indent=2))
    return int(bool(found["findings"]) or found["rows"] != options.files)


if __name__ == "__main__":
    sys.exit(main())
