"""A tune as numbers: its bars, notes and chords, for computing statistics.

B bars, N notes. Onsets are ticks of 1/48 quarter note.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data_prep.dialect.abc_to_midi import perform
from data_prep.dialect.tune import Tune
from data_prep.dialect.tune_parser import parse_tune

MIN_NOTES = 8  # in a voice or a third, for its histogram to be meaningful
VOICE, ONSET, END, PITCH = range(4)


@dataclass(frozen=True)
class Piece:
    """A tune as numbers.

    Attributes:
        tune: The parsed tune.
        starts: (B + 1,) first tick of each bar, and the end of the last.
        notes: (N, 4) voice, onset, end, pitch; sorted by voice and onset; drums excluded.
        onsets: (n, 2) voice, onset of each chord of any voice, drums included.
        chord_sizes: (n,) notes that begin together in one voice; drums excluded.
    """

    tune: Tune
    starts: np.ndarray
    notes: np.ndarray
    onsets: np.ndarray
    chord_sizes: np.ndarray

    @property
    def n_bars(self) -> int:
        """B."""
        return len(self.starts) - 1

    @property
    def texts(self) -> list[list[str]]:
        """Bar texts of each voice without drums; "" for a bar of rest."""
        return [voice.bars for voice in self.tune.voices if not voice.is_drums]

    def bar_of(self, ticks: np.ndarray) -> np.ndarray:
        """The bar that contains each tick, from 0."""
        return np.searchsorted(self.starts, ticks, "right") - 1

    @cached_property
    def note_bars(self) -> np.ndarray:
        """(N,) the bar in which each note begins."""
        return self.bar_of(self.notes[:, ONSET])


def read_piece(abc: str) -> Piece:
    """Reads a tune in either layout.

    Raises:
        AbcError: If the text is outside the dialect.
    """
    performance = perform(parse_tune(abc))
    drums = [voice.is_drums for voice in performance.tune.voices]
    chords = [(v, *chord) for v, voice in enumerate(performance.voices) for chord in voice]
    pitched = [chord for chord in chords if not drums[chord[0]]]
    notes = [(v, on, end, pitch) for v, on, end, pitches in pitched for pitch in pitches]
    return Piece(
        performance.tune,
        np.array(performance.starts),
        np.array(notes, dtype=np.int64).reshape(-1, 4),
        np.array([chord[:2] for chord in chords], dtype=np.int64).reshape(-1, 2),
        np.array([len(chord[3]) for chord in pitched], dtype=np.int64),
    )


Statistic = Callable[[Piece], float | None]


def pitch_classes(notes: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(12,) number of notes per pitch class, or sum of their weights."""
    return np.bincount(notes[:, PITCH] % 12, weights=weights, minlength=12)
