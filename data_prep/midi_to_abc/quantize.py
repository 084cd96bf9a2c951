"""Onsets -> the grid of their beat: sixteenths, triplets, or twice as fine, part by part.

Each half of a beat gets the grid that fits its onsets best, or both halves share one triplet. The
cost of a grid is the deviation of its onsets under a Gaussian of `_SPREAD_TICKS`, plus a penalty
for finer grids; so straight and ornamented beats can alternate. Swing is detected over a passage
(swing.py). Onsets exactly on a grid stay, so that converted music round-trips unchanged.

Grids are chosen once, in `snap_onsets`. What a voice needs later, for its releases, is recovered
from the snapped onsets by `grids_of`.
"""

from dataclasses import dataclass

import numpy as np

from ..dialect.notation import SHORTEST_TICKS, TICKS_PER_QUARTER
from .swing import SWUNG_EIGHTH, is_swung
from .timeline import EXACT_TICKS

_HALF_BEAT = TICKS_PER_QUARTER // 2
_TRIPLET = 16  # over the whole beat
_SIXTEENTH = 12
# Steps that divide half a beat, in order of preference, and the cost of each.
_HALF_STEPS = (_SIXTEENTH, 8, 6, 3)
_COSTS = {_SIXTEENTH: 0.0, _TRIPLET: 1.5, 8: 2.5, 6: 1.5, 3: 4.0}
_SPREAD_TICKS = 1.5
_COLLISION_COST = 3.0
_EXACT_COST = 1e-6
# Attacks of one part and pitch this close are one note, played by two tracks, or a flam.
_DOUBLED_TICKS, _APART_SECONDS = 2, 0.02
_FINE = 8  # largest step by which an attack may be moved if its place is taken
_PHASE_TOLERANCE_TICKS = 1.5
_PHASE_SHARE = 0.6  # share of all attacks that must be on the shifted grid ...
_PHASE_LEAD = 0.3  # ... and its lead over the share on the original grid
_PHASE_ATTACKS = 8
# Whether an onset is exactly on a grid: (steps, ticks of a beat).
_EXACT_STEPS = (*_HALF_STEPS, _TRIPLET)
_FITS = np.arange(TICKS_PER_QUARTER) % np.array(_EXACT_STEPS)[:, None] == 0
_EXACT_COSTS = _EXACT_COST * np.array([_COSTS[step] for step in _EXACT_STEPS])


