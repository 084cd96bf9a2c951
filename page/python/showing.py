"""A tune in the layout `bars` -> what the page draws and plays."""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from data_prep.dialect.notation import AbcError
from data_prep.dialect.sounding import bar_starts, join_ties
from data_prep.dialect.tune import bar_clock, read_bars
from data_prep.dialect.tune_parser import parse_tune
from modeling.export_abc import cut_after_end, cut_to_whole_bars, export_tune
from modeling.header_abc import FIRST_BAR

from .drawing import drawn_text, voice_name

_SILENT_BAR = "[V:1]z|"
_LINE = re.compile(r"^line \d+: ")  # of the bar by itself


@dataclass(frozen=True)
class WrongBar:
    """A bar that is not as it should be; numbered from 1."""

    bar: int
    message: str


def show(abc: str, width: int) -> dict[str, Any]:
    """Returns a tune, or its whole bars so far, for the page.

    Bars that cannot be read are drawn as rests. Times are in ticks of 1/48 quarter, and seconds.

    Args:
        abc: The tune.
        width: Of the score, in pixels.

    Raises:
        ValueError: If the header cannot be read, or no bar can.
    """
    whole, has_end = cut_after_end(abc)
    text, wrong = _readable(whole if has_end else cut_to_whole_bars(whole))
    tune = parse_tune(text)
    voices, errors = read_bars(tune)
    starts = bar_starts(tune, voices)
    wrong += [
        WrongBar(
            error.bar,
            f"voice {error.voice} has {_units(error.ticks)} of "
            f"{_units(error.expected_ticks)} units",
        )
        for error in errors
    ]
    clock = bar_clock(tune, [b - a for a, b in pairwise(starts)])
    exported = export_tune(text)
    notes = [join_ties(bars, starts) for bars in voices]
    return {
        "abc": whole,
        "hasEnd": has_end,
        "exported": exported,
        "drawn": drawn_text(exported, tune, notes, width),
        "key": tune.key,
        "meter": str(tune.meters[0]),
        "meters": [[bar, m.numerator, m.denominator] for bar, m in sorted(tune.meters.items())],
        "tempos": [[bar, float(tempo)] for bar, tempo in sorted(tune.tempos.items())],
        "starts": starts,
        "clock": clock,
        "voices": [
            {"name": voice_name(voice.program), "program": voice.program, "notes": chords}
            for voice, chords in zip(tune.voices, notes, strict=True)
        ],
        "wrong": [[each.bar, each.message] for each in sorted(wrong, key=lambda each: each.bar)],
    }


def _units(ticks: int) -> str:
    return f"{ticks / 12:g}"


def _readable(abc: str) -> tuple[str, list[WrongBar]]:
    """Returns the text with rests in place of bars that cannot be read, and these bars."""
    if _fault(abc) is None:
        return abc, []
    start = abc.find(f"\n{FIRST_BAR}") + 1
    if not start:
        raise ValueError("no bar yet: a tune needs a header, its voices, and lines [V:1]...|")
    header, wrong, lines = abc[:start], [], []
    for number, line in enumerate(abc[start:].splitlines(), 1):
        fault = _fault(header + line)
        if fault is not None:
            wrong.append(WrongBar(number, fault))
        lines.append(line if fault is None else _SILENT_BAR)
    text = header + "\n".join(lines) + "\n"
    parse_tune(text)  # what is wrong with the header
    return text, wrong


def _fault(abc: str) -> str | None:
    """Returns why a text cannot be read; None if it can."""
    try:
        read_bars(parse_tune(abc))
        export_tune(abc)
    except ValueError as error:
        message = error.message if isinstance(error, AbcError) else str(error)
        return _LINE.sub("", message)
    return None
