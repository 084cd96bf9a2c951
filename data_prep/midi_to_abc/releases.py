"""When notes end: what a composer would write, not when keys went up.

A release near an attack moves to it; a gap too short for a rest is closed; other releases snap to
the grid of the attacks around them.
"""

import numpy as np

from ..dialect.notation import TICKS_PER_UNIT
from .quantize import Grids, locate, nearest_step

_NEAR_SHARE = 0.4  # share of a note's length by which its release may move ...
_NEAR_TICKS = (3.0, 12.0)  # ... clipped to this range
# (ticks, step): chords of at least `ticks` end on multiples of `step`, unless attacks set the grid.
_LONG = ((60, 24), (192, 48))
PART_STRIDE = 1 << 30  # offset between parts on one shared axis: more ticks than `Limits.quarters`


def near_ticks(length: np.ndarray) -> np.ndarray:
    """Returns how far the release of a note of this length may be moved: (n,) ticks."""
    return np.clip(_NEAR_SHARE * length, *_NEAR_TICKS)


def to_near_attacks(parts: np.ndarray, onsets: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Moves each release to the nearest attack of its part, if that is near: (n,) ticks."""
    attacks = parts * PART_STRIDE + onsets  # increasing
    releases = parts * PART_STRIDE + ends
    place = np.searchsorted(attacks, releases)
    best, distance = ends, near_ticks(ends - onsets)
    for neighbour in (place - 1, place):
        attack = attacks[np.clip(neighbour, 0, len(attacks) - 1)] - parts * PART_STRIDE
        away = np.abs(attack - ends)
        nearer = (attack > onsets) & (away < distance)
        best, distance = np.where(nearer, attack, best), np.where(nearer, away, distance)
    return best


def written_ends(voice: np.ndarray, onset: np.ndarray, end: np.ndarray, grids: Grids) -> np.ndarray:
    """Snaps the ends of chords to the grid of their own voice's onsets: (chords,) whole ticks.

    A gap of less than a sixteenth before the next chord comes from how keys are released and is not
    a rest that a composer would write.
    """
    cells = grids.cells
    beat, offset, length = locate(cells, onset)
    shortest = onset + np.minimum(grids.steps_at(voice, beat, offset), length - offset)
    beat, offset, length = locate(cells, end, side="left")
    steps = grids.steps_at(voice, beat, offset)
    snapped = cells[beat] + nearest_step(offset, steps, length)
    out = np.maximum(snapped.astype(np.int64), shortest)
    free = steps == TICKS_PER_UNIT  # no attacks ask for another grid
    for ticks, step in _LONG:
        coarse = (cells[beat] + nearest_step(offset, step, length)).astype(np.int64)
        out = np.where(free & (out - onset >= ticks) & (coarse > onset), coarse, out)
    is_last = np.append(voice[1:] != voice[:-1], True)
    following = np.where(is_last, cells[-1], np.append(onset[1:], 0))
    gap = following - out
    held = (gap < TICKS_PER_UNIT) | (following - end < TICKS_PER_UNIT)
    closes = np.where(is_last, gap < 0, held)
    return np.where(closes, following, out)
