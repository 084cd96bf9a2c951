"""The files below a folder; links to folders are followed, but no folder is entered twice."""

import os
from collections.abc import Iterator
from pathlib import Path

from .members import SourceError


def files_below(top: Path) -> Iterator[str]:
    """Yields the paths of all files, relative to the folder, as UTF-8 regardless of the locale.

    A folder that is reached both directly and by links is entered directly; one that is only linked
    is entered by the first of its links, links inside linked folders last.

    Raises:
        SourceError: If a folder cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    todo = [os.fsencode(top)]
    while todo:
        links: list[bytes] = []
        start = todo.pop(0)
        if _identity(start, top) not in seen:
            for file in _files_below(start, top, seen, links):
                name = os.path.relpath(file, os.fsencode(top)).replace(os.fsencode(os.sep), b"/")
                yield name.decode("utf-8", "surrogateescape")
        todo += sorted(links)


def _files_below(
    start: bytes, top: Path, seen: set[tuple[int, int]], links: list[bytes]
) -> Iterator[bytes]:
    """Yields the files below a folder; adds its folders to `seen`, linked ones to `links`."""

    def refuse(error: OSError) -> None:
        raise SourceError(f"{top} cannot be read: {error}")

    for folder, folders, files in os.walk(start, onerror=refuse):
        seen.add(_identity(folder, top))
        inner = [os.path.join(folder, name) for name in folders]
        links += [path for path in inner if os.path.islink(path)]
        folders[:] = [
            name
            for name, path in zip(folders, inner, strict=True)
            if not os.path.islink(path) and _identity(path, top) not in seen
        ]
        yield from (os.path.join(folder, name) for name in files)


def _identity(folder: bytes, top: Path) -> tuple[int, int]:
    try:
        state = os.stat(folder)
    except OSError as error:
        raise SourceError(f"{top} cannot be read: {error}") from error
    return state.st_dev, state.st_ino
