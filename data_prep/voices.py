"""Notes of parts -> voices: chords one after another, in which nothing overlaps.

What a composer would write is wanted, not when keys went up: releases near one another, or near
the next attack, are one. Overlaps that remain become extra voices of the part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .notation import TICKS_PER_UNIT
from .quantize import Grids, choose_grids, locate, nearest_step

MAX_CHORD_NOTES = 12
_MAX_VOICES_A_PART = 6
_NEAR_SHARE = 0.4  # of a note's length: so much its release may move ...
_NEAR_TICKS = (3.0, 12.0)  # ... but at least, and at most, this
_LONG = ((60, 24), (192, 48))
_PART_STRIDE = 1 << 40  # more ticks than any piece has: parts stand apart on one axis


@dataclass
class Voices:
    """Chords in order of voice, then onset; and their notes in the order of the chords.

    Attributes:
        parts: (voices,) part of each voice.
        voice: (chords,) voice of each.
        onset: (chords,) ticks.
        end: (chords,) ticks.
        first_note: (chords + 1,) where the notes of each begin in `pitches`.
        pitches: (notes,) MIDI pitches, rising within a chord.
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
    """Spreads notes over voices.

    Args:
        parts: (n,) part of each note.
        onsets: (n,) whole ticks, on the grid.
        ends: (n,) ticks, as played.
        pitches: (n,) MIDI pitches.
        is_drums: (parts,) whether a part is the drum kit.
        cells: (beats + 1,) first tick of each beat.
        least_share: Of the chords of a part, that a voice must have to be written; notes that
            would overlap are cut short rather.
    """
    parts, onsets, ends, pitches = _without_doubles(parts, onsets, ends, pitches)
    ends = np.maximum(ends, onsets + 1)  # an onset may have been drawn beyond a release
    ends = _to_near_attacks(parts, onsets, ends)
    chord = _chord_numbers(parts, onsets, ends, is_drums)
    order = np.lexsort((pitches, chord))
    chord, pitches = chord[order], pitches[order]
    first = _first_of_runs(chord)
    part, onset = parts[order][first], onsets[order][first]
    end = np.maximum.reduceat(ends[order], first)
    stop = np.append(first[1:], len(pitches))
    highest, sizes = pitches[stop - 1], stop - first
    # Highest first, so that the first voice of a part is its melody.
    by_attack = np.lexsort((-highest, onset, part))
    end = _cut_by_next_attack(part, onset, end, is_drums)
    voice, end, merged = _allocate(part, onset, end, sizes, by_attack, least_share)

    numbers = _number_voices(part, voice)
    target = np.lexsort((onset, numbers))
    target = target[merged[target] == target]
    rank = np.empty(len(part), np.int64)
    rank[target] = np.arange(len(target))
    note_chord = rank[merged[np.cumsum(_is_first(chord)) - 1]]
    order = np.lexsort((pitches, note_chord))
    numbers, onset, end = numbers[target], onset[target], end[target]
    return Voices(
        parts=part[target][_first_of_runs(numbers)],
        voice=numbers,
        onset=onset,
        end=written_ends(numbers, onset, end, cells),
        first_note=np.append(_first_of_runs(note_chord[order]), len(order)),
        pitches=pitches[order],
    )


def _cut_by_next_attack(
    part: np.ndarray, onset: np.ndarray, end: np.ndarray, is_drums: np.ndarray
) -> np.ndarray:
    """Ends the chords of drums where the next one starts: (chords,) ticks."""
    attacks = part * _PART_STRIDE + onset
    following = np.searchsorted(attacks, attacks, side="right")
    at = np.append(attacks, _PART_STRIDE * (part[-1] + 1))[following] - part * _PART_STRIDE
    return np.where(is_drums[part], np.minimum(end, at), end)


def _number_voices(part: np.ndarray, voice: np.ndarray) -> np.ndarray:
    """Numbers the voices of all parts through: (chords,) from 0."""
    _, numbers = np.unique(part * (voice.max() + 1) + voice, return_inverse=True)
    return numbers


