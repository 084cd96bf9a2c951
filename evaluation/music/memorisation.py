"""Memorization: how much of a tune is in the training text, in the same or another key.

Two forms. `text`: the body of the ABC without header lines, character by character, in the layout
of the training text. `figures`: per voice without drums, chord by chord, the interval from the top
note of the previous chord, the ticks since its onset, the length, and the shape of the chord below
its top note. A copy in another key has the same figures but different text.

`share`          windows of WINDOW symbols (50 characters, 16 figures; stride 1) of all tunes that
                 occur in the training set, over all their windows.
`longest_match`  the longest passage of a tune that occurs in one place in the training set: in
                 characters; in chords and bars. 0 if no whole window matches.
Windows do not cross tune or voice boundaries. Held-out pieces are the control: music repeats
itself, and what they share with the training set is not copying. Intervals are percentiles over
tunes drawn with replacement.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from data_prep.dialect.abc_to_midi import perform
from data_prep.dialect.notation import AbcError
from data_prep.dialect.tune_parser import parse_tune

from ..metrics import N_DRAWS, SEED, mean_interval, rate
from .passage_index import PassageIndex, mixed

TEXT_WINDOW = 50
FIGURE_WINDOW = 16
LONGEST_IOI = 2**20 - 1  # ticks
_HEADER_LINE = re.compile(r"[A-Za-z]:|%%")


def body(abc: str) -> str:
    """The text without header and field lines: the lines of bars, unchanged.

    Works for text outside the dialect too.
    """
    return "\n".join(line for line in abc.split("\n") if line and not _HEADER_LINE.match(line))


def text_symbols(abc: str) -> np.ndarray:
    """UTF-8 bytes of the body, (n,) uint8: one per character for text in the dialect."""
    return np.frombuffer(body(abc).encode(), dtype=np.uint8)


@dataclass(frozen=True)
class Figures:
    """The chords of one voice.

    Attributes:
        symbols: (n,) uint64, one per chord except the first: interval, ticks, length and shape.
        bars: (n + 2,) where the chords begin, in bars from 0, and where the last one ends.
    """

    symbols: np.ndarray
    bars: np.ndarray


def _figures(chords: list[tuple[int, int, tuple[int, ...]]], starts: list[int]) -> Figures:
    all_onsets, all_ends, pitches = zip(*chords, strict=True)
    onsets, ends = np.array(all_onsets), np.array(all_ends)
    tops = np.array([chord[-1] for chord in pitches])
    shapes = np.array([_shape(chord) for chord in pitches], dtype=np.uint64)
    interval = (np.diff(tops) + 128).astype(np.uint64)  # 8 bits
    ticks = np.minimum(np.diff(onsets), LONGEST_IOI).astype(np.uint64)  # 20 bits
    length = np.minimum(ends - onsets, LONGEST_IOI)[1:].astype(np.uint64)  # 20 bits
    packed = interval | (ticks << np.uint64(8)) | (length << np.uint64(28))
    symbols = mixed(packed) ^ shapes[1:]
    places = np.append(onsets, ends[-1])
    return Figures(symbols, np.interp(places, starts, np.arange(len(starts))))


@lru_cache(maxsize=2**16)
def _shape(pitches: tuple[int, ...]) -> int:
    """A number that encodes the intervals below the top note; 0 for a single note."""
    number = 0
    for pitch in pitches[:-1]:
        number = (number * 131 + pitches[-1] - pitch) % 2**61
    return number


class TrainingIndex:
    """Indexes both forms of a training set; an unreadable tune has text only.

    Attributes:
        text: Index of characters.
        figures: Index of chords.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        figures = [voice.symbols for abc in texts for voice in _readable_figures(abc)]
        self.text = PassageIndex([text_symbols(abc) for abc in texts], TEXT_WINDOW)
        self.figures = PassageIndex(figures, FIGURE_WINDOW)


def _readable_figures(abc: str) -> list[Figures]:
    """The figures of each voice that is not drums and has at least two chords.

    They are read from the whole tune, or from its complete lines if the last one is truncated;
    none if neither can be read.
    """
    for text in (abc, abc[: abc.rfind("\n") + 1]):
        try:
            performance = perform(parse_tune(text))
        except AbcError:
            continue
        pairs = zip(performance.tune.voices, performance.voices, strict=True)
        pitched = [chords for voice, chords in pairs if not voice.is_drums]
        return [_figures(chords, performance.starts) for chords in pitched if len(chords) > 1]
    return []


