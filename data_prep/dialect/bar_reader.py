"""ABC text of one bar -> notes; the inverse of `bar_writer`.

Strict: text outside the dialect raises an error with its place. Elements repeat a lot: each is
parsed once per key, and then looked up, unless an earlier accidental in the bar affects it.
"""

import contextlib
import re
from functools import cache

from .notation import (
    ALTERATIONS,
    ELEMENT,
    KEYS,
    AbcError,
    Segment,
    key_alterations,
    length_ticks,
    note_names,
    tuplet_items,
)

# Splits a text into elements, if it contains nothing else; `ELEMENT` parses them.
_TOKEN = re.compile(r"\([\d:]*|z[\d/]*|(?:\[[^\]]*\]|[_=^]*[A-Ga-g][,']*)[\d/]*-?", re.ASCII)
_MOST_ELEMENTS = 50_000  # cached per key
_Letters = frozenset[str]
_Element = tuple[int, tuple[int, ...], bool, _Letters, _Letters]


class BarReader:
    """Reads the text of single bars of one voice in one key."""

    def __init__(self, key: str) -> None:
        # (text, whether in a tuplet) -> ticks, pitches, tie, letters with and without accidental
        self._elements: dict[tuple[str, bool], _Element | None] = {}
        self._signature = key_alterations(KEYS[key])

    def read(self, text: str, line: int = 1, column: int = 1) -> list[Segment]:
        """Returns the segments of one bar, including rests, from tick 0 on.

        Args:
            text: The bar without its bar line and inline fields.
            line: Line where the text begins, for error messages.
            column: Column where the text begins, for error messages.

        Raises:
            AbcError: If the text is not in the dialect.
        """
        if (known := self._look_up(text)) is not None:
            return known
        altered: dict[str, int] = {}
        out: list[Segment] = []
        tick = position = tuplet_left = 0
        while position < len(text):
            place = (line, column + position)
            match = ELEMENT.match(text, position)
            if not match:
                found = text[position : position + 12]
                raise AbcError(f"{found!r} is no note, rest or tuplet", *place)
            tuplet, rest, rest_length, chord, note, length, tie = match.groups()
            if tuplet:
                if tuplet_left:
                    raise AbcError("tuplet inside a tuplet", *place)
                tuplet_left = tuplet_items(tuplet)
                if not tuplet_left:
                    message = f"tuplet {tuplet!r}: only three in the time of two is written"
                    raise AbcError(message, *place)
            else:
                length = rest_length if rest else length
                ticks = length_ticks(length, tuplet_left > 0)
                if not ticks:
                    raise AbcError(f"length {length!r} is no whole number of 1/192 notes", *place)
                tuplet_left -= tuplet_left > 0
                pitches = () if rest else self._pitches(chord or note, place, altered)
                out.append(Segment(tick, tick + ticks, pitches, tie == "-"))
                tick += ticks
            position = match.end()
        if tuplet_left:
            raise AbcError(f"tuplet ends {tuplet_left} elements too early", line, column + position)
        return out

    def _look_up(self, text: str) -> list[Segment] | None:
        """Returns the same from cached elements; None if the bar has to be parsed in order."""
        tokens = _TOKEN.findall(text)
        if "".join(tokens) != text:
            return None
        out: list[Segment] = []
        tick = tuplet_left = 0
        altered: _Letters = frozenset()
        elements = self._elements
        for token in tokens:
            if token[0] == "(":
                if tuplet_left or not (tuplet_left := tuplet_items(token)):
                    return None
                continue
            key = token, tuplet_left > 0
            element = elements[key] if key in elements else self._learn(*key)
            if element is None:
                return None
            ticks, pitches, tied, marked, bare = element
            if altered and not altered.isdisjoint(bare):
                return None
            if marked:
                altered |= marked
            tuplet_left -= key[1]
            out.append(Segment(tick, tick + ticks, pitches, tied))
            tick += ticks
        return None if tuplet_left else out

    def _learn(self, token: str, in_tuplet: bool) -> _Element | None:
        """Parses an element as if it were the first of a bar, and caches it; None if invalid."""
        element = None
        match = ELEMENT.fullmatch(token)
        length = match and (match["rest_length"] if match["rest"] else match["length"])
        if match and (ticks := length_ticks(length, in_tuplet)):
            names = match["chord"] or match["note"] or ""
            found = [(bool(sign), letter) for sign, letter, _ in note_names(names)]
            marked, bare = (
                frozenset(n for s, n in found if s == signed) for signed in (True, False)
            )
            with contextlib.suppress(
                AbcError
            ):  # raised again, with its place, when the bar is parsed in order
                pitches = self._pitches(names, (1, 1), {}) if names else ()
                element = ticks, pitches, match["tie"] == "-", marked, bare
        if len(self._elements) >= _MOST_ELEMENTS:
            self._elements.clear()
        self._elements[token, in_tuplet] = element
        return element

    def _pitches(
        self, names: str, where: tuple[int, int], altered: dict[str, int]
    ) -> tuple[int, ...]:
        """Returns the pitches of a note or chord; updates `altered`: letter -> accidental."""
        pitches = set()
        for sign, letter, natural_pitch in note_names(names):
            if sign:
                if sign not in ALTERATIONS:
                    raise AbcError(f"{sign!r} is no accidental", *where)
                # As in abc2midi (and by the standard's default), it applies to all octaves.
                altered[letter] = ALTERATIONS[sign]
            pitch = natural_pitch + altered.get(letter, self._signature[letter])
            if not 0 <= pitch <= 127:
                raise AbcError(f"{names!r} holds MIDI pitch {pitch}, not in 0-127", *where)
            pitches.add(pitch)
        return tuple(sorted(pitches))


@cache
def bar_reader(key: str) -> BarReader:
    """Returns the reader of a key, which is shared by all tunes, with its cache of elements."""
    return BarReader(key)
