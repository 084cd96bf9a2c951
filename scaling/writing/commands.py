"""What all command lines share: an error that the user can mend is one line, and exit code 2."""

import argparse
import functools
import sys
from collections.abc import Callable, Sequence

Main = Callable[[Sequence[str] | None], int | None]


def parser_of(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the head of the module as it is written there."""
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
    """Decorator of a `main(arguments) -> exit code`, which these errors end with one line and 2.

    A main that returns nothing has done its work: 0.

    Args:
        *errors: Those that the user can mend.
        say: An error in one line.
        interrupted: What is said on Ctrl-C, which then ends it with 130; None: it is raised.
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
    """The first line of what an error says, or the name of its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
