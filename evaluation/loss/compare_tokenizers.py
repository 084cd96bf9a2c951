"""The same music in characters, byte pairs and note tokens: bits per note, on the same songs.

    python -m evaluation.loss.compare_tokenizers runs/cpu/gpt_l2_d64_t12M_s1 runs/cpu_bpe/*_t*/

Bits per note: the validation loss in bits, end of song included, over the note onsets of the MIDI
files, which do not depend on the tokenizer. It scores a single segmentation of the text, so it is
an upper bound for a tokenizer with several. Intervals: percentiles over songs drawn with
replacement, the same draws on both sides of a difference.
"""

import json
import logging
import math
import sys
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np

from data_prep.tokens.tokenizers import TOKENIZERS

from ..loading.finished_run import FinishedRun, interval, song_draws
from .runs_command import runs_command

logger = logging.getLogger(__name__)

SEED = 1
SPLIT = "validation"
REFERENCE = "char"


def compare(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """Bits per note and per character of each run, and differences to the character-level run.

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
                f"{run.folder} has different validation songs from {runs[0].folder}; compare runs "
                "on presets that differ only in their tokens"
            )
        order = np.argsort(songs)
        bits = run.song_nll_nats(SPLIT)[0][order] / math.log(2)
        row = run.facts | _token_facts(run)
        for unit in ("note", "char"):
            count = np.array(run.column(SPLIT, f"n_{unit}s"), dtype=float)[order]
            value, values = float(bits.sum() / count.sum()), (draws @ bits) / (draws @ count)
            row[f"bits_per_{unit}"] = {"value": value, "interval_95": interval(values)}
            if unit == "note":
                drawn[id(row)] = values
        logger.info("%s: %.4f bits per note", row["run"], row["bits_per_note"]["value"])
        rows.append(row)
    used = {row["tokenizer"] for row in rows}
    return {
        "split": SPLIT,
        "seed": SEED,
        "n_songs": len(digests),
        "labels": {kind.name: kind.label for kind in TOKENIZERS.values() if kind.name in used},
        "runs": rows,
        "differences": _differences(rows, drawn),
    }


def _token_facts(run: FinishedRun) -> dict[str, Any]:
    """Tokenizer, vocabulary size, and the characters of text in the whole run and one context."""
    stage = json.loads((run.files.tokens / "stage.json").read_text("utf-8"))
    train = stage["splits"]["train"]
    chars_per_token = train["n_chars"] / train["n_tokens"]
    return {
        "tokenizer": stage["settings"]["tokenizer"],
        "vocab_size": stage["vocab_size"],
        "n_chars_seen": run.facts["n_tokens"] * chars_per_token,
        "context_chars": run.facts["context_length"] * chars_per_token,
    }


def _differences(
    rows: Sequence[dict[str, Any]], drawn: dict[int, np.ndarray]
) -> list[dict[str, Any]]:
    """Bits per note of each run minus those of character runs of the same family, size and seed."""
    found = []
    for row, other in permutations(rows, 2):
        same = all(row[key] == other[key] for key in ("arch", "size", "seed"))
        if same and other["tokenizer"] == REFERENCE != row["tokenizer"]:
            said = {"arch": row["arch"], "run": row["run"], "less": other["run"]}
            said["tokenizer"] = row["tokenizer"]
            bits, less = (each["bits_per_note"]["value"] for each in (row, other))
            said["bits_per_note"] = bits - less
            said["interval_95"] = interval(drawn[id(row)] - drawn[id(other)])
            found.append(said)
    return found


main = runs_command("compare_tokenizers", __doc__, compare, "tokenizers.json")

if __name__ == "__main__":
    sys.exit(main())
