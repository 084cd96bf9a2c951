"""Does what was written fit what was given? Seams of filled bars, and voices that sound together.

`seam_statistics` looks at the borders of bars that were written into a tune:

`leap`          semitones between the last note before a border and the first behind it, the top
                notes of each voice that sounds on both sides; mean over voices and both borders.
`repeats`       share of the voices whose bars on both sides of a border have the same text.
`density`       absolute difference of ln(1 + note onsets) of the bars on both sides of a border.
`out_of_key`    share of the written notes outside the scale that holds most notes of the other
                bars; drums left out.

`consonance` of two groups of voices: share of the sixteenths in which both sound where all pairs of
their notes are unisons, thirds, fourths, fifths, sixths or octaves, in any octave.

A statistic that is undefined for a tune is None.
"""

import math
from collections.abc import Sequence
from itertools import product
from statistics import fmean

import numpy as np

from data_prep.dialect.abc_to_midi import Performance, perform
from data_prep.dialect.notation import TICKS_PER_UNIT
from data_prep.dialect.tune_parser import parse_tune

CONSONANT = {0, 3, 4, 5, 7, 8, 9}  # semitones modulo 12, the same upwards and downwards
MAJOR_SCALE = (0, 2, 4, 5, 7, 9, 11)
Chord = tuple[int, int, tuple[int, ...]]  # onset, end, pitches


def seam_statistics(abc: str, first: int, last: int) -> dict[str, float | None]:
    """The statistics of bars `first` to `last`, numbered from 1, in a whole tune."""
    performance = perform(parse_tune(abc))
    borders = [bar for bar in (first - 1, last) if 0 < bar < len(performance.starts) - 1]
    leaps, repeats, densities = [], [], []
    for border in borders:
        for voice, chords in zip(performance.tune.voices, performance.voices, strict=True):
            before, behind = (_chords_in(performance, chords, bar) for bar in (border - 1, border))
            texts = voice.bars[border - 1], voice.bars[border]
            if texts[0] and texts[1]:
                repeats.append(float(texts[0] == texts[1]))
            if before and behind and not voice.is_drums:
                leaps.append(abs(before[-1][2][-1] - behind[0][2][-1]))
        counts = [_n_onsets(performance, bar) for bar in (border - 1, border)]
        densities.append(abs(math.log1p(counts[0]) - math.log1p(counts[1])))
    return {
        "leap": fmean(leaps) if leaps else None,
        "repeats": fmean(repeats) if repeats else None,
        "density": fmean(densities) if densities else None,
        "out_of_key": _out_of_key(performance, first - 1, last),
    }


def _chords_in(performance: Performance, chords: Sequence[Chord], bar: int) -> list[Chord]:
    start, stop = performance.starts[bar : bar + 2]
    return [chord for chord in chords if start <= chord[0] < stop]


def _n_onsets(performance: Performance, bar: int) -> int:
    return sum(
        len(pitches)
        for chords in performance.voices
        for _, _, pitches in _chords_in(performance, chords, bar)
    )


def _out_of_key(performance: Performance, first: int, last: int) -> float | None:
    inside, outside = np.zeros(12), np.zeros(12)
    start, stop = performance.starts[first], performance.starts[last]
    for voice, chords in zip(performance.tune.voices, performance.voices, strict=True):
        for onset, _, pitches in chords if not voice.is_drums else ():
            counts = inside if start <= onset < stop else outside
            np.add.at(counts, [pitch % 12 for pitch in pitches], 1)
    if not inside.sum() or not outside.sum():
        return None
    scales = [[(tonic + step) % 12 for step in MAJOR_SCALE] for tonic in range(12)]
    scale = max(scales, key=lambda classes: outside[classes].sum())
    return float(1 - inside[scale].sum() / inside.sum())


def consonance(abc: str, n_given: int) -> float | None:
    """Consonance of the first `n_given` voices of a tune with the others; drums left out."""
    performance = perform(parse_tune(abc))
    length = -(-performance.starts[-1] // TICKS_PER_UNIT)
    groups: list[list[set[int]]] = [[set() for _ in range(length)] for _ in range(2)]
    voices = zip(performance.tune.voices, performance.voices, strict=True)
    for number, (voice, chords) in enumerate(voices):
        for onset, end, pitches in chords if not voice.is_drums else ():
            for unit in range(onset // TICKS_PER_UNIT, -(-end // TICKS_PER_UNIT)):
                groups[number >= n_given][unit].update(pitches)
    together = [(given, other) for given, other in zip(*groups, strict=True) if given and other]
    if not together:
        return None
    return fmean(all((a - b) % 12 in CONSONANT for a, b in product(*pair)) for pair in together)
