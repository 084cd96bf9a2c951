"""Where MIDI files come from: a folder, a .zip or .tar.gz, or the music that music21 ships.

Archives are read in place: nothing is ever unpacked onto the disk.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".rmi")
BUNDLED = ("music21", "music21_with_essen")
# A larger member is no music but a bomb or a mistake: the largest file of Lakh MIDI has 2 MB.
MAX_MEMBER_BYTES = 64 * 2**20


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

    def read(self, members: list[Member]) -> Iterator[tuple[Member, bytes]]:
        """Yields the bytes of members, which stand in the order of `members()`."""
        if self.path.is_dir():
            for member in members:
                with (self.path / member.name).open("rb") as file:
                    yield member, file.read(MAX_MEMBER_BYTES)
        elif zipfile.is_zipfile(self.path):
            with zipfile.ZipFile(self.path) as archive:
                for member in members:
                    with archive.open(member.name) as file:
                        yield member, file.read(MAX_MEMBER_BYTES)
        else:
            wanted = {member.name: member for member in members}
            with tarfile.open(self.path) as archive:
                for info in archive:
                    if info.isfile() and info.name in wanted:
                        file = archive.extractfile(info)
                        yield wanted.pop(info.name), file.read(MAX_MEMBER_BYTES)


def _is_midi(name: str) -> bool:
    hidden = name.rsplit("/", 1)[-1].startswith("._")  # resource forks that macOS packs along
    return name.lower().endswith(MIDI_SUFFIXES) and not hidden


def open_source(source: str, data_root: Path) -> Source:
    """Finds a source by path, or a bundled collection by name.

    Args:
        source: A path, or one of `BUNDLED`.
        data_root: The folder `data/`, where bundled collections are kept once collected.

    Raises:
        SourceError: If there is no such source.
    """
    if source in BUNDLED:
        from .bundled import collect  # here, because music21 takes a second to import

        return Source(collect(source, data_root), source)
    path = Path(source)
    if not path.exists():
        raise SourceError(
            f"{source} does not exist; expected a folder, .zip, .tar.gz, or {' or '.join(BUNDLED)}"
        )
    stem = path.resolve().name
    for suffix in (".zip", ".tar.gz", ".tgz", ".tar"):
        stem = stem.removesuffix(suffix)
    return Source(path, stem or "midi")
