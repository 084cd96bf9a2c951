"""A tune in the layout `bars` -> what the page draws and plays."""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from data_prep.dialect.notation import DRUM_CHANNEL, ELEMENT, AbcError
from data_prep.dialect.sounding import bar_starts, join_ties
from data_prep.dialect.tune import Tune, bar_clock, read_bars
from data_prep.dialect.tune_parser import parse_tune
from modeling.export_abc import cut_after_end, cut_to_whole_bars, export_tune
from modeling.header_abc import FIRST_BAR, INSTRUMENTS

_FIELD = re.compile(r"\w:|%%")
_BAR = re.compile(r"[^|]*\|\]?")
_ACCIDENTAL = re.compile(r"[_=^]+")
# in pixels: clef and key, a bar without notes, a note or rest
_LINE_START, _BAR_WIDTH, _NOTE_WIDTH = 120, 26, 20
_VIOLA = INSTRUMENTS.index("Viola")
_BASS_BELOW = 57  # mean MIDI pitch below which a voice is drawn in the bass clef


@dataclass(frozen=True)
class WrongBar:
    """A bar that is not as it should be; numbered from 1."""

    bar: int
    message: str


def show(abc: str, width: int) -> dict[str, Any]:
    """Returns a tune, or its whole bars so far, for the page.

    Args:
        abc: The tune.
        width: Of the score, in pixels.

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
        "drawn": _drawn(exported, tune, notes, width),
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


def _drawn(exported: str, tune: Tune, notes: list[list], width: int) -> str:
    """Returns the exported tune with names and clefs, and lines that fit into a width in pixels."""
    lines = exported.splitlines()
    ends = _line_ends(lines, tune.n_bars, width)
    drawn: list[str] = []
    bar, text = 0, ""
    for line in lines:
        if _FIELD.match(line):
            if line.startswith("V:"):
                bar, voice = 0, int(line[2:]) - 1
                name = _name(tune.voices[voice].program)
                line += f' name="{name}"{_clef(tune, notes, voice)}'
            if not line.startswith("%%"):
                drawn += [text, line] if text else [line]
                text = ""
            continue
        for part in _BAR.findall(line):
            bar, text = bar + 1, text + part
            if bar in ends:
                drawn, text = [*drawn, text], ""
    return "\n".join([*drawn, text]) + "\n"


def _line_ends(lines: list[str], n_bars: int, width: int) -> set[int]:
    """Returns the numbers of the bars that end a line, from 1: the widest voice decides."""
    widths = [_BAR_WIDTH] * n_bars
    voices = "\n".join(lines).split("\nV:")[1:]
    for voice in voices:
        music = [line for line in voice.splitlines()[1:] if not _FIELD.match(line)]
        for bar, text in enumerate(_BAR.findall("".join(music))):
            n_signs = len(ELEMENT.findall(text)) + len(_ACCIDENTAL.findall(text)) / 2
            widths[bar] = max(widths[bar], _BAR_WIDTH + _NOTE_WIDTH * n_signs)
    ends: set[int] = set()
    left = width - _LINE_START
    for number, needed in enumerate(widths):
        if needed > left and number and number not in ends:
            ends.add(number)
            left = width - _LINE_START
        left -= needed
    return ends


def _clef(tune: Tune, notes: list[list], voice: int) -> str:
    if tune.voices[voice].channel == DRUM_CHANNEL:
        return " clef=perc"
    if tune.voices[voice].program == _VIOLA:
        return " clef=alto"
    pitches = [pitch for _, _, chord in notes[voice] for pitch in chord]
    is_low = pitches and sum(pitches) / len(pitches) < _BASS_BELOW
    return " clef=bass" if is_low else " clef=treble"
