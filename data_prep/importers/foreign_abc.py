"""ABC as people write it -> tunes of our dialect.

    for found in read_book(Path("book.abc").read_bytes()):
        print(found.number, found.title, found.error or print_tune(found.tune))

A file may hold any number of tunes; each is read when it is asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ..dialect.notation import AbcError
from ..dialect.tune import Tune, read_bars
from ..dialect.tune_parser import parse_tune
from ..midi.limits import LIMITS, Limits
from .abc_book import split_book


class Warned(NamedTuple):
    """Something in a tune that was read otherwise than it is written, and where (from 1)."""

    message: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.message}"


@dataclass(frozen=True, slots=True)
class ForeignTune:
    """One tune of a file: either `tune` or `error` is set.

    Lines are counted from the start of the file, also in warnings and errors.

    Attributes:
        place: Its number in the file, from 1.
        line: Line of the file where it begins.
        number: What its X: field says; "" without one.
        title: Its first T: field; "" without one.
        tune: The music; None if it cannot be read.
        warnings: What was read otherwise than it is written.
        error: Why it cannot be read.
    """

    place: int
    line: int
    number: str
    title: str
    tune: Tune | None = None
    warnings: tuple[Warned, ...] = field(default=())
    error: AbcError | None = None


def read_book(content: bytes, limits: Limits = LIMITS) -> Iterator[ForeignTune]:
    """Yields the tunes of a file one by one; at least one item, with an error if there is none.

    Tunes of our own dialect are read as `parse_tune` reads them. No exception escapes.

    Args:
        content: The file: UTF-8 or Latin-1, with any line endings, with or without a byte order
            mark.
        limits: Tunes above them are refused, with repeats played out.
    """
    for place, (line, text) in enumerate(split_book(content), start=1):
        yield _read(text, place, line)


def _read(text: str, place: int, line: int) -> ForeignTune:
    try:
        tune = parse_tune(text)
        read_bars(tune)
        return ForeignTune(place, line, "", "", tune)
    except AbcError as error:
        return ForeignTune(place, line, "", "", error=error)
