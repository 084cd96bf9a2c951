"""What both sides of a gap are worth: the loss of the true bars with and without those behind.

Of each song the first bars that fit the model's context are taken, and the `bars` in their middle
are the gap. Its bars are scored three times, in nats per character of their text:

    both    in fill-in form, with the bars before and after them
    before  in fill-in form, with the bars before them only
    plain   as the text goes on after the bars before them, without the form

The song is the unit: intervals are percentiles over songs drawn with replacement, paired between
the three. Songs with a bar too few or too long for the context are left out, and counted.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from modeling.notation_abc import FILL_IN_TOKENS

from ..loading.finished_run import (
    FinishedRun,
    TooFewSongsError,
    interval,
    song_draws,
    split_column,
    window_nll,
)
from ..loading.models import find_model, load_tokenizer

WAYS = {
    "both": "with both sides",
    "before": "in fill-in form, with the bars before",
    "plain": "as the text goes on after the bars before",
}
LEAST_SONGS = 10


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


def can_fill_in(tokenizer: Any) -> bool:
    """Whether a tokenizer has the tokens of the fill-in form."""
    marks = tokenizer.convert_tokens_to_ids(list(FILL_IN_TOKENS))
    return None not in marks and tokenizer.unk_token_id not in marks


def score_gaps(
    run: FinishedRun, n_bars: int, seed: int, split: str = "validation"
) -> dict[str, Any]:
    """`nats_per_char` of each of WAYS, and `gain`: what both sides save against the other two.

    Args:
        run: Trained to fill in.
        n_bars: Length of the gaps.
        seed: Of the draws of songs.
        split: Whose songs are taken.

    Raises:
        TooFewSongsError: If too few songs have a gap.
        ValueError: If the model was not trained to fill in.
    """
    tokenizer = load_tokenizer(find_model(str(run.folder)))
    if not can_fill_in(tokenizer):
        raise ValueError(f"{run.folder}: not trained to fill in; its data had no fill_in.share")
    marks = tokenizer.convert_tokens_to_ids(list(FILL_IN_TOKENS))

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    count = encode(f"{n_bars}\n")
    room = run.files.block_length - len(marks) - len(count) - 1
    songs = split_column(run.files.folder, split)
    gaps = [find_gap(abc, n_bars, room, lambda text: len(encode(text))) for abc in songs]
    found = [gap for gap in gaps if gap]
    if len(found) < LEAST_SONGS:
        raise TooFewSongsError(
            f"{run.folder}: {len(found)} of {len(songs)} songs have a gap of {n_bars} bars "
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
    draws = song_draws(len(found), seed)
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
            for way in ("before", "plain")
        },
    }