def copied_passages(abc: str, index: TrainingIndex) -> dict[str, float | None]:
    """What one tune shares with the training set.

    Returns:
        `windows_text`, `seen_text`: number of windows, and of those in the training set;
        `longest_match_chars`; the same for figures, `longest_match_chords` and `_bars`. A match is
        None if its form has no window; a tune that cannot be read has no figures.
    """
    symbols = text_symbols(abc)
    seen = index.text.seen(symbols)
    row: dict[str, float | None] = {"windows_text": len(seen), "seen_text": int(seen.sum())}
    row["longest_match_chars"] = index.text.longest_match(symbols)[1] if len(seen) else None
    voices = _readable_figures(abc)
    seen_figures = [index.figures.seen(voice.symbols) for voice in voices]
    row["windows_figures"] = sum(map(len, seen_figures))
    row["seen_figures"] = sum(int(seen.sum()) for seen in seen_figures)
    names = ("longest_match_chords", "longest_match_bars")
    if not row["windows_figures"]:
        return row | dict.fromkeys(names)
    longest = (0, 0.0)
    for voice in voices:
        start, length = index.figures.longest_match(voice.symbols)
        if length:  # figure k joins chords k and k + 1, so a match of n figures has n + 1 chords
            bars = float(voice.bars[start + length + 1] - voice.bars[start])
            longest = max(longest, (length + 1, bars))
    return row | dict(zip(names, longest, strict=True))


def memorisation(
    tunes: Sequence[str], control: Sequence[str], index: TrainingIndex
) -> dict[str, Any]:
    """Copied passages of generated tunes, compared with those of held-out pieces.

    Args:
        tunes: Generated tunes, in the layout of the training text.
        control: Held-out pieces, not in the index.
        index: The training set.

    Returns:
        For `tunes` and `control`: `share_text_window_50`, `share_figures_window_16`, means of the
        longest matches, each with intervals over tunes, and their maximum; and the `difference`
        of both shares.
    """
    sides, drawn = {}, {}
    for number, (side, texts) in enumerate((("tunes", tunes), ("control", control))):
        rows = [copied_passages(abc, index) for abc in texts]
        sides[side], drawn[side] = _summary(rows, [SEED, number])
    difference: dict[str, Any] = {}
    for name, values in drawn["tunes"].items():
        shares = [sides[side][name]["share"] for side in ("tunes", "control")]
        difference[name] = dict.fromkeys(("difference", "interval_95"))
        if None not in shares:
            ends = _percentiles(values - drawn["control"][name])
            difference[name] = {"difference": shares[0] - shares[1], "interval_95": ends}
    return sides | {"difference": difference, "n_train_windows": len(index.text.hashes)}


def _summary(
    rows: list[dict[str, float | None]], seed: list[int]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The metrics of one set, and its shares in each draw of tunes."""
    content: dict[str, Any] = {"n": len(rows)}
    draws = np.random.default_rng(seed).multinomial(
        len(rows), np.full(len(rows), 1 / max(1, len(rows))), N_DRAWS
    )  # (B, n)
    drawn = {}
    for form, window in (("text", TEXT_WINDOW), ("figures", FIGURE_WINDOW)):
        name = f"share_{form}_window_{window}"
        seen, windows = (
            np.array([row[f"{kind}_{form}"] for row in rows], dtype=float)
            for kind in ("seen", "windows")
        )
        total = windows.sum()
        with np.errstate(invalid="ignore"):
            drawn[name] = (draws @ seen) / (draws @ windows)
        content[name] = {
            "share": float(seen.sum() / total) if total else None,
            "interval_95": _percentiles(drawn[name]) if total and len(rows) > 1 else None,
            # if no tune has one, the interval of the share has zero width, but this one does not
            "tunes_with_a_seen_window": rate([bool(n) for n in seen]) if len(rows) else None,
        }
    for name in ("longest_match_chars", "longest_match_chords", "longest_match_bars"):
        values = [row[name] for row in rows]
        known = (value for value in values if value is not None)
        content[name] = mean_interval(values) | {"max": max(known, default=None)}
    return content, drawn


def _percentiles(values: np.ndarray) -> list[float]:
    return np.nanpercentile(values, (2.5, 97.5)).tolist()