def written_ends(
    voice: np.ndarray, onset: np.ndarray, end: np.ndarray, cells: np.ndarray
) -> np.ndarray:
    """Draws the ends of chords to the grid of their own voice: (chords,) whole ticks.

    A gap of less than a sixteenth before the next chord is how keys are released, not a rest that
    a composer would write.
    """
    grids = choose_grids(voice, onset, end, cells)
    beat, offset, length = locate(cells, onset)
    shortest = onset + np.minimum(grids.steps_at(voice, beat, offset), length - offset)
    out = np.maximum(grids.snap(voice, end, side="left"), shortest)
    out = _coarser_if_long(voice, onset, end, out, grids)
    following = np.append(onset[1:], cells[-1])
    following[np.flatnonzero(voice[1:] != voice[:-1])] = cells[-1]
    is_last = np.append(voice[1:] != voice[:-1], True)
    gap = following - out
    held = (gap < TICKS_PER_UNIT) | (following - end < TICKS_PER_UNIT)
    closes = np.where(is_last, gap < 0, held)
    return np.where(closes, following, out)


def _coarser_if_long(
    voice: np.ndarray, onset: np.ndarray, end: np.ndarray, drawn: np.ndarray, grids: Grids
) -> np.ndarray:
    """Draws the ends of long chords to eighths, or quarters, where their voice has no attacks.

    Args:
        voice: (chords,) voice of each.
        onset: (chords,) ticks.
        end: (chords,) ticks, as played.
        drawn: (chords,) ticks, to the grid.
        grids: Those of the voices.
    """
    for ticks, step in _LONG:
        beat, offset, length = locate(grids.cells, end, side="left")
        free = grids.steps_at(voice, beat, offset) == TICKS_PER_UNIT
        coarse = (grids.cells[beat] + nearest_step(offset, step, length)).astype(np.int64)
        drawn = np.where(free & (drawn - onset >= ticks) & (coarse > onset), coarse, drawn)
    return drawn


def _is_first(values: np.ndarray) -> np.ndarray:
    """Returns where a run of equal values begins: (n,) bool."""
    return np.concatenate([[True], values[1:] != values[:-1]])


def _first_of_runs(*values: np.ndarray) -> np.ndarray:
    """Returns the places where any of the values differs from the one before."""
    return np.flatnonzero(np.logical_or.reduce([_is_first(v) for v in values]))


