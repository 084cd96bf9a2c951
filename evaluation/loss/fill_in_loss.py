"""What both sides of a gap are worth: the loss of the true bars with and without those behind.

    python -m evaluation.loss.fill_in_loss runs/fill_in/* --bars 4 --out results/fill_in_loss.json

Of each song the first bars that fit the model's context are taken, and the `bars` in their middle
are the gap. Its bars are scored three times, in nats per character of their text:

    both    in fill-in form, with the bars before and after them
    before  in fill-in form, with the bars before them only
    plain   as the text goes on after the bars before them, with no fill-in form

The song is the unit: intervals are percentiles over songs drawn with replacement, paired between
the three. Songs with a bar too few or too long for the context are left out, and counted.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modeling.notation_abc import FILL_IN_TOKENS

from ..loading.finished_run import FinishedRun, interval, song_draws, split_column, window_nll
from ..loading.models import find_model, load_tokenizer
from .runs_command import runs_command

logger = logging.getLogger(__name__)

WAYS = ("both", "before", "plain")
LEAST_SONGS = 10


@dataclass(frozen=True)
class GapSettings:
    """bars: length of the gap; split, seed: of the songs and of the draws."""

    bars: int = 4
    split: str = "validation"
    seed: int = 1


@dataclass(frozen=True)
class Gap:
    """A gap of a song: texts of whole lines, the first with the song's header."""

    before: str
    bars: str
    after: str


def find_gap(abc: str, n_bars: int, room: int, n_tokens: Any) -> Gap | None:
    """The gap in the middle of the first bars that fit; None if none has a bar on either side.

    Args:
        abc: A song in the layout `bars`.
        n_bars: Length of the gap.
        room: Number of tokens of the header and all bars.
        n_tokens: Text -> its number of tokens.
    """
    start = abc.find("\n[V:") + 1
    lines = abc[start:].splitlines(keepends=True)
    room -= n_tokens(abc[:start])
    n_fit = 0
    while n_fit < len(lines) and (room := room - n_tokens(lines[n_fit])) >= 0:
        n_fit += 1
    if n_fit < n_bars + 2:
        return None
    first = (n_fit - n_bars) // 2
    before, gap, after = lines[:first], lines[first : first + n_bars], lines[first + n_bars : n_fit]
    return Gap(abc[:start] + "".join(before), "".join(gap), "".join(after))


def measure(runs: Sequence[FinishedRun], settings: GapSettings) -> dict[str, Any]:
    """The content of the file."""
    rows = []
    for run in runs:
        row = score_gaps(run, settings)
        rows.append(run.facts | row)
        gain = row["gain"]["before"]
        logger.info(
            "%s: %.4f nats per character with both sides, %.4f less than with the bars before",
            *(run.facts["run"], row["nats_per_char"]["both"]["mean"], gain["mean"]),
        )
    return {"bars": settings.bars, "split": settings.split, "seed": settings.seed, "runs": rows}


def score_gaps(run: FinishedRun, settings: GapSettings) -> dict[str, Any]:
    """`nats_per_char` of each of WAYS, and `gain`: what both sides save against the other two.

    Raises:
        ValueError: If the model was not trained to fill in, or too few songs have a gap.
    """
    tokenizer = load_tokenizer(find_model(str(run.folder)))
    marks = tokenizer.convert_tokens_to_ids(list(FILL_IN_TOKENS))
    if None in marks or tokenizer.unk_token_id in marks:
        raise ValueError(f"{run.folder}: not trained to fill in; its data had no fill_in.share")

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    count = encode(f"{settings.bars}\n")
    room = run.files.block_length - len(marks) - len(count) - 1
    songs = split_column(run.files.folder, settings.split)
    gaps = [find_gap(abc, settings.bars, room, lambda text: len(encode(text))) for abc in songs]
    found = [gap for gap in gaps if gap]
    if len(found) < LEAST_SONGS:
        raise ValueError(
            f"{run.folder}: {len(found)} of {len(songs)} songs have a gap of {settings.bars} bars "
            f"within {run.files.block_length} tokens, expected {LEAST_SONGS} or more"
        )
    model, end = run.load()
    nll = {way: [] for way in WAYS}
    for gap in found:
        before, bars, after = encode(gap.before), encode(gap.bars), encode(gap.after)
        prompts = {
            "both": [marks[0], *before, marks[1], *after, marks[2], *count],
            "before": [marks[0], *before, marks[1], marks[2], *count],
            "plain": before,
        }
        for way, prompt in prompts.items():
            ids = np.array([[end, *prompt, *bars]])
            scores = window_nll(model, ids[:, :-1], ids[:, 1:])[0]
            nll[way].append(float(scores[-len(bars) :].sum()))
    n_chars = np.array([len(gap.bars) for gap in found], dtype=float)
    draws = song_draws(len(found), settings.seed)
    drawn = {way: (draws @ np.array(values)) / (draws @ n_chars) for way, values in nll.items()}
    means = {way: sum(values) / n_chars.sum() for way, values in nll.items()}
    return {
        "n_songs": len(found),
        "n_left_out": len(songs) - len(found),
        "nats_per_char": {
            way: {"mean": means[way], "interval_95": interval(drawn[way])} for way in WAYS
        },
        "gain": {
            way: {
                "mean": means[way] - means["both"],
                "interval_95": interval(drawn[way] - drawn["both"]),
                "share": 1 - means["both"] / means[way],
            }
            for way in WAYS[1:]
        },
    }


main = runs_command(
    *("fill_in_loss", __doc__, measure, "results/fill_in_loss.json"),
    settings=GapSettings,
    options={
        "bars": {"type": int, "default": 4},
        "split": {"choices": ("validation", "test"), "default": "validation"},
    },
)

if __name__ == "__main__":
    sys.exit(main())
