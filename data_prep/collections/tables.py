"""MIDI files in a parquet table, as on the Hub: one per row, numbered."""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import IO, Any

from ..midi.limits import LIMITS
from ..midi.midi_file import find_header
from .members import Content, Entry, Member, NoMidiColumnError, too_large, unreadable

TABLE_SUFFIXES = (".parquet",)
_PROBED_ROWS = 64  # values of a column of bytes that are checked for MIDI


def table_entries(file: IO[bytes], name: str, prefix: str, stamp: str) -> Iterator[Entry]:
    """Yields the rows of a table.

    Args:
        file: The table.
        name: Its name, for errors.
        prefix: Of the names of the rows.
        stamp: That of the table.

    Raises:
        NoMidiColumnError: If it has no column of MIDI.
    """
    from pyarrow import parquet

    with parquet.ParquetFile(file) as table:
        values = enumerate(_values(table, _midi_column(name, table)))
        for row in range(table.metadata.num_rows):
            yield Entry(Member(f"{prefix}{row:08d}", stamp), partial(_read_row, values, row))


def _read_row(values: Iterator[tuple[int, bytes | None]], row: int) -> Content:
    value = next(value for place, value in values if place == row)
    if value is None:
        return unreadable("the row holds no bytes")
    return too_large(len(value), LIMITS.bytes) if len(value) > LIMITS.bytes else value


def _values(table: Any, column: str) -> Iterator[bytes | None]:
    for batch in table.iter_batches(batch_size=16, columns=[column]):
        for value in batch.column(0):
            content = value.as_py()
            yield content.get("bytes") if isinstance(content, dict) else content


def _midi_column(name: str, table: Any) -> str:
    """Returns the column that contains the files: bytes, or a struct with the field `bytes`.

    Raises:
        NoMidiColumnError: If none contains MIDI: images and audio are bytes, too.
    """
    schema = table.schema_arrow
    found = [field.name for field in schema if _is_bytes(field.type)]
    found.sort(key=lambda column: column not in ("music", "midi", "bytes"))
    if not found:
        raise NoMidiColumnError(f"{name} has no column of bytes; columns: {schema.names}")
    for column in found:
        given = (value for value in _values(table, column) if value is not None)
        first = itertools.islice(given, _PROBED_ROWS)
        if not table.metadata.num_rows or any(find_header(value) >= 0 for value in first):
            return column
    raise NoMidiColumnError(
        f"{name} has no column of MIDI bytes: none of the first {_PROBED_ROWS} values of "
        f"{', '.join(found)} holds the chunk MThd"
    )


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _is_bytes(kind.field(place).type)
    return types.is_binary(kind) or types.is_large_binary(kind)