def _without_doubles(
    parts: np.ndarray, onsets: np.ndarray, ends: np.ndarray, pitches: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Joins notes of one part, onset and pitch; the longest holds."""
    order = np.lexsort((pitches, onsets, parts))
    parts, onsets, ends, pitches = (a[order] for a in (parts, onsets, ends, pitches))
    first = _first_of_runs(parts, onsets, pitches)
    return parts[first], onsets[first], np.maximum.reduceat(ends, first), pitches[first]


def _near(length: np.ndarray) -> np.ndarray:
    """Returns how far the release of a note of this length may be moved: (n,) ticks."""
    return np.clip(_NEAR_SHARE * length, *_NEAR_TICKS)


def _to_near_attacks(parts: np.ndarray, onsets: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Moves each release to the nearest attack of its part, if that is near: (n,) ticks."""
    attacks = parts * _PART_STRIDE + onsets  # rising
    releases = parts * _PART_STRIDE + ends
    place = np.searchsorted(attacks, releases)
    best, distance = ends, _near(ends - onsets)
    for neighbour in (place - 1, place):
        attack = attacks[np.clip(neighbour, 0, len(attacks) - 1)] - parts * _PART_STRIDE
        away = np.abs(attack - ends)
        nearer = (attack > onsets) & (away < distance)
        best, distance = np.where(nearer, attack, best), np.where(nearer, away, distance)
    return best


def _chord_numbers(
    parts: np.ndarray, onsets: np.ndarray, ends: np.ndarray, is_drums: np.ndarray
) -> np.ndarray:
    """Numbers the chords: notes of one attack whose releases are near one another.

    Drums of one attack are one chord: a drum has no length of its own.
    """
    order = np.lexsort((-ends, onsets, parts))
    part, onset, end = parts[order], onsets[order], ends[order]
    is_attack = _is_first(part) | _is_first(onset)
    apart = np.concatenate([[0.0], end[:-1] - end[1:]]) > _near(end - onset)
    is_new = is_attack | (apart & ~is_drums[part])
    place = np.arange(len(order))
    since = place - np.maximum.accumulate(np.where(is_new, place, 0))
    is_new |= (since % MAX_CHORD_NOTES == 0) & ~is_drums[part]
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(is_new) - 1
    return numbers


def _allocate(
    part: np.ndarray,
    onset: np.ndarray,
    end: np.ndarray,
    sizes: np.ndarray,
    by_attack: np.ndarray,
    least_share: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gives each chord the first voice of its part that is free; see `_first_fit`.

    A second pass goes without the voices that turned out to be nearly empty.

    Returns:
        Per chord its voice (counted within the part), its end, and the chord that it is part of:
        itself, unless there were more chords at one attack than voices.
    """
    attacks = (part * _PART_STRIDE + onset)[by_attack]
    busy_until = np.maximum.accumulate((part * _PART_STRIDE + end)[by_attack])
    alone = np.concatenate([[True], attacks[1:] >= busy_until[:-1]])
    bounds = np.append(np.flatnonzero(alone), len(part))
    clusters = [
        by_attack[start:stop]
        for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        if stop - start > 1
    ]
    voice, cut, merged = np.zeros(len(part), np.int64), end.copy(), np.arange(len(part))
    most = np.full(part[-1] + 1, _MAX_VOICES_A_PART)
    for _ in range(2):
        for chords in clusters:
            voice[chords], cut[chords], merged[chords] = _first_fit(
                chords.tolist(),
                onset[chords].tolist(),
                end[chords].tolist(),
                sizes[chords].tolist(),
                int(most[part[chords[0]]]),
            )
        counts = np.zeros((part[-1] + 1, voice.max() + 1), np.int64)
        np.add.at(counts, (part, voice), 1)
        used = (counts >= least_share * counts.sum(1, keepdims=True)).cumprod(1).sum(1)
        fewer = np.maximum(1, used) < np.minimum(most, (counts > 0).sum(1))
        most = np.where(fewer, np.maximum(1, used), most)
        clusters = [chords for chords in clusters if fewer[part[chords[0]]]]
    return voice, cut, merged


def _first_fit(
    chords: list[int], onsets: list[int], ends: list[float], sizes: list[int], most: int
) -> tuple[list[int], list[float], list[int]]:
    """Gives chords that overlap the first voice that is free.

    When all that a part may have are taken, the one that would be free first is cut short; or, if
    it starts with the chord, they become one. Only an attack too large for that gets more voices.

    Args:
        chords: By attack.
        onsets: Ticks.
        ends: Ticks.
        sizes: Numbers of notes.
        most: Voices that the part may have.

    Returns:
        Per chord its voice, its end, and the chord that it is part of.
    """
    voices, merged = [0] * len(chords), list(chords)
    last: list[int] = []  # per voice, the place of its last chord in `chords`
    for place, onset in enumerate(onsets):
        free = next((n for n, before in enumerate(last) if ends[before] <= onset), None)
        if free is None and len(last) >= most:
            free = min(range(len(last)), key=lambda n: (onsets[last[n]] == onset, ends[last[n]]))
            before = last[free]
            if onsets[before] < onset:
                ends[before] = onset
            elif sizes[before] + sizes[place] <= MAX_CHORD_NOTES:
                merged[place] = chords[before]
                sizes[before] += sizes[place]
                ends[before] = max(ends[before], ends[place])
                continue
            else:
                free = None
        if free is None:
            free = len(last)
            last.append(place)
        last[free] = place
        voices[place] = free
    return voices, ends, merged
