"""Notes of one bar -> ABC text: accidentals, ties, chords and tuplets.

Source: ABC standard v2.1, sections 4.2 (accidentals), 4.11 (ties), 4.13 (tuplets), 4.17 (chords).
"""

import functools
import itertools
from collections.abc import Iterable, Sequence
from operator import itemgetter, or_

from .notation import (
    KEYS,
    SHORTEST_TICKS,
    SIGNS,
    TICKS_PER_QUARTER,
    TICKS_PER_TUPLET_UNIT,
    TICKS_PER_UNIT,
    Segment,
    key_alterations,
    length_text,
    rest_text,
    spell,
)

_Sounding = tuple[int, int, tuple[int, ...], bool]
_MOST_CHORDS = 50_000  # cached per key


class BarWriter:
    """Writes the segments of one voice, bar by bar, in one key.

    Notes and chords repeat a lot: each is spelled once, and then looked up, unless an earlier
    accidental in the bar affects it. Sets of letters are bit sets, with A as the lowest bit.
    """

    def __init__(self, key: str) -> None:
        self._letters, self._bare, self._marked, self._in_key = zip(*spellings(key), strict=True)
        self._bits = [1 << ord(letter) - ord("A") for letter in self._letters]
        self._altered = 0  # letters altered in the bar so far
        # pitches, ticks -> text, letters that it alters, and letters that must be unaltered
        self._known: dict[tuple[tuple[int, ...], int], tuple[str, int, int]] = {}

    def write(self, segments: Sequence[_Sounding], ticks: int) -> str:
        """Returns the text of one bar, without its bar line; "" if it has no segments.

        Args:
            segments: Notes and chords in order, as `Segment` or plain tuples of its fields; rests
                between them are added.
            ticks: Length of the bar.
        """
        out: list[str] = []
        known = self._known
        altered = filled = 0
        for start, end, pitches, tied in segments:
            if start % SHORTEST_TICKS or end % SHORTEST_TICKS:
                self._altered = 0
                return self._write_with_tuplets(_with_rests(map(Segment._make, segments), ticks))
            if start > filled:
                out.append(rest_text(start - filled))
            key = pitches, end - start
            text, marked, bare = known.get(key) or self._learn(*key)
            if altered & bare:
                self._altered = altered
                text = self._spelled(*key)
            altered |= marked
            out.append(text + "-" if tied else text)
            filled = end
        if segments and filled < ticks:
            out.append(rest_text(ticks - filled))
        return "".join(out)

    def _learn(self, pitches: tuple[int, ...], ticks: int) -> tuple[str, int, int]:
        altered, self._altered = self._altered, 0
        text, marked = self._spelled(pitches, ticks), self._altered
        bare = functools.reduce(or_, (self._bits[p] for p in pitches if self._in_key[p]), 0)
        self._altered = altered
        if len(self._known) >= _MOST_CHORDS:
            self._known.clear()
        self._known[pitches, ticks] = text, marked, bare
        return text, marked, bare

    def _spelled(self, pitches: tuple[int, ...], ticks: int) -> str:
        if len(pitches) == 1:
            return self._name(pitches[0]) + length_text(ticks)
        return "[" + "".join(map(self._name, pitches)) + "]" + length_text(ticks)

    def _name(self, pitch: int) -> str:
        if not self._in_key[pitch]:
            self._altered |= self._bits[pitch]
            return self._marked[pitch]
        return (self._marked if self._altered & self._bits[pitch] else self._bare)[pitch]

    def _write_with_tuplets(self, segments: list[Segment]) -> str:
        out: list[str] = []
        for is_tuplet, cells in itertools.groupby(_cells(segments), itemgetter(1)):
            if is_tuplet:
                out += [self._tuplet(cell) for cell, _ in cells]
                continue
            plain: list[Segment] = []
            for cell, _ in cells:
                if plain and _continues(plain[-1], cell[0]):
                    last = plain.pop()
                    cell[0] = Segment(last.start, cell[0].end, last.pitches, cell[0].tied)
                plain += cell
            out += [self._element(s.pitches, s.end - s.start, s.tied) for s in plain]
        return "".join(out)

    def _element(self, pitches: tuple[int, ...], ticks: int, tied: bool) -> str:
        """Returns a note, chord or rest; in a tuplet, `ticks` is the length as written."""
        if not pitches:
            return rest_text(ticks)
        text, marked, bare = self._known.get((pitches, ticks)) or self._learn(pitches, ticks)
        if self._altered & bare:
            text = self._spelled(pitches, ticks)
        self._altered |= marked
        return text + "-" if tied else text

    def _tuplet(self, cell: list[Segment]) -> str:
        items: list[tuple[Segment, int, bool]] = []  # segment, length in tuplet units, tied
        for segment in cell:
            units = (segment.end - segment.start) // TICKS_PER_TUPLET_UNIT
            parts = [4, 1] if units == 5 else [units]  # music21 cannot read a 5 in a tuplet
            items += [
                (segment, part, segment.tied or (number + 1 < len(parts)))
                for number, part in enumerate(parts)
            ]
        equal = len(items) == 3 and len({units for _, units, _ in items}) == 1
        if len(items) == 3 and not equal:
            # abcjs and abc2midi misread three unequal items, but read four correctly.
            longest = max(range(3), key=lambda number: items[number][1])
            segment, units, tied = items[longest]
            low = units // 2
            items[longest : longest + 1] = [(segment, units - low, True), (segment, low, tied)]
        return ("(3" if equal else f"(3:2:{len(items)}") + "".join(
            self._element(segment.pitches, units * TICKS_PER_UNIT, tied)
            for segment, units, tied in items
        )


