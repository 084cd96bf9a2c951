"""One line of music: its characters -> notes, bar lines and inline fields.

What abc2midi leaves out is left out; what it cannot read is left out with a warning.
"""

import re
from collections.abc import Callable, Iterator
from fractions import Fraction

from ...dialect.notation import ALTERATIONS, AbcError
from ..report import Place, Report
from .bounded_numbers import LENGTH, read_length, read_number
from .events import Mark, Sign
from .note_builder import NoteBuilder
from .voice import Pitch

MAX_RESTS = 10_000  # bars of one Z
SHORTHAND = ".MLRH~Tuv'OPS"  # decorations of one character, before a note
_NOTE = re.compile(
    rf"(?P<shorthand>[{re.escape(SHORTHAND)}]{{0,16}})"
    r"(?:(?P<sign>=?(?:\^{1,2}|_{1,2})|=|)(?P<micro>(?<=[_^])[0-9]*(?:/+[0-9]*)?|)(?P<letter>[A-Ga-g])"
    r"(?P<octave>[,']*)|(?P<rest>[zx])|(?P<chord>\[(?![0-9|]|[A-Za-z]:)))"
)
_ENDING = r"[0-9]+(?:[-,][0-9]+)*"
_BAR = re.compile(
    rf"""(?P<start>\|\|?\|?:|\[\|:) | (?P<both>:\|?\|?:) | (?P<end>:\|)(?P<end_passes>{_ENDING})?\]?
       | (?P<double>\|\||\|\]|\[\|\]?|\]\||:)
       | (?P<bar>\|)(?P<passes>{_ENDING})?""",
    re.VERBOSE,
)
_SIGNS = {"start": Sign.START_REPEAT, "both": Sign.BOTH_REPEATS, "end": Sign.END_REPEAT,
          "double": Sign.DOUBLE_BAR, "bar": Sign.BAR}  # fmt: skip
_PASSES = re.compile(rf"\[({_ENDING})")
_FIELD = re.compile(r"\[([A-Za-z]):([^\]]*)(\]?)")
_TUPLET = re.compile(r"\(([0-9]+)(?::([0-9]*))?(?::([0-9]*))?")
_QUOTED = re.compile(r'"((?:\\.|[^"\\])*)("?)', re.DOTALL)
_BROKEN = re.compile(r">+|<+")
_SPACES = re.compile(r"[ \t]+")
_MANY_RESTS = re.compile(r"[ZX](?P<number>[0-9]*)(?P<below>/[0-9/]*)?")
_BLANK = re.compile(r"\s*")
_LINE_END = re.compile(r"[\\*][\\* \t]*")
_SPACER = re.compile(r"y[0-9/]*")
_DECORATION = re.compile(r"!([^!]*)!|\+([^+]*)\+")
_NO_NAME = re.compile(r"\s*$|.*[|\[\]]")  # music between two line breaks `!`
_OLD_CHORD = re.compile(r"(?=.*[A-G])[_^=A-Ga-g,'0-9/]{2,}")
_DIRECTIONS = re.compile(r"D\.?[CS]\.?.*|dacapo|dacoda|coda|segno|fine", re.IGNORECASE)


