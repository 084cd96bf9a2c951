"""A tune in the layout `voices` -> the text that abcjs draws: names, clefs, beams, line breaks."""

import re
from collections.abc import Iterator

from data_prep.dialect.notation import DRUM_CHANNEL, ELEMENT, length_ticks, tuplet_items
from data_prep.dialect.tune import Meter, Tune
from modeling.header_abc import INSTRUMENTS

_FIELD = re.compile(r"\w:|%%")
_BAR = re.compile(r"[^|]*\|\]?")
_ACCIDENTAL = re.compile(r"[_=^]+")
# in pixels: clef and key, a bar without notes, a note or rest
_LINE_START, _BAR_WIDTH, _NOTE_WIDTH = 120, 26, 20
_QUARTER, _DOTTED_QUARTER = 48, 72  # ticks
_VIOLA = INSTRUMENTS.index("Viola")
_BASS_BELOW = 57  # mean MIDI pitch below which a voice is drawn in the bass clef

Chords = list[tuple[int, int, tuple[int, ...]]]


def voice_name(program: int | None) -> str:
    """Returns the name of a General MIDI program; None: drums."""
    return "Drums" if program is None else INSTRUMENTS[program]


def drawn_text(exported: str, tune: Tune, notes: list[Chords], width: int) -> str:
    """Returns a tune as abcjs draws it well.

    Args:
        exported: The tune in the layout `voices`.
        tune: The same.
        notes: The chords of each voice.
        width: Of a line, in pixels.
    """
    lines = exported.splitlines()
    ends = _line_ends(lines, tune.n_bars, width)
    beats = list(_beats(tune))
    drawn: list[str] = []
    bar, text = 0, ""
    for line in lines:
        if _FIELD.match(line):
            if line.startswith("V:"):
                bar, voice = 0, int(line[2:]) - 1
                line += f' name="{voice_name(tune.voices[voice].program)}"'
                line += f" clef={_clef(tune, notes, voice)}"
            if not line.startswith("%%"):
                drawn += [text, line] if text else [line]
                text = ""
            continue
        for part in _BAR.findall(line):
            text += _with_beams(part, *beats[bar])
            bar += 1
            if bar in ends:
                drawn, text = [*drawn, text], ""
    return "\n".join([*drawn, text]) + "\n"


def _line_ends(lines: list[str], n_bars: int, width: int) -> set[int]:
    """Returns the numbers of the bars that end a line, from 1: the widest voice decides."""
    widths = [_BAR_WIDTH] * n_bars
    for voice in "\n".join(lines).split("\nV:")[1:]:
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


def _beats(tune: Tune) -> Iterator[tuple[int, int]]:
    """Yields the ticks of a beat in each bar, and where in the meter the bar starts."""
    meter = tune.meters[0]
    for bar, ticks in enumerate(tune.bar_ticks()):
        meter = tune.meters.get(bar, meter)
        yield _beat(meter), (meter.ticks - ticks if bar == 0 else 0)


def _beat(meter: Meter) -> int:
    is_compound = meter.denominator >= 8 and meter.numerator % 3 == 0
    return _DOTTED_QUARTER if is_compound else _QUARTER


def _with_beams(bar: str, beat: int, start: int) -> str:
    """Returns a bar with spaces at its beats, which end the beams."""
    text, place, n_in_tuplet, ticks = "", 0, 0, start
    for match in ELEMENT.finditer(bar):
        if ticks % beat == 0 and ticks > start and not n_in_tuplet:
            text += " "
        text += bar[place : match.end()]
        place = match.end()
        if match["tuplet"]:
            n_in_tuplet = tuplet_items(match[0])
            continue
        length = match["rest_length"] if match["rest"] else match["length"]
        ticks += length_ticks(length, n_in_tuplet > 0)
        n_in_tuplet -= n_in_tuplet > 0
    return text + bar[place:]


def _clef(tune: Tune, notes: list[Chords], voice: int) -> str:
    if tune.voices[voice].channel == DRUM_CHANNEL:
        return "perc"
    if tune.voices[voice].program == _VIOLA:
        return "alto"
    pitches = [pitch for _, _, chord in notes[voice] for pitch in chord]
    is_low = pitches and sum(pitches) / len(pitches) < _BASS_BELOW
    return "bass" if is_low else "treble"
