"""Which beats are swung: two eighths, the first twice as long, despite inexact playing.

A player who swings does so for many beats, and a single beat is ambiguous: an attack may be as near
5/8 of the beat as 2/3.
"""

import numpy as np

from ..dialect.notation import TICKS_PER_QUARTER

SWUNG_EIGHTH = 32  # ticks; as a grid step, it allows only this place and the beats
_OFF_BEAT = (9, 40)  # ticks of an early or late swung eighth; outside, an attack belongs to a beat
_PASSAGE_BEATS = 32  # beats with one attack off the beat
_LEAST_PASSAGE_BEATS = 8
_CHORD_TICKS = 4  # attacks this close are one
# Tolerances in seconds. A passage is swung if at least `_NEAR_SHARE` of its attacks are within
# `_NEAR_SECONDS` of the swung eighth, and if the mean deviation of these, and that of all attacks
# (clipped to `_NEAR_SECONDS`), is at most `_MIDDLE_SECONDS`.
_NEAR_SECONDS, _NEAR_SHARE = 0.030, 0.7
_MIDDLE_SECONDS = 0.010
# An attack is an outlier if it is off by more than `_FAR_TIMES` the median plus `_FAR_SECONDS`.
_FAR_SECONDS, _FAR_TIMES = 0.005, 4.5
_LEAST_SECONDS_A_TICK = 0.005  # at 250 beats a minute; for faster beats the tolerances are in ticks


def is_swung(
    parts: np.ndarray,
    offset: np.ndarray,
    is_first: np.ndarray,
    is_inexact: np.ndarray,
    seconds_a_tick: np.ndarray,
) -> np.ndarray:
    """Returns which beats contain only attacks on the beat and swung eighths: (beats,).

    A passage is swung if the attacks off the beat, in beats with one such attack, are on average
    the last eighths of triplets.

    Args:
        parts: (n,) part of each note; the notes are sorted by part, then onset.
        offset: (n,) ticks of each note into its beat.
        is_first: (n,) whether the note is the first of its part and beat.
        is_inexact: (beats,) whether the attacks of the beat fit no grid exactly.
        seconds_a_tick: (beats,) seconds per tick, by the tempo.
    """
    seconds_a_tick = np.maximum(seconds_a_tick, _LEAST_SECONDS_A_TICK)
    first = np.flatnonzero(is_first)
    low, high = _OFF_BEAT
    is_off = (offset >= low) & (offset <= high)
    earliest = np.minimum.reduceat(np.where(is_off, offset, TICKS_PER_QUARTER), first)
    latest = np.maximum.reduceat(np.where(is_off, offset, 0), first)
    n_off = np.add.reduceat(is_off, first)
    is_one = (n_off > 0) & (latest - earliest <= _CHORD_TICKS)
    middle = np.where(is_one, (earliest + latest) / 2, SWUNG_EIGHTH)
    late = (middle - SWUNG_EIGHTH) * seconds_a_tick
    from_beat = np.where(offset < low, offset, offset - TICKS_PER_QUARTER) * ~is_off
    most_from_beat = np.maximum.reduceat(np.abs(from_beat), first) * seconds_a_tick
    off = np.maximum(np.abs(late), most_from_beat)
    on_beat = np.add.reduceat(from_beat, first) * seconds_a_tick, np.add.reduceat(~is_off, first)
    most_off = np.full(len(first), -1.0)  # seconds that attacks may be off the beat or the swing
    part = parts[first]
    starts = np.flatnonzero(np.append(True, part[1:] != part[:-1]))
    for start, stop in zip(starts, np.append(starts[1:], len(part)), strict=True):
        beats = start + np.flatnonzero(is_one[start:stop])
        if len(beats) >= _LEAST_PASSAGE_BEATS and is_inexact[beats].any():
            late_on_beat, n_on_beat = (each[beats] for each in on_beat)
            of_passage = _most_off(late[beats], is_inexact[beats], late_on_beat, n_on_beat)
            # Beats in between belong to the passage before them.
            place = np.searchsorted(beats, np.arange(start, stop), side="right") - 1
            most_off[start:stop] = of_passage[np.maximum(place, 0)]
    return (off <= most_off) & (is_one | (n_off == 0))


def _most_off(
    late: np.ndarray, is_inexact: np.ndarray, late_on_beat: np.ndarray, n_on_beat: np.ndarray
) -> np.ndarray:
    """Returns how far off attacks may be in the passage of each: (n,) seconds; -1 if not swung.

    Args:
        late: (n,) seconds after the last eighth of a triplet, for attacks off the beat.
        is_inexact: (n,) whether the beat fits no grid exactly. A passage in which every beat fits
            one is taken literally.
        late_on_beat: (n,) seconds after the beat, summed over the attacks on it.
        n_on_beat: (n,) number of these attacks.
    """
    size = min(_PASSAGE_BEATS, len(late))

    def mean(values: np.ndarray) -> np.ndarray:
        """Returns the mean of each passage: (n - size + 1,)."""
        sums = np.cumsum(np.append(0.0, values))
        return (sums[size:] - sums[:-size]) / size

    off = np.abs(late)
    is_near = off <= _NEAR_SECONDS
    share = mean(is_near)
    middle = mean(np.clip(late, -_NEAR_SECONDS, _NEAR_SECONDS))
    middle_of_near = mean(late * is_near) / np.maximum(share, 1 / size)
    is_swung = (share >= _NEAR_SHARE) & (mean(is_inexact) > 0)
    for seconds in (middle, middle_of_near):  # even and dotted eighths together also have this mean
        is_swung &= np.abs(seconds) <= _MIDDLE_SECONDS
    # Where all attacks are equally late, as in a file that did not start on a beat, only the
    # distance between them counts.
    apart = middle_of_near - mean(late_on_beat) / np.maximum(mean(n_on_beat), 1 / size)
    is_swung &= np.abs(apart) <= 2 * _MIDDLE_SECONDS
    most = np.full(len(is_swung), -1.0)
    if is_swung.any():
        passages = np.lib.stride_tricks.sliding_window_view(off, size)[is_swung]
        most[is_swung] = _FAR_TIMES * np.median(passages, axis=1) + _FAR_SECONDS
    passage = np.clip(np.arange(len(late)) - size // 2, 0, len(is_swung) - 1)
    return most[passage]
