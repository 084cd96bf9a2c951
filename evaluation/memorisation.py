"""How much of a tune stands in the training text, as it is or in another key.

Two forms. `text`: the body of the ABC without header lines, character by character, in the layout
of the training text. `figures`: per voice without drums, chord by chord, the interval from the top
note of the chord before, the ticks since its onset, the length, and the shape of the chord below
its top note. Copies in another key have the same figures and other text.

`share`          windows of WINDOW symbols (50 characters, 16 figures; stride 1) of all tunes that
                 the training set holds, over all their windows.
`longest_match`  the longest passage of a tune that stands in one place of the training set: in
                 characters; in chords and bars. 0 where no whole window matches.
No window goes beyond a tune or a voice. Held-out pieces are the control: music repeats itself, and
what they share with the training set is no copying. Intervals are percentiles over tunes drawn with
replacement.

The index holds a 64-bit hash and the place of each training window, 12 bytes a window and 1 a
character (8 a figure), and takes some 25 bytes a window while it is built. A window is told by its
hash: one that the training set lacks is counted with a chance of (windows in it) / 2^64, below
1e-11 for 10^8. The longest match is compared symbol by symbol.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from data_prep.abc_to_midi import perform
from data_prep.notation import AbcError
from data_prep.tune_parser import parse_tune

from .metrics import N_DRAWS, SEED, mean_interval, rate

TEXT_WINDOW = 50
FIGURE_WINDOW = 16
LONGEST_IOI = 2**20 - 1  # ticks
_HEADER_LINE = re.compile(r"[A-Za-z]:|%%")
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def body(abc: str) -> str:
    """The text without header and field lines: lines of bars, as they stand.

    Text that is not in the dialect has one too.
    """
    return "\n".join(line for line in abc.split("\n") if line and not _HEADER_LINE.match(line))


def text_symbols(abc: str) -> np.ndarray:
    """UTF-8 bytes of the body, (n,) uint8: characters, where the text is in the dialect."""
    return np.frombuffer(body(abc).encode(), dtype=np.uint8)


@dataclass(frozen=True)
class Figures:
    """The chords of one voice.

    Attributes:
        symbols: (n,) uint64, one a chord but for the first: interval, ticks, length and shape.
        bars: (n + 2,) where the chords begin, in bars from 0, and where the last one ends.
    """

    symbols: np.ndarray
    bars: np.ndarray


def voice_figures(abc: str) -> list[Figures]:
    """The figures of each voice that is not drums and has two chords or more.

    Raises:
        AbcError: Where the text leaves the dialect.
    """
    performance = perform(parse_tune(abc))
    pairs = zip(performance.tune.voices, performance.voices, strict=True)
    pitched = [chords for voice, chords in pairs if not voice.is_drums]
    return [_figures(chords, performance.starts) for chords in pitched if len(chords) > 1]


def _figures(chords: list[tuple[int, int, tuple[int, ...]]], starts: list[int]) -> Figures:
    all_onsets, all_ends, pitches = zip(*chords, strict=True)
    onsets, ends = np.array(all_onsets), np.array(all_ends)
    tops = np.array([chord[-1] for chord in pitches])
    shapes = np.array([_shape(chord) for chord in pitches], dtype=np.uint64)
    interval = (np.diff(tops) + 128).astype(np.uint64)  # 8 bits
    ticks = np.minimum(np.diff(onsets), LONGEST_IOI).astype(np.uint64)  # 20 bits
    length = np.minimum(ends - onsets, LONGEST_IOI)[1:].astype(np.uint64)  # 20 bits
    packed = interval | (ticks << np.uint64(8)) | (length << np.uint64(28))
    symbols = _mixed(packed) ^ shapes[1:]
    places = np.append(onsets, ends[-1])
    return Figures(symbols, np.interp(places, starts, np.arange(len(starts))))


@lru_cache(maxsize=2**16)
def _shape(pitches: tuple[int, ...]) -> int:
    """A number for the intervals below the top note; 0 for a single note."""
    number = 0
    for pitch in pitches[:-1]:
        number = (number * 131 + pitches[-1] - pitch) % 2**61
    return number


def _mixed(values: np.ndarray) -> np.ndarray:
    """A bijection of uint64 that leaves no trace of order. Source: Steele et al. 2014, splitmix."""
    values = values + _MIX[0]
    values = (values ^ (values >> np.uint64(30))) * _MIX[1]
    values = (values ^ (values >> np.uint64(27))) * _MIX[2]
    return values ^ (values >> np.uint64(31))


def window_hashes(symbols: np.ndarray, window: int) -> np.ndarray:
    """(n - window + 1,) uint64, a hash of each window; symbols: (n,) unsigned.

    Windows of 1, 2, 4, ... are joined pair by pair, so 50 takes seven steps and not fifty.
    """
    n = len(symbols) - window + 1
    if n < 1:
        return np.zeros(0, dtype=np.uint64)
    power, size = _mixed(symbols.astype(np.uint64)), 1
    found, found_size = None, 0
    while True:
        if window & size:
            part = power[found_size:][:n]
            found = part if found is None else _mixed(found * _MIX[1] + part)
            found_size += size
        if found_size == window:
            return found
        power = _mixed(power[:-size] * _MIX[2] + power[size:])
        size *= 2


class PassageIndex:
    """The windows of a training set.

    Args:
        sequences: One a tune or voice, unsigned symbols; no window goes from one to the next.
        window: Symbols a window.
    """

    def __init__(self, sequences: Sequence[np.ndarray], window: int) -> None:
        self.window = window
        lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        self.symbols = np.concatenate([*sequences, np.zeros(0, np.uint8)])
        if len(self.symbols) >= 2**32:
            raise ValueError(f"{len(self.symbols):,} symbols, expected fewer than 2^32; take fewer")
        self.ends = np.cumsum(lengths)  # after the last symbol of each sequence
        counts = np.maximum(lengths - window + 1, 0)
        hashes = np.empty(counts.sum(), dtype=np.uint64)
        places = np.empty(counts.sum(), dtype=np.uint32)
        filled = 0
        for start, count in zip(self.ends - lengths, counts, strict=True):
            part = slice(filled, filled + count)
            hashes[part] = window_hashes(self.symbols[start : start + count + window - 1], window)
            places[part] = np.arange(start, start + count)
            filled += count
        order = np.argsort(hashes)
        self.hashes = hashes[order]
        del hashes
        self.places = places[order]

    def seen(self, symbols: np.ndarray) -> np.ndarray:
        """(n - window + 1,) whether the training set holds each window of (n,) symbols."""
        wanted = window_hashes(symbols, self.window)
        if not len(self.hashes):
            return np.zeros(len(wanted), dtype=bool)
        place = np.searchsorted(self.hashes, wanted)
        return self.hashes[np.minimum(place, len(self.hashes) - 1)] == wanted

    def longest_match(self, symbols: np.ndarray) -> tuple[int, int]:
        """First symbol and length of the longest passage that stands in the training set.

        (0, 0) if that is shorter than a window.
        """
        wanted, is_seen = window_hashes(symbols, self.window), self.seen(symbols)
        start, best = 0, 0
        edges = np.flatnonzero(np.diff(np.concatenate([[0], is_seen, [0]])))
        for first, after in zip(edges[::2], edges[1::2], strict=True):
            # a run of seen windows bounds what can match in it
            at = first
            while at < after and after - first + self.window - 1 > best:
                low = np.searchsorted(self.hashes, wanted[at], "left")
                high = np.searchsorted(self.hashes, wanted[at], "right")
                left, length = self._extend(symbols, at, self.places[low:high].astype(np.int64))
                if length > best:
                    start, best = at - left, length
                # a longer match begins a window in every so many places, so the rest is skipped
                at += max(1, best - self.window + 1)
        return int(start), int(best)

    def _extend(self, symbols: np.ndarray, at: int, places: np.ndarray) -> tuple[int, int]:
        """How far the best match around a window goes to the left of it, and its whole length."""
        owner = np.searchsorted(self.ends, places, "right")
        begins = np.concatenate([[0], self.ends])[owner]
        right = self._reach(symbols[at:], places, self.ends[owner] - places, 1)
        left = self._reach(symbols[:at][::-1], places - 1, places - begins, -1)
        best = int(np.argmax(left + right))
        return int(left[best]), int((left + right)[best])

    def _reach(
        self, symbols: np.ndarray, places: np.ndarray, room: np.ndarray, step: int
    ) -> np.ndarray:
        """(n,) equal symbols from each place on, in steps of 1 or -1, at most `room` (n,)."""
        reach = np.zeros(len(places), dtype=np.int64)
        alive = np.arange(len(places))
        for offset, symbol in enumerate(symbols):
            alive = alive[room[alive] > offset]
            alive = alive[self.symbols[places[alive] + step * offset] == symbol]
            if not len(alive):
                break
            reach[alive] = offset + 1
        return reach


@dataclass(frozen=True)
class TrainingIndex:
    """Both forms of a training set.

    Attributes:
        text: Of characters.
        figures: Of chords.
    """

    text: PassageIndex
    figures: PassageIndex

    @classmethod
    def of(cls, texts: Sequence[str]) -> TrainingIndex:
        """Indexes tunes; one that can not be read has text only."""
        figures = [voice.symbols for abc in texts for voice in _readable_figures(abc)]
        text = PassageIndex([text_symbols(abc) for abc in texts], TEXT_WINDOW)
        return cls(text, PassageIndex(figures, FIGURE_WINDOW))


def _readable_figures(abc: str) -> list[Figures]:
    """The figures of a tune, or of its whole lines if the last one broke off; else none."""
    for text in (abc, abc[: abc.rfind("\n") + 1]):
        try:
            return voice_figures(text)
        except AbcError:
            continue
    return []


def copied_passages(abc: str, index: TrainingIndex) -> dict[str, float | None]:
    """What one tune shares with the training set.

    Returns:
        `windows_text`, `seen_text`: windows, and those that are in the training set;
        `longest_match_chars`; the same of figures, `longest_match_chords` and `_bars`; None for
        what a tune that can not be read, or without a window, does not have.
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
        # figure k joins chords k and k + 1, so a match of n figures has n + 1 chords
        bars = float(voice.bars[start + length + 1] - voice.bars[start]) if length else 0.0
        longest = max(longest, (length + 1 if length else 0, bars))
    return row | dict(zip(names, longest, strict=True))