class MusicLine:
    """Reads lines of music into the current voice of a builder.

    Attributes:
        symbols: What U: defines: letter -> name of a decoration.
    """

    def __init__(self, builder: NoteBuilder, report: Report) -> None:
        self._builder, self._report = builder, report
        self.symbols: dict[str, str] = {}
        self._text, self._line, self._shift = "", 1, 1
        self._field: tuple[str, str, Place] | None = None  # just read, to be applied

    def read(self, text: str, line: int, column: int) -> Iterator[tuple[str, str, Place]]:
        """Reads a line without its comment; yields letter, text and place of each inline field.

        Args:
            text: The line.
            line: Its number.
            column: Column of its first character.
        """
        self._text, self._line, self._shift = text, line, column
        position = 0
        while position < len(text):
            position = self._element(position)
            if self._field:
                yield self._field
                self._field = None

    def _place(self, position: int) -> Place:
        return self._line, self._shift + position

    def _warn(self, message: str, position: int) -> None:
        self._report.warn(message, self._place(position))

    # ------------------------------------------------------------ dispatch

    def _element(self, position: int) -> int:
        """Reads what begins at a position; returns the position after it."""
        text, sign = self._text, self._text[position]
        if sign in " \t":
            return _SPACES.match(text, position).end()
        if match := _NOTE.match(text, position):
            return self._note(match)
        is_chord_end = sign == "]" and self._builder.is_chord_open
        if not is_chord_end and (match := _BAR.match(text, position)):
            return self._bar(match)
        reader = _READERS.get(sign)
        return reader(self, position) if reader else self._other(position)

    def _other(self, position: int) -> int:
        sign = self._text[position]
        if sign in self.symbols:
            self._builder.decorate(self.symbols[sign])
        elif sign in SHORTHAND or sign in "`$)sS" or sign.isspace():
            pass  # decorations of nothing, slurs, line breaks of the printed score
        else:
            self._warn(f"{sign!r} is left out", position)
        return position + 1

    # ------------------------------------------------------------ notes

    def _note(self, match: re.Match[str]) -> int:
        place, builder = self._place(match.start()), self._builder
        if match["chord"]:
            builder.open_chord(place, match["shorthand"])
            return match.end()
        length, end = self._length(match.end())
        if match["rest"]:
            builder.rest(length, place, match["shorthand"])
            return end
        octave = match["octave"].count("'") - match["octave"].count(",")
        octave += match["letter"].islower()
        if abs(octave) > 12:
            raise AbcError(f"note {octave} octaves from middle C", *place)
        pitch = Pitch(match["letter"].upper(), octave, self._alteration(match, place))
        builder.note(pitch, length, place, match["shorthand"])
        return end

    def _alteration(self, match: re.Match[str], place: Place) -> int | None:
        sign = match["sign"].lstrip("=") or match["sign"]  # `=^` is as good as `^`
        alteration = ALTERATIONS[sign] if sign else None
        if not match["micro"]:
            return alteration
        size = read_length(LENGTH.fullmatch(match["micro"]), place)
        # The nearest semitone; a quarter tone becomes the natural note, which abc2midi bends.
        rounded = -int(-(2 * size - 1) // 2) if size else 0
        self._report.warn("microtone is rounded to a semitone", place)
        return min(rounded, 2) * (-1 if sign.startswith("_") else 1)

    def _length(self, position: int) -> tuple[Fraction, int]:
        match = LENGTH.match(self._text, position)
        if not match[0]:
            return Fraction(1), position
        return read_length(match, self._place(position)), match.end()

    def _many_rests(self, position: int) -> int:
        match = _MANY_RESTS.match(self._text, position)
        place = self._place(position)
        n_bars = read_number(match["number"], place) if match["number"] else 1
        if match["below"]:
            self._warn(
                f"{match[0][:12]} is read as {n_bars} bars: expected a whole number", position
            )
        if n_bars > MAX_RESTS:
            raise AbcError(f"rest of {n_bars:,} bars, expected at most {MAX_RESTS:,}", *place)
        for bar in range(max(n_bars, 1)):
            if bar:
                self._mark(Mark(Sign.BAR, place))
            self._builder.whole_rest(place)
        return match.end()

    # ------------------------------------------------------------ bar lines

    def _bar(self, match: re.Match[str]) -> int:
        sign = next(sign for name, sign in _SIGNS.items() if match[name])
        place = self._place(match.start())
        self._mark(Mark(sign, place))
        if passes := match["passes"] or match["end_passes"]:
            self._mark(Mark(Sign.ENDING, place, self._passes(passes, place)))
        return match.end()

    def _mark(self, mark: Mark) -> None:
        if mark.sign is not Sign.ENDING:
            self._builder.bar(mark.place)
        self._builder.voice.mark(mark)

    def _passes(self, text: str, place: Place) -> tuple[tuple[int, int], ...]:
        """Returns the passes of an ending such as `1,3-5`, as ranges."""
        ranges = []
        for part in text.split(","):
            numbers = [read_number(digits, place) for digits in part.split("-")]
            ranges.append((numbers[0], numbers[-1]))
        return tuple(ranges)

    # ------------------------------------------------------------ brackets

    def _bracket(self, position: int) -> int:
        """Reads `[1` or `[K:...]`."""
        text, place = self._text, self._place(position)
        if match := _PASSES.match(text, position):
            self._mark(Mark(Sign.ENDING, place, self._passes(match[1], place)))
            return match.end()
        if match := _FIELD.match(text, position):
            if not match[3]:
                self._warn(f"{match[0][:12]!r} has no closing ]", position)
            self._field = match[1], match[2], self._place(match.start(2))
            return match.end()
        return self._other(position)

    def _close_bracket(self, position: int) -> int:
        length, end = self._length(position + 1)
        self._builder.close_chord(length, self._place(position))
        return end

    def _parenthesis(self, position: int) -> int:
        """Reads a tuplet, `(&`, or a slur, which is left out."""
        place = self._place(position)
        if match := _TUPLET.match(self._text, position):
            p, q, r = (read_number(digits, place) if digits else 0 for digits in match.groups())
            self._builder.tuplet(p, q, r, place)
            return match.end()
        if self._text.startswith("(&", position):
            self._builder.voice.start_extended_overlay()
            return position + 2
        return position + 1

    # ------------------------------------------------------------ what is said about notes

    def _quoted(self, position: int) -> int:
        """Leaves out a chord symbol or an annotation."""
        match = _QUOTED.match(self._text, position)
        if not match[2]:
            self._warn('text in " that does not end: the rest of the line is left out', position)
        return match.end()

    def _decoration(self, position: int) -> int:
        match = _DECORATION.match(self._text, position)
        if not match:
            if not _BLANK.fullmatch(self._text, position + 1):
                self._warn(f"{self._text[position]} without its end is left out", position)
            return position + 1
        names = match[1] if match[1] is not None else match[2]
        if _NO_NAME.match(names):
            self._warn(f"{self._text[position]} is read as the end of a printed line", position)
            return position + 1
        for name in names.split(";"):
            if _DIRECTIONS.fullmatch(name.strip()):
                self._warn(f"{name.strip()[:20]} is not played", position)
            if match[2] and _OLD_CHORD.fullmatch(name):
                self._warn(f"+{name[:20]}+ is left out: chords are written in [ ]", position)
            self._builder.decorate(name.strip())
        return match.end()

    # ------------------------------------------------------------ one character

    def _open_graces(self, position: int) -> int:
        self._builder.open_graces(self._place(position))
        return position + (2 if self._text.startswith("{/", position) else 1)

    def _close_graces(self, position: int) -> int:
        self._builder.close_graces(self._place(position))
        return position + 1

    def _tie(self, position: int) -> int:
        self._builder.tie(self._place(position))
        return position + 1

    def _broken(self, position: int) -> int:
        match = _BROKEN.match(self._text, position)
        self._builder.broken(match[0], self._place(position))
        return match.end()

    def _spacer(self, position: int) -> int:
        return _SPACER.match(self._text, position).end()

    def _overlay(self, position: int) -> int:
        if self._text.startswith("&)", position):
            self._builder.voice.stop_extended_overlay()
            return position + 2
        self._builder.bar(self._place(position))
        self._builder.voice.overlay(self._place(position))
        return position + 1

    def _line_end(self, position: int) -> int:
        """Takes a backslash or stars, which mean something at the end of a line only."""
        end = _LINE_END.match(self._text, position).end()
        if end < len(self._text):
            self._warn(f"{self._text[position]!r} inside a line is left out", position)
        return end


_READERS: dict[str, Callable[[MusicLine, int], int]] = {
    "[": MusicLine._bracket,
    "]": MusicLine._close_bracket,
    "(": MusicLine._parenthesis,
    '"': MusicLine._quoted,
    "!": MusicLine._decoration,
    "+": MusicLine._decoration,
    "{": MusicLine._open_graces,
    "}": MusicLine._close_graces,
    "-": MusicLine._tie,
    ">": MusicLine._broken,
    "<": MusicLine._broken,
    "y": MusicLine._spacer,
    "Z": MusicLine._many_rests,
    "X": MusicLine._many_rests,
    "&": MusicLine._overlay,
    "\\": MusicLine._line_end,
    "*": MusicLine._line_end,
}
