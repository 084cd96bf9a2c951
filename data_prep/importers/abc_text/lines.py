"""The text of a tune -> its lines, without comments, by kind."""

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

from ..report import Place

# Fields, by the ABC standard v2.1, section 3; other letters before a colon are music.
_FIELD = re.compile(r"[ \t]*([A-DF-IK-XZEdmrsw+])[ \t]*:(?![:|])(.*)", re.DOTALL)
_BLOCK = re.compile(r"%%begin([a-z]+)", re.IGNORECASE)


class Kind(Enum):
    """What a line is."""

    EMPTY = auto()
    FIELD = auto()
    DIRECTIVE = auto()
    MUSIC = auto()


class Line(NamedTuple):
    """A line.

    Attributes:
        kind: What it is.
        text: Without comment and, for a field or directive, without its letter and `%%`.
        place: Where `text` begins.
        letter: Of a field.
    """

    kind: Kind
    text: str
    place: Place
    letter: str = ""


def lines_of(text: str, first_line: int) -> Iterator[Line]:
    """Yields the lines that matter: comments, and blocks such as `%%begintext`, are left out.

    Args:
        text: With lines that end in a newline.
        first_line: Number of its first line.
    """
    end = ""
    for number, line in enumerate(text.rstrip("\n").split("\n"), first_line):
        start = line[:20].lower()
        if end:
            end = "" if start.startswith(end) else end
        elif match := _BLOCK.match(start):
            end = f"%%end{match[1]}"
        elif start.startswith("%%midioff"):
            end = "%%midion"
        elif not line.strip():
            yield Line(Kind.EMPTY, "", (number, 1))
        elif line.lstrip().startswith("%%"):
            column = line.index("%%") + 2
            yield Line(Kind.DIRECTIVE, line[column:], (number, column + 1))
        elif not line.lstrip().startswith(("%", "\\")):
            yield _field_or_music(line.partition("%")[0], number)


def _field_or_music(line: str, number: int) -> Line:
    match = _FIELD.match(line)
    if match:
        return Line(Kind.FIELD, match[2], (number, match.start(2) + 1), match[1])
    return Line(Kind.MUSIC, line, (number, 1))
