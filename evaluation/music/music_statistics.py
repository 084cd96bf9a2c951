"""One tune -> its statistics: pitches, textures, repetition, form.

Conventions. B bars, N notes, S steps of a sixteenth. Drums are excluded unless a function says
otherwise. Onsets are ticks of 1/48 quarter note. An undefined statistic (such as pitch statistics
of a piece without notes) is None, never 0. Halves and thirds of a piece are split at whole bars. A
bar of rest is a bar in which the voice is silent from bar line to bar line. If no source is given,
the definition is this project's own; absolute values mean little and should be compared with those
of held-out real pieces (`distance.py`).
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby, pairwise

import numpy as np

from data_prep.dialect.notation import TICKS_PER_QUARTER, TICKS_PER_UNIT, AbcError

from .musical_form import OF_FORM
from .musical_piece import END, ONSET, PITCH, Piece, Statistic, pitch_classes, read_piece

STEPS_PER_BAR = 16
LONGEST_LAG = 256  # bars
LAGS = {"short": (1, 4), "mid": (5, 16), "long": (17, LONGEST_LAG)}
SILENT_BARS = 8  # consecutive silent bars of one voice that make a loop of silence
MAJOR = (0, 2, 4, 5, 7, 9, 11)


def pitch_range(piece: Piece) -> float:
    """Highest minus lowest pitch, in semitones."""
    return float(np.ptp(piece.notes[:, PITCH]))


def n_pitch_classes(piece: Piece) -> float:
    """Number of pitch classes that occur, 1 to 12."""
    return float(np.count_nonzero(pitch_classes(piece.notes)))


def pitch_class_entropy(piece: Piece) -> float:
    """Entropy of the pitch classes of all notes in bits, 0 to 3.585; as in muspy."""
    share = pitch_classes(piece.notes) / len(piece.notes)
    share = share[share > 0]
    return max(0.0, float(-(share * np.log2(share)).sum()))


def scale_consistency(piece: Piece) -> float:
    """Share of notes in the scale of the best-fitting key, 7/12 to 1; as in muspy.

    There are 24 keys; the minor ones are natural, so each shares its notes with a major one.
    """
    counts = pitch_classes(piece.notes)
    scales = [(np.array(MAJOR) + tonic) % 12 for tonic in range(12)]
    return float(max(counts[scale].sum() for scale in scales) / len(piece.notes))


def _sounding(piece: Piece) -> np.ndarray:
    """(S,) number of distinct pitches in each sixteenth.

    A note sounds in the sixteenths whose first tick it covers, and in the one where it begins.
    """
    sounds = np.zeros((128, -(-piece.starts[-1] // TICKS_PER_UNIT)), dtype=bool)  # (128, S)
    for _, onset, end, pitch in piece.notes.tolist():
        first = onset // TICKS_PER_UNIT
        # on-grid notes cover [first, after); an off-grid note also counts where it begins
        sounds[pitch, first : max(-(-end // TICKS_PER_UNIT), first + 1)] = True
    return sounds.sum(0)


def polyphony(piece: Piece) -> float:
    """Mean number of distinct pitches, over sixteenths with at least one; as in muspy."""
    sounding = _sounding(piece)
    return float(sounding[sounding > 0].mean())


def polyphony_rate(piece: Piece) -> float:
    """Share of sixteenths with at least two pitches among those with any (muspy: among all)."""
    sounding = _sounding(piece)
    return float((sounding[sounding > 0] > 1).mean())


def empty_beat_rate(piece: Piece) -> float | None:
    """Share of beats in which no note sounds; a beat is a quarter, counted from each bar line.

    None without bars or if all voices are drums; 1 for a tune of rests.
    """
    if not piece.n_bars or not piece.texts:
        return None
    bars = pairwise(piece.starts)
    begins = np.concatenate([np.arange(start, end, TICKS_PER_QUARTER) for start, end in bars])
    ends = np.append(begins[1:], piece.starts[-1])
    order = np.argsort(piece.notes[:, ONSET], kind="stable")
    onsets = piece.notes[order, ONSET]
    reached = np.concatenate([[-1], np.maximum.accumulate(piece.notes[order, END])])
    return float((reached[np.searchsorted(onsets, ends, "left")] <= begins).mean())


def empty_bar_rate(piece: Piece) -> float | None:
    """Share of bars of rest in a voice, averaged over voices; None without bars."""
    rates = [texts.count("") / len(texts) for texts in piece.texts if texts]
    return float(np.mean(rates)) if rates else None


def _bar_vectors(piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """(B, 12) note onsets of each pitch class, (B, 16) whether a note begins in that sixteenth."""
    chroma, steps = np.zeros((piece.n_bars, 12)), np.zeros((piece.n_bars, STEPS_PER_BAR))
    bar = piece.note_bars
    lengths = np.diff(piece.starts)[bar]
    place = STEPS_PER_BAR * (piece.notes[:, ONSET] - piece.starts[bar]) // lengths
    np.add.at(chroma, (bar, piece.notes[:, PITCH] % 12), 1)
    steps[bar, place] = 1
    return chroma, steps


def groove_consistency(piece: Piece) -> float | None:
    """1 minus the mean share of the 16 steps in which neighboring bars differ, 0 to 1.

    A step is on if a note begins in it; bars of any meter have 16. Pairs of silent bars are
    skipped, or silence would be the steadiest groove. Source: Wu and Yang 2020 (MusDr), section 4.
    """
    _, steps = _bar_vectors(piece)
    heard = steps[1:].any(1) | steps[:-1].any(1)
    if not heard.any():
        return None
    return float(1 - (steps[1:] != steps[:-1]).mean(1)[heard].mean())


def bar_similarity(piece: Piece, lags: tuple[int, int]) -> float | None:
    """Similarity of bars that are some lag apart, at the best lag, 0 to 1.

    The mean of two cosine similarities, of pitch classes and of onsets in 16 steps, between each
    bar and the one a lag later, averaged over pairs in which at least one bar sounds. The lag is at
    most half of the piece, so that no mean is over few pairs. This is not MusDr's structureness,
    which is computed from audio.

    Args:
        piece: The tune.
        lags: Shortest and longest lag, in bars.
    """
    vectors = _bar_vectors(piece)
    heard = vectors[1].any(1)
    lengths = [np.linalg.norm(part, axis=1, keepdims=True) for part in vectors]
    parts = [part / np.maximum(n, 1e-12) for part, n in zip(vectors, lengths, strict=True)]
    bars = np.concatenate(parts, axis=1)  # (B, 28), squared norm 2 or 0
    means = []
    for lag in range(lags[0], min(lags[1], piece.n_bars // 2) + 1):
        pair = heard[:-lag] | heard[lag:]
        if pair.any():
            means.append((bars[:-lag] * bars[lag:]).sum(1)[pair].mean() / 2)
    return float(max(means)) if means else None


def bar_repeat_rate(piece: Piece) -> float | None:
    """Share of bars with the same text as the previous bar of the voice; rests excluded."""
    pairs = [pair for texts in piece.texts for pair in pairwise(texts)]
    same = [before == bar for before, bar in pairs if bar]
    return sum(same) / len(same) if same else None


def distinct_4bar(piece: Piece) -> float | None:
    """Share of distinct ones among all runs of four bars of a voice that are not all rests."""
    runs = [tuple(texts[i : i + 4]) for texts in piece.texts for i in range(len(texts) - 3)]
    runs = [run for run in runs if any(run)]
    return len(set(runs)) / len(runs) if runs else None


def _runs(items: Sequence[object]) -> list[tuple[object, int]]:
    return [(item, sum(1 for _ in group)) for item, group in groupby(items)]


def max_same_bar_run(piece: Piece) -> float | None:
    """Most consecutive bars with the same text in one voice; rests excluded."""
    runs = [length for texts in piece.texts for text, length in _runs(texts) if text]
    return float(max(runs)) if runs else None


def _silent_bars(piece: Piece) -> list[bool]:
    """Whether all voices rest, drums included, for each bar."""
    return [not any(bar) for bar in zip(*(voice.bars for voice in piece.tune.voices), strict=True)]


def rest_bar_rate(piece: Piece) -> float | None:
    """Share of bars in which all voices rest, drums included; None without bars."""
    silent = _silent_bars(piece)
    return sum(silent) / len(silent) if silent else None


def longest_silence_bars(piece: Piece) -> float | None:
    """Most consecutive bars in which all voices rest, drums included; None without bars."""
    silent = _silent_bars(piece)
    return float(max([n for rests, n in _runs(silent) if rests], default=0)) if silent else None


def silence_loop(piece: Piece) -> float | None:
    """1 if a voice rests for 8 bars in a row, or all rest in more than half of the bars, else 0.

    Real music with many voices does the first too: compare it with held-out pieces.
    """
    rate = rest_bar_rate(piece)
    if rate is None:
        return None
    longest = [n for texts in piece.texts for text, n in _runs(texts) if not text]
    return float(rate > 0.5 or max(longest, default=0) >= SILENT_BARS)


def notes_per_chord_mean(piece: Piece) -> float:
    """Mean number of notes that begin together in one voice; a single note counts as one."""
    return float(piece.chord_sizes.mean())


def notes_per_chord_p95(piece: Piece) -> float:
    """95th percentile of the notes that begin together in one voice: study A's dense clusters."""
    return float(np.percentile(piece.chord_sizes, 95))


