"""Errors in one line, for the command line and for the rows of what was dropped."""

from __future__ import annotations

import errno


def explain(error: BaseException) -> str:
    """Returns an error in one line; a full disk with what to do, also when a library wrapped it.

    One that says nothing is named by its class.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return (
                f"no space left on the disk ({cause}); what was finished is kept: make room and "
                "repeat the command"
            )
        cause = cause.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]
