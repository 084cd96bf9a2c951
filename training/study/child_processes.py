"""Start child processes without losing signals or leaving orphans."""

import ctypes
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

PR_SET_PDEATHSIG = 1  # prctl(2)
STOPPING = (signal.SIGINT, signal.SIGTERM)


def start_child(command: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
    """`subprocess.Popen` in its own POSIX session, ended by SIGTERM if this process is killed.

    Ctrl-C reaches only this process, which passes it on once. Call it within `signals_held`,
    together with the code that records the child.

    Args:
        command: Program and arguments.
        options: Options of Popen.
    """
    return subprocess.Popen(command, start_new_session=True, preexec_fn=_be_a_child, **options)


@contextmanager
def signals_held() -> Iterator[None]:
    """Defer Ctrl-C and SIGTERM until the block is over.

    Between fork and return, Python runs hooks in which an exception is printed and dropped: a
    signal would be lost there. One just after would end the program before the child is recorded.
    Signals are recorded, not blocked: a blocked one is delivered to another thread of a library,
    and to Python at any time.
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
    """Let SIGTERM, which ends a cluster job, do what Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def last_line(output: str) -> str:
    """The last non-empty line, where a program gives the reason it ended; "" if there is none."""
    return next((line.strip() for line in reversed(output.split("\n")) if line.strip()), "")


def _be_a_child() -> None:
    """In the child, before its program starts; prctl is Linux only: elsewhere it is orphaned."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)  # drops signals meant for the parent
        signal.signal(number, signal.SIG_DFL)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
