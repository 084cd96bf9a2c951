"""Numbers and lengths in ABC text, with bounds.

Times are exact fractions. Bounded divisors keep these short, whatever a text says.
"""

import re
from fractions import Fraction

from ...dialect.notation import AbcError
from ..report import Place

MAX_NUMBER = 9_999_999
MAX_DIVISOR = 99  # of lengths, tuplets and ratios
MAX_POWER_OF_TWO = 4096
LENGTH = re.compile(r"(?P<number>[0-9]*)(?P<slashes>/*)(?P<below>[0-9]*)")


def read_number(digits: str, place: Place) -> int:
    """Returns a number of a few digits; raises `AbcError` above `MAX_NUMBER`."""
    if len(digits) > 50 or int(digits) > MAX_NUMBER:
        raise AbcError(f"number {digits[:12]}..., expected at most {MAX_NUMBER:,}", *place)
    return int(digits)


def read_length(match: re.Match[str], place: Place) -> Fraction:
    """Returns a length such as `3`, `3/2`, `/` or `//`, in units.

    Args:
        match: Of `LENGTH`; no digits, or 0, mean 1 above and 2 below the stroke.
        place: Of the length.
    """
    above = read_number(match["number"], place) if match["number"] else 0
    strokes = len(match["slashes"])
    if not strokes:
        return Fraction(above or 1)
    below = read_number(match["below"], place) if match["below"] else 0
    divisor = (below or 2) << min(strokes - 1, 20)
    if divisor > MAX_DIVISOR and (divisor & (divisor - 1) or divisor > MAX_POWER_OF_TWO):
        found = f"length {match[0][:20]!r} divides by {divisor:,}"
        raise AbcError(f"{found}, expected at most {MAX_DIVISOR}, or a power of two", *place)
    return Fraction(above or 1, divisor)
