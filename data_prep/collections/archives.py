"""MIDI files inside one .zip, .tar (plain or compressed) or parquet table, read in place.

Nothing is unpacked to disk, and member metadata is not trusted: names that lead out of the archive,
links, devices and oversized members are rejected, one row each. A truncated or damaged archive is
rejected before any of it is converted: otherwise half a collection would pass for the whole.
"""

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

from ..midi.limits import LIMITS, MidiError
from ..midi.midi_file import MIDI_SUFFIXES, find_header
from ..storage.drop_reasons import DropReason

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
ARCHIVE_SUFFIXES = (".zip", *TAR_SUFFIXES, ".parquet")  # a table has one file per row
KINDS = "folder, .zip, .tar.gz or .parquet"
_READ_ERRORS = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, RuntimeError, ValueError),
)

_LEAVES_ARCHIVE = re.compile(r"[/\\]|[A-Za-z]:|(.*[/\\])?\.\.([/\\]|$)", re.DOTALL)
_OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_PROBED_ROWS = 64  # values of a column of bytes that are checked for MIDI
_ENCRYPTED = 1  # flag of a zip member
# With bzip2 and LZMA, which are rare in .zip, zipfile may expand a hundred bytes to many megabytes.
_BOUNDED_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class SourceError(ValueError):
    """A source that cannot be read, or contains no MIDI file."""


class NoMidiColumnError(SourceError):
    """A readable table without a column of MIDI."""


@dataclass(frozen=True, slots=True)
class Member:
    """One MIDI file of a source.

    Attributes:
        name: Path inside the source; bytes that are not UTF-8 are surrogates.
        stamp: Changes if the file does: size and checksum in a zip; elsewhere size and time, those
            of the archive if there is one.
        place: Position in its archive, since a name may occur in it twice.
        archive: Path of its archive inside a folder, else "".
    """

    name: str
    stamp: str
    place: int = 0
    archive: str = ""


Content = bytes | MidiError  # a member's bytes, or the reason why they cannot be read
Entry = tuple[Member, Callable[[], Content]]
"""A member, and a function that reads it, to be called before the next entry is requested."""


def is_midi(name: str) -> bool:
    """Whether a path is that of a MIDI file."""
    return ends_in(name, MIDI_SUFFIXES)


