"""Processes: daemons that end with this one, and those that belong to a task."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from training.study.child_processes import signals_held, start_child

STOP_SECONDS = 30.0


def start_daemon(
    command: Sequence[str], log: Path, env: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    """Starts a process in the foreground of its own session; it ends if this one is killed."""
    with log.open("ab") as output, signals_held():
        return start_child(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env
        )


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a daemon: SIGTERM, and SIGKILL if that is not enough."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


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
