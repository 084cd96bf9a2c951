"""Errors in one line: for the command line as `explain` has them, for rows as `first_line` does."""

import errno
import functools
import sys
from collections.abc import Callable, Sequence

Main = Callable[[Sequence[str] | None], int]


def command(*errors: type[Exception]) -> Callable[[Main], Main]:
    """Decorator of a `main(arguments) -> exit code`, which these errors end with one line and 2."""

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
    """Returns an error in one line; a full disk with what to do, also when a library wrapped it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return (
                f"no space left on the disk ({cause}); what was finished is kept: make room and "
                "repeat the command"
            )
        cause = cause.__cause__
    return first_line(error)


def first_line(error: BaseException) -> str:
    """Returns the first line of what an error says, or the name of its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
