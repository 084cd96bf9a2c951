"""What an importer reports of a tune that it could read, with the place in the text."""

from typing import NamedTuple

MOST_WARNINGS = 100  # of a tune; the last then says how many there are in all

Place = tuple[int, int]
"""Line and column, from 1."""


class Warned(NamedTuple):
    """Something that was read otherwise than it is written, or left out, and where (from 1)."""

    message: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.message}"


class Report:
    """Collects warnings; the same one at one place counts once, however often it is played."""

    def __init__(self) -> None:
        self._found: dict[Warned, None] = {}
        self._n_more = 0

    def warn(self, message: str, place: Place) -> None:
        """Adds a warning."""
        warned = Warned(message, *place)
        if len(self._found) < MOST_WARNINGS:
            self._found[warned] = None
        elif warned not in self._found:
            self._n_more += 1

    def warnings(self) -> tuple[Warned, ...]:
        """Returns the warnings by place."""
        found = sorted(self._found, key=lambda warned: (warned.line, warned.column))
        if self._n_more:
            line, column = found[-1][1:]
            found.append(Warned(f"and {self._n_more:,} more warnings", line, column))
        return tuple(found)