_BAR_SIMILARITY: dict[str, Statistic] = {
    f"bar_similarity_{name}": partial(bar_similarity, lags=lags) for name, lags in LAGS.items()
}
# Undefined for a piece without notes.
_OF_NOTES: tuple[Statistic, ...] = (
    *(pitch_range, n_pitch_classes, pitch_class_entropy, scale_consistency),
    *(polyphony, polyphony_rate, groove_consistency, notes_per_chord_mean, notes_per_chord_p95),
    *_BAR_SIMILARITY.values(),
)
_PLAIN: tuple[Statistic, ...] = (
    *(pitch_range, n_pitch_classes, pitch_class_entropy, scale_consistency),
    *(polyphony, polyphony_rate, empty_beat_rate, empty_bar_rate, groove_consistency),
    *(bar_repeat_rate, distinct_4bar, max_same_bar_run),
    *(rest_bar_rate, longest_silence_bars, silence_loop),
    *(notes_per_chord_mean, notes_per_chord_p95),
    *OF_FORM,
)
STATISTICS: dict[str, Statistic] = {
    statistic.__name__: statistic for statistic in _PLAIN
} | _BAR_SIMILARITY


def describe_tune(abc: str) -> dict[str, float | None]:
    """All statistics of one tune, in either layout.

    Raises:
        AbcError: If the text is outside the dialect.
    """
    piece = read_piece(abc)
    return {
        name: statistic(piece) if len(piece.notes) or statistic not in _OF_NOTES else None
        for name, statistic in STATISTICS.items()
    }


def describe_tunes(texts: Sequence[str]) -> tuple[list[dict[str, float | None]], int]:
    """A row of statistics for each readable tune, and the number of unreadable ones."""
    rows = []
    for text in texts:
        with suppress(AbcError):
            rows.append(describe_tune(text))
    return rows, len(texts) - len(rows)
