"""What is found in a collection: files of music, each a `Member` that is read when it is needed."""

import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, NamedTuple

from ..midi.limits import MidiError
from ..storage.drop_reasons import DropReason

READ_ERRORS = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, RuntimeError, ValueError),
)


class SourceError(ValueError):
    """A source that cannot be read, or contains no music."""


class NoMidiColumnError(SourceError):
    """A readable table without a column of MIDI."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of music, or one tune of a book.

    Attributes:
        name: Path inside the source; bytes that are not UTF-8 are surrogates.
        stamp: Changes if the file does: size and checksum in a zip; elsewhere size and time, those
            of the archive if there is one.
        place: Position among what is found in its archive or book, since a name may occur twice.
        archive: Path of the outermost archive, book or compressed file that contains it, else "".
    """

    name: str
    stamp: str
    place: int = 0
    archive: str = ""


Content = bytes | MidiError  # a member's bytes, or the reason why they cannot be read


class Entry(NamedTuple):
    """A member, and a function that reads it, to be called before the next one is requested."""

    member: Member
    read: Callable[[], Content]


class PassedOver(NamedTuple):
    """A file that is not taken.

    Attributes:
        name: Path inside the source.
        kind: What is told of it: its suffix, or what else is wrong with it.
    """

    name: str
    kind: str


Found = Entry | PassedOver


@dataclass(frozen=True)
class Node:
    """A file before its content is known.

    Attributes:
        name: Path inside the source.
        stamp: As of `Member`.
        open: Opens it for reading.
        size: Bytes that it says it has; None if it says nothing.
        error: Why it cannot be read, if that is known.
    """

    name: str
    stamp: str
    open: Callable[[], IO[bytes]]
    size: int | None = None
    error: MidiError | None = None


def entry_of(node: Node, read: Callable[[], Content]) -> Entry:
    """Returns the entry of a node that is one member."""
    return Entry(Member(node.name, node.stamp), read)


def read_node(node: Node, most_bytes: int) -> Content:
    """Reads a file, but never much more than `most_bytes` of it."""
    if node.error:
        return node.error
    if node.size is not None and node.size > most_bytes:
        return too_large(node.size, most_bytes)
    try:
        with node.open() as file:
            content = file.read(most_bytes + 1)
    except READ_ERRORS as error:
        return unreadable_by(error)
    return content if len(content) <= most_bytes else too_large(None, most_bytes)


def unreadable(message: str) -> MidiError:
    """Returns the reason of a member that cannot be read."""
    return MidiError(DropReason.UNREADABLE_MEMBER, message)


def unreadable_by(error: Exception) -> MidiError:
    """Returns the reason of a member that could not be read.

    Without the path in an OSError: rows must not depend on where the collection is.
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return unreadable(text or type(error).__name__)


def too_large(size: int | None, most_bytes: int) -> MidiError:
    """Returns the reason of a member that is too large; None is an unknown size."""
    found = f"more than {most_bytes:,} bytes" if size is None else f"{size:,} bytes"
    return MidiError(DropReason.TOO_MANY_BYTES, f"{found}, limit {most_bytes:,}")


def printable(name: str) -> str:
    """Returns a file's name as text; bytes that are not UTF-8 are replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
