"""A voice's events -> the order in which they are played: parts, repeats, endings.

Missing signs are supplied where abc2midi supplies them: the first `:|` of a voice without `|:`
repeats from the start; in a tune of one voice, a later one from the last double bar or repeat.
"""

from collections.abc import Iterator

from ...dialect.notation import AbcError
from ..abc_text.events import Event, Mark, Sign
from ..report import Report

MAX_PLAYED = 300_000  # events of all voices, with repeats
TOO_LONG = f"more than {MAX_PLAYED:,} notes and bar lines, repeats played"
_ENDINGS_END = frozenset(Sign) - {Sign.BAR, Sign.BOTH_REPEATS}


def play(events: list[Event], parts: list[str], is_alone: bool, report: Report) -> Iterator[Event]:
    """Yields the events of a voice in the order in which they are played.

    Args:
        events: As written.
        parts: Order of the parts; [] if as written.
        is_alone: Whether the tune has no other voice.
        report: Takes the warnings.

    Raises:
        AbcError: If the parts in their order are too many.
    """
    events = _supply_first_repeats(events, bool(parts))
    if is_alone and not parts:
        events = _supply_repeats(events)
    if parts:
        events = _in_order(events, parts, report)
    return _Player(events, report).run()


def _in_order(events: list[Event], parts: list[str], report: Report) -> list[Event]:
    """Returns what stands before the first part, then the parts in their order."""
    starts = [n for n, event in enumerate(events) if _sign(event) is Sign.PART]
    if not starts:
        return events
    stretches = {
        events[start].label: events[start:stop]
        for start, stop in zip(starts, [*starts[1:], len(events)], strict=True)
    }
    out = events[: starts[0]]
    for label in parts:
        if label not in stretches:
            report.warn(f"part {label} is not there", events[starts[0]].place)
        out += stretches.get(label, [])
        if len(out) > MAX_PLAYED:
            raise AbcError(TOO_LONG, *events[starts[0]].place)
    return out


def _sign(event: Event) -> Sign | None:
    return event.sign if isinstance(event, Mark) else None


def _supply_first_repeats(events: list[Event], by_part: bool) -> list[Event]:
    """Adds `|:` at the start of a voice, or of each part, if its first repeat sign is `:|`."""
    out: list[Event] = []
    start, has_start = 0, False
    for event in events:
        sign = _sign(event)
        if sign is Sign.PART and by_part:
            start, has_start = len(out) + 1, False
        elif sign is Sign.START_REPEAT:
            has_start = True
        elif sign in (Sign.END_REPEAT, Sign.BOTH_REPEATS) and not has_start:
            out.insert(start, Mark(Sign.START_REPEAT, event.place))
            has_start = True
        out.append(event)
    return out


def _supply_repeats(events: list[Event]) -> list[Event]:
    """Adds what is missing of later repeats: `|:` at the last double bar or repeat."""
    out: list[Event] = [Mark(Sign.DOUBLE_BAR, (1, 1)), *events]
    turn = 0  # where a repeat would begin
    is_open = has_endings = False

    def begin(place: int) -> None:
        mark = out[place]
        sign = Sign.BOTH_REPEATS if mark.sign is Sign.END_REPEAT else Sign.START_REPEAT
        if mark.sign is not Sign.BOTH_REPEATS:
            out[place] = Mark(sign, mark.place)

    for place, event in enumerate(out):
        sign = _sign(event)
        if sign is Sign.DOUBLE_BAR:
            turn = place
        elif sign is Sign.START_REPEAT:
            if is_open:
                out[place] = Mark(Sign.BOTH_REPEATS, event.place)
            is_open = True
        elif sign is Sign.END_REPEAT:
            if not is_open and not has_endings:
                begin(turn)
            is_open, turn = False, place
        elif sign is Sign.ENDING:
            if not has_endings and not is_open:
                begin(turn)
            has_endings = True
        elif sign is Sign.BOTH_REPEATS:
            if not is_open:
                begin(turn)
            is_open = True
    return out


class _Player:
    """Goes through the events; `_pass` counts how often it goes through a repeated stretch."""

    def __init__(self, events: list[Event], report: Report) -> None:
        self.events, self.report = events, report
        self.place = 0
        self._turn = 0  # place of the sign to which `:|` goes back
        self._pass, self._passes = 1, 2
        self._is_open = False  # after |: and before its :|

    def run(self) -> Iterator[Event]:
        """Yields the events in the order of playing."""
        while self.place < len(self.events):
            event = self.events[self.place]
            yield event
            if isinstance(event, Mark):
                self._obey(event)
            self.place += 1

    def _obey(self, mark: Mark) -> None:
        if mark.sign is Sign.START_REPEAT:
            self._begin()
        elif mark.sign is Sign.END_REPEAT:
            if self._is_open if self._pass == 1 else self._pass < self._passes:
                self._go_back()
            elif self._pass == 1:
                self.report.warn(":| without |: is read as a bar line", mark.place)
        elif mark.sign is Sign.BOTH_REPEATS:
            if self._pass == 1 and self._is_open:
                self._go_back(is_open=True)
            else:
                self._begin()
        elif mark.sign is Sign.ENDING:
            self._choose(mark)

    def _begin(self) -> None:
        self._turn, self._is_open = self.place, True
        self._pass, self._passes = 1, 2

    def _go_back(self, is_open: bool = False) -> None:
        self.place, self._is_open = self._turn, is_open
        self._pass += 1

    def _choose(self, mark: Mark) -> None:
        """Plays an ending, or goes on behind it if it is for other passes."""
        number = self._pass if self._is_open or self._pass > 1 else 1
        if any(first <= number <= last for first, last in mark.passes):
            if self._passes < 4:
                self._passes = number + 1
            return
        self.place += 1
        while self.place < len(self.events):
            sign = _sign(self.events[self.place])
            if sign in _ENDINGS_END:
                break
            self.place += 1
        if self.place < len(self.events) and sign is Sign.PART:
            self.place -= 1
