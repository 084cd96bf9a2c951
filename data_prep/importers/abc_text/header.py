"""The header of a tune: its fields up to the first K:, with what the file's own header says."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from ...dialect.notation import AbcError
from ..report import Place, Report
from .fields import (
    MAX_FIELD_CHARS,
    FieldError,
    Meter,
    default_unit,
    read_meter,
    read_parts,
    read_tempo,
    read_unit,
)
from .key_field import Key, read_key
from .lines import Kind, Line

DEFAULT_METER = (4, 4)
DEFAULT_TEMPO = Fraction(120)


@dataclass
class Header:
    """What a header says.

    Attributes:
        number: Of X:.
        title: Of the first T:.
        meter: None for free meter; 4/4 without M:.
        has_meter: Whether there is an M:. Without it, bars are as long as they are.
        unit: Unit length in whole notes.
        tempo: Quarters a minute.
        parts: Order in which the parts are played; [] if as written.
        is_hornpipe: Whether R: says so.
        key: Of K:.
        deferred: V:, I:, U: and directives, in order, for the voices once they exist.
        place: Of K:.
    """

    number: str = ""
    title: str = ""
    meter: Meter | None = DEFAULT_METER
    has_meter: bool = False
    unit: Fraction = Fraction(1, 8)
    tempo: Fraction = DEFAULT_TEMPO
    parts: list[str] = field(default_factory=list)
    is_hornpipe: bool = False
    key: Key = field(default_factory=lambda: read_key("C"))
    deferred: list[Line] = field(default_factory=list)
    place: Place = (1, 1)


def read_header(lines: Iterable[Line], defaults: Iterable[Line], report: Report) -> Header:
    """Reads a header; takes its lines off `lines`.

    Args:
        lines: Of the tune.
        defaults: Of the file's header, which hold for each of its tunes.
        report: Takes the warnings.

    Raises:
        AbcError: If there is no K:.
    """
    reader = _HeaderReader(report)
    for line in defaults:
        reader.read(line)
    for line in lines:
        if line.kind is Kind.EMPTY:
            if reader.has_started:
                raise AbcError("empty line in the header, expected it to end in K:", *line.place)
        elif reader.read(line):
            return reader.header
    raise AbcError("no K: field, expected the header to end in one", *reader.place)


def is_default(line: Line) -> bool:
    """Whether a line before the first tune holds for all of them."""
    return line.kind is Kind.DIRECTIVE or (line.letter != "" and line.letter in "MLQURIm")


def read_title(lines: Iterable[Line]) -> tuple[str, str]:
    """Returns number and title of a tune, which its text may have even if it cannot be read."""
    number = title = ""
    for line in lines:
        if line.letter == "X" and not number:
            number = line.text.strip()
        elif line.letter == "T" and not title:
            title = line.text.strip()
        elif line.letter == "K" or (number and line.kind is Kind.EMPTY):
            break
    return number, title


class _HeaderReader:
    def __init__(self, report: Report) -> None:
        self.header, self.report = Header(), report
        self.has_started = False
        self.place: Place = (1, 1)
        self._unit: Fraction | None = None
        self._tempo: Line | None = None

    def read(self, line: Line) -> bool:
        """Reads a line; returns whether it ended the header."""
        self.place = line.place
        if line.kind is Kind.DIRECTIVE:
            self.header.deferred.append(line)
        elif line.kind is Kind.FIELD:
            self.has_started = True
            try:
                return self._field(line)
            except FieldError as error:
                self.report.warn(str(error), line.place)
        elif "|" in line.text:
            self.report.warn("music before K: is left out", line.place)
        return False

    def _field(self, line: Line) -> bool:
        header, letter, text = self.header, line.letter, line.text.strip()[:MAX_FIELD_CHARS]
        if letter == "X":
            header.number = header.number or text
        elif letter == "T":
            header.title = header.title or text
        elif letter == "M":
            header.meter, header.has_meter = read_meter(text, line.place), True
        elif letter == "L":
            self._unit = read_unit(text, line.place)
        elif letter == "Q":
            self._tempo = line
        elif letter == "R":
            header.is_hornpipe |= text.startswith(("Hornpipe", "hornpipe"))
        elif letter == "P":
            parts = read_parts(text, line.place)
            # One letter names the part that begins here.
            header.parts = parts if len(parts) > 1 else []
        elif letter in "VIU":
            header.deferred.append(line)
        elif letter == "m":
            self.report.warn("macros (m:) are not expanded", line.place)
        return letter == "K" and self._end(line)

    def _end(self, line: Line) -> bool:
        header = self.header
        header.key, header.place = read_key(line.text[:MAX_FIELD_CHARS]), line.place
        for complaint in header.key.complaints:
            self.report.warn(complaint, line.place)
        if header.key.sharps is None:
            self.report.warn("K: names no key: read as C", line.place)
            header.key.sharps = 0
        header.unit = self._unit or default_unit(header.meter if header.has_meter else None)
        if self._tempo:
            try:
                text = self._tempo.text[:MAX_FIELD_CHARS]
                header.tempo = read_tempo(text, header.unit, self._tempo.place)
            except FieldError as error:
                self.report.warn(str(error), self._tempo.place)
        return True
