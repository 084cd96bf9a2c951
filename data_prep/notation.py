"""The notation of one bar: notes in ticks <-> ABC text; spelling, lengths, ties and tuplets.

Time is counted in ticks of 1/48 quarter note, so that 1/64 notes (3 ticks) and triplets of 1/32
notes (4 ticks) are whole numbers; the ABC unit `L:1/16` is 12 ticks. Behind each rule of what is
written stands a reader (music21, abc2midi or abcjs) that misreads the alternative.

Source: ABC standard v2.1, sections 4.2 (accidentals), 4.3 (lengths), 4.11 (ties), 4.13 (tuplets),
4.17 (chords).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

TICKS_PER_QUARTER = 48
TICKS_PER_WHOLE = 4 * TICKS_PER_QUARTER
TICKS_PER_UNIT = 12  # L:1/16
TICKS_PER_TUPLET_UNIT = 8  # the same unit inside (3: three in the time of two

KEYS = {  # key signatures as K: writes them -> sharps (+) or flats (-)
    "Gb": -6, "Db": -5, "Ab": -4, "Eb": -3, "Bb": -2, "F": -1, "C": 0,
    "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F#": 6,
}  # fmt: skip
KEY_NAMES = {sharps: name for name, sharps in KEYS.items()}

LETTERS = "CDEFGAB"
_LETTER_PITCH_CLASS = dict(zip(LETTERS, (0, 2, 4, 5, 7, 9, 11), strict=True))
_FIFTHS_LETTERS = "FCGDAEB"  # position -1 .. 5 on the line of fifths; +7 raises by a semitone
_SIGNS = {-2: "__", -1: "_", 0: "=", 1: "^", 2: "^^"}
_ALTERATIONS = {sign: alteration for alteration, sign in _SIGNS.items()}

# Every length that one printed note can show: 1, 2, 4, 8, 16 units, dotted and double-dotted,
# down to quarters of a unit. Longest first, for the greedy split into tied pieces.
_WHOLE_LENGTHS = (16, 14, 12, 8, 7, 6, 4, 3, 2, 1)
_LENGTH_TEXT: dict[int, str] = {}
for _divisor, _suffix in ((1, ""), (2, "/"), (4, "/4")):
    for _units in _WHOLE_LENGTHS:
        _ticks, _rest = divmod(_units * TICKS_PER_UNIT, _divisor)
        if not _rest and _ticks not in _LENGTH_TEXT:
            _number = "" if _units == 1 else str(_units)
            _tail = "/2" if _suffix == "/" and _number else _suffix
            _LENGTH_TEXT[_ticks] = _number + _tail
_PIECES = tuple(sorted(_LENGTH_TEXT, reverse=True))
SHORTEST_TICKS = _PIECES[-1]


class AbcError(ValueError):
    """Text that is not in the dialect. Names the line and column (both from 1) where it stops."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.message, self.line, self.column = message, line, column


@dataclass(frozen=True, slots=True)
class Segment:
    """One element of a bar: a note, a chord or a rest.

    Attributes:
        start: First tick, from the start of the bar.
        end: Tick after the last.
        pitches: MIDI pitches, rising; empty for a rest.
        tied: Whether it sounds on into the next element.
    """

    start: int
    end: int
    pitches: tuple[int, ...] = ()
    tied: bool = False


# ---------------------------------------------------------------- writing


@lru_cache(maxsize=8192)
def length_texts(ticks: int) -> tuple[str, ...]:
    """Splits a length into lengths that single notes can show, longest first, as written.

    Args:
        ticks: A positive multiple of `SHORTEST_TICKS`.
    """
    out, left = [], ticks
    for piece in _PIECES:
        count, left = divmod(left, piece)
        out += [_LENGTH_TEXT[piece]] * count
    if left:
        raise ValueError(f"{ticks} ticks, expected a multiple of {SHORTEST_TICKS}")
    return tuple(out)


def rest_text(ticks: int) -> str:
    """Returns the rests that fill `ticks`, e.g. `z16` for a bar of 4/4."""
    return "".join("z" + length for length in length_texts(ticks))


def key_alterations(sharps: int) -> dict[str, int]:
    """Returns the alteration (-1, 0, 1) of each letter in the signature of `sharps` sharps."""
    order = _FIFTHS_LETTERS if sharps >= 0 else _FIFTHS_LETTERS[::-1]
    altered = order[: abs(sharps)]
    return {letter: (sharps > 0) - (sharps < 0) if letter in altered else 0 for letter in LETTERS}


@lru_cache(maxsize=2048)
def _spell(pitch: int, sharps: int) -> tuple[str, int, str]:
    """Spells a MIDI pitch in a key: (letter, alteration, letter with octave marks).

    Chromatic notes are spelled as harmony mostly means them: from the lowered third (-3 fifths
    from the tonic) to the raised fifth (+8); double signs are replaced by their plain equal.
    """
    position = (pitch * 7 - sharps + 3) % 12 + sharps - 3
    if position > 12:
        position -= 12
    elif position < -7:
        position += 12
    letter = _FIFTHS_LETTERS[(position + 1) % 7]
    alteration = (position + 1) // 7
    octave = (pitch - alteration - _LETTER_PITCH_CLASS[letter]) // 12 - 5  # C = MIDI 60 = octave 0
    name = letter + "," * -octave if octave <= 0 else letter.lower() + "'" * (octave - 1)
    return letter, alteration, name


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
            self._element(segment, _LENGTH_TEXT[units * TICKS_PER_UNIT], tied, out)

    def _element(self, segment: Segment, length: str, tied: bool, out: list[str]) -> None:
        if not segment.pitches:
            out.append("z" + length)
            return
        names = "".join(self._note(pitch) for pitch in segment.pitches)
        body = names if len(segment.pitches) == 1 else f"[{names}]"
        out.append(body + length + ("-" if tied else ""))

    def _note(self, pitch: int) -> str:
        letter, alteration, name = _spell(pitch, self._sharps)
        if alteration != self._signature[letter]:
            self._altered.add(letter)
            return _SIGNS[alteration] + name
        return _SIGNS[alteration] + name if letter in self._altered else name


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


