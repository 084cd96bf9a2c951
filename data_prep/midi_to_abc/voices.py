"""Notes of parts -> voices: sequences of chords without overlaps.

Notes of one attack whose releases are close together are a chord; overlapping chords become extra
voices of their part, if there are enough of them.
"""

from dataclasses import dataclass

import numpy as np

from .quantize import grids_of
from .releases import PART_STRIDE, near_ticks, to_near_attacks, written_ends

MAX_CHORD_NOTES = 12
_PITCHES = 128
_MAX_VOICES_A_PART = 6


@dataclass
class Voices:
    """Chords sorted by voice, then onset; and their notes in the order of the chords.

    Attributes:
        parts: (voices,) part of each voice.
        voice: (chords,) voice of each chord.
        onset: (chords,) ticks.
        end: (chords,) ticks.
        first_note: (chords + 1,) where the notes of each chord begin in `pitches`.
        pitches: (notes,) MIDI pitches, ascending within a chord.
    """

    parts: np.ndarray
    voice: np.ndarray
    onset: np.ndarray
    end: np.ndarray
    first_note: np.ndarray
    pitches: np.ndarray


def split_voices(
    parts: np.ndarray,
    onsets: np.ndarray,
    ends: np.ndarray,
    pitches: np.ndarray,
    is_drums: np.ndarray,
    cells: np.ndarray,
    least_share: float,
) -> Voices:
    """Splits notes into voices.

    Args:
        parts: (n,) part of each note.
        onsets: (n,) whole ticks, on the grid.
        ends: (n,) ticks, as played.
        pitches: (n,) MIDI pitches.
        is_drums: (parts,) whether a part is the drum kit.
        cells: (beats + 1,) first tick of each beat.
        least_share: Share of a part's chords that a voice must have to be written; otherwise the
            overlapping notes are cut short.
    """
    parts, onsets, ends, pitches = _without_doubles(parts, onsets, ends, pitches)
    ends = np.maximum(ends, onsets + 1)  # an onset may have been snapped past its release
    ends = to_near_attacks(parts, onsets, ends)
    chords = _chords(parts, onsets, ends, pitches, is_drums)
    chords.end = _cut_by_next_attack(chords, is_drums)
    voice, end, joined = _allocate(chords, least_share)

    _, numbers = np.unique(chords.part * (voice.max() + 1) + voice, return_inverse=True)
    kept = np.argsort(numbers * PART_STRIDE + chords.onset, kind="stable")
    kept = kept[joined[kept] == kept]
    rank = np.empty(len(numbers), np.int64)
    rank[kept] = np.arange(len(kept))
    note_chord = rank[np.repeat(joined, chords.size)]
    order = _order(note_chord, chords.pitches)
    numbers, onset = numbers[kept], chords.onset[kept]
    return Voices(
        parts=chords.part[kept][_first_of_runs(numbers)],
        voice=numbers,
        onset=onset,
        end=written_ends(numbers, onset, end[kept], grids_of(numbers, onset, cells)),
        first_note=np.append(_first_of_runs(note_chord[order]), len(order)),
        pitches=chords.pitches[order],
    )


@dataclass
class _Chords:
    """Chords by part, then onset, before a part is split into voices.

    Attributes:
        part: (chords,) part of each chord.
        onset: (chords,) ticks.
        end: (chords,) ticks, as played.
        size: (chords,) number of notes.
        highest: (chords,) MIDI pitch.
        pitches: (notes,) MIDI pitches, chord after chord.
    """

    part: np.ndarray
    onset: np.ndarray
    end: np.ndarray
    size: np.ndarray
    highest: np.ndarray
    pitches: np.ndarray


def _chords(
    parts: np.ndarray,
    onsets: np.ndarray,
    ends: np.ndarray,
    pitches: np.ndarray,
    is_drums: np.ndarray,
) -> _Chords:
    """Joins notes of one attack whose releases are close together; keeps the last release."""
    chord = _chord_numbers(parts, onsets, ends, is_drums)
    order = _order(chord, pitches)
    pitches = pitches[order]
    first = _first_of_runs(chord[order])
    stop = np.append(first[1:], len(pitches))
    return _Chords(
        part=parts[order][first],
        onset=onsets[order][first],
        end=np.maximum.reduceat(ends[order], first),
        size=stop - first,
        highest=pitches[stop - 1],
        pitches=pitches,
    )


def _cut_by_next_attack(chords: _Chords, is_drums: np.ndarray) -> np.ndarray:
    """Ends drum chords where the next one starts: (chords,) ticks."""
    part = chords.part
    attacks = part * PART_STRIDE + chords.onset
    following = np.searchsorted(attacks, attacks, side="right")
    at = np.append(attacks, PART_STRIDE * (part[-1] + 1))[following] - part * PART_STRIDE
    return np.where(is_drums[part], np.minimum(chords.end, at), chords.end)


def _order(first: np.ndarray, pitches: np.ndarray) -> np.ndarray:
    """Returns the order by `first` (integers, nearly sorted), then by pitches: (n,)."""
    return np.argsort(first * _PITCHES + pitches, kind="stable")


def _is_first(values: np.ndarray) -> np.ndarray:
    """Returns whether each value begins a run of equal values: (n,) bool."""
    return np.concatenate([[True], values[1:] != values[:-1]])


def _first_of_runs(*values: np.ndarray) -> np.ndarray:
    """Returns the places where any of the values differs from the one before."""
    return np.flatnonzero(np.logical_or.reduce([_is_first(v) for v in values]))


