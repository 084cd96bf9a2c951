"""A tune in the layout `bars` -> what the page draws and plays."""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from data_prep.dialect.notation import DRUM_CHANNEL, AbcError
from data_prep.dialect.sounding import bar_starts, join_ties
from data_prep.dialect.tune import Tune, bar_clock, read_bars
from data_prep.dialect.tune_parser import parse_tune
from modeling.export_abc import cut_after_end, cut_to_whole_bars, export_tune
from modeling.header_abc import FIRST_BAR, INSTRUMENTS

_FIELD = re.compile(r"\w:|%%")
_BASS_BELOW = 57  # mean MIDI pitch below which a voice is drawn in the bass clef


@dataclass(frozen=True)
class WrongBar:
    """A bar that is not as it should be; numbered from 1."""

    bar: int
    message: str


def show(abc: str, bars_per_line: int) -> dict[str, Any]:
    """Returns a tune, or its whole bars so far, for the page.

    Bars that cannot be read are drawn as rests. Times are in ticks of 1/48 quarter, and seconds.

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
        "drawn": _drawn(exported, tune, notes, bars_per_line),
        "key": tune.key,
        "meter": str(tune.meters[0]),
        "meters": [[bar, m.numerator, m.denominator] for bar, m in sorted(tune.meters.items())],
        "tempos": [[bar, float(tempo)] for bar, tempo in sorted(tune.tempos.items())],
        "starts": starts,
        "clock": clock,
        "voices": [
            {"name": _name(voice.program), "program": voice.program, "notes": chords}
            for voice, chords in zip(tune.voices, notes, strict=True)
        ],
        "wrong": [[each.bar, each.message] for each in sorted(wrong, key=lambda each: each.bar)],
    }


def _units(ticks: int) -> str:
    return f"{ticks / 12:g}"


def _name(program: int | None) -> str:
    return "Drums" if program is None else INSTRUMENTS[program]


def _readable(abc: str) -> tuple[str, list[WrongBar]]:
    """Returns the text with rests in place of bars that cannot be read, and these bars."""
    try:
        parse_tune(abc)
        export_tune(abc)
        return abc, []
    except ValueError:
        pass  # one bar at a time, then
    start = abc.find(f"\n{FIRST_BAR}") + 1
    if not start:
        raise ValueError("no bar yet: a tune needs a header, its voices, and lines [V:1]...|")
    header, wrong, lines = abc[:start], [], []
    for number, line in enumerate(abc[start:].splitlines(), 1):
        try:
            read_bars(parse_tune(header + line))
            export_tune(header + line)
            lines.append(line)
        except ValueError as error:
            message = error.message if isinstance(error, AbcError) else str(error)
            wrong.append(WrongBar(number, message.partition(": ")[2] or message))
            lines.append("[V:1]z|")
    text = header + "\n".join(lines) + "\n"
    parse_tune(text)  # what is wrong with the header
    return text, wrong


def _drawn(exported: str, tune: Tune, notes: list[list], bars_per_line: int) -> str:
    """Returns the exported tune with names, clefs, and lines of a given length."""
    lines: list[str] = []
    bars: list[str] = []

    def flush() -> None:
        for first in range(0, len(bars), bars_per_line):
            lines.append("".join(bars[first : first + bars_per_line]))
        bars.clear()

    for line in exported.splitlines():
        if not _FIELD.match(line):
            bars += re.findall(r".*?\|\]?", line)
            continue
        flush()
        if line.startswith("V:"):
            voice = int(line[2:]) - 1
            line += f' name="{_name(tune.voices[voice].program)}"{_clef(tune, notes, voice)}'
        if not line.startswith("%%"):
            lines.append(line)
    flush()
    return "\n".join(lines) + "\n"


def _clef(tune: Tune, notes: list[list], voice: int) -> str:
    if tune.voices[voice].channel == DRUM_CHANNEL:
        return " clef=perc"
    pitches = [pitch for _, _, chord in notes[voice] for pitch in chord]
    is_low = pitches and sum(pitches) / len(pitches) < _BASS_BELOW
    return " clef=bass" if is_low else " clef=treble"
