"""ABC as people write it -> tunes of our dialect.

    for found in read_book(Path("book.abc").read_bytes()):
        print(found.number, found.title, found.error or print_tune(found.tune))

A file may hold any number of tunes; each is read when it is asked for. What is played is what
abc2midi plays, without its accompaniments; docs/how-to/abc.md says what is left out and refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..dialect.notation import CHORD_ATTACK_LINE, FIRST_LINE, UNIT_LINE, AbcError
from ..dialect.tune import Tune, read_bars
from ..dialect.tune_parser import parse_tune
from ..midi.limits import LIMITS, Limits
from .abc_book import TuneText, split_book
from .abc_playing.performing import perform
from .abc_text.header import is_default, read_title
from .abc_text.lines import Line, lines_of
from .abc_text.tune_reader import read_tune
from .report import Report, Warned
from .score_to_tune import score_to_tune

_OWN_HEADER = re.compile(rf"{FIRST_LINE}\nM:.*\n{UNIT_LINE}\nQ:.*\n{CHORD_ATTACK_LINE}\nK:")
MAX_DEFAULTS = 200  # lines of the file's header that hold for its tunes


@dataclass(frozen=True, slots=True)
class ForeignTune:
    """One tune of a file: either `tune` or `error` is set.

    Lines are counted from the start of the file, also in warnings and errors.

    Attributes:
        place: Its number in the file, from 1.
        line: Line of the file where it begins.
        text: As it stands in the file, with lines that end in a newline.
        is_own: Whether it is in our dialect, or says so by its header.
        number: What its X: field says; "" without one.
        title: Its first T: field; "" without one.
        tune: The music; None if it cannot be read.
        warnings: What was read otherwise than it is written.
        error: Why it cannot be read.
    """

    place: int
    line: int
    text: str
    is_own: bool
    number: str
    title: str
    tune: Tune | None = None
    warnings: tuple[Warned, ...] = ()
    error: AbcError | None = None


def read_book(content: bytes, limits: Limits = LIMITS) -> Iterator[ForeignTune]:
    """Yields the tunes of a file one by one; at least one item, with an error if there is none.

    Tunes of our own dialect are read as `parse_tune` reads them. No exception escapes.

    Args:
        content: The file: UTF-8 or Latin-1, with any line endings, with or without a byte order
            mark.
        limits: Tunes above them are refused, with repeats played out.
    """
    header, tunes = split_book(content)
    defaults = [line for line in lines_of(header, 1) if is_default(line)][:MAX_DEFAULTS]
    place = 0
    for place, text in enumerate(tunes, start=1):
        yield _read(text, place, defaults, limits)
    if not place:
        yield ForeignTune(1, 1, "", False, "", "", error=AbcError("the file is empty"))


def _read(text: TuneText, place: int, defaults: list[Line], limits: Limits) -> ForeignTune:
    claims = _OWN_HEADER.match(text.text) is not None
    head = (place, text.line, text.text)
    names = read_title(lines_of(*text))
    report = Report()
    try:
        tune = _own_tune(text, claims)
        if tune:
            return ForeignTune(*head, True, *names, tune)
        tune = _foreign_tune(text, defaults, report, limits)
    except AbcError as error:
        return ForeignTune(*head, claims, *names, None, report.warnings(), error)
    return ForeignTune(*head, claims, *names, tune, report.warnings())


def _own_tune(text: TuneText, claims: bool) -> Tune | None:
    """Reads a tune of our dialect; None if it is not in it.

    Raises:
        AbcError: If it is in our layout `bars`, which means something else elsewhere, but breaks
            the rules of the dialect.
    """
    if f"\n{UNIT_LINE}\n" not in text.text:
        return None
    try:
        tune = parse_tune(text.text)
        bar_errors = read_bars(tune)[1]
    except AbcError as error:
        if claims and "\n[V:" in text.text:
            line = error.line + text.line - 1
            raise AbcError(error.message, line, error.column) from None
        return None
    return tune if tune.n_bars and (claims or not bar_errors) else None


def _foreign_tune(text: TuneText, defaults: list[Line], report: Report, limits: Limits) -> Tune:
    read = read_tune(lines_of(*text), defaults, report)
    return score_to_tune(perform(read, report, limits.notes), report, limits)
