"""ABC text of one bar -> notes; the inverse of `bar_writer`.

Strict: what is not in the dialect is refused with its place.
"""

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
                pitches = () if rest else self._pitches(chord or note, place)
                out.append(Segment(tick, tick + ticks, pitches, tie == "-"))
                tick += ticks
            position = match.end()
        if tuplet_left:
            raise AbcError(f"tuplet ends {tuplet_left} elements too early", line, column + position)
        return out

    def _pitches(self, names: str, where: tuple[int, int]) -> tuple[int, ...]:
        if not self._altered and names in self._plain:
            return self._plain[names]
        pitches = set()
        for sign, letter, natural_pitch in note_names(names):
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
        if not self._altered:
            self._plain[names] = result
        return result
