"""What a file contains: itself, the tunes of a book, or the files of an archive.

A damaged archive is refused as a whole, before any of it is converted: otherwise half a collection
would pass for the whole. An archive inside an archive is one member of that: if it is damaged, or
expands to too much, it costs one row.
"""

import io
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import IO

from ..importers.kinds import (
    ABC,
    COMPRESSED_SUFFIXES,
    SHARED_SUFFIXES,
    START_BYTES,
    SUFFIXES,
    Kind,
    kind_of,
    suffix_of,
)
from .archives import TAR_SUFFIXES, ZIP_SUFFIXES, is_tar, open_plain, tar_nodes, zip_nodes
from .books import book_entries
from .members import (
    READ_ERRORS,
    Found,
    Node,
    NoMidiColumnError,
    PassedOver,
    SourceError,
    entry_of,
    read_node,
    unreadable_by,
)
from .tables import TABLE_SUFFIXES, table_entries

ARCHIVE_SUFFIXES = (*ZIP_SUFFIXES, *TAR_SUFFIXES, *TABLE_SUFFIXES)
TAKEN_SUFFIXES = (
    *ARCHIVE_SUFFIXES,
    *SUFFIXES,
    *(suffix + packed for suffix in SUFFIXES for packed in COMPRESSED_SUFFIXES),
)
MOST_ARCHIVES = 2  # around a file
# What archives inside an archive, and compressed files inside it, may expand to, all together: so
# many times the size of the outermost archive, and in any case so many bytes.
_MOST_EXPANSION = 500
_FREE_EXPANSION_BYTES = 100_000_000
_SPOOL_BYTES = 32_000_000  # above it, an archive inside an archive is kept in a temporary file
_STEP_BYTES = 1 << 20
_PLAIN_SUFFIX = re.compile(r"\.[\w+-]{1,10}")
RESOURCE_FORK, NO_SUFFIX = "resource fork of macOS", "no suffix"
TOO_DEEP, EMPTY_ARCHIVE = "third archive", "empty archive"
LEAST_ARCHIVE_BYTES = 64  # a damaged file below this size was no archive with a file in it


class Expansion:
    """How many bytes may still be expanded below an archive."""

    def __init__(self, archive_bytes: int) -> None:
        self.left = max(_FREE_EXPANSION_BYTES, _MOST_EXPANSION * archive_bytes)

    def spend(self, n_bytes: int) -> None:
        """Counts bytes; raises `SourceError` if they are too many."""
        self.left -= n_bytes
        if self.left < 0:
            raise SourceError(
                f"the archive around it would expand to more than {_MOST_EXPANSION} times its size"
            )


def is_archive(name: str) -> bool:
    """Whether a path is that of an archive or a table, in any case."""
    return name.lower().endswith(ARCHIVE_SUFFIXES) and not _is_resource_fork(name)


def is_plain(name: str) -> bool:
    """Whether a file is exactly one member, which its name alone tells."""
    is_one = kind_of(name) not in (None, ABC) and suffix_of(name) not in SHARED_SUFFIXES
    return is_one and not name.lower().endswith(COMPRESSED_SUFFIXES)


def found_in_archive(
    file: IO[bytes], node: Node, prefix: str, depth: int, expansion: Expansion
) -> Iterator[Found]:
    """Yields what an archive or table contains.

    Args:
        file: The archive, from its start.
        node: The same; its name tells what kind of archive it is.
        prefix: Of the names inside.
        depth: The number of archives around its files: it, and those around it.
        expansion: How much may be expanded below the outermost of them.

    Raises:
        SourceError: If it has no music where it must have some, or expands to too much.
        One of READ_ERRORS: If it is damaged.
    """
    name = node.name.lower()
    if name.endswith(TABLE_SUFFIXES):
        yield from table_entries(file, node.name, prefix, node.stamp)
        return
    # Suffixes first: a .tar whose last member is a .zip looks like both.
    if name.endswith(TAR_SUFFIXES) or (not name.endswith(ZIP_SUFFIXES) and is_tar(file)):
        nodes = tar_nodes(file, prefix, node.stamp)
    else:
        nodes = zip_nodes(file, prefix)
    for inner in nodes:
        if depth > 1:
            expansion.spend(inner.size)
        yield from found_in(inner, depth, expansion)


