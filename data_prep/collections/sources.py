"""Sources of music: folders, archives, single files, the Hub, Lakh, OpenScore, or music21's own.

    open_source("music.zip", Path("data")).members()

What is taken is listed in importers/kinds.py; contents.py says what is looked into.
"""

import itertools
import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

from ..importers.kinds import COMPRESSED_SUFFIXES, SUFFIXES, kind_of
from .archives import is_tar
from .contents import (
    ARCHIVE_SUFFIXES,
    EMPTY_ARCHIVE,
    LEAST_ARCHIVE_BYTES,
    Expansion,
    found_in,
    found_in_archive,
    is_archive,
    is_plain,
)
from .download import HUB_PREFIX, LAKH_FILES, download, fetch_dataset, lakh_url
from .folders import files_below
from .members import (
    READ_ERRORS,
    Content,
    Entry,
    Found,
    Member,
    Node,
    NoMidiColumnError,
    PassedOver,
    SourceError,
    entry_of,
    printable,
    read_node,
)
from .openscore import OPENSCORE, fetch_openscore
from .passed_over import PassedOverFiles, told

BUNDLED = ("music21", "music21_with_essen")
RESERVED = ("latest", *BUNDLED)  # names under data/ that are taken
EXPECTED = "folder, archive (.zip, .tar.gz, .parquet ...) or file of music"


@dataclass(frozen=True)
class Source:
    """A collection of music.

    Attributes:
        path: A folder, an archive, a table or a single file.
        name: Short name: the dataset's folder under data/.
    """

    path: Path
    name: str

    def members(self, passed_over: PassedOverFiles | None = None) -> list[Member]:
        """Returns the music inside, in the order in which `read` yields it.

        Files are sorted by name; those of a .tar, the rows of a table and the tunes of a book keep
        their order.

        Args:
            passed_over: Counts the files that are not taken.

        Raises:
            SourceError: If the source, or an archive in it, cannot be read, or if it contains no
                music. A table without MIDI is an error by itself; in a folder it is passed over,
                since datasets have tables of metadata along with the music.
        """
        members, others = [], passed_over or PassedOverFiles()
        is_folder = self.path.is_dir()
        for name in sorted(files_below(self.path)) if is_folder else [self._file_name()]:
            for found in self._found_at(name):
                if isinstance(found, PassedOver):
                    others.add(found)
                else:
                    members.append(found.member)
        if not members:
            seen = told(others.by_kind())
            raise SourceError(
                f"{self.path} contains no music, expected names ending in {' '.join(SUFFIXES)}"
                + (f"; {seen}" if seen else "")
            )
        return members

    def read(self, members: Iterable[Member]) -> Iterator[tuple[Member, Content]]:
        """Yields the bytes of members, which must be in the order of `members()`.

        A member that cannot be read (damaged, encrypted, too large) yields its `MidiError`: one bad
        file does not end a collection.

        Raises:
            SourceError: If an archive changed since `members()`.
        """
        for archive, group in itertools.groupby(members, key=lambda member: member.archive):
            if archive:
                yield from self._read_inside(archive, group)
                continue
            for member in group:
                yield member, read_node(self._node(member.name), kind_of(member.name).most_bytes)

    def _found_at(self, name: str) -> Iterator[Found]:
        """Yields what is found in a file of the source.

        Raises:
            SourceError: If it is an archive that cannot be read.
        """
        if is_plain(name):
            yield entry_of(self._node(name), None)
            return
        try:
            yield from self._inside(name)
        except SourceError:
            raise
        except READ_ERRORS as error:
            path = self._path(name)
            if path.is_file() and path.stat().st_size < LEAST_ARCHIVE_BYTES:
                yield PassedOver(name, EMPTY_ARCHIVE)
                return
            text = " ".join(str(error).split())
            raise SourceError(
                f"{path} cannot be read: damaged or cut off ({text}); nothing of it "
                "was converted, fetch it again"
            ) from error

    def _read_inside(
        self, archive: str, members: Iterable[Member]
    ) -> Iterator[tuple[Member, Content]]:
        path = self._path(archive)
        try:
            entries = (found for found in self._inside(archive) if isinstance(found, Entry))
            for wanted in members:
                for found in entries:
                    if (found.member.place, found.member.stamp) == (wanted.place, wanted.stamp):
                        yield wanted, found.read()
                        break
                else:
                    raise SourceError(f"{path} changed while it was read; repeat the command")
        except SourceError:
            raise
        except READ_ERRORS as error:
            raise SourceError(f"{path} changed while it was read ({error})") from error

    def _inside(self, name: str) -> Iterator[Found]:
        """Yields what a file of the source contains that is not simply one member."""
        node, place = self._node(name), 0
        for found in self._all_inside(node):
            if isinstance(found, Entry):
                member = replace(found.member, place=place, archive=name)
                found, place = found._replace(member=member), place + 1
            yield found

    def _all_inside(self, node: Node) -> Iterator[Found]:
        path, is_folder = self._path(node.name), self.path.is_dir()
        if not is_archive(node.name) and (is_folder or kind_of(node.name)):
            yield from found_in(node, 0, Expansion(0))
            return
        prefix = f"{node.name}/" if is_folder else ""
        try:
            with node.open() as file:
                if not (is_archive(node.name) or is_tar(file) or zipfile.is_zipfile(file)):
                    raise SourceError(f"{path} is no {EXPECTED}")
                expansion = Expansion(path.stat().st_size)
                yield from found_in_archive(file, node, prefix, 1, expansion)
        except NoMidiColumnError as error:
            if not is_folder:
                raise SourceError(f"{self.path.parent / str(error)}") from None
            yield PassedOver(node.name, ".parquet")

    def _file_name(self) -> str:
        return os.fsencode(self.path.name).decode("utf-8", "surrogateescape")

    def _path(self, name: str) -> Path:
        if not self.path.is_dir():
            return self.path
        return self.path / os.fsdecode(name.encode("utf-8", "surrogateescape"))

    def _node(self, name: str) -> Node:
        path = self._path(name)
        return Node(name, _stamp(path), partial(_open_regular, path))


