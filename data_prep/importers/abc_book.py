"""The bytes of an ABC file -> the texts of its tunes, one by one."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from ..dialect.notation import plain_text

_TUNE = re.compile(rb"(?:^|(?<=[\r\n]))[ \t]*X[ \t]*:(?![:|])")
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class TuneText(NamedTuple):
    """The text of a tune.

    Attributes:
        text: With lines that end in a newline.
        line: Line of the file where it begins, from 1.
    """

    text: str
    line: int


def split_book(content: bytes) -> tuple[str, Iterator[TuneText]]:
    """Splits a file at its X: fields.

    Args:
        content: UTF-8, Latin-1, or UTF-16 with a byte order mark; any line endings.

    Returns:
        What stands before the first X:, and the tunes; all of the file is one tune if it has none.
    """
    if content.startswith(_UTF16_MARKS):
        content = content.decode("utf-16", "replace").encode()
    content = content.removeprefix(_UTF8_MARK)
    first = _TUNE.search(content)
    header = _decode(content[: first.start()]) if first else ""
    return header, _tunes(content, first.start() if first else 0)


def count_tunes(content: bytes) -> int:
    """Returns the number of tunes of a file, without reading them."""
    return sum(1 for _ in split_book(content)[1])


def _tunes(content: bytes, start: int) -> Iterator[TuneText]:
    line = 1 + plain_text(_decode(content[:start])).count("\n")
    while start < len(content):
        following = _TUNE.search(content, start + 1)
        stop = following.start() if following else len(content)
        text = _decode(content[start:stop])
        yield TuneText(text, line)
        line += text.count("\n")
        start = stop


def _decode(content: bytes) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return plain_text(text)