# ---------------------------------------------------------------- reading

_ELEMENT = re.compile(
    r"""(?P<tuplet>\((?P<p>\d)(?::(?P<q>\d?))?(?::(?P<r>\d?))?)
      | (?P<rest>z)(?P<rest_length>\d{0,5}(?:/\d{0,5})?)
      | (?:\[(?P<chord>(?:[_=^]{0,2}[A-Ga-g][,']{0,6}){1,64})\]
          |(?P<note>[_=^]{0,2}[A-Ga-g][,']{0,6}))
        (?P<length>\d{0,5}(?:/\d{0,5})?)(?P<tie>-?)""",
    re.VERBOSE,
)
_NOTE = re.compile(r"([_=^]{0,2})([A-Ga-g])([,']*)")


class BarReader:
    """Reads the text of single bars of one voice in one key."""

    def __init__(self, key: str) -> None:
        self._signature = key_alterations(KEYS[key])
        self._altered: dict[str, int] = {}

    def read(self, text: str, line: int = 1, column: int = 1) -> list[Segment]:
        """Returns the segments of one bar, rests included, from tick 0 on.

        Args:
            text: The bar without its bar line and inline fields.
            line: Where the text begins, for the error.
            column: Likewise.

        Raises:
            AbcError: If the text is not in the dialect.
        """
        self._altered = {}
        out: list[Segment] = []
        tick = position = tuplet_left = 0
        while position < len(text):
            match = _ELEMENT.match(text, position)
            where = (line, column + position)
            if not match:
                found = text[position : position + 12]
                raise AbcError(f"{found!r} is no note, rest or tuplet", *where)
            if match["tuplet"]:
                if tuplet_left:
                    raise AbcError("tuplet inside a tuplet", *where)
                tuplet_left = _tuplet_items(match, where)
            else:
                length = match["rest_length"] if match["rest"] else match["length"]
                ticks = _length_ticks(length, bool(tuplet_left))
                if not ticks:
                    raise AbcError(f"length {length!r} is no whole number of 1/192 notes", *where)
                tuplet_left = max(0, tuplet_left - 1)
                pitches = self._pitches(match["chord"] or match["note"] or "", where)
                out.append(Segment(tick, tick + ticks, pitches, bool(match["tie"])))
                tick += ticks
            position = match.end()
        if tuplet_left:
            raise AbcError(f"tuplet ends {tuplet_left} elements too early", line, column + position)
        return out

    def _pitches(self, names: str, where: tuple[int, int]) -> tuple[int, ...]:
        pitches = set()
        for sign, letter, natural_pitch in _note_names(names):
            if sign:
                if sign not in _ALTERATIONS:
                    raise AbcError(f"{sign!r} is no accidental", *where)
                # As abc2midi does (and the standard's default): it holds in all octaves.
                self._altered[letter] = _ALTERATIONS[sign]
            pitch = natural_pitch + self._altered.get(letter, self._signature[letter])
            if not 0 <= pitch <= 127:
                raise AbcError(f"{names!r} holds MIDI pitch {pitch}, not in 0-127", *where)
            pitches.add(pitch)
        return tuple(sorted(pitches))


@lru_cache(maxsize=8192)
def _note_names(names: str) -> tuple[tuple[str, str, int], ...]:
    """Splits note names into (accidental, letter, MIDI pitch without any accidental)."""
    out = []
    for sign, letter, marks in _NOTE.findall(names):
        upper = letter.upper()
        octave = marks.count("'") - marks.count(",") + (letter != upper)
        out.append((sign, upper, 60 + 12 * octave + _LETTER_PITCH_CLASS[upper]))
    return tuple(out)


def _tuplet_items(match: re.Match[str], where: tuple[int, int]) -> int:
    if match["p"] != "3" or match["q"] not in (None, "", "2"):
        raise AbcError(f"tuplet {match[0]!r}: only three in the time of two is written", *where)
    items = int(match["r"] or 3)
    if items == 0:
        raise AbcError(f"tuplet {match[0]!r} holds nothing", *where)
    return items


@lru_cache(maxsize=4096)
def _length_ticks(length: str, in_tuplet: bool) -> int:
    """Returns the ticks of a length such as `3/2`; 0 where it is not a whole number of ticks."""
    number, slash, divisor = length.partition("/")
    unit = TICKS_PER_TUPLET_UNIT if in_tuplet else TICKS_PER_UNIT
    below = int(divisor or 2) if slash else 1
    if below == 0:
        return 0
    ticks, remainder = divmod(int(number or 1) * unit, below)
    return 0 if remainder else ticks
