"""The bytes of an ABC file -> the texts of its tunes."""

import re
from collections.abc import Iterator

_TUNE = re.compile(r"^X:", re.MULTILINE)


def split_book(content: bytes) -> Iterator[tuple[int, str]]:
    """Yields first line (from 1) and text of each tune."""
    text = content.decode("utf-8", "replace").removeprefix("\ufeff")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    starts = [match.start() for match in _TUNE.finditer(text)] or [0]
    line, before = 1, 0
    for start, stop in zip(starts, [*starts[1:], len(text)], strict=True):
        line += text.count("\n", before, start)
        before = start
        yield line, text[start:stop]
