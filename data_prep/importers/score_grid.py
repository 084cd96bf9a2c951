"""Times of a score -> ticks that the dialect can write.

Bar lines and notes keep their places where the dialect has them: any multiple of a 1/64 note, and
triplets that fill half a beat or a beat. Others go to the nearest place of their beat; the total
of a bar stays.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache

from ..dialect.notation import (
    SHORTEST_TICKS,
    TICKS_PER_QUARTER,
    TICKS_PER_TUPLET_UNIT,
    TICKS_PER_WHOLE,
)

_HALF_BEAT = TICKS_PER_QUARTER // 2
_COLLISION_COST = 10_000  # two notes on one place: worse than any distance


def bar_ticks(times: Sequence[Fraction]) -> list[int]:
    """Returns the ticks of bar lines at these times, in whole notes: multiples of a 1/64 note."""
    return [round(time * TICKS_PER_WHOLE / SHORTEST_TICKS) * SHORTEST_TICKS for time in times]


class Grid:
    """The places of one piece.

    Attributes:
        times: Bar lines in whole notes, from the start to the end.
        ticks: The same in ticks, as written.
    """

    def __init__(self, times: Sequence[Fraction]) -> None:
        self.times, self.ticks = list(times), bar_ticks(times)

    def set_last_bar(self, ticks: int) -> None:
        """Sets the length of the last bar, which may be longer than its music."""
        self.ticks[-1] = self.ticks[-2] + ticks
        self.times[-1] = max(self.times[-1], self.times[-2] + Fraction(ticks, TICKS_PER_WHOLE))

    def snap(
        self, onsets: Sequence[Fraction], ends: Sequence[Fraction]
    ) -> tuple[list[int], list[int], list[bool]]:
        """Returns the ticks of the notes of one voice, and whether each onset is moved.

        Different onsets get different ticks where there is room; the order stays.

        Args:
            onsets: Of each note, in whole notes.
            ends: Of each note, in whole notes.
        """
        # In units that all times are whole numbers of, since fractions are slow.
        scale = math.lcm(
            *{time.denominator for each in (onsets, ends, self.times) for time in each}
        )
        whole = [[t.numerator * (scale // t.denominator) for t in each] for each in (onsets, ends)]
        tick_of = self._tick_of(set(whole[0]), set(whole[1]), scale)
        moved = [time * TICKS_PER_WHOLE != tick_of[time] * scale for time in whole[0]]
        return *([tick_of[time] for time in each] for each in whole), moved

    def _tick_of(self, onsets: set[int], ends: set[int], scale: int) -> dict[int, int]:
        """Returns time -> tick; times in whole notes times `scale`."""
        found: dict[int, int] = {}
        last = -1  # tick of the onset before
        for start, length, points in self._beats(sorted(onsets | ends), scale):
            offsets = [offset for offset, _ in points]
            are_onsets = [time in onsets for _, time in points]
            collides = are_onsets[0] and start + offsets[0] // scale <= last
            if collides or any(offset % (SHORTEST_TICKS * scale) for offset in offsets):
                places = _fit(offsets, are_onsets, length, last - start, scale)
            else:
                places = [offset // scale for offset in offsets]
            for place, (_, time), is_onset in zip(places, points, are_onsets, strict=True):
                found[time] = start + place
                last = found[time] if is_onset else last
        return found

    def _beats(
        self, times: list[int], scale: int
    ) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
        """Yields first tick and length of each beat, and its times: (ticks into it, time).

        Args:
            times: In whole notes times `scale`, rising.
            scale: Also of the ticks into the beat.
        """
        bars = [time.numerator * (scale // time.denominator) for time in self.times]
        bar, found = 0, []
        before = None
        for time in times:
            while bar + 2 < len(bars) and time >= bars[bar + 1]:
                bar += 1
            length = self.ticks[bar + 1] - self.ticks[bar]
            offset = min((time - bars[bar]) * TICKS_PER_WHOLE, length * scale)
            beat = min(offset // scale, max(length - 1, 0)) // TICKS_PER_QUARTER
            start = beat * TICKS_PER_QUARTER
            cell = self.ticks[bar] + start, min(TICKS_PER_QUARTER, length - start)
            if cell != before and found:
                yield *before, found
                found = []
            before = cell
            found.append((offset - start * scale, time))
        if found:
            yield *before, found


def _fit(
    offsets: list[int], are_onsets: list[bool], length: int, last: int, scale: int
) -> list[int]:
    """Returns the places of times on the grid of their beat that fits best.

    Args:
        offsets: Ticks into the beat times `scale`, rising.
        are_onsets: Whether each is an onset.
        length: Ticks of the beat.
        last: Place of the onset before, in ticks into the beat.
        scale: Of the offsets.
    """
    best: list[int] = []
    least = None
    for places in _grids(length):
        fitted, cost, before = [], 0, last
        for offset, is_onset in zip(offsets, are_onsets, strict=True):
            place = _nearest(places, offset, scale)
            if is_onset and place <= before:
                later = places[bisect_right(places, before) :]
                place = later[0] if later else place
                cost += 0 if later else _COLLISION_COST * scale**2
            before = place if is_onset else before
            cost += (place * scale - offset) ** 2
            fitted.append(place)
        if least is None or cost < least:
            best, least = fitted, cost
    return best


def _nearest(places: tuple[int, ...], offset: int, scale: int) -> int:
    rounded_up = -(-offset // scale)
    after = min(bisect_left(places, rounded_up), len(places) - 1)
    low, high = places[max(after - 1, 0)], places[after]
    return low if offset - low * scale < high * scale - offset else high


@cache
def _grids(length: int) -> tuple[tuple[int, ...], ...]:
    """Returns the grids of a beat, or of what is left of one at the end of a bar.

    Each is the places from 0 to the end; the first is preferred.
    """
    plain = range(0, length + 1, SHORTEST_TICKS)
    triplet = range(0, TICKS_PER_QUARTER + 1, TICKS_PER_TUPLET_UNIT)
    halves = [[tick for tick in each if tick < _HALF_BEAT] for each in (plain, triplet)]
    rests = [[tick for tick in each if tick >= _HALF_BEAT] for each in (plain, triplet)]
    grids = [(*plain,)]
    if length >= _HALF_BEAT:
        grids.append((*halves[1], *rests[0]))
    if length == TICKS_PER_QUARTER:
        grids += [(*halves[0], *rests[1]), (*triplet,)]
    return tuple(grids)
