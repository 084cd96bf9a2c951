"""Sources of MIDI files: folders, archives, tables, the Hub, Lakh, or music21's own.

    open_source("music.zip", Path("data")).members()

Archives and tables inside a folder are read, too, one level deep.
"""

import itertools
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..midi.midi_file import MIDI_SUFFIXES
from .archives import (
    ARCHIVE_SUFFIXES,
    KINDS,
    Content,
    Member,
    NoMidiColumnError,
    SourceError,
    ends_in,
    is_midi,
    list_members,
    read_file,
    read_members,
)
from .download import HUB_PREFIX, LAKH_FILES, download, fetch_dataset, lakh_url

logger = logging.getLogger(__name__)

BUNDLED = ("music21", "music21_with_essen")
RESERVED = ("latest", *BUNDLED)  # names under data/ that are taken
_NAMED_TABLES = 3  # skipped tables that the warning names


@dataclass(frozen=True)
class Source:
    """A collection of MIDI files.

    Attributes:
        path: A folder, .zip, .tar.gz, .tgz, .tar or .parquet.
        name: Short name: the dataset's folder under data/.
    """

    path: Path
    name: str

    def members(self) -> list[Member]:
        """Returns the MIDI files inside, in the order in which `read` yields them.

        They are sorted by name; those of a .tar and the rows of a table keep their order.

        Raises:
            SourceError: If the source, or an archive in it, cannot be read, or if it contains none.
                A table without MIDI is an error by itself; in a folder it is skipped with a
                warning, since datasets have tables of metadata along with the music.
        """
        members = list(self._folder_members() if self.path.is_dir() else list_members(self.path))
        if not members:
            expected = " ".join(MIDI_SUFFIXES)
            raise SourceError(
                f"{self.path} contains no MIDI file, expected names ending in {expected}"
            )
        return members

    def read(self, members: Iterable[Member]) -> Iterator[tuple[Member, Content]]:
        """Yields the bytes of members, which must be in the order of `members()`.

        A member that cannot be read (damaged, encrypted, too large) yields its `MidiError`: one bad
        file does not end a collection.

        Raises:
            SourceError: If an archive changed since `members()`.
        """
        if not self.path.is_dir():
            yield from read_members(self.path, members)
            return
        for archive, group in itertools.groupby(members, key=lambda member: member.archive):
            if archive:
                yield from read_members(self._inside(archive), group)
                continue
            for member in group:
                path = self._inside(member.name)
                yield member, read_file(partial(_open_regular, path))

    def _inside(self, name: str) -> Path:
        return self.path / os.fsdecode(name.encode("utf-8", "surrogateescape"))

    def _folder_members(self) -> Iterator[Member]:
        without_midi = []
        for name in sorted(self._walk()):
            path = self._inside(name)
            if is_midi(name):
                yield Member(name, _stamp(path))
                continue
            try:
                for member in list_members(path):
                    yield replace(member, name=f"{name}/{member.name}", archive=name)
            except NoMidiColumnError:
                without_midi.append(name)
        if without_midi:
            names = ", ".join(without_midi[:_NAMED_TABLES])
            more = len(without_midi) - _NAMED_TABLES
            tail = f" and {more:,} more" if more > 0 else ""
            logger.warning("%s: skipped tables without MIDI: %s%s", self.path, names, tail)

    def _walk(self) -> Iterator[str]:
        """Yields names of MIDI files, archives and tables, as UTF-8 regardless of the locale."""

        def refuse(error: OSError) -> None:
            raise SourceError(f"{self.path} cannot be read: {error}")

        top = os.fsencode(self.path)
        for folder, _, files in os.walk(top, onerror=refuse):
            for file in files:
                name = os.path.relpath(os.path.join(folder, file), top)
                text = name.replace(os.fsencode(os.sep), b"/").decode("utf-8", "surrogateescape")
                if is_midi(text) or ends_in(text, ARCHIVE_SUFFIXES):
                    yield text


def _stamp(path: Path) -> str:
    try:
        state = path.stat()
    except OSError:  # a broken link becomes a row when it is read
        return "unreadable"
    return f"{state.st_size}-{state.st_mtime_ns}"


def _open_regular(path: Path) -> object:
    if path.exists() and not path.is_file():  # reading a pipe would never end
        raise OSError("a pipe or device, expected a file")
    return path.open("rb")


def open_source(source: str, data_root: Path, name: str | None = None) -> Source:
    """Opens a source by path, or a collection by name; a missing collection is downloaded.

    Args:
        source: A path, one of `BUNDLED`, one of `download.LAKH_FILES`, or a dataset on the Hub:
            `hf://datasets/<user>/<name>[@<revision>][/<path inside>]`.
        data_root: The folder `data/`, where downloaded collections are kept.
        name: The dataset's name; by default that of the file, folder or dataset.

    Raises:
        SourceError: If there is no such source.
        DownloadError: If a collection cannot be downloaded.
    """
    if source in BUNDLED:
        from .bundled import collect  # here, because music21 takes a second to import

        return Source(collect(source, data_root), name or source)
    if source.startswith(HUB_PREFIX):
        path, dataset = fetch_dataset(source, data_root / "downloads")
        return Source(path, _free_name(source, name or dataset))
    path = Path(source)
    if source in LAKH_FILES and not path.exists():
        target = data_root / "downloads" / LAKH_FILES[source]
        return Source(download(lakh_url(source), target), name or source)
    if not path.exists():
        names = ", ".join([*BUNDLED, *LAKH_FILES, f"{HUB_PREFIX}datasets/<user>/<name>"])
        raise SourceError(f"{source} does not exist; expected a {KINDS}, or one of {names}")
    stem = name or path.resolve().name
    for suffix in ARCHIVE_SUFFIXES[::-1]:
        stem = stem.removesuffix(suffix)
    return Source(path, _free_name(source, stem) or "midi")


def _free_name(source: str, name: str) -> str:
    if name in RESERVED:
        raise SourceError(
            f"{source} would become the dataset {name!r}, a reserved name; rename it, or give "
            'another name: make data ... ARGS="--dataset <name>"'
        )
    return name
