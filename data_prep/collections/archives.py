"""MIDI files inside one .zip, .tar (plain or compressed) or parquet table, read in place.

Nothing is unpacked onto the disk, and what a member says about itself is not believed: names that
lead out of the archive, links, devices and members too large are refused, one row each. An archive
that is cut off or damaged as a whole is refused before anything of it is converted: half of a
collection would pass for the whole.
"""

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from ..midi_to_abc.midi_file import LIMITS, MIDI_SUFFIXES, MidiError, find_header
from ..storage.drop_reasons import DropReason

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
ARCHIVE_SUFFIXES = (".zip", *TAR_SUFFIXES, ".parquet")  # a table holds one file a row
READ_ERRORS = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, RuntimeError, ValueError),
)

_STEP_BYTES = 1 << 20
_LEAVES_ARCHIVE = re.compile(r"[/\\]|[A-Za-z]:|(.*[/\\])?\.\.([/\\]|$)", re.DOTALL)
_OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_PROBED_ROWS = 64  # whether a column of bytes holds MIDI shows in its first values
_ENCRYPTED = 1  # flag of a zip member
# Of bzip2 and LZMA, which hardly any .zip has, zipfile unpacks a hundred bytes to many megabytes.
_BOUNDED_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class SourceError(ValueError):
    """A source that cannot be read, or holds no MIDI file."""


class NoMidiColumnError(SourceError):
    """A table that is readable, and about something else."""


@dataclass(frozen=True, slots=True)
class Member:
    """One MIDI file of a source.

    Attributes:
        name: Path inside the source; bytes that are no UTF-8 are surrogates.
        stamp: Where it is as it was, so is the file: checksum in a zip; elsewhere size and time, of
            the archive if there is one.
        place: Where an archive holds it: names may stand in it twice.
        archive: Path of its archive inside a folder, else "".
    """

    name: str
    stamp: str
    place: int = 0
    archive: str = ""


Content = bytes | MidiError  # of a member: its bytes, or why they cannot be had


def is_midi(name: str) -> bool:
    """Whether a path is one of a MIDI file."""
    hidden = name.rsplit("/", 1)[-1].startswith("._")  # resource forks that macOS packs along
    return name.lower().endswith(MIDI_SUFFIXES) and not hidden


def read_file(open_file: Callable[[], IO[bytes]]) -> Content:
    """Reads a file or member, and never much more than `Limits.bytes` of it."""
    parts, left = [], LIMITS.bytes + 1
    try:
        with open_file() as file:
            while left > 0 and (part := file.read(min(_STEP_BYTES, left))):
                parts.append(part)
                left -= len(part)
    except READ_ERRORS as error:
        return _unreadable(_message(error))
    return b"".join(parts) if left > 0 else _too_large(None)


def _message(error: Exception) -> str:
    # Without the path that an OSError names: rows do not depend on where the collection lies.
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__


def _unreadable(message: str) -> MidiError:
    return MidiError(DropReason.UNREADABLE_MEMBER, message)


def _too_large(size: int | None) -> MidiError:
    found = f"more than {LIMITS.bytes:,} bytes" if size is None else f"{size:,} bytes"
    return MidiError(DropReason.TOO_MANY_BYTES, f"{found}, limit {LIMITS.bytes:,}")


class ZipMembers:
    """The MIDI files of a .zip, sorted by name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def members(self) -> Iterator[Member]:
        """Yields the MIDI files inside."""
        with zipfile.ZipFile(self.path) as archive:
            places = range(len(infos := archive.infolist()))
            for place in sorted(places, key=lambda place: (infos[place].filename, place)):
                info = infos[place]
                if is_midi(info.filename):
                    yield Member(info.filename, f"{info.file_size}-{info.CRC:08x}", place)

    def read(self, members: Iterable[Member]) -> Iterator[Content]:
        """Yields the content of each member."""
        with zipfile.ZipFile(self.path) as archive:
            infos = archive.infolist()
            for member in members:
                info = infos[member.place]
                yield self._refusal(info) or read_file(partial(archive.open, info))

    @staticmethod
    def _refusal(info: zipfile.ZipInfo) -> MidiError | None:
        if _LEAVES_ARCHIVE.match(info.orig_filename):
            return _unreadable("its name leads out of the archive")
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            return _unreadable("a link or device, expected a file")
        if info.flag_bits & _ENCRYPTED:
            return _unreadable("encrypted")
        if info.compress_type not in _BOUNDED_METHODS:
            return _unreadable(f"compressed by method {info.compress_type}, expected deflate")
        return _too_large(info.file_size) if info.file_size > LIMITS.bytes else None


class TarMembers:
    """The MIDI files of a .tar, as they stand in it: compressed, it can only be read forwards."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def members(self) -> Iterator[Member]:
        """Yields the MIDI files inside; compressed, all of it is read for that."""
        for _, member, _ in self._walk():
            yield member

    def read(self, members: Iterable[Member]) -> Iterator[Content]:
        """Yields the content of each member; they stand in the order of `members()`."""
        left = iter(members)
        wanted = next(left, None)
        for archive, member, info in self._walk():
            if wanted is None:
                return
            if (member.place, member.stamp) == (wanted.place, wanted.stamp):
                yield self._refusal(info) or read_file(partial(archive.extractfile, info))
                wanted = next(left, None)
        if wanted is not None:
            raise SourceError(f"{self.path} changed while it was read; repeat the command")

    def _walk(self) -> Iterator[tuple[tarfile.TarFile, Member, tarfile.TarInfo]]:
        # Times inside may all be the same: what is packed to be reproduced has none.
        state = self.path.stat()
        with _open_plain(self.path) as plain:
            bounded = _BoundedReads(plain)
            with tarfile.open(
                fileobj=bounded, mode="r:", encoding="utf-8", errors="surrogateescape"
            ) as archive:
                place = 0
                while info := archive.next():
                    if is_midi(info.name) and not info.isdir():
                        stamp = f"{state.st_size}-{state.st_mtime_ns}-{info.size}"
                        yield archive, Member(info.name, stamp, place), info
                    place += 1
                    archive.members.clear()  # else they pile up, a kilobyte each
                if bounded.last.strip(b"\0"):
                    raise tarfile.ReadError(f"damaged or cut off after {place:,} members")

    @staticmethod
    def _refusal(info: tarfile.TarInfo) -> MidiError | None:
        if _LEAVES_ARCHIVE.match(info.name):
            return _unreadable("its name leads out of the archive")
        if not info.isfile():
            return _unreadable("a link or device, expected a file")
        return _too_large(info.size) if info.size > LIMITS.bytes else None


