"""In which order the measures of a score are played: repeats, endings, D.C., D.S., Coda and Fine.

A score may be a work of several movements, each with repeats and jumps of its own. So a repeat
without a beginning begins after the last repeat, or with its movement; D.C. goes back to the
beginning of its movement; and after a Fine, the next movement follows. Every measure is played at
least once. Repeats are not taken again after a jump.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...midi.limits import Limits, check_limit
from ...storage.drop_reasons import DropReason


@dataclass
class Signs:
    """The signs of a measure that say what is played after it.

    Attributes:
        begins_repeat: At its start.
        times: How often the repeat that ends here is played; 0 if none ends here.
        endings: The times in which it is played; empty for all.
        begins_movement: Whether it may be the first of a movement.
        is_segno: The place to which D.S. goes back.
        is_coda: The place to which "to Coda" goes.
        is_fine: After the jump back, the end.
        to_coda: After the jump back, the Coda follows.
        jump: `capo` (D.C.), `segno` (D.S.) or "".
    """

    begins_repeat: bool = False
    times: int = 0
    endings: set[int] = field(default_factory=set)
    begins_movement: bool = False
    is_segno: bool = False
    is_coda: bool = False
    is_fine: bool = False
    to_coda: bool = False
    jump: str = ""


def played_order(signs: Sequence[Signs], limits: Limits) -> list[int]:
    """Returns the places of the measures in the order in which they are played.

    Raises:
        MidiError: If they are too many.
    """
    order = _played(signs, limits)
    is_whole = set(order) == set(range(len(signs)))
    return order if is_whole else [*range(len(signs))]  # of signs that make no sense


def _played(signs: Sequence[Signs], limits: Limits) -> list[int]:
    order: list[int] = []
    place = begin = 0  # of the repeat
    time, source = 1, None  # of the repeat; the measure from which one jumped back
    done: set[int] = set()  # jumps
    while place < len(signs):
        sign = signs[place]
        check_limit(DropReason.TOO_MANY_BARS, len(order), "bars", limits.bars)
        is_after_endings = place and signs[place - 1].endings and not sign.endings
        begins = sign.begins_repeat or sign.begins_movement or is_after_endings
        if place != begin and begins:
            begin, time = place, 1
        last = max(*_endings_around(signs, place), sign.times, 0)
        wanted = last if source is not None else time
        if sign.endings and wanted not in sign.endings:
            place += 1
            continue
        order.append(place)
        if source is None and sign.times and time < last:
            place, time = begin, time + 1
        elif source is not None and (sign.is_fine or place == source):
            place, begin, time, source = source + 1, source + 1, 1, None
        elif source is not None and sign.to_coda and (coda := _coda(signs, source)) is not None:
            place, begin, time, source = coda, coda, 1, None
        elif source is None and sign.jump and place not in done:
            done.add(place)
            place, source = _target(signs, place), place
        else:
            begin, time = (place + 1, 1) if sign.times else (begin, time)
            place += 1
    return order


def _endings_around(signs: Sequence[Signs], place: int) -> set[int]:
    """Returns the times of all endings beside each other at a place."""
    found: set[int] = set()
    for step in (1, -1):
        at = place
        while 0 <= at < len(signs) and signs[at].endings:
            found |= signs[at].endings
            at += step
    return found


def _coda(signs: Sequence[Signs], source: int) -> int | None:
    """Returns where the Coda begins, after the measure that jumps back if possible."""
    codas = [place for place, sign in enumerate(signs) if sign.is_coda]
    return next((place for place in codas if place > source), codas[-1] if codas else None)


def _target(signs: Sequence[Signs], source: int) -> int:
    """Returns the measure to which a measure jumps back."""
    before = range(source + 1)
    if signs[source].jump == "segno":
        segnos = [place for place in before if signs[place].is_segno]
        if segnos:
            return segnos[-1]
    # Before the last Fine: a trio, too, has a beginning.
    fines = [place for place in before if signs[place].is_fine]
    stop = fines[-1] if fines else source
    return max((place for place in range(stop + 1) if signs[place].begins_movement), default=0)
