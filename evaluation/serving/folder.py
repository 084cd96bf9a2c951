"""The folder in which clients may read files, and to which they may add some."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


class Folder:
    """Reads and adds files below one folder.

    No name leads out of it: `..` and absolute names are refused, and the system follows no link on
    the way, not even one that is put there between check and use. Nothing is ever overwritten.

    Args:
        path: The folder.

    Raises:
        NotADirectoryError: If it is none.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise NotADirectoryError(f"{path} is no folder; expected one that clients may use")
        self.path = path.resolve()

    def read(self, name: str, most_bytes: int) -> bytes:
        """Returns the bytes of a file.

        Args:
            name: Its path below the folder, with `/`.
            most_bytes: Larger files are refused.

        Raises:
            ValueError: If the name leads elsewhere, or the file is none, or too large.
            OSError: If there is no such file, or a link leads to it.
        """
        # Without waiting: a named pipe would block until someone writes to it.
        with self._opened(name, os.O_RDONLY | os.O_NONBLOCK) as file:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{name!r} is no plain file")
            if status.st_size > most_bytes:
                raise ValueError(f"{name!r} has {status.st_size:,} bytes, limit {most_bytes:,}")
            with os.fdopen(file, "rb", closefd=False) as stream:
                return stream.read(most_bytes)

    def add(self, name: str, content: bytes) -> None:
        """Writes a new file.

        Raises:
            ValueError: If the name leads elsewhere.
            OSError: If it is taken, or cannot be written.
        """
        with (
            self._opened(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file,
            os.fdopen(file, "wb", closefd=False) as stream,
        ):
            stream.write(content)

    def has(self, name: str) -> bool:
        """Whether a file or folder of this name exists.

        Raises:
            ValueError: If the name leads elsewhere.
            OSError: If the folder in which it would be is missing, or a link leads to it.
        """
        try:
            with self._opened(name, os.O_RDONLY | os.O_NONBLOCK):
                return True
        except FileNotFoundError:
            *above, _ = PurePosixPath(name).parts
            if above:
                with self._opened("/".join(above), os.O_DIRECTORY):
                    pass
            return False

    @contextlib.contextmanager
    def _opened(self, name: str, flags: int) -> Iterator[int]:
        """Opens a file folder by folder, so that a link is an error at each step."""
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or parts[0].startswith("/") or "\0" in name:
            raise ValueError(f"{name!r} leads out of the folder; expected a path below it")
        with contextlib.ExitStack() as opened:
            place = None
            folders = [(part, os.O_DIRECTORY) for part in (str(self.path), *parts[:-1])]
            for part, how in (*folders, (parts[-1], flags)):
                try:
                    place = os.open(part, how | os.O_NOFOLLOW, 0o644, dir_fd=place)
                except OSError as error:
                    raise type(error)(f"{name!r}: {_explain(error)}") from error
                opened.callback(os.close, place)
            yield place


def _explain(error: OSError) -> str:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "the way leads through a link or a file; links are not followed"
    if error.errno == errno.EEXIST:
        return "exists already; choose another name"
    return error.strerror.lower()
