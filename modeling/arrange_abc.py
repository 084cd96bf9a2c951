"""A whole tune and a request -> what a model reads and writes: bars filled in, voices added.

Uses only the standard library.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .grammar_abc_plan import Plan
from .notation_abc import header_at
from .plan_abc import Bars, plan_accompaniment, plan_fill, read_bars

_MARKS = 3 + 2  # tokens: the three of the fill-in form, start and end of the sequence
_MARGIN = 1.25  # written bars may be longer than those that they replace


@dataclass(frozen=True)
class Arrangement:
    """What is written into a tune.

    Attributes:
        before: The tune up to what is written.
        after: The tune behind it.
        plan: The bars that are written.
        passage: For bars filled in, what the model reads before it writes: the texts behind the
            three marks of the fill-in form. Empty if it reads `before`.
    """

    before: str
    after: str
    plan: Plan
    passage: tuple[str, ...] = ()


def arrange_fill(
    tune: str, fill: tuple[int, int], n_tokens: Callable[[str], int], most_tokens: int
) -> Arrangement:
    """Plans to write bars of a tune anew.

    Args:
        tune: A whole tune in the layout `bars`.
        fill: Numbers of the first and the last bar, from 1.
        n_tokens: Number of tokens of a text.
        most_tokens: What the model was trained to read at once. As many bars of both sides as fit
            are read, the nearest first.

    Raises:
        ValueError: If the tune cannot be read, or has no such bars.
    """
    bars = read_bars(tune)
    try:
        first, last = fill
        is_pair = type(first) is type(last) is int
    except (TypeError, ValueError):
        is_pair = False
    if not is_pair:
        raise ValueError(f"fill is {fill!r}, expected numbers of a first and a last bar: (5, 8)")
    plan = plan_fill(bars, first, last)
    passage = _passage(bars, first - 1, last, n_tokens, most_tokens)
    before, after = bars.lines[: first - 1], bars.lines[last:]
    return Arrangement(bars.header + "".join(before), "".join(after), plan, passage)


def _passage(
    bars: Bars, start: int, stop: int, n_tokens: Callable[[str], int], most_tokens: int
) -> tuple[str, str, str]:
    """Returns the texts of the fill-in form for bars `start` to `stop`, numbered from 0."""
    lines = bars.lines
    count = f"{stop - start}\n"
    header = header_at(bars.header, "".join(lines[:start]))
    written = _MARGIN * sum(map(n_tokens, lines[start:stop]))
    room = most_tokens - _MARKS - n_tokens(count) - n_tokens(header) - written
    low, high, is_before = start, stop, True
    while low > 0 or high < len(lines):
        # the sides take turns, as long as both have further bars
        is_before = low > 0 and (is_before or high == len(lines))
        room -= n_tokens(lines[low - 1] if is_before else lines[high])
        if room < 0:
            break
        low, high = low - is_before, high + (not is_before)
        is_before = not is_before
    header = header_at(bars.header, "".join(lines[:low]))
    return header + "".join(lines[low:start]), "".join(lines[stop:high]), count


def arrange_accompaniment(tune: str, instruments: list[int | str] | None) -> Arrangement:
    """Plans to write further voices beside those of a tune.

    Args:
        tune: A whole tune in the layout `bars`.
        instruments: Of the further voices: General MIDI programs, their names, or "drums".

    Raises:
        ValueError: If the tune cannot be read, no instrument is named, or one is unknown.
    """
    if not instruments:
        raise ValueError(
            "accompany without instruments, expected those of the voices to write: "
            'instruments=["Acoustic Bass", "drums"]'
        )
    header, plan = plan_accompaniment(read_bars(tune), instruments)
    return Arrangement(header, "", plan)
