"""The same music in characters, byte pairs and note tokens: bits a note, on the same songs.

    python -m evaluation.loss.compare_tokenizers runs/cpu/gpt_l2_d64_t12M_s1 runs/cpu_bpe/*_t*/

Bits a note: the validation loss in bits, end of song included, over the note onsets of the MIDI
files, which no tokenizer decides. It scores one way of cutting the text, so it is an upper bound
for a tokenizer that knows several. Intervals: percentiles over songs drawn with replacement, the
same draws on both sides of a difference.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.storage.explain import explain
from data_prep.tokens.tokenizers import TOKENIZERS
from scaling.writing.files import write_json

from ..loading.finished_run import FinishedRun, interval, open_runs, ratio_interval, song_draws

logger = logging.getLogger(__name__)

SEED = 1
SPLIT = "validation"
REFERENCE = "char"


def compare(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """Bits a note and a character of each run, and each run less the one in characters.

    Raises:
        ValueError: If the runs were not validated on the same songs.
    """
    digests = sorted(runs[0].column(SPLIT, "digest"))
    draws = song_draws(len(digests), SEED)  # (B, songs)
    rows, drawn = [], {}
    for run in runs:
        songs = run.column(SPLIT, "digest")
        if sorted(songs) != digests:
            raise ValueError(
                f"{run.folder} has other validation songs than {runs[0].folder}; compare runs on "
                "presets that differ in their tokens only"
            )
        order = np.argsort(songs)
        bits = run.song_nll_nats(SPLIT)[0][order] / math.log(2)
        row = run.facts | _token_facts(run)
        for unit in ("note", "char"):
            count = np.array(run.column(SPLIT, f"n_{unit}s"), dtype=float)[order]
            value, ends = ratio_interval(bits, count, draws)
            row[f"bits_per_{unit}"] = {"value": value, "interval_95": ends}
            if unit == "note":
                drawn[id(row)] = (draws @ bits) / (draws @ count)
        logger.info("%s: %.4f bits a note", row["run"], row["bits_per_note"]["value"])
        rows.append(row)
    used = {row["tokenizer"] for row in rows}
    return {
        "split": SPLIT,
        "seed": SEED,
        "n_songs": len(digests),
        "labels": {kind.name: kind.label for kind in TOKENIZERS.values() if kind.name in used},
        "runs": rows,
        "differences": [
            _difference(row, other, drawn)
            for row in rows
            for other in rows
            if row["tokenizer"] != REFERENCE and _is_reference_of(row, other)
        ],
    }


def _token_facts(run: FinishedRun) -> dict[str, Any]:
    """Tokenizer, vocabulary, and characters of text that the run and its context saw."""
    stage = json.loads((run.files.tokens / "stage.json").read_text("utf-8"))
    train = stage["splits"]["train"]
    chars_per_token = train["n_chars"] / train["n_tokens"]
    return {
        "tokenizer": stage["settings"]["tokenizer"],
        "vocab_size": stage["vocab_size"],
        "n_chars_seen": run.facts["n_tokens"] * chars_per_token,
        "context_chars": run.facts["context_length"] * chars_per_token,
    }


def _is_reference_of(row: dict[str, Any], other: dict[str, Any]) -> bool:
    same = all(row[key] == other[key] for key in ("arch", "size", "seed"))
    return same and other["tokenizer"] == REFERENCE


def _difference(
    row: dict[str, Any], other: dict[str, Any], drawn: dict[int, np.ndarray]
) -> dict[str, Any]:
    """Bits a note of a run less those of the run of its size and seed in characters."""
    return {
        "arch": row["arch"],
        "run": row["run"],
        "less": other["run"],
        "tokenizer": row["tokenizer"],
        "bits_per_note": row["bits_per_note"]["value"] - other["bits_per_note"]["value"],
        "interval_95": interval(drawn[id(row)] - drawn[id(other)]),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="evaluation.loss.compare_tokenizers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=Path, nargs="+", help="finished runs")
    parser.add_argument("--out", type=Path, default=Path("tokenizers.json"))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        content = compare(open_runs(options.runs))
        write_json(options.out, content)
    except (ValueError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2
    print(f"{len(content['runs'])} runs -> {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