def memorisation(
    tunes: Sequence[str], control: Sequence[str], index: TrainingIndex, seed: int = SEED
) -> dict[str, Any]:
    """Copied passages of generated tunes beside those of held-out pieces.

    Args:
        tunes: Generated, in the layout of the training text.
        control: Held-out pieces, not in the index.
        index: The training set.
        seed: Of the draws.

    Returns:
        For `tunes` and `control`: `share_text_window_50`, `share_figures_window_16`, means of the
        longest matches, each with intervals over tunes, and their greatest; and the `difference`
        of both shares.
    """
    sides, drawn = {}, {}
    for number, (side, texts) in enumerate((("tunes", tunes), ("control", control))):
        rows = [copied_passages(abc, index) for abc in texts]
        sides[side], drawn[side] = _summary(rows, [seed, number])
    difference = {}
    for name, values in drawn["tunes"].items():
        ours, theirs = sides["tunes"][name]["share"], sides["control"][name]["share"]
        known = ours is not None and theirs is not None
        difference[name] = {
            "difference": ours - theirs if known else None,
            "interval_95": _percentiles(values - drawn["control"][name]) if known else None,
        }
    return sides | {"difference": difference, "n_train_windows": len(index.text.hashes)}


def _summary(
    rows: list[dict[str, float | None]], seed: list[int]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The numbers of one set, and its shares in each draw of tunes."""
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
            # where no tune has one, the interval of the share has no width, but this one has
            "tunes_with_a_seen_window": rate([bool(n) for n in seen]) if len(rows) else None,
        }
    for name in ("longest_match_chars", "longest_match_chords", "longest_match_bars"):
        values = [row[name] for row in rows]
        content[name] = mean_interval(values, seed[0])
        content[name]["max"] = max((v for v in values if v is not None), default=None)
    return content, drawn


def _percentiles(values: np.ndarray) -> list[float]:
    return np.nanpercentile(values, (2.5, 97.5)).tolist()
