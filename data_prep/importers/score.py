"""A score: what an importer reads, before it becomes a tune of the dialect.

Times are exact, in whole notes from the start, with repeats played out. An importer of any format
may fill it; `score_to_tune` makes the tune.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from .report import Place

Time = Fraction
"""Whole notes from the start of the piece, or a duration in whole notes."""


class ScoreNote(NamedTuple):
    """A note that sounds.

    Attributes:
        onset: When it begins.
        duration: How long it sounds, ties joined; positive.
        pitch: MIDI pitch, 0-127.
        program: General MIDI program; None for drums.
        place: Where it is written, for warnings.
    """

    onset: Time
    duration: Time
    pitch: int
    program: int | None
    place: Place


class BarLine(NamedTuple):
    """A bar line.

    Attributes:
        time: When it is reached.
        is_plain: Whether it is a single bar line; the others (double, repeat, ending) may divide a
            bar, so that the bars beside them may be short.
        place: Where it is written, for warnings.
    """

    time: Time
    is_plain: bool
    place: Place


@dataclass
class ScoreVoice:
    """What one performer plays, in order of onset; notes may overlap.

    Attributes:
        notes: The notes.
        bar_lines: Its bar lines, in order of time.
        end: When it ends, silence included.
    """

    notes: list[ScoreNote] = field(default_factory=list)
    bar_lines: list[BarLine] = field(default_factory=list)
    end: Time = Fraction(0)


@dataclass
class Score:
    """A piece.

    Attributes:
        voices: In the order of the score.
        meters: (time, numerator and denominator, or None for free meter), in order; the first is
            at 0.
        tempos: (time, quarters a minute), in order; the first is at 0.
        signatures: Key signatures that the text names, as it sounds: sharps (+) or flats (-), -7 to
            7, without repetitions.
        place: Where its music begins, for warnings.
    """

    voices: list[ScoreVoice]
    meters: list[tuple[Time, tuple[int, int] | None]]
    tempos: list[tuple[Time, Fraction]]
    signatures: list[int]
    place: Place = (1, 1)
