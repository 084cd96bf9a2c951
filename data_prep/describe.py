"""A dataset -> results/corpus.json: input and output counts, drop reasons, time and memory.

python -m data_prep.describe data/<name>/<preset> results
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from tokenizers import Tokenizer

from .storage.explain import command
from .storage.parts import parts_of_file, parts_of_files
from .storage.stages import STAGES, write_json

_COUNTS = (
    *("rows_in", "rows_out", "dropped", "n_songs", "n_chars", "n_notes", "n_bars", "n_seconds"),
    *("n_clusters", "n_songs_with_near_duplicates", "largest_cluster"),
    *("splits", "vocab_size", "n_blocks", "n_tokens", "block_length"),
)
LAKH_FILES = 178_561  # of lmd_full; source: Raffel 2016
_EDGES = {  # bin edges, and the digits to which they are rounded
    "gzip_ratio": (np.linspace(0, 1, 51), 3),
    "n_chars": (np.logspace(1, 6, 41), 1),  # eight bins to a factor of ten
}
_MOST_RANKS = 200


def describe(dataset: Path) -> dict[str, Any]:
    """Returns the counts of all stages, the measured cost, and the histograms of a dataset.

    Args:
        dataset: data/<name>/<preset>, with all stages done.

    Raises:
        FileNotFoundError: If a stage is missing.
        ValueError: If the stages were not measured over all files.
    """
    stages = {name: _read(dataset / name / "stage.json") for name in STAGES}
    counts = {
        name: {key: stage[key] for key in _COUNTS if key in stage} for name, stage in stages.items()
    }
    measured = _read(dataset / "measured.json")
    _check_measured(dataset, measured, stages["1_abc"])
    return {
        "dataset": dataset.parent.name,
        "preset": dataset.name,
        "digest": stages["4_split"]["digest"],
        "measured": measured,
        "whole": _whole(measured, counts["1_abc"]["rows_in"]),
        "histograms": _histograms(dataset),
        **counts,
    }


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"{file} not found: expected a finished dataset; run `make data`")
    return json.loads(file.read_text("utf-8"))


def _check_measured(
    dataset: Path, measured: dict[str, dict[str, float]], conversion: dict[str, Any]
) -> None:
    """Rejects measurements of a run that found part of its work done."""
    converted, n_files = conversion["files_converted"], conversion["rows_in"]
    unmeasured = [name for name in STAGES if name not in measured]
    if converted == n_files and not unmeasured:
        return
    what = f"no time for {', '.join(unmeasured)}" if unmeasured else "all stages"
    raise ValueError(
        f"{dataset}: its last run converted {converted:,} of {n_files:,} files, and measured.json "
        f"has {what}; expected one uninterrupted run over all files: describe the preset of this "
        "dataset that was made first, or make this one under another --data-root"
    )


def _whole(measured: dict[str, dict[str, float]], n_files: int) -> dict[str, float]:
    """Returns the total cost of all stages, and an extrapolation to Lakh MIDI.

    Peak memory is the maximum over the stages of the sum of the main process and its workers: an
    upper bound, since their peaks need not coincide.
    """
    seconds = sum(stage["seconds"] for stage in measured.values())
    peak = max(
        stage["peak_memory_mb_main"] + stage["workers"] * stage["peak_memory_mb_worker"]
        for stage in measured.values()
    )
    return {
        "n_files": n_files,
        "seconds": round(seconds, 1),
        "files_per_second": round(n_files / seconds, 1),
        "files_per_second_conversion": round(n_files / measured["1_abc"]["seconds"], 1),
        "peak_memory_mb": peak,
        "n_files_lakh": LAKH_FILES,
        "minutes_lakh_extrapolated": round(LAKH_FILES * seconds / n_files / 60, 1),
    }


def _histograms(dataset: Path) -> dict[str, Any]:
    counts = {name: np.zeros(len(edges) - 1, np.int64) for name, (edges, _) in _EDGES.items()}
    for part in parts_of_files(sorted((dataset / "2_clean").glob("*.parquet"))):
        table = part.read(list(_EDGES))
        for name, (edges, _) in _EDGES.items():
            values = table[name].to_numpy().clip(edges[0], edges[-1])  # outliers go to the end bins
            counts[name] += np.histogram(values, edges)[0]
    histograms = {
        name: {"edges": edges.round(digits).tolist(), "counts": counts[name].tolist()}
        for name, (edges, digits) in _EDGES.items()
    }
    return histograms | {"token_frequency": _token_frequency(dataset / "5_tokens")}


def _token_frequency(tokens: Path) -> dict[str, Any]:
    """Returns the most frequent tokens of the train split, by frequency, and their shares."""
    tokenizer = Tokenizer.from_file(str(tokens / "tokenizer.json"))
    counts = np.zeros(tokenizer.get_vocab_size(), np.int64)
    for part in parts_of_file(tokens / "train.parquet"):
        ids = pc.list_flatten(part.read(["input_ids"])["input_ids"].combine_chunks())
        counts += np.bincount(ids.to_numpy(), minlength=len(counts))
    order = np.argsort(-counts, kind="stable")[:_MOST_RANKS]
    order = order[counts[order] > 0]
    return {
        "tokens": [tokenizer.id_to_token(int(i)) for i in order],
        "shares": [float(f"{share:.4g}") for share in counts[order] / counts.sum()],
        "n_used": int((counts > 0).sum()),
    }


@command(OSError, ValueError, KeyError)
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="data_prep.describe", description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="data/<name>/<preset>")
    parser.add_argument("results", type=Path, help="folder for corpus.json")
    options = parser.parse_args(arguments)
    content = describe(options.dataset)
    options.results.mkdir(parents=True, exist_ok=True)
    write_json(options.results / "corpus.json", content)
    print(f"{options.dataset} -> {options.results / 'corpus.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
