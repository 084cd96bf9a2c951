"""Errors in one line: `explain` for the command line, `first_line` for rows."""

import errno
import functools
import sys
from collections.abc import Callable, Sequence

Main = Callable[[Sequence[str] | None], int]


def command(*errors: type[Exception]) -> Callable[[Main], Main]:
    """Decorates a `main(arguments) -> exit code`: these errors print one line and return 2."""

    def decorate(main: Main) -> Main:
        @functools.wraps(main)
        def run(arguments: Sequence[str] | None = None) -> int:
            try:
                return main(arguments)
            except errors as error:
                print(f"error: {explain(error)}", file=sys.stderr)
                return 2
            except KeyboardInterrupt:
                print("\ninterrupted; run the same command to resume", file=sys.stderr)
                return 130

        return run

    return decorate


def explain(error: BaseException) -> str:
    """Returns an error in one line; a full disk with advice, even when a library wrapped it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return (
                f"no space left on the disk ({cause}); finished work is kept: free some space and "
                "repeat the command"
            )
        cause = cause.__cause__
    return first_line(error)


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or the name of its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
