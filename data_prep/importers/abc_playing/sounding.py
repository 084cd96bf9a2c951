"""What a voice sounds like: grace notes get their time, ties join notes, ornaments are played out.

All rules are abc2midi's, in the order of the text, before repeats are played.
"""

from collections.abc import Iterator
from fractions import Fraction

from ..abc_text.events import BAR_LINES, Event, Graces, Head, Mark, Ornament, Sign, Unit
from ..report import Report

MAX_TRILL_NOTES = 1024
_TRILL_MICROSECONDS = 100_000  # the longest note of a trill
_MICROSECONDS = 60_000_000  # in a minute
_ENDS_GRACES = (Sign.BAR, Sign.DOUBLE_BAR)  # grace notes before these have no note


def sound(events: list[Event], report: Report) -> list[Event]:
    """Returns events without `Graces`, in which each head has its `sounding` length."""
    events = _apply_graces(events, report)
    _join_ties(events, report)
    return events


def _apply_graces(events: list[Event], report: Report) -> list[Event]:
    """Puts grace notes right before the unit from which they take their time."""
    out: list[Event] = []
    waiting: list[Graces] = []
    for event in events:
        if isinstance(event, Graces):
            waiting.append(event)
        elif isinstance(event, Unit):
            hosts = [*(graces.units[0] for graces in waiting[1:]), event]
            for graces, host in zip(waiting, hosts, strict=False):
                if _shorten(graces, host, report):
                    out += graces.units
            out.append(event)
            waiting = []
        else:
            if isinstance(event, Mark) and event.sign in _ENDS_GRACES and waiting:
                report.warn("grace notes before a bar line are left out", waiting[0].units[0].place)
                waiting = []
            out.append(event)
    return out


def _shorten(graces: Graces, host: Unit, report: Report) -> bool:
    """Gives grace notes their lengths and takes the time from the unit after them.

    Returns:
        Whether there is time for them.
    """
    written = sum(unit.length for unit in graces.units)
    taken = (host.length if graces.is_of_host else written) * graces.share
    if taken >= (host.length / 2 if host.is_staccato else host.length):
        report.warn("grace notes longer than their note are left out", graces.units[0].place)
        return False
    for unit in graces.units:
        unit.length *= taken / written
    host.length -= taken
    return True


def _join_ties(events: list[Event], report: Report) -> None:
    """Sets how long each head sounds; backwards, so that a tie finds what it leads to done."""
    following: Unit | None = None
    is_after_bar = False
    for event in reversed(events):
        if isinstance(event, Unit):
            for head in event.heads:
                head.sounding = event.length
            for head in event.heads:
                if head.is_tied:
                    _tie(head, event, following, is_after_bar, report)
            following, is_after_bar = event, False
        elif isinstance(event, Mark) and event.sign in BAR_LINES:
            is_after_bar = True


def _tie(
    head: Head, unit: Unit, following: Unit | None, is_after_bar: bool, report: Report
) -> None:
    """Joins a head to the same pitch in the next unit, or, over a bar line, to the same letter."""
    for other in following.heads if following else ():
        is_same = other.pitch == head.pitch or (is_after_bar and other.natural == head.natural)
        if is_same and other.sounding:
            head.sounding += other.sounding
            other.sounding = Fraction(0)
            return
    report.warn("tie (-) without the same note after it is left out", unit.place)


def ornament_notes(
    head: Head, unit_length: Fraction, tempo: Fraction
) -> Iterator[tuple[Fraction, Fraction, int]]:
    """Yields (time after its onset, duration, pitch) of the notes of a trill or roll.

    Args:
        head: A head that sounds, with an ornament.
        unit_length: The header's unit length, in whole notes.
        tempo: The header's tempo, in quarters a minute.
    """
    if head.ornament is Ornament.TRILL:
        n_notes = _trill_notes(head.sounding, unit_length, tempo)
        pitches = [head.above if number % 2 == 0 else head.pitch for number in range(n_notes)]
    else:
        pitches = [head.pitch, head.above, head.pitch, head.below, head.pitch]
    share = head.sounding / len(pitches)
    for number, pitch in enumerate(pitches):
        yield number * share, share, pitch


def _trill_notes(sounding: Fraction, unit_length: Fraction, tempo: Fraction) -> int:
    """Returns how many notes a trill has: none is longer than a tenth of a second."""
    in_units = sounding / unit_length
    n_notes = in_units.numerator
    microseconds = 4 * unit_length / in_units.denominator * _MICROSECONDS / tempo
    while microseconds > _TRILL_MICROSECONDS and n_notes < MAX_TRILL_NOTES:
        n_notes, microseconds = 2 * n_notes, microseconds / 2
    return min(n_notes, MAX_TRILL_NOTES)
