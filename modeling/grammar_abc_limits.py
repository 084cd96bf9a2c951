"""What the automata accept: the whole dialect, or the part of it that models may write.

Source of the rules: data_prep/dialect/DIALECT.md; each exists because some reader misreads the
alternative.
"""

import math
from dataclasses import dataclass

from .notation_abc import DENOMINATORS, MAX_NUMERATOR, SHORTEST_TICKS, meter_ticks


@dataclass(frozen=True)
class Limits:
    """What may be written, within the dialect; the defaults are for models.

    With `DIALECT` the automaton accepts every tune that the converter writes.

    Attributes:
        n_voices: Maximum number of voices: abc2midi has 16 channels, one of them for drums.
        pitches: Lowest and highest pitch; below 16 abcjs writes corrupt MIDI.
        drum_pitches: The same for drums, from General MIDI 2.
        chord_notes: Maximum number of notes in a chord.
        bar_ticks: Shortest and longest bar.
        beats: Maximum number of beats in a meter.
        quarters_per_minute: Slowest and fastest tempo.
        is_plain: Ties only over bar lines, of a note or a complete chord whose text is repeated;
            tuplets only of three equal items, all or none of them chords; no tempo changes. Readers
            disagree on the rest.
        silent_bars: Maximum number of consecutive bars in which all voices rest.
        rest_share: Largest share of the voices' bars that may be rests, up to any bar line. The
            default keeps its mean at or below that of real music, see evaluation/evaluate_model.py.
        n_notes: Minimum number of notes in a tune, a tied note counted once.
        n_pitches: Minimum number of different pitches, 1 or 2.
        seconds: Minimum time to the end of the last bar that ends with a sound. Readers round.
        most_seconds: Maximum time to the end of the last bar; longer tunes are not given to
            readers.
        meter_units: Denominators of meters: abcjs plays those of 16 and more too fast if the header
            names them (`notation_abc.header_meter`).
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