def ends_in(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a path has one of the suffixes, in any case, and is not a macOS resource fork."""
    hidden = name.rsplit("/", 1)[-1].startswith("._")  # resource forks that macOS adds
    return name.lower().endswith(suffixes) and not hidden


def read_file(open_file: Callable[[], IO[bytes]]) -> Content:
    """Reads a file or member, but never much more than `Limits.bytes` of it."""
    try:
        with open_file() as file:
            content = file.read(LIMITS.bytes + 1)
    except _READ_ERRORS as error:
        # Without the path in an OSError: rows must not depend on where the collection is.
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return _unreadable(text or type(error).__name__)
    return content if len(content) <= LIMITS.bytes else _too_large(None)


def _unreadable(message: str) -> MidiError:
    return MidiError(DropReason.UNREADABLE_MEMBER, message)


def _too_large(size: int | None) -> MidiError:
    found = f"more than {LIMITS.bytes:,} bytes" if size is None else f"{size:,} bytes"
    return MidiError(DropReason.TOO_MANY_BYTES, f"{found}, limit {LIMITS.bytes:,}")


# ---------------------------------------------------------------- reading


def list_members(path: Path) -> Iterator[Member]:
    """Yields the MIDI files of an archive, which must be readable as a whole.

    Raises:
        SourceError: If it is not readable, or not an archive.
    """
    try:
        for member, _ in _entries(path):
            yield member
    except SourceError:
        raise
    except _READ_ERRORS as error:
        text = " ".join(str(error).split())
        raise SourceError(
            f"{path} cannot be read: damaged or cut off ({text}); nothing of it was converted, "
            "fetch it again"
        ) from error


def read_members(path: Path, members: Iterable[Member]) -> Iterator[tuple[Member, Content]]:
    """Yields the content of members, which must be in the order of `list_members`.

    Raises:
        SourceError: If the archive changed since then.
    """
    try:
        entries = _entries(path)
        for wanted in members:
            for found, read in entries:
                if (found.place, found.stamp) == (wanted.place, wanted.stamp):
                    yield wanted, read()
                    break
            else:
                raise SourceError(f"{path} changed while it was read; repeat the command")
    except SourceError:
        raise
    except _READ_ERRORS as error:
        raise SourceError(f"{path} changed while it was read ({error})") from error


def _entries(path: Path) -> Iterator[Entry]:
    name = path.name.lower()
    if name.endswith(".parquet"):
        return _parquet_entries(path)
    # Suffixes first: a .tar whose last member is a .zip looks like both.
    if name.endswith(TAR_SUFFIXES):
        return _tar_entries(path)
    if name.endswith(".zip") or zipfile.is_zipfile(path):
        return _zip_entries(path)
    if _is_tar(path):
        return _tar_entries(path)
    raise SourceError(f"{path} is no {KINDS}")


# ---------------------------------------------------------------- .zip


def _zip_entries(path: Path) -> Iterator[Entry]:
    """Yields the MIDI files of a .zip, sorted by name."""
    with zipfile.ZipFile(path) as archive:
        numbered = enumerate(archive.infolist())
        for place, info in sorted(numbered, key=lambda each: (each[1].filename, each[0])):
            if is_midi(info.filename):
                member = Member(info.filename, f"{info.file_size}-{info.CRC:08x}", place)
                yield member, partial(_read_zipped, archive, info)


def _read_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Content:
    if _LEAVES_ARCHIVE.match(info.orig_filename):
        return _unreadable("its name leads out of the archive")
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        return _unreadable("a link or device, expected a file")
    if info.flag_bits & _ENCRYPTED:
        return _unreadable("encrypted")
    if info.compress_type not in _BOUNDED_METHODS:
        return _unreadable(f"compressed by method {info.compress_type}, expected deflate")
    if info.file_size > LIMITS.bytes:
        return _too_large(info.file_size)
    return read_file(partial(archive.open, info))


# ---------------------------------------------------------------- .tar


def _tar_entries(path: Path) -> Iterator[Entry]:
    """Yields the MIDI files of a .tar in stored order: compressed, it only reads forward."""
    # Times inside may all be the same: reproducible archives have none.
    state = path.stat()
    with _open_plain(path) as plain:
        bounded = _BoundedReads(plain)
        with tarfile.open(
            fileobj=bounded, mode="r:", encoding="utf-8", errors="surrogateescape"
        ) as archive:
            place = 0
            while info := archive.next():
                if is_midi(info.name) and not info.isdir():
                    stamp = f"{state.st_size}-{state.st_mtime_ns}-{info.size}"
                    yield Member(info.name, stamp, place), partial(_read_tarred, archive, info)
                place += 1
                archive.members.clear()  # else they accumulate, a kilobyte each
            if bounded.last.strip(b"\0"):
                raise tarfile.ReadError(f"damaged or cut off after {place:,} members")


def _read_tarred(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Content:
    if _LEAVES_ARCHIVE.match(info.name):
        return _unreadable("its name leads out of the archive")
    if not info.isfile():
        return _unreadable("a link or device, expected a file")
    if info.size > LIMITS.bytes:
        return _too_large(info.size)
    return read_file(partial(archive.extractfile, info))


def _is_tar(path: Path) -> bool:
    """Whether a file starts like a .tar; `tarfile.is_tarfile` would read any header."""
    try:
        with _open_plain(path) as plain:
            return plain.read(512)[257:262] == b"ustar"
    except _READ_ERRORS:
        return False


def _open_plain(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        magic = file.read(8)
    opener = next((o for start, o in _OPENERS.items() if magic.startswith(start)), open)
    return opener(path, "rb")


class _BoundedReads:
    """A file wrapper that limits the size of a read: tarfile reads long headers as a whole.

    Attributes:
        last: The bytes read last: when tarfile stops, the block that made it stop.
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


# ---------------------------------------------------------------- tables


def _parquet_entries(path: Path) -> Iterator[Entry]:
    """Yields the MIDI files of a parquet table, as on the Hub: one per row, numbered."""
    from pyarrow import parquet

    state = path.stat()
    with parquet.ParquetFile(path) as table:
        values = enumerate(_values(table, _midi_column(path, table)))
        for row in range(table.metadata.num_rows):
            member = Member(f"{row:08d}", f"{state.st_size}-{state.st_mtime_ns}", row)
            yield member, partial(_read_row, values, row)


def _read_row(values: Iterator[tuple[int, bytes | None]], row: int) -> Content:
    value = next(value for place, value in values if place == row)
    if value is None:
        return _unreadable("the row holds no bytes")
    return _too_large(len(value)) if len(value) > LIMITS.bytes else value


def _values(table: Any, column: str) -> Iterator[bytes | None]:
    for batch in table.iter_batches(batch_size=16, columns=[column]):
        for value in batch.column(0):
            content = value.as_py()
            yield content.get("bytes") if isinstance(content, dict) else content


def _midi_column(path: Path, table: Any) -> str:
    """Returns the column that contains the files: bytes, or a struct with the field `bytes`.

    Raises:
        NoMidiColumnError: If none contains MIDI: images and audio are bytes, too.
    """
    schema = table.schema_arrow
    found = [field.name for field in schema if _is_bytes(field.type)]
    found.sort(key=lambda name: name not in ("music", "midi", "bytes"))
    if not found:
        raise NoMidiColumnError(f"{path} has no column of bytes; columns: {schema.names}")
    for name in found:
        given = (value for value in _values(table, name) if value is not None)
        first = itertools.islice(given, _PROBED_ROWS)
        if not table.metadata.num_rows or any(find_header(value) >= 0 for value in first):
            return name
    raise NoMidiColumnError(
        f"{path} has no column of MIDI bytes: none of the first {_PROBED_ROWS} values of "
        f"{', '.join(found)} holds the chunk MThd"
    )


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _is_bytes(kind.field(place).type)
    return types.is_binary(kind) or types.is_large_binary(kind)