def _without_doubles(
    parts: np.ndarray, onsets: np.ndarray, ends: np.ndarray, pitches: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Joins notes of one part, onset and pitch; keeps the longest."""
    order = _order(parts * PART_STRIDE + onsets, pitches)
    parts, onsets, ends, pitches = (a[order] for a in (parts, onsets, ends, pitches))
    first = _first_of_runs(parts, onsets, pitches)
    return parts[first], onsets[first], np.maximum.reduceat(ends, first), pitches[first]


def _chord_numbers(
    parts: np.ndarray, onsets: np.ndarray, ends: np.ndarray, is_drums: np.ndarray
) -> np.ndarray:
    """Numbers the chords: (notes,) from 0.

    Drums of one attack are one chord: drums have no note length.
    """
    order = np.lexsort((-ends, onsets, parts))
    part, onset, end = parts[order], onsets[order], ends[order]
    is_attack = _is_first(part) | _is_first(onset)
    apart = np.concatenate([[0.0], end[:-1] - end[1:]]) > near_ticks(end - onset)
    is_new = is_attack | (apart & ~is_drums[part])
    place = np.arange(len(order))
    since = place - np.maximum.accumulate(np.where(is_new, place, 0))
    is_new |= (since % MAX_CHORD_NOTES == 0) & ~is_drums[part]
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(is_new) - 1
    return numbers


def _allocate(chords: _Chords, least_share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gives each chord the first free voice of its part; see `_FirstFit`.

    A second pass omits the voices that turned out to be nearly empty.

    Returns:
        Per chord its voice (counted within the part), its end, and the chord that it is part of:
        itself, unless there were more chords at one attack than voices.
    """
    part = chords.part
    # Highest first, so that the first voice of a part is its melody.
    by_attack = _order(part * PART_STRIDE + chords.onset, _PITCHES - 1 - chords.highest)
    onset, end = chords.onset[by_attack], chords.end[by_attack]
    part = part[by_attack]
    fit = _FirstFit(onset.tolist(), end.tolist(), chords.size[by_attack].tolist())
    clusters = _overlapping(part, onset, end)
    most = np.full(part[-1] + 1, _MAX_VOICES_A_PART)
    for _ in range(2):
        starts = [start for start, _ in clusters]
        for (start, stop), limit in zip(clusters, most[part[starts]].tolist(), strict=True):
            fit.allocate(start, stop, limit)
        voices = np.array(fit.voices)
        n_voices = voices.max() + 1
        counts = np.bincount(part * n_voices + voices, minlength=len(most) * n_voices)
        counts = counts.reshape(len(most), n_voices)
        used = (counts >= least_share * counts.sum(1, keepdims=True)).cumprod(1).sum(1)
        fewer = np.maximum(1, used) < np.minimum(most, (counts > 0).sum(1))
        most = np.where(fewer, np.maximum(1, used), most)
        clusters = [(start, stop) for start, stop in clusters if fewer[part[start]]]
    place = np.argsort(by_attack)
    return voices[place], np.array(fit.ends)[place], by_attack[fit.joined][place]


def _overlapping(part: np.ndarray, onset: np.ndarray, end: np.ndarray) -> list[tuple[int, int]]:
    """Returns (start, stop) of the groups of chords that overlap each other.

    Args:
        part: (chords,) part of each chord; all arrays are sorted by attack.
        onset: (chords,) ticks.
        end: (chords,) ticks.
    """
    attacks = part * PART_STRIDE + onset
    busy_until = np.maximum.accumulate(part * PART_STRIDE + end)
    alone = np.concatenate([[True], attacks[1:] >= busy_until[:-1]])
    bounds = np.append(np.flatnonzero(alone), len(part))
    several = np.flatnonzero(np.diff(bounds) > 1)
    return list(zip(bounds[several].tolist(), bounds[several + 1].tolist(), strict=True))


class _FirstFit:
    """Chords by attack, and the voice assigned to each: the first that is free.

    When a part has no voice left, the chord that would end first is cut short; or, if it starts
    with the new chord, the two are joined. Only an attack too large for that gets more voices.

    Attributes:
        onsets: Ticks.
        voices: 0 for a chord without overlaps.
        ends: Ticks.
        sizes: Numbers of notes.
        joined: The chord that each is part of; mostly itself.
    """

    def __init__(self, onsets: list[int], ends: list[float], sizes: list[int]) -> None:
        self.onsets, self._ends, self._sizes = onsets, ends, sizes
        self.ends, self.sizes = ends.copy(), sizes.copy()
        self.voices, self.joined = [0] * len(onsets), [*range(len(onsets))]

    def allocate(self, start: int, stop: int, most: int) -> None:
        """Gives the overlapping chords from `start` to `stop` at most `most` voices."""
        some = slice(start, stop)
        self.ends[some], self.joined[some] = self._ends[some], range(start, stop)
        self.sizes[some] = self._sizes[some]
        onsets, ends, voices = self.onsets, self.ends, self.voices
        last: list[int] = []  # per voice, its last chord
        for chord in range(start, stop):
            for voice, before in enumerate(last):
                if ends[before] <= onsets[chord]:
                    last[voice], voices[chord] = chord, voice
                    break
            else:
                voices[chord] = self._voice_of_next(chord, last, most)

    def _voice_of_next(self, chord: int, last: list[int], most: int) -> int:
        """Gives a voice to a chord for which none is free; see the class."""
        onsets, ends, sizes = self.onsets, self.ends, self.sizes
        if len(last) >= most:
            voice = min(
                range(len(last)), key=lambda n: (onsets[last[n]] == onsets[chord], ends[last[n]])
            )
            before = last[voice]
            if onsets[before] < onsets[chord]:
                last[voice], ends[before] = chord, onsets[chord]
                return voice
            if sizes[before] + sizes[chord] <= MAX_CHORD_NOTES:
                self.joined[chord] = before
                sizes[before] += sizes[chord]
                ends[before] = max(ends[before], ends[chord])
                return 0
        last.append(chord)
        return len(last) - 1
