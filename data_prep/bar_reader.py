"""ABC text of one bar -> notes; the inverse of `bar_writer`.

Strict: what is not in the dialect is refused with its place.
"""

from __future__ import annotations

import re
from functools import lru_cache

from .notation import (
    ALTERATIONS,
    KEYS,
    LETTER_PITCH_CLASS,
    TICKS_PER_TUPLET_UNIT,
    TICKS_PER_UNIT,
    AbcError,
    Segment,
    key_alterations,
)

_ELEMENT = re.compile(
    r"""(?P<tuplet>\(\d(?::\d?)?(?::\d?)?)
      | (?P<rest>z)(?P<rest_length>\d{0,5}(?:/\d{0,5})?)
      | (?:\[(?P<chord>(?:[_=^]{0,2}[A-Ga-g][,']{0,6}){1,128})\]
          |(?P<note>[_=^]{0,2}[A-Ga-g][,']{0,6}))
        (?P<length>\d{0,5}(?:/\d{0,5})?)(?P<tie>-?)""",
    re.VERBOSE | re.ASCII,
)
_TUPLET = re.compile(r"\((?P<p>\d)(?::(?P<q>\d?))?(?::(?P<r>\d?))?", re.ASCII)
_NOTE = re.compile(r"([_=^]{0,2})([A-Ga-g])([,']*)")


class BarReader:
    """Reads the text of single bars of one voice in one key."""

    def __init__(self, key: str) -> None:
        self._signature = key_alterations(KEYS[key])
        self._altered: dict[str, int] = {}
        self._plain: dict[str, tuple[int, ...]] = {}  # names -> pitches, under the signature alone

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
            if not match:
                found = text[position : position + 12]
                place = (line, column + position)
                raise AbcError(f"{found!r} is no note, rest or tuplet", *place)
            tuplet, rest, rest_length, chord, note, length, tie = match.groups()
            if tuplet:
                if tuplet_left:
                    raise AbcError("tuplet inside a tuplet", line, column + position)
                tuplet_left = _tuplet_items(tuplet, (line, column + position))
            else:
                length = rest_length if rest else length
                ticks = _length_ticks(length, tuplet_left > 0)
                if not ticks:
                    message = f"length {length!r} is no whole number of 1/192 notes"
                    raise AbcError(message, line, column + position)
                tuplet_left -= tuplet_left > 0
                pitches = () if rest else self._pitches(chord or note, (line, column + position))
                out.append(Segment(tick, tick + ticks, pitches, tie == "-"))
                tick += ticks
            position = match.end()
        if tuplet_left:
            raise AbcError(f"tuplet ends {tuplet_left} elements too early", line, column + position)
        return out

    def _pitches(self, names: str, where: tuple[int, int]) -> tuple[int, ...]:
        if not self._altered and names in self._plain:
            return self._plain[names]
        was_altered = bool(self._altered)
        pitches = set()
        for sign, letter, natural_pitch in _note_names(names):
            if sign:
                if sign not in ALTERATIONS:
                    raise AbcError(f"{sign!r} is no accidental", *where)
                # As abc2midi does (and the standard's default): it holds in all octaves.
                self._altered[letter] = ALTERATIONS[sign]
            pitch = natural_pitch + self._altered.get(letter, self._signature[letter])
            if not 0 <= pitch <= 127:
                raise AbcError(f"{names!r} holds MIDI pitch {pitch}, not in 0-127", *where)
            pitches.add(pitch)
        result = tuple(sorted(pitches))
        if not was_altered and not self._altered:
            self._plain[names] = result
        return result


@lru_cache(maxsize=8192)
def _note_names(names: str) -> tuple[tuple[str, str, int], ...]:
    """Splits note names into (accidental, letter, MIDI pitch without any accidental)."""
    out = []
    for sign, letter, marks in _NOTE.findall(names):
        upper = letter.upper()
        octave = marks.count("'") - marks.count(",") + (letter != upper)
        out.append((sign, upper, 60 + 12 * octave + LETTER_PITCH_CLASS[upper]))
    return tuple(out)


def _tuplet_items(text: str, where: tuple[int, int]) -> int:
    p, q, r = _TUPLET.fullmatch(text).groups()
    if p != "3" or q not in (None, "", "2"):
        raise AbcError(f"tuplet {text!r}: only three in the time of two is written", *where)
    items = int(r or 3)
    if items == 0:
        raise AbcError(f"tuplet {text!r} holds nothing", *where)
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