@functools.cache
def bar_writer(key: str) -> BarWriter:
    """Returns the writer of a key, shared by all tunes, with its cache; not thread-safe."""
    return BarWriter(key)


@functools.lru_cache(maxsize=len(KEYS))
def spellings(key: str) -> list[tuple[str, str, str, bool]]:
    """Returns, by MIDI pitch: letter, name without and with accidental, whether it is in key."""
    signature = key_alterations(KEYS[key])
    spelled = [spell(pitch, KEYS[key]) for pitch in range(128)]
    return [
        (letter, name, SIGNS[alteration] + name, signature[letter] == alteration)
        for letter, alteration, name in spelled
    ]


def _with_rests(segments: Iterable[Segment], ticks: int) -> list[Segment]:
    """Returns the segments with rests between them, from tick 0 to the end of the bar."""
    out: list[Segment] = []
    filled = 0
    for segment in segments:
        if segment.start > filled:
            out.append(Segment(filled, segment.start))
        out.append(segment)
        filled = segment.end
    if filled < ticks:
        out.append(Segment(filled, ticks))
    return out


def _continues(first: Segment, second: Segment) -> bool:
    """Whether the two are one element that was only split at a beat."""
    return first.pitches == second.pitches and (first.tied or not first.pitches)


def _cut(segments: Sequence[Segment], start: int, end: int) -> list[Segment]:
    """Returns the part of `segments` inside [start, end); cut notes are tied."""
    return [
        Segment(
            max(segment.start, start),
            min(segment.end, end),
            segment.pitches,
            bool(segment.pitches) and (segment.tied or segment.end > end),
        )
        for segment in segments
        if segment.start < end and segment.end > start
    ]


def _cells(segments: Sequence[Segment]) -> list[tuple[list[Segment], bool]]:
    """Cuts a bar into stretches, each written plainly or as one tuplet."""
    bounds = sorted({segment.start for segment in segments} | {segments[-1].end})
    out = []
    start, end = 0, bounds[-1]
    while start < end:
        length, tuplet = _next_cell(start, end, bounds)
        out.append((_cut(segments, start, start + length), tuplet))
        start += length
    return out


def _next_cell(start: int, end: int, bounds: Sequence[int]) -> tuple[int, bool]:
    """Returns the length of the stretch at `start`, and whether it is a tuplet.

    A tuplet fills a half note (three equal quarters), a beat, or half a beat, counted from the
    start of the bar, and is used only where an element starts or ends off the plain grid.
    """
    half_note = [tick - start for tick in bounds if start <= tick <= start + 96]
    if start % 96 == 0 and half_note == [0, 32, 64, 96]:
        return 96, True
    beat = min(TICKS_PER_QUARTER - start % TICKS_PER_QUARTER, end - start)
    inner = [tick - start for tick in bounds if start < tick < start + beat]
    if not any(tick % SHORTEST_TICKS for tick in inner):
        return beat, False
    half = TICKS_PER_QUARTER // 2
    one_tuplet = beat == TICKS_PER_QUARTER and not any(t % TICKS_PER_TUPLET_UNIT for t in inner)
    if beat > half and (half in inner or not one_tuplet):
        return half, any(tick % SHORTEST_TICKS for tick in inner if tick < half)
    return beat, True
