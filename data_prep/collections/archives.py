"""Files inside one .zip or .tar, plain or compressed, read in place.

Member metadata is not trusted: names that lead out of the archive, links, devices and oversized
members are rejected, one by one.
"""

import bz2
import gzip
import lzma
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from functools import partial
from typing import IO

from ..midi.limits import LIMITS, MidiError
from .members import READ_ERRORS, Node, unreadable

ZIP_SUFFIXES = (".zip",)
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")

_LEAVES_ARCHIVE = re.compile(r"[/\\]|[A-Za-z]:|(.*[/\\])?\.\.([/\\]|$)", re.DOTALL)
_OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_ENCRYPTED = 1  # flag of a zip member
# With bzip2 and LZMA, which are rare in .zip, zipfile may expand a hundred bytes to many megabytes.
_BOUNDED_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def open_plain(file: IO[bytes]) -> IO[bytes]:
    """Returns a file that reads the content of a file compressed by gzip, bzip2 or xz, or as is."""
    magic = file.read(8)
    file.seek(0)
    opener = next((o for start, o in _OPENERS.items() if magic.startswith(start)), None)
    return opener(file, "rb") if opener else file


def zip_nodes(file: IO[bytes], prefix: str) -> Iterator[Node]:
    """Yields the files of a .zip, sorted by name."""
    with zipfile.ZipFile(file) as archive:
        numbered = enumerate(archive.infolist())
        for _, info in sorted(numbered, key=lambda each: (each[1].filename, each[0])):
            if not info.is_dir():
                yield Node(
                    name=prefix + info.filename,
                    stamp=f"{info.file_size}-{info.CRC:08x}",
                    open=partial(archive.open, info),
                    size=info.file_size,
                    error=_refused_in_zip(info),
                )


def _refused_in_zip(info: zipfile.ZipInfo) -> MidiError | None:
    if _LEAVES_ARCHIVE.match(info.orig_filename):
        return unreadable("its name leads out of the archive")
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        return unreadable("a link or device, expected a file")
    if info.flag_bits & _ENCRYPTED:
        return unreadable("encrypted")
    if info.compress_type not in _BOUNDED_METHODS:
        return unreadable(f"compressed by method {info.compress_type}, expected deflate")
    return None


def tar_nodes(file: IO[bytes], prefix: str, stamp: str) -> Iterator[Node]:
    """Yields the files of a .tar in stored order: compressed, it only reads forward.

    Args:
        file: The archive.
        prefix: Of the names.
        stamp: That of the archive. Times inside may all be the same: reproducible archives have
            none.
    """
    bounded = _BoundedReads(open_plain(file))
    with tarfile.open(
        fileobj=bounded, mode="r:", encoding="utf-8", errors="surrogateescape"
    ) as archive:
        n_members = 0
        while info := archive.next():
            if not info.isdir():
                yield Node(
                    name=prefix + info.name,
                    stamp=f"{stamp}-{info.size}",
                    open=partial(archive.extractfile, info),
                    size=info.size,
                    error=_refused_in_tar(info),
                )
            n_members += 1
            archive.members.clear()  # else they accumulate, a kilobyte each
        if bounded.last.strip(b"\0"):
            raise tarfile.ReadError(f"damaged or cut off after {n_members:,} members")


def _refused_in_tar(info: tarfile.TarInfo) -> MidiError | None:
    if _LEAVES_ARCHIVE.match(info.name):
        return unreadable("its name leads out of the archive")
    if not info.isfile():
        return unreadable("a link or device, expected a file")
    return None


def is_tar(file: IO[bytes]) -> bool:
    """Whether a file starts like a .tar; `tarfile.is_tarfile` would read any header."""
    file.seek(0)
    try:
        return open_plain(file).read(512)[257:262] == b"ustar"
    except READ_ERRORS:
        return False
    finally:
        file.seek(0)


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
