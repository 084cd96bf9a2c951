"""Where MIDI files come from: a folder, a .zip or .tar.gz, or the music that music21 ships.

Archives are read in place: nothing is ever unpacked onto the disk.
"""

from __future__ import annotations

import errno
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from .midi_file import LIMITS, MidiError

MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".rmi")
BUNDLED = ("music21", "music21_with_essen")
RESERVED = ("latest", *BUNDLED)  # names under data/ that are taken
_READ_ERRORS = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError)


class SourceError(ValueError):
    """A source that cannot be read, or holds no MIDI file."""


@dataclass(frozen=True)
class Member:
    """One MIDI file of a source.

    Attributes:
        name: Path inside the source.
        stamp: Changes when the file does: checksum in a zip, size and time elsewhere.
    """

    name: str
    stamp: str


@dataclass(frozen=True)
class Source:
    """A collection of MIDI files.

    Attributes:
        path: A folder, .zip, .tar.gz, .tgz or .tar.
        name: Short name: the dataset's folder under data/.
    """

    path: Path
    name: str

    def members(self) -> list[Member]:
        """Returns the MIDI files inside, in the order in which `read` yields them.

        Raises:
            SourceError: If the source cannot be read or holds none.
        """
        try:
            members = list(self._members())
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
            raise SourceError(f"{self.path} cannot be read: {error}") from error
        if not members:
            expected = " ".join(MIDI_SUFFIXES)
            raise SourceError(
                f"{self.path} holds no MIDI file, expected names ending in {expected}"
            )
        return members

    def _members(self) -> Iterator[Member]:
        if self.path.is_dir():
            for path in sorted(self.path.rglob("*")):
                if _is_midi(path.name) and path.is_file():
                    state = path.stat()
                    name = path.relative_to(self.path).as_posix()
                    yield Member(name, f"{state.st_size}-{state.st_mtime_ns}")
        elif zipfile.is_zipfile(self.path):
            with zipfile.ZipFile(self.path) as archive:
                for info in sorted(archive.infolist(), key=lambda info: info.filename):
                    if _is_midi(info.filename):
                        yield Member(info.filename, f"{info.CRC:08x}")
        elif self.path.is_file() and tarfile.is_tarfile(self.path):
            with tarfile.open(self.path) as archive:
                for member in archive:
                    if member.isfile() and _is_midi(member.name):
                        yield Member(member.name, f"{member.size}-{member.mtime}")
        else:
            raise SourceError(f"{self.path} is no folder, .zip or .tar.gz")

    def read(self, members: list[Member]) -> Iterator[tuple[Member, bytes | MidiError]]:
        """Yields the bytes of members, which stand in the order of `members()`.

        A member that cannot be read (damaged, encrypted, too large) yields its `MidiError`: one bad
        file does not end a collection.
        """
        if self.path.is_dir():
            for member in members:
                yield member, _read(partial((self.path / member.name).open, "rb"))
        elif zipfile.is_zipfile(self.path):
            with zipfile.ZipFile(self.path) as archive:
                for member in members:
                    yield member, _read(partial(archive.open, member.name))
        else:
            left = iter(members)
            wanted = next(left, None)
            with tarfile.open(self.path) as archive:
                for info in archive:
                    if wanted and Member(info.name, f"{info.size}-{info.mtime}") == wanted:
                        yield wanted, _read(partial(archive.extractfile, info))
                        wanted = next(left, None)


def _read(open_file: Callable[[], IO[bytes]]) -> bytes | MidiError:
    try:
        with open_file() as file:
            content = file.read(LIMITS.bytes + 1)
    except _READ_ERRORS as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        return MidiError("unreadable_member", str(error) or type(error).__name__)
    if len(content) > LIMITS.bytes:
        return MidiError("too_many_bytes", f"more than {LIMITS.bytes:,} bytes")
    return content


def _is_midi(name: str) -> bool:
    hidden = name.rsplit("/", 1)[-1].startswith("._")  # resource forks that macOS packs along
    return name.lower().endswith(MIDI_SUFFIXES) and not hidden


def open_source(source: str, data_root: Path, name: str | None = None) -> Source:
    """Finds a source by path, or a bundled collection by name.

    Args:
        source: A path, or one of `BUNDLED`.
        data_root: The folder `data/`, where bundled collections are kept once collected.
        name: The dataset's name; by default that of the file or folder.

    Raises:
        SourceError: If there is no such source.
    """
    if source in BUNDLED:
        from .bundled import collect  # here, because music21 takes a second to import

        return Source(collect(source, data_root), name or source)
    path = Path(source)
    if not path.exists():
        raise SourceError(
            f"{source} does not exist; expected a folder, .zip, .tar.gz, or {' or '.join(BUNDLED)}"
        )
    stem = name or path.resolve().name
    for suffix in (".zip", ".tar.gz", ".tgz", ".tar"):
        stem = stem.removesuffix(suffix)
    if stem in RESERVED:
        raise SourceError(
            f"{source} would become the dataset {stem!r}, a name that is taken; rename it, or give "
            'another one: make data ... ARGS="--dataset <name>"'
        )
    return Source(path, stem or "midi")
