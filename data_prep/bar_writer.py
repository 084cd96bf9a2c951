"""Notes of one bar -> ABC text: accidentals, ties, chords and tuplets.

Source: ABC standard v2.1, sections 4.2 (accidentals), 4.11 (ties), 4.13 (tuplets), 4.17 (chords).
"""

from __future__ import annotations

from collections.abc import Sequence

from .notation import (
    KEYS,
    LENGTH_TEXT,
    SHORTEST_TICKS,
    SIGNS,
    TICKS_PER_QUARTER,
    TICKS_PER_TUPLET_UNIT,
    TICKS_PER_UNIT,
    Segment,
    key_alterations,
    length_texts,
    spell,
)


class BarWriter:
    """Writes the segments of one voice, bar by bar, in one key."""

    def __init__(self, key: str) -> None:
        self._sharps = KEYS[key]
        self._signature = key_alterations(self._sharps)
        self._altered: set[str] = set()

    def write(self, segments: Sequence[Segment]) -> str:
        """Returns the text of one bar, without its bar line.

        Args:
            segments: Without gaps, from tick 0 to the end of the bar.
        """
        self._altered = set()
        out: list[str] = []
        plain: list[Segment] = []
        for cell, tuplet in _cells(segments):
            if tuplet:
                self._write_plain(plain, out)
                self._write_tuplet(cell, out)
                plain = []
            elif plain and _continues(plain[-1], cell[0]):
                last = plain[-1]
                plain[-1] = Segment(last.start, cell[0].end, last.pitches, cell[0].tied)
                plain += cell[1:]
            else:
                plain += cell
        self._write_plain(plain, out)
        return "".join(out)

    def _write_plain(self, segments: list[Segment], out: list[str]) -> None:
        for segment in segments:
            *first, last = length_texts(segment.end - segment.start)
            for length in first:
                self._element(segment, length, True, out)
            self._element(segment, last, segment.tied, out)

    def _write_tuplet(self, cell: list[Segment], out: list[str]) -> None:
        items: list[tuple[Segment, int, bool]] = []  # segment, length in tuplet units, tied
        for segment in cell:
            units = (segment.end - segment.start) // TICKS_PER_TUPLET_UNIT
            parts = [4, 1] if units == 5 else [units]  # music21 cannot read a 5 in a tuplet
            items += [
                (segment, part, segment.tied or number + 1 < len(parts))
                for number, part in enumerate(parts)
            ]
        equal = len(items) == 3 and len({units for _, units, _ in items}) == 1
        if len(items) == 3 and not equal:
            # abcjs and abc2midi read three unequal items wrongly; four are read right.
            longest = max(range(3), key=lambda number: items[number][1])
            segment, units, tied = items[longest]
            low = units // 2
            items[longest : longest + 1] = [(segment, units - low, True), (segment, low, tied)]
        out.append("(3" if equal else f"(3:2:{len(items)}")
        for segment, units, tied in items:
            self._element(segment, LENGTH_TEXT[units * TICKS_PER_UNIT], tied, out)

    def _element(self, segment: Segment, length: str, tied: bool, out: list[str]) -> None:
        if not segment.pitches:
            out.append("z" + length)
            return
        names = "".join(self._note(pitch) for pitch in segment.pitches)
        body = names if len(segment.pitches) == 1 else f"[{names}]"
        out.append(body + length + ("-" if tied else ""))

    def _note(self, pitch: int) -> str:
        letter, alteration, name = spell(pitch, self._sharps)
        if alteration != self._signature[letter]:
            self._altered.add(letter)
            return SIGNS[alteration] + name
        return SIGNS[alteration] + name if letter in self._altered else name


def _continues(first: Segment, second: Segment) -> bool:
    """Whether the two are one element that only a beat had cut."""
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
    """Cuts a bar into stretches that are written plainly and stretches that are one tuplet."""
    bounds = sorted({segment.start for segment in segments} | {segments[-1].end})
    if not any(tick % SHORTEST_TICKS for tick in bounds):
        return [(list(segments), False)]
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
    start of the bar, and is used exactly where an element starts or ends off the plain grid.
    """
    half_note = [tick - start for tick in bounds if start <= tick <= start + 96]
    if start % 96 == 0 and half_note == [0, 32, 64, 96]:
        return 96, True
    beat = min(TICKS_PER_QUARTER - start % TICKS_PER_QUARTER, end - start)
    inner = [tick - start for tick in bounds if start < tick < start + beat]
    if not any(tick % SHORTEST_TICKS for tick in inner):
        return beat, False
    if beat == TICKS_PER_QUARTER and beat // 2 in inner:
        beat //= 2
        return beat, any(tick % SHORTEST_TICKS for tick in inner if tick < beat)
    return beat, True
