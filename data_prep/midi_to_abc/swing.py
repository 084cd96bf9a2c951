"""Which beats are swung: two eighths, the first twice as long, however a player is off.

A player who swings does so for many beats, and each alone says too little: an attack may be as near
the fifth of eight parts of the beat as the last third.
"""

import numpy as np

SWUNG_EIGHTH = 32  # ticks; as a step of a grid, it leaves only this and the beats
_OFF_BEAT = (9, 40)  # where it may be, early or late; outside, an attack belongs to a beat
_PASSAGE_BEATS = 32  # that hold one attack off the beat
_LEAST_PASSAGE_BEATS = 8
_CHORD_TICKS = 4  # attacks so near are one
# How players are off, in seconds: a passage is swung if so many of its attacks are so near the
# swung eighth, and their mean, none counted as further off, is so near.
_NEAR_SECONDS, _NEAR_SHARE = 0.030, 0.7
_MIDDLE_SECONDS = 0.010
# An attack is none of them that is off by more than this, and so many times more than half of them.
_FAR_SECONDS, _FAR_TIMES = 0.005, 4.5
_LEAST_SECONDS_A_TICK = 0.005  # of 250 beats a minute: where beats are faster, these are ticks


def is_swung(
    parts: np.ndarray,
    offset: np.ndarray,
    is_first: np.ndarray,
    is_inexact: np.ndarray,
    seconds_a_tick: np.ndarray,
) -> np.ndarray:
    """Returns which beats have nothing but attacks on the beat and swung eighths: (beats,).

    A passage is swung if the attacks off the beat, where there is one in a beat, are late eighths
    of a triplet, all together.

    Args:
        parts: (n,) part of each note; the notes are sorted by part, then onset.
        offset: (n,) ticks into its beat.
        is_first: (n,) whether it is the first of its part and beat.
        is_inexact: (beats,) whether its attacks lie on no grid.
        seconds_a_tick: (beats,) by the tempo.
    """
    seconds_a_tick = np.maximum(seconds_a_tick, _LEAST_SECONDS_A_TICK)
    first = np.flatnonzero(is_first)
    low, high = _OFF_BEAT
    is_off = (offset >= low) & (offset <= high)
    earliest = np.minimum.reduceat(np.where(is_off, offset, np.inf), first)
    latest = np.maximum.reduceat(np.where(is_off, offset, -np.inf), first)
    n_off = np.add.reduceat(is_off, first)
    is_one = (n_off > 0) & (latest - earliest <= _CHORD_TICKS)
    out = np.zeros(len(first), bool)
    part = parts[first]
    starts = np.flatnonzero(np.append(True, part[1:] != part[:-1]))
    for start, stop in zip(starts, np.append(starts[1:], len(part)), strict=True):
        beats = start + np.flatnonzero(is_one[start:stop])
        if len(beats) >= _LEAST_PASSAGE_BEATS and is_inexact[beats].any():
            middle = (earliest[beats] + latest[beats]) / 2
            late = (middle - SWUNG_EIGHTH) * seconds_a_tick[beats]
            swung, is_near = _swung_passages(late, is_inexact[beats])
            # Beats between belong to the passage before them, as far as it says anything of them.
            place = np.searchsorted(beats, np.arange(start, stop), side="right") - 1
            out[start:stop] = swung[np.maximum(place, 0)]
            out[beats] &= is_near
    return out & (is_one | (n_off == 0))


def _swung_passages(late: np.ndarray, is_inexact: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns whether attacks off the beat are in a swung passage, and whether swung: (n,) both.

    Args:
        late: (n,) seconds after the last eighth of a triplet.
        is_inexact: (n,) whether it lies on no grid. A passage of which all do means what it says.
    """
    size = min(_PASSAGE_BEATS, len(late))

    def mean(values: np.ndarray) -> np.ndarray:
        """Returns the mean of each passage: (n - size + 1,)."""
        sums = np.cumsum(np.append(0.0, values))
        return (sums[size:] - sums[:-size]) / size

    off = np.abs(late)
    middle = np.abs(mean(np.clip(late, -_NEAR_SECONDS, _NEAR_SECONDS)))
    is_swung = (mean(off <= _NEAR_SECONDS) >= _NEAR_SHARE) & (middle <= _MIDDLE_SECONDS)
    is_swung &= mean(is_inexact) > 0
    if not is_swung.any():  # as nearly always
        none = np.zeros(len(late), bool)
        return none, none
    passage = np.clip(np.arange(len(late)) - size // 2, 0, len(is_swung) - 1)
    half = np.zeros(len(is_swung))
    passages = np.lib.stride_tricks.sliding_window_view(off, size)
    half[is_swung] = np.median(passages[is_swung], axis=1)
    return is_swung[passage], off <= _FAR_TIMES * half[passage] + _FAR_SECONDS
