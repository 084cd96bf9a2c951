"""What the automata let through: all of the dialect, or what models may write of it.

Source of the rules: data_prep/dialect/DIALECT.md; each stands for a reader that misreads the
alternative.
"""

import math
from dataclasses import dataclass

from .notation_abc import DENOMINATORS, MAX_NUMERATOR, SHORTEST_TICKS, meter_ticks


@dataclass(frozen=True)
class Limits:
    """What may be written, within the dialect; the defaults are for models.

    With `DIALECT` the automaton takes every tune that the converter writes.

    Attributes:
        n_voices: Most voices: abc2midi has 16 channels, one of them for drums.
        pitches: Lowest and highest; below 16 abcjs writes damaged MIDI.
        drum_pitches: Those of General MIDI 2.
        chord_notes: Most notes of a chord.
        bar_ticks: Shortest and longest bar.
        beats: Most beats of a metre.
        quarters_per_minute: Slowest and fastest tempo.
        is_plain: No ties but whole chords over bar lines, each with its text repeated; tuplets of
            three equal items only, all chords or none; no change of tempo. Readers differ on the
            rest.
        silent_bars: Most bars in a row in which all voices rest.
        rest_share: Most of the voices' bars that may be rests, up to every bar line. The default
            keeps their mean from exceeding that of real music, see evaluation/evaluate_model.py.
        n_notes: Least notes of a tune, a tied one counted once.
        n_pitches: Least different ones, 1 or 2.
        seconds: Least time to the end of the last bar that ends with a sound. Readers round.
        most_seconds: Longest time to the end of the last bar; past it readers are not asked.
        meter_units: Denominators of metres: those of 16 and more abcjs plays too fast, where the
            header names them (`notation_abc.header_meter`).
    """

    n_voices: int = 15
    pitches: tuple[int, int] = (16, 108)
    drum_pitches: tuple[int, int] = (27, 87)
    chord_notes: int = 6
    bar_ticks: tuple[int, int] = (48, 576)
    beats: int = 24
    quarters_per_minute: tuple[float, float] = (20, 300)
    is_plain: bool = True
    silent_bars: int = 1
    rest_share: float = 1 / 2
    n_notes: int = 16
    n_pitches: int = 2
    seconds: float = 4.05
    most_seconds: float = 598.0
    meter_units: tuple[int, ...] = (1, 2, 4, 8)


GENERATION = Limits()
DIALECT = Limits(
    n_voices=999,
    pitches=(0, 127),
    drum_pitches=(0, 127),
    chord_notes=128,
    bar_ticks=(SHORTEST_TICKS, meter_ticks(MAX_NUMERATOR, 1)),
    beats=MAX_NUMERATOR,
    quarters_per_minute=(3.75, 24_999),
    is_plain=False,
    silent_bars=10**9,
    rest_share=1.0,
    n_notes=0,
    n_pitches=0,
    seconds=0.0,
    most_seconds=math.inf,
    meter_units=DENOMINATORS,
)
