"""Voices of one instrument that never conflict -> one voice.

Many files spread an instrument over tracks that take turns, or that move in one rhythm: written
separately, they are mostly rests. Two voices are joined if the converter would write the result
unchanged: no note is moved, cut, or lost.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from .quantize import grids_of
from .releases import PART_STRIDE, written_ends
from .voices import MAX_CHORD_NOTES, Voices


@dataclass
class _Line:
    """A voice that may grow by joining: its chords by onset, with their indices in `chord`."""

    voice: int
    onset: np.ndarray
    end: np.ndarray
    chord: np.ndarray


def merge_voices(voices: Voices, instruments: np.ndarray, cells: np.ndarray) -> Voices:
    """Joins voices of the same instrument where nothing is lost.

    Args:
        voices: The voices as split.
        instruments: (voices,) voices with the same number may be joined; negative for drums, which
            stay separate.
        cells: (beats + 1,) first tick of each beat.
    """
    notes = _PitchSets.of(voices)
    bounds = np.searchsorted(voices.voice, np.arange(len(voices.parts) + 1)).tolist()
    lines: dict[int, list[_Line]] = defaultdict(list)
    for voice, instrument in enumerate(instruments.tolist()):
        chords = np.arange(bounds[voice], bounds[voice + 1])
        line = _Line(voice, voices.onset[chords], voices.end[chords], chords)
        lines[instrument].append(line)
    joined = [
        line
        for instrument, same in lines.items()
        for line in (same if instrument < 0 else _join_all(same, notes, cells))
    ]
    kept = sorted(joined, key=lambda line: line.voice)
    return voices if len(kept) == len(voices.parts) else _assemble(voices, kept, notes.joined)


@dataclass
class _PitchSets:
    """The pitches of chords as sets of 128 bits, and which chord each was joined to.

    Attributes:
        low: (chords,) pitches 0-63 as bits.
        high: (chords,) pitches 64-127 as bits.
        size: (chords,) number of notes.
        joined: (chords,) the chord that each has become part of; initially itself.
    """

    low: np.ndarray
    high: np.ndarray
    size: np.ndarray
    joined: np.ndarray

    @classmethod
    def of(cls, voices: Voices) -> "_PitchSets":
        bits = np.left_shift(np.uint64(1), (voices.pitches % 64).astype(np.uint64))
        is_high = voices.pitches >= 64
        first = voices.first_note[:-1]
        none = np.uint64(0)
        return cls(
            np.bitwise_or.reduceat(np.where(is_high, none, bits), first),
            np.bitwise_or.reduceat(np.where(is_high, bits, none), first),
            np.diff(voices.first_note),
            np.arange(len(first)),
        )

    def can_join(self, ours: np.ndarray, theirs: np.ndarray) -> bool:
        """Whether all pairs of chords share no pitch and are not too large together."""
        shared = (self.low[ours] & self.low[theirs]) | (self.high[ours] & self.high[theirs])
        small = self.size[ours] + self.size[theirs] <= MAX_CHORD_NOTES
        return not shared.any() and bool(small.all())

    def join(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Makes the second chord of each pair part of the first."""
        self.low[ours] |= self.low[theirs]
        self.high[ours] |= self.high[theirs]
        self.size[ours] += self.size[theirs]
        self.joined[theirs] = ours


def _join_all(lines: list[_Line], notes: _PitchSets, cells: np.ndarray) -> list[_Line]:
    """Joins each line to the first earlier line that fits, until no two fit."""
    kept: list[_Line] = []
    for line in lines:
        if not any(_join(earlier, line, notes, cells) for earlier in kept):
            kept.append(line)
    # A line that has grown may fit one that it did not fit before.
    return kept if len(kept) == len(lines) else _join_all(kept, notes, cells)


def _join(ours: _Line, theirs: _Line, notes: _PitchSets, cells: np.ndarray) -> bool:
    """Joins a line to an earlier one if that changes no note; returns whether it did."""
    after = np.searchsorted(ours.onset, theirs.onset, side="right")
    before = np.maximum(after - 1, 0)
    together = (ours.onset[before] == theirs.onset) & (ours.end[before] == theirs.end)
    clear = (after == 0) | together | (ours.end[before] <= theirs.onset)
    if not (clear & (theirs.end <= np.append(ours.onset, PART_STRIDE)[after])).all():
        return False
    pairs = ours.chord[before[together]], theirs.chord[together]
    if not notes.can_join(*pairs):
        return False
    onset = np.concatenate([ours.onset, theirs.onset[~together]])
    order = np.argsort(onset, kind="stable")
    onset = onset[order]
    end = np.concatenate([ours.end, theirs.end[~together]])[order]
    alone = np.zeros(len(onset), np.int64)
    grids = grids_of(alone, onset, cells)
    if grids is None or (written_ends(alone, onset, end, grids) != end).any():
        return False
    notes.join(*pairs)
    ours.onset, ours.end = onset, end
    ours.chord = np.concatenate([ours.chord, theirs.chord[~together]])[order]
    return True


def _assemble(voices: Voices, lines: list[_Line], joined: np.ndarray) -> Voices:
    """Puts lines back into arrays; a joined chord passes its notes on to the other."""
    while (joined != joined[joined]).any():
        joined = joined[joined]
    chord = np.concatenate([line.chord for line in lines])
    place = np.empty(len(joined), np.int64)
    place[chord] = np.arange(len(chord))
    note_chord = place[np.repeat(joined, np.diff(voices.first_note))]
    order = np.lexsort((voices.pitches, note_chord))
    sizes = np.bincount(note_chord, minlength=len(chord))
    return Voices(
        parts=voices.parts[[line.voice for line in lines]],
        voice=np.repeat(np.arange(len(lines)), [len(line.chord) for line in lines]),
        onset=voices.onset[chord],
        end=voices.end[chord],
        first_note=np.concatenate([[0], np.cumsum(sizes)]),
        pitches=voices.pitches[order],
    )
