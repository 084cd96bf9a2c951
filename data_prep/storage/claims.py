"""Claims: small files by which processes, on one machine or several, agree on who makes what.

A claim lies beside what is being made. Whether its holder still lives is decided

- on the holder's machine by a lock of the kernel, which ends with the process however it ends;
- on any other machine by the age of the file: its holder touches it every 10 seconds, and a claim
  that was silent for 60 is taken over. So nothing depends on locks across machines, which a shared
  file system may lack, or keep for a machine that no longer exists.

A process number decides nothing: it is used again, and means nothing on another machine or in
another container. A machine that was cut off from the file system for more than 60 seconds loses
its claims without noticing. What claims protect must stay right even then: shards and stages are
written under names of their own and renamed, and both machines write the same bytes.
"""

import errno
import fcntl
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

BEAT_SECONDS = 10.0
SILENT_SECONDS = 60.0
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


class Claim:
    """A claim that this process holds until it is released, or until the process ends."""

    def __init__(self, path: Path, file: int) -> None:
        """Takes over a new file, open for writing, which it removes in the end."""
        self._path, self._file, self._is_over = path, file, threading.Event()
        try:
            _lock(file, path)
            about = {"machine": _machine(), "host": platform.node(), "process": os.getpid()}
            os.write(file, json.dumps(about).encode())
            os.fsync(file)  # other machines read it, too
        except OSError:
            self._remove()
            raise
        self._beats = threading.Thread(target=self._beat, daemon=True)
        self._beats.start()

    def release(self) -> None:
        """Ends the claim and removes its file."""
        self._is_over.set()
        self._beats.join()
        self._remove()

    def _beat(self) -> None:
        while not self._is_over.wait(BEAT_SECONDS):
            try:
                os.utime(self._file)
            except OSError:  # removed on another machine: there is nothing left to keep alive
                return

    def _remove(self) -> None:
        with suppress(FileNotFoundError):
            if _is_at(self._path, self._file):
                self._path.unlink()
        os.close(self._file)


def take(path: Path) -> Claim | None:
    """Claims what `path` stands for; None if another process has claimed it.

    Raises:
        OSError: If the file cannot be written, or its file system has no locks.
    """
    while True:
        try:
            return Claim(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            if not clear(path):
                return None


def clear(path: Path) -> bool:
    """Removes a claim whose holder has died; returns whether none is left."""
    with suppress(FileNotFoundError), path.open("r+b") as file:  # else it was released meanwhile
        if _about(file.read()).get("machine") == _machine():
            is_dead = _lock(file.fileno(), path)
        else:  # of another machine, or not written yet
            is_dead = _seconds_silent(file.fileno(), path.parent) > SILENT_SECONDS
        if not is_dead:
            return False
        if _is_at(path, file.fileno()):
            path.unlink()
    return True


def holder(path: Path) -> str:
    """Says in words who has claimed something, as far as is known."""
    with suppress(FileNotFoundError):
        about = _about(path.read_bytes())
        if about:
            return f"process {about['process']} on {about['host']}"
    return "another process"


@contextmanager
def lock(folder: Path, patience_seconds: float = 0.0) -> Iterator[None]:
    """Claims a whole folder.

    Args:
        folder: The folder.
        patience_seconds: How long to wait for another process.

    Raises:
        ValueError: If another process keeps it.
    """
    path, deadline = folder / ".claim", time.monotonic() + patience_seconds
    while (claim := take(path)) is None:
        if time.monotonic() >= deadline:
            raise ValueError(f"{folder}: {holder(path)} is writing there; wait for it")
        time.sleep(min(1.0, patience_seconds))
    try:
        yield
    finally:
        claim.release()


@cache
def _machine() -> str:
    """Names the running kernel: within it, containers included, its locks are known to all."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:  # no Linux
        return platform.node()


def _lock(file: int, path: Path) -> bool:
    """Locks a file, if no other process has; returns whether it did.

    Raises:
        OSError: If the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise OSError(
            f"{path.parent}: its file system has no file locks ({error.strerror}); mount it with "
            "locks, or write to another one"
        ) from error
    return True


def _about(content: bytes) -> dict[str, Any]:
    """Returns what a claim says of its holder; nothing while it is being written."""
    try:
        return json.loads(content)
    except ValueError:
        return {}


def _seconds_silent(file: int, folder: Path) -> float:
    """Returns how long a file was not touched, by the clock of its file system."""
    with tempfile.TemporaryFile(dir=folder) as now:
        return os.fstat(now.fileno()).st_mtime - os.fstat(file).st_mtime


def _is_at(path: Path, file: int) -> bool:
    """Whether an open file is still the one at its path, and not one that came after it."""
    return os.path.samestat(os.fstat(file), path.stat())