def _stamp(path: Path) -> str:
    try:
        state = path.stat()
    except OSError:  # a broken link becomes a row when it is read
        return "unreadable"
    return f"{state.st_size}-{state.st_mtime_ns}"


def _open_regular(path: Path) -> IO[bytes]:
    if path.exists() and not path.is_file():  # reading a pipe would never end
        raise OSError("a pipe or device, expected a file")
    return path.open("rb")


def open_source(source: str, data_root: Path, name: str | None = None) -> Source:
    """Opens a source by path, or a collection by name; a missing collection is downloaded.

    Args:
        source: A path, one of `BUNDLED`, of `download.LAKH_FILES` or of `openscore.OPENSCORE`, or a
            dataset on the Hub: `hf://datasets/<user>/<name>[@<revision>][/<path inside>]`.
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
    if source in OPENSCORE and not path.exists():
        return Source(fetch_openscore(source, data_root / "downloads"), name or source)
    if not path.exists():
        names = ", ".join(
            [*BUNDLED, *LAKH_FILES, *OPENSCORE, f"{HUB_PREFIX}datasets/<user>/<name>"]
        )
        raise SourceError(f"{source} does not exist; expected a {EXPECTED}, or one of {names}")
    stem = name or _stem(path.resolve())
    return Source(path, _free_name(source, printable(stem)) or "midi")


def _stem(path: Path) -> str:
    """Returns the name of a file or folder without the suffix of an archive or of music."""
    stem = os.fsencode(path.name).decode("utf-8", "surrogateescape")
    suffixes = [
        *ARCHIVE_SUFFIXES[::-1],
        *((*COMPRESSED_SUFFIXES, *SUFFIXES) if path.is_file() else ()),
    ]
    for suffix in suffixes:
        stem = stem.removesuffix(suffix)
    return stem


def _free_name(source: str, name: str) -> str:
    if name in RESERVED:
        raise SourceError(
            f"{source} would become the dataset {name!r}, a reserved name; rename it, or give "
            'another name: make data ... ARGS="--dataset <name>"'
        )
    return name
