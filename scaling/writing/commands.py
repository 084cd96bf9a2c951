"""Shared by all command lines: errors in one line with exit code 2, and memory in large pages."""

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
TUNABLES, TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"

Main = Callable[[Sequence[str] | None], int | None]


def parser_of(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the module's docstring, unformatted."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def command(
    *errors: type[Exception],
    say: Callable[[BaseException], str] = str,
    interrupted: str | None = None,
) -> Callable[[Main], Main]:
    """Decorator of a `main(arguments) -> exit code`: these errors print one line and return 2.

    A main that returns None succeeded: 0.

    Args:
        *errors: Errors that the user can fix.
        say: Formats an error as one line.
        interrupted: Message on Ctrl-C, which then returns 130; None: the interrupt is raised.
    """

    def decorate(main: Main) -> Main:
        @functools.wraps(main)
        def run(arguments: Sequence[str] | None = None) -> int:
            try:
                return main(arguments) or 0
            except errors as error:
                print(f"error: {say(error)}", file=sys.stderr)
                return 2
            except KeyboardInterrupt:
                if interrupted is None:
                    raise
                print(f"\n{interrupted}", file=sys.stderr)
                return 130

        return run

    return decorate


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def use_huge_pages() -> None:
    """Start this program anew, once, with memory in pages of 2 MiB instead of 4 KiB.

    Many Linux systems give huge pages only to programs that ask for them, and glibc asks only if a
    variable says so when the program starts (`benchmarks/huge_pages.py` measures what is gained).
    A value of the user's own takes precedence; without Linux or glibc nothing happens.
    """
    own = os.environ.get(TUNABLES, "")
    # a program run inside another's process has another's command line
    is_own_process = sys.orig_argv[len(sys.orig_argv) - len(sys.argv) + 1 :] == sys.argv[1:]
    if TUNABLE in own or not is_own_process or not _are_huge_pages_on_request():
        return
    wanted = ":".join(filter(None, (own, f"{TUNABLE}=1")))
    sys.stdout.flush()
    command_line = [sys.executable, *sys.orig_argv[1:]]
    os.execve(sys.executable, command_line, {**os.environ, TUNABLES: wanted})


def _are_huge_pages_on_request() -> bool:
    with suppress(OSError):
        return "[madvise]" in HUGE_PAGES.read_text()
    return False