def found_in(node: Node, depth: int, expansion: Expansion) -> Iterator[Found]:
    """Yields what a file contains; an archive must be inside another one.

    Args:
        node: The file.
        depth: The number of archives around it.
        expansion: How much may be expanded below the outermost of them.
    """
    if is_archive(node.name):
        yield from _found_in_inner_archive(node, depth, expansion)
    elif kind := kind_of(node.name):
        yield from _music_in(_unpacked(node, kind, depth, expansion), kind)
    else:
        yield PassedOver(node.name, _label(node.name))


def _music_in(node: Node, kind: Kind) -> Iterator[Found]:
    says_it = SHARED_SUFFIXES.get(suffix_of(node.name))
    if kind is ABC:
        yield from book_entries(node)
    elif says_it and not node.error and not says_it(_start(node)):
        yield PassedOver(node.name, _label(node.name))
    else:
        yield entry_of(node, partial(read_node, node, kind.most_bytes))


def _start(node: Node) -> bytes:
    try:
        with node.open() as file:
            return file.read(START_BYTES)
    except READ_ERRORS:  # it cannot be told from other files of this suffix
        return b""


def _unpacked(node: Node, kind: Kind, depth: int, expansion: Expansion) -> Node:
    """Returns the file inside a compressed file; any other as it is."""
    if not node.name.lower().endswith(COMPRESSED_SUFFIXES) or node.error:
        return node
    plain = replace(node, open=lambda: open_plain(node.open()), size=None)
    if not depth:
        return plain
    # An archive may be made of compressed files that each expand a thousand times.
    try:
        expansion.spend(0)
        content = read_node(plain, kind.most_bytes)
        is_read = isinstance(content, bytes)
        expansion.spend(len(content) if is_read else kind.most_bytes)
    except SourceError as error:
        return replace(node, error=unreadable_by(error))
    return replace(plain, open=lambda: io.BytesIO(content), error=None if is_read else content)


def _found_in_inner_archive(node: Node, depth: int, expansion: Expansion) -> Iterator[Found]:
    if depth >= MOST_ARCHIVES:
        yield PassedOver(node.name, TOO_DEEP)
        return
    if node.error:
        yield entry_of(node, lambda: node.error)
        return
    try:
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as file:
            _copy(node, file, expansion)
            inside = partial(found_in_archive, file, node, f"{node.name}/", depth + 1, expansion)
            left = expansion.left
            for _ in inside():  # all of it must be readable
                pass
            file.seek(0)
            expansion.left = left
            yield from inside()
    except NoMidiColumnError:
        yield PassedOver(node.name, _label(node.name))
    except (*READ_ERRORS, SourceError) as error:
        reason = unreadable_by(error)
        yield entry_of(node, lambda: reason)


def _copy(node: Node, copy: IO[bytes], expansion: Expansion) -> None:
    """Copies an archive to a file in which one can seek."""
    with node.open() as file:
        while step := file.read(_STEP_BYTES):
            expansion.spend(len(step))
            copy.write(step)
    copy.seek(0)


def _is_resource_fork(name: str) -> bool:
    return name.rpartition("/")[2].startswith("._")


def _label(name: str) -> str:
    """Returns what kind of file is passed over."""
    if _is_resource_fork(name):
        return RESOURCE_FORK
    suffix = "".join(name.lower().rpartition("/")[2].rpartition(".")[1:])
    return suffix if _PLAIN_SUFFIX.fullmatch(suffix) else NO_SUFFIX
