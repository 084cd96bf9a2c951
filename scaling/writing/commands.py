"""Shared by all command lines: an error the user can fix prints one line and exits with code 2."""

import argparse
import functools
import sys
from collections.abc import Callable, Sequence

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
