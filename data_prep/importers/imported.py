"""What the reader of a kind of files returns."""

from typing import NamedTuple

from ..dialect.tune import Tune


class Imported(NamedTuple):
    """A file as a tune.

    Attributes:
        tune: The tune.
        n_left_out: Notes that the tune leaves out: doubled ones, and those without a known sound.
        message: What was read otherwise than it is written; None if nothing was.
    """

    tune: Tune
    n_left_out: int = 0
    message: str | None = None
