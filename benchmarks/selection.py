"""What a gzip-ratio threshold keeps if it drops whole files, as in study A, or single tracks.

    python benchmarks/selection.py data/<dataset>/<preset> [--songs 2000] [--workers 2]

Study A drops a file whose text compresses to less than 0.24 of its size. The preset `tracks`
applies that threshold to each voice instead. Both are applied here as in stage 3, at several
thresholds, to the songs with the lowest digests of stage 2: a random but reproducible sample.
Threshold 0 drops only tunes of fewer than 16 notes, as all rows do. Duplicates are kept.

The columns, and the keys of a row in the JSON:

    filter             `file` or `track`: the unit that is dropped
    min_gzip_ratio     the threshold
    files_share        files of which something is kept, over all files
    notes_share        notes kept, over all notes; each note of a chord counts
    voices_share       voices kept, over all voices
    median_gzip_ratio  over the files of which something is kept, of their kept text without
                       whitespace (see `clean.gzip_ratio`)

The JSON contains `dataset`, `n_files`, `n_notes`, `n_voices` (of the input), `selections` (the
rows) and `seconds`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_prep.dialect.abc_to_midi import perform
from data_prep.dialect.tune_parser import parse_tune
from data_prep.selection.clean import clean_abc, measured
from data_prep.selection.filter_tunes import FilterSettings, drop_reason, keep_informative_voices
from data_prep.storage.stages import worker_pool

COLUMNS = ["abc", "n_notes", "gzip_ratio"]
BOUNDS = (0.16, 0.20, 0.24, 0.28)
FILTERS = {"file": "min_gzip_ratio", "track": "min_voice_gzip_ratio"}
SELECTIONS = [("file", 0.0), *((name, bound) for name in FILTERS for bound in BOUNDS)]


def read_tunes(dataset: Path, n_songs: int) -> pa.Table:
    """Returns the `n_songs` tunes of stage 2 with the lowest digests; 0 for all.

    Raises:
        FileNotFoundError: If the folder is not a dataset.
    """
    files = sorted((dataset / "2_clean").glob("part-*.parquet"))
    if not files:
        raise FileNotFoundError(
            f"{dataset / '2_clean'} has no part-*.parquet; expected a folder from make data"
        )
    table = pa.concat_tables(pq.read_table(file, columns=["digest", *COLUMNS]) for file in files)
    return table.sort_by("digest").slice(0, n_songs or None)


def n_voices(abc: str) -> int:
    """Returns the number of voices of a tune."""
    return len(re.findall(r"^V:", abc, re.MULTILINE))


def totals(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Counts files, notes and voices."""
    return {
        "n_files": len(rows),
        "n_notes": sum(row["n_notes"] for row in rows),
        "n_voices": sum(n_voices(row["abc"]) for row in rows),
    }


def keep(row: dict[str, Any], name: str, bound: float) -> dict[str, Any] | None:
    """Returns what a filter keeps of a tune: `abc`, `n_notes` and `gzip_ratio`; None if nothing.

    Args:
        row: A row of stage 2.
        name: One of `FILTERS`.
        bound: The minimum gzip ratio.
    """
    settings = FilterSettings(**{FILTERS[name]: bound})
    if settings.min_voice_gzip_ratio:
        # As in stage 3: where voices were dropped, silence at both ends may go as well.
        tracks = keep_informative_voices(row["abc"], settings.min_voice_gzip_ratio)
        abc = clean_abc(tracks) if tracks else ""
        if not abc:
            return None
        row = {"abc": abc, **measured(perform(parse_tune(abc)), abc)}
    if drop_reason(row, settings):
        return None
    return {key: row[key] for key in COLUMNS}


def select(tunes: pa.Table, name: str, bound: float) -> dict[str, Any]:
    """Returns a row of the table; see the module docstring."""
    rows = tunes.select(COLUMNS).to_pylist()
    kept = [new for row in rows if (new := keep(row, name, bound))]
    before, after = totals(rows), totals(kept)
    shares = {f"{key[2:]}_share": after[key] / before[key] for key in before}
    middle = median(row["gzip_ratio"] for row in kept) if kept else None
    return {"filter": name, "min_gzip_ratio": bound, **shares, "median_gzip_ratio": middle}


def run(tunes: pa.Table, workers: int) -> list[dict[str, Any]]:
    """Makes all selections, one per task."""
    with worker_pool(workers) as pool:
        tasks = [pool.schedule(select, (tunes, *each)) for each in SELECTIONS]
        return [task.result() for task in tasks]


def print_table(rows: list[dict[str, Any]]) -> None:
    """Prints one line per selection."""
    print(" ".join(f"{key:>17}" for key in rows[0]))
    for row in rows:
        cells = [f"{value:.3f}" if isinstance(value, float) else value for value in row.values()]
        print(" ".join(f"{cell!s:>17}" for cell in cells))


def main() -> None:
    """Print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--songs", type=int, default=2000, help="number to draw; 0 for all")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_selection.json"))
    options = parser.parse_args()
    start = time.perf_counter()
    tunes = read_tunes(options.dataset, options.songs)
    rows = run(tunes, options.workers)
    before = totals(tunes.to_pylist())
    seconds = round(time.perf_counter() - start, 1)
    print(", ".join(f"{key} {value:,}" for key, value in before.items()))
    print_table(rows)
    result = {"dataset": str(options.dataset), **before, "selections": rows, "seconds": seconds}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"-> {options.out}")


if __name__ == "__main__":
    main()
