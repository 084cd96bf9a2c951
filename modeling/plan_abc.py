"""A tune in the layout `bars` -> the plan of bars to be written inside it, or of voices beside it.

Uses only the standard library.
"""

import functools
import re
from dataclasses import dataclass

from .export_abc import cut_after_end
from .grammar_abc_limits import DIALECT, GENERATION
from .grammar_abc_plan import Plan, PlannedBar, PlannedGrammar
from .grammar_abc_tune_rules import State
from .header_abc import FIRST_BAR, voice_lines
from .notation_abc import ELEMENT, INLINE_FIELD, SILENCE, VOICE_MARK, plain_text

_VOICE_HEAD = re.compile(r"V:\d+\n((?:%%MIDI [^\n]*\n)+)")


@dataclass(frozen=True)
class Bars:
    """A whole tune, bar by bar.

    Attributes:
        header: Its lines up to the last voice's, each with its newline.
        lines: The line of each bar, with its newline; the last one ends with `|]`.
        states: The automaton's state before each bar, and at the end.
        ticks: The length of each bar.
    """

    header: str
    lines: tuple[str, ...]
    states: tuple[State, ...]
    ticks: tuple[int, ...]

    @property
    def n_voices(self) -> int:
        """Number of voices."""
        return len(self.states[-1].stage.is_drums)

    @property
    def voice_heads(self) -> list[str]:
        """The lines that declare each voice's instrument, without its number."""
        return _VOICE_HEAD.findall(self.header)

    def fields(self, bar: int) -> str:
        """Returns the changes at the start of a bar, numbered from 0."""
        after_mark = self.lines[bar].partition("]")[2]
        return after_mark[: len(after_mark) - len(_without_fields(after_mark))]

    def voices(self, bar: int) -> list[str]:
        """Returns each voice's text in a bar, numbered from 0, without changes; "" if it rests."""
        texts = [""] * self.n_voices
        for part in self.lines[bar].split("|")[:-1]:
            mark = VOICE_MARK.match(part)
            text = _without_fields(part[mark.end() :])
            texts[int(mark[1]) - 1] = "" if SILENCE.fullmatch(text) else text
        return texts


def _without_fields(text: str) -> str:
    while match := INLINE_FIELD.match(text):
        text = text[match.end() :]
    return text


@functools.cache
def _reader() -> PlannedGrammar:
    return PlannedGrammar(DIALECT)


def read_bars(abc: str) -> Bars:
    """Reads a whole tune in the layout `bars`.

    Raises:
        ValueError: If it is not one; names line and column.
    """
    text, has_end = cut_after_end(plain_text(abc))
    if not has_end:
        raise ValueError("the tune has no end, |]; expected a whole tune in the layout bars")
    start = text.find(f"\n{FIRST_BAR}") + 1
    grammar = _reader()
    lines = tuple(text[start:].splitlines(keepends=True))
    states, ticks = [], []
    try:
        states.append(grammar.read(text[:start]))
        for line in lines:
            music = line.rstrip("]\n")
            before_end = grammar.read(music, states[-1])
            ticks.append(before_end.stage.bar_ticks)
            states.append(grammar.read(line[len(music) :], before_end))
    except ValueError:
        grammar.read(text)  # the same error, with the line of the whole text
        raise
    return Bars(text[:start], lines, tuple(states), tuple(ticks))


def plan_fill(bars: Bars, first: int, last: int) -> Plan:
    """Plans to write bars of a tune anew: as many, as long, with the same changes.

    Args:
        bars: The tune.
        first: Number of the first bar to write, from 1.
        last: Number of the last one.

    Raises:
        ValueError: If the tune has no such bars.
    """
    n_bars = len(bars.lines)
    if not 1 <= first <= last <= n_bars:
        raise ValueError(
            f"bars {first} to {last} of a tune of {n_bars} bars, expected a first bar of at least "
            f"1 and a last one of at most {n_bars}"
        )
    ends_tune = last == n_bars
    free = (None,) * bars.n_voices
    held = tuple("" if ends_tune else _first_note(text) for text in bars.voices(last % n_bars))
    planned = [
        PlannedBar(bars.ticks[bar], bars.fields(bar), free, held if bar == last - 1 else free)
        for bar in range(first - 1, last)
    ]
    return Plan(tuple(planned), first - 1, ends_tune)


def _first_note(bar: str) -> str:
    """Returns the note or chord that a bar begins with, without its length; "" if none may be held.

    Nothing is held into a tuplet: readers differ on it.
    """
    match = ELEMENT.match(bar)
    if not match or not (match["chord"] or match["note"]):
        return ""
    return f"[{match['chord']}]" if match["chord"] else match["note"]


def plan_accompaniment(bars: Bars, instruments: list[int | str]) -> tuple[str, Plan]:
    """Plans to write further voices beside those of a tune, which stay as they are.

    Args:
        bars: The tune.
        instruments: Of the further voices: General MIDI programs, their names, or "drums".

    Returns:
        The header of the tune with all voices, and the plan of all bars.

    Raises:
        ValueError: If an instrument is unknown, or there are too many voices.
    """
    n_given, n_all = bars.n_voices, bars.n_voices + len(instruments)
    if n_all > GENERATION.n_voices:
        raise ValueError(
            f"{n_given} given voices and {len(instruments)} further ones, expected at most "
            f"{GENERATION.n_voices} in all: readers run out of channels"
        )
    further = voice_lines(instruments, n_given + 1)
    free = (None,) * len(instruments)
    last = len(bars.lines) - 1
    planned = [
        PlannedBar(
            bars.ticks[bar],
            bars.fields(bar),
            (*bars.voices(bar), *free),
            (*[""] * n_given, *(free if bar < last else [""] * len(instruments))),
        )
        for bar in range(last + 1)
    ]
    header = bars.header + "".join(f"{line}\n" for line in further)
    return header, Plan(tuple(planned), 0, ends_tune=True)
