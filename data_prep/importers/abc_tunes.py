"""One tune of a book of ABC -> a tune of our dialect, for a row of a collection."""

from ..dialect.notation import AbcError
from ..midi.limits import MidiError
from ..storage.drop_reasons import DropReason
from .foreign_abc import read_book
from .imported import Imported
from .report import Warned


def abc_to_tune(content: bytes) -> Imported:
    """Reads a tune.

    Args:
        content: The tune, after the header of its file, if that has one.

    Raises:
        MidiError: If it cannot be read.
    """
    found = next(read_book(content))
    if found.tune is None:
        where = _where(found.error, found.line)
        raise MidiError(DropReason.UNREADABLE_ABC, f"{where}: {found.error.message}")
    return Imported(found.tune, message=_told(found.warnings, found.line))


def _where(place: AbcError | Warned, start: int) -> str:
    return f"line {place.line - start + 1} of the tune, column {place.column}"


def _told(warnings: tuple[Warned, ...], start: int) -> str | None:
    if not warnings:
        return None
    first = f"{_where(warnings[0], start)}: {warnings[0].message}"
    return first if len(warnings) == 1 else f"{len(warnings)} warnings, the first: {first}"