@dataclass
class Grids:
    """The steps chosen for beats with onsets; other beats have sixteenths.

    Attributes:
        cells: (beats + 1,) first tick of each beat of the piece.
        keys: (n,) part * beats + beat, increasing.
        steps: (n, 2) ticks of the grid in each half of the beat.
    """

    cells: np.ndarray
    keys: np.ndarray
    steps: np.ndarray

    def steps_at(self, parts: np.ndarray, beat: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Returns the step of the grid at each place: (n,) ticks."""
        key = parts * (len(self.cells) - 1) + beat
        place = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        half = (offset >= _HALF_BEAT).astype(np.intp)
        return np.where(self.keys[place] == key, self.steps[place, half], _SIXTEENTH)


def locate(
    cells: np.ndarray, times: np.ndarray, side: str = "right"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the beat of each time, the ticks into it, and the beat's length.

    `side` is `left` for releases: a release on a beat belongs to the previous beat.
    """
    beat = np.clip(np.searchsorted(cells, times, side=side) - 1, 0, len(cells) - 2)
    return beat, times - cells[beat], cells[beat + 1] - cells[beat]


def nearest_step(offset: np.ndarray, steps: np.ndarray | int, length: np.ndarray) -> np.ndarray:
    """Rounds ticks into a beat to multiples of a step, or to the end of the beat: (n,)."""
    inside = np.minimum(np.round(offset / steps) * steps, length)
    return np.where(length - offset < np.abs(inside - offset), length, inside)


def snap_onsets(
    parts: np.ndarray,
    onsets: np.ndarray,
    ends: np.ndarray,
    pitches: np.ndarray,
    cells: np.ndarray,
    seconds: np.ndarray,
) -> np.ndarray:
    """Snaps onsets to the best grid for each beat of each part: (n,) whole ticks.

    Args:
        parts: (n,) part of each note; the notes are sorted by part, then onset.
        onsets: (n,) ticks.
        ends: (n,) ticks.
        pitches: (n,) MIDI pitches.
        cells: (beats + 1,) first tick of each beat.
        seconds: (beats,) length of each beat.
    """
    beat, offset, length = locate(cells, onsets)
    is_first = _is_first(parts * (len(cells) - 1) + beat)
    group = np.cumsum(is_first) - 1
    n_groups = int(group[-1]) + 1
    half = (offset >= _HALF_BEAT).astype(np.intp)
    slot = 2 * group + half
    used = np.bincount(slot, minlength=2 * n_groups) > 0
    follows = (
        (parts[1:] == parts[:-1])
        & (onsets[1:] - onsets[:-1] > _DOUBLED_TICKS)
        & (ends[:-1] <= onsets[1:] + 1)  # one after the other, like a grace note and its main note
    )
    earlier, later = _heard_apart(parts, onsets, pitches, seconds[beat] / length)

    def cost(step: int) -> np.ndarray:
        """Returns the cost of a grid for each half beat: (groups, 2)."""
        snapped = np.round(offset / step) * step
        error = np.abs(offset - snapped)
        total = np.bincount(slot, error * error, 2 * n_groups) / (2 * _SPREAD_TICKS**2)
        place = cells[beat] + snapped
        collide = follows & (place[1:] == place[:-1])
        n_collisions = np.bincount(slot[:-1], collide, 2 * n_groups)
        if len(earlier):
            n_collisions += np.bincount(slot[earlier], place[earlier] == place[later], 2 * n_groups)
        total += _COLLISION_COST * (n_collisions > 0)
        inexact = np.bincount(slot, error > EXACT_TICKS, 2 * n_groups)
        penalty = np.where(inexact > 0, _COSTS[step], _EXACT_COST * _COSTS[step])
        return np.where(used, total + penalty, 0.0).reshape(n_groups, 2)

    halves = np.stack([cost(step) for step in _HALF_STEPS])  # (steps, groups, 2)
    room = length[is_first]
    steps, cheapest = _cheapest(halves, cost(_TRIPLET), room)
    is_inexact = cheapest > _EXACT_COST * sum(_COSTS.values())
    if is_inexact.any():
        seconds_a_tick = seconds[beat[is_first]] / room
        swung = is_swung(parts, offset, is_first, is_inexact, seconds_a_tick)
        steps[swung & (room == TICKS_PER_QUARTER)] = SWUNG_EIGHTH
    step = steps[group, half]
    out = (cells[beat] + nearest_step(offset, step, length)).astype(np.int64)
    room = np.where(half, length, np.minimum(length, _HALF_BEAT))  # where a grid ends
    for before, note in zip(earlier.tolist(), later.tolist(), strict=True):
        if out[note] <= out[before]:  # no free place is nearer than the next
            place = out[before] + step[before]
            is_free = place <= cells[beat[before]] + room[before] and step[before] <= _FINE
            if is_free and place - onsets[note] <= step[before]:
                out[note] = place
    return out


def _heard_apart(
    parts: np.ndarray, onsets: np.ndarray, pitches: np.ndarray, seconds_a_tick: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns pairs of attacks of one part and pitch, close together, that are not doubled notes.

    Args:
        parts: (n,) part of each note; the notes are sorted by part, then onset.
        onsets: (n,) ticks.
        pitches: (n,) MIDI pitches.
        seconds_a_tick: (n,) seconds per tick, by the tempo.
    """
    voice = parts * 128 + pitches
    order = np.argsort(voice, kind="stable")
    earlier, later = order[:-1], order[1:]
    ticks = onsets[later] - onsets[earlier]
    is_apart = (ticks > _DOUBLED_TICKS) & (ticks * seconds_a_tick[later] >= _APART_SECONDS)
    is_near = (voice[later] == voice[earlier]) & (ticks < _TRIPLET) & is_apart
    return earlier[is_near], later[is_near]


def grids_of(parts: np.ndarray, onsets: np.ndarray, cells: np.ndarray) -> Grids | None:
    """Returns the grids that contain snapped onsets exactly; None if there are none.

    Args:
        parts: (n,) part, or voice, of each chord; the chords are sorted by part, then onset.
        onsets: (n,) whole ticks.
        cells: (beats + 1,) first tick of each beat.
    """
    beat, offset, length = locate(cells, onsets)
    key = parts * (len(cells) - 1) + beat
    is_first = _is_first(key)
    slot = 2 * np.cumsum(is_first) - 2 + (offset >= _HALF_BEAT)  # increasing, as onsets are
    first = np.flatnonzero(_is_first(slot))
    costs = np.zeros((len(_EXACT_STEPS), 2 * int(is_first.sum())))
    fits = np.bitwise_and.reduceat(_FITS[:, offset], first, axis=1)
    costs[:, slot[first]] = np.where(fits, _EXACT_COSTS[:, None], np.inf)
    *halves, triplet = costs.reshape(len(_EXACT_STEPS), -1, 2)
    steps, cheapest = _cheapest(np.array(halves), triplet, length[is_first])
    return Grids(cells, key[is_first], steps) if np.isfinite(cheapest).all() else None


def _is_first(values: np.ndarray) -> np.ndarray:
    """Returns whether each value begins a run of equal values: (n,) bool."""
    return np.concatenate([[True], values[1:] != values[:-1]])


def _cheapest(
    halves: np.ndarray, triplet: np.ndarray, room: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cheapest steps in each half of each beat: (beats, 2), and their cost: (beats,).

    Args:
        halves: (steps, beats, 2) cost of each of `_HALF_STEPS` in each half.
        triplet: (beats, 2) cost of one triplet over the whole beat.
        room: (beats,) length of each beat.
    """
    # A triplet fills half a beat or a whole beat, which must not be cut short.
    eighth_triplet = _HALF_STEPS.index(8)
    halves[eighth_triplet, room < _HALF_BEAT, 0] = np.inf
    halves[eighth_triplet, room < TICKS_PER_QUARTER, 1] = np.inf
    steps = np.array(_HALF_STEPS)[halves.argmin(0)]
    cheapest, whole = halves.min(0).sum(1), triplet.sum(1)
    is_whole = (whole < cheapest) & (room == TICKS_PER_QUARTER)
    steps[is_whole] = _TRIPLET
    return steps, np.where(is_whole, whole, cheapest)


def find_phase(onsets: np.ndarray, cells: np.ndarray) -> int:
    """Returns by how many ticks, in [0, 48), the beats of a file are late; 0 if they are not.

    Some files were recorded, or aligned with audio, against a clock that did not start on a beat.
    Their attacks are on a grid, but not on the grid of the file.

    Args:
        onsets: (n,) ticks, of all parts.
        cells: (beats + 1,) first tick of each beat.
    """
    times = np.sort(onsets)
    _, offset, _ = locate(
        cells, times[_is_first(times)]
    )  # each time once; np.unique takes three times as long
    if len(offset) < _PHASE_ATTACKS:
        return 0

    def share(phase: int, period: int) -> float:
        away = np.abs((offset - phase + period / 2) % period - period / 2)
        return float((away <= _PHASE_TOLERANCE_TICKS).mean())

    as_it_is = share(0, _SIXTEENTH)
    if as_it_is + _PHASE_LEAD > 1:  # nearly always: no other phase can lead by enough
        return 0
    shares = {phase: share(phase, _SIXTEENTH) for phase in range(0, _SIXTEENTH, SHORTEST_TICKS)}
    best = max(shares, key=shares.__getitem__)
    if shares[best] < max(_PHASE_SHARE, as_it_is + _PHASE_LEAD):
        return 0
    # Of the four sixteenths of a beat, the one with the most attacks is the beat.
    beats = range(best, TICKS_PER_QUARTER, _SIXTEENTH)
    return max(beats, key=lambda phase: share(phase, TICKS_PER_QUARTER))