def is_tar(path: Path) -> bool:
    """Whether a file is a .tar, going by its start; `tarfile.is_tarfile` would read any header."""
    try:
        with _open_plain(path) as plain:
            return plain.read(512)[257:262] == b"ustar"
    except READ_ERRORS:
        return False


def _open_plain(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        magic = file.read(8)
    opener = next((o for start, o in _OPENERS.items() if magic.startswith(start)), open)
    return opener(path, "rb")


class _BoundedReads:
    """A file of which nobody reads much at once: tarfile takes in long headers as a whole.

    Attributes:
        last: What was read last: where tarfile stops, the block that made it stop.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell
        self.last = b""

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LIMITS.bytes + tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        self.last = self._file.read(size)
        return self.last


class ParquetMembers:
    """The MIDI files of a parquet table, as the Hub has them: one in each row."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def members(self) -> Iterator[Member]:
        """Yields one member a row; they are numbered."""
        from pyarrow import parquet

        state = self.path.stat()
        with parquet.ParquetFile(self.path) as table:
            self._column(table)
            for row in range(table.metadata.num_rows):
                yield Member(f"{row:08d}", f"{state.st_size}-{state.st_mtime_ns}", row)

    def read(self, members: Iterable[Member]) -> Iterator[Content]:
        """Yields the content of each member; they stand in the order of `members()`."""
        from pyarrow import parquet

        left = iter(members)
        wanted = next(left, None)
        with parquet.ParquetFile(self.path) as table:
            for place, value in enumerate(self._values(table, self._column(table))):
                if wanted is None:
                    return
                if place == wanted.place:
                    yield self._content(value)
                    wanted = next(left, None)

    @staticmethod
    def _values(table: Any, column: str) -> Iterator[Any]:
        for batch in table.iter_batches(batch_size=16, columns=[column]):
            for value in batch.column(0):
                content = value.as_py()
                yield content.get("bytes") if isinstance(content, dict) else content

    @staticmethod
    def _content(value: bytes | None) -> Content:
        if value is None:
            return _unreadable("the row holds no bytes")
        return _too_large(len(value)) if len(value) > LIMITS.bytes else value

    def _column(self, table: Any) -> str:
        """Returns the column that holds the files: bytes, or a struct with the field `bytes`.

        Raises:
            NoMidiColumnError: If none holds MIDI: images and sound are bytes, too.
        """
        schema = table.schema_arrow
        found = [field.name for field in schema if _is_bytes(field.type)]
        found.sort(key=lambda name: name not in ("music", "midi", "bytes"))
        if not found:
            raise NoMidiColumnError(f"{self.path} has no column of bytes; columns: {schema.names}")
        for name in found:
            if not table.metadata.num_rows or self._holds_midi(table, name):
                return name
        raise NoMidiColumnError(
            f"{self.path} has no column of MIDI bytes: none of the first {_PROBED_ROWS} values of "
            f"{', '.join(found)} holds the chunk MThd"
        )

    def _holds_midi(self, table: Any, column: str) -> bool:
        given = (value for value in self._values(table, column) if value is not None)
        first = itertools.islice(given, _PROBED_ROWS)
        return any(find_header(value) >= 0 for value in first)


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _is_bytes(kind.field(place).type)
    return types.is_binary(kind) or types.is_large_binary(kind)
