"""Starts child processes so that no signal is lost on the way, and none of them is left alone."""

import ctypes
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

PR_SET_PDEATHSIG = 1  # prctl(2)
STOPPING = (signal.SIGINT, signal.SIGTERM)


def start_child(command: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
    """`subprocess.Popen` in a session of its own, ended by SIGTERM if this process is killed.

    Ctrl-C reaches this process alone, which passes it on once. Call it within `signals_held`,
    together with what notes down the child.

    Args:
        command: Program and arguments.
        options: Of Popen.
    """
    return subprocess.Popen(command, start_new_session=True, preexec_fn=_be_a_child, **options)


@contextmanager
def signals_held() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block is over.

    Between fork and return, Python runs hooks in which an exception is printed and dropped: a
    signal would be lost there. One just after would end the program before the child is known.
    They are noted down, not blocked: a blocked one comes to another thread of a library, and to
    Python at any time.
    """
    came: list[int] = []
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, which ends a job of a cluster, do what Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def last_line(output: str) -> str:
    """The last line that is not empty, where a program says why it ended; "" without one."""
    return next((line.strip() for line in reversed(output.split("\n")) if line.strip()), "")


def _be_a_child() -> None:
    """In the child, before its program starts; the prctl is Linux: elsewhere it goes on alone."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)  # drops what was meant for the parent
        signal.signal(number, signal.SIG_DFL)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
