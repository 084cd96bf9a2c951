"""An unfinished tuplet: which lengths its next item may have so that it can still end."""

from typing import NamedTuple

from .grammar_abc_spelling import Lengths, lengths_of
from .notation_abc import TICKS_PER_TUPLET_UNIT

# of `(3:2:n`: numbers of items, their lengths in units, and the allowed totals
UNEQUAL_ITEMS, _ITEM_UNITS, _TUPLET_UNITS = (2, 4, 5, 6), (1, 2, 3, 4), (3, 6)
SHORTEST_TUPLET_TICKS = min(_TUPLET_UNITS) * TICKS_PER_TUPLET_UNIT
EQUAL_UNITS = (1, 2, 4)  # lengths of the items of `(3`, in units


class Tuplet(NamedTuple):
    """An unfinished tuplet.

    Attributes:
        n_left: Items still to come.
        units: Length of each item, 0 before the first; in an unequal tuplet, the sum so far.
        is_unequal: Whether it is written `(3:2:n`.
        has_chords: Whether the items so far are chords.
    """

    n_left: int
    units: int
    is_unequal: bool
    has_chords: bool = False


def unequal_fits(ticks: int, n_left: int, units: int) -> bool:
    """Returns whether an unequal tuplet can end within the bar.

    Args:
        ticks: Ticks to the end of the bar.
        n_left: Items still to come.
        units: Sum of the items written.
    """
    return any(
        n_left * min(_ITEM_UNITS) <= total - units <= n_left * max(_ITEM_UNITS)
        and (total - units) * TICKS_PER_TUPLET_UNIT <= ticks
        for total in _TUPLET_UNITS
    )


def item_lengths(tuplet: Tuplet, ticks: int) -> Lengths:
    """Returns the lengths that the next item may have, given the ticks to the end of the bar."""
    n_left, units, is_unequal, _ = tuplet
    if is_unequal:
        fitting = [
            item
            for item in _ITEM_UNITS
            if unequal_fits(ticks - item * TICKS_PER_TUPLET_UNIT, n_left - 1, units + item)
        ]
    elif units:
        fitting = [units]
    else:
        room = ticks // (3 * TICKS_PER_TUPLET_UNIT)
        fitting = [item for item in EQUAL_UNITS if item <= room]
    return lengths_of(tuple(item * TICKS_PER_TUPLET_UNIT for item in fitting), in_tuplet=True)
