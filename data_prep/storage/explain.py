"""Errors in one line: for the command line as `explain` has them, for rows as `first_line` does."""

from __future__ import annotations

import errno


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
