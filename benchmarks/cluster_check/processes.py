"""Processes: those that this one starts and ends, and those that belong to a task."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from training.study.child_processes import last_line, signals_held, start_child

from .commands import CheckError

STOP_SECONDS = 60.0  # a node of Ray takes up to 30


class Daemon:
    """A process in the foreground of its own session; it ends if this one is killed."""

    def __init__(
        self, command: Sequence[str], log: Path, env: Mapping[str, str], folder: Path | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as output, signals_held():
            options = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
            self.process = start_child(command, env=env, cwd=folder, **options)

    def check_alive(self) -> None:
        """Raises CheckError, with its last words, if it has ended."""
        if self.process.poll() is not None:
            raise CheckError(f"{self.log.stem} ended: {last_line(self._output()) or 'no output'}")

    def has_said(self, text: str) -> bool:
        """Whether a text is in its output; raises like `check_alive`."""
        self.check_alive()
        return text in self._output()

    def _output(self) -> str:
        return self.log.read_text("utf-8", errors="replace")

    def stop(self) -> None:
        """Ends it: SIGTERM, and SIGKILL if that is not enough."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def with_environment(**names: str) -> list[int]:
    """Returns the processes that were started with these environment variables, oldest first."""
    wanted = {f"{name}={value}".encode() for name, value in names.items()}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if wanted <= set((folder / "environ").read_bytes().split(b"\0")):
                found.append(int(folder.name))
    return sorted(found)


def kill(processes: Sequence[int]) -> None:
    """Kills processes by SIGKILL."""
    for number in processes:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def parent_of(number: int) -> int:
    """Returns the parent of a process; 0 if it has ended."""
    with suppress(OSError):
        # after the name in parentheses, which may contain anything: the state, then the parent
        return int(Path(f"/proc/{number}/stat").read_text("utf-8").rpartition(")")[2].split()[1])
    return 0


def command_of(number: int) -> bytes:
    """Returns the command line of a process; nothing if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{number}/cmdline").read_bytes()
    return b""
