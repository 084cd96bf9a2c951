"""A tune in the layout `voices` -> the text that abcjs draws: names, clefs, beams, line breaks."""

import re
from collections.abc import Iterator

from data_prep.dialect.notation import DRUM_CHANNEL, ELEMENT, length_ticks, tuplet_items
from data_prep.dialect.tune import Meter, Tune, tempo_line
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
    """Returns a tune as abcjs draws it well: line by line, in each all voices.

    Args:
        exported: The tune in the layout `voices`.
        tune: The same.
        notes: The chords of each voice.
        width: Of a line, in pixels.
    """
    voices = [_bars(voice) for voice in exported.split("\nV:")[1:]]
    lines = ["X:1", f"M:{tune.meters[0]}", "L:1/16", tempo_line(tune.tempos[0]), f"K:{tune.key}"]
    for number, voice in enumerate(tune.voices):
        clef = _clef(tune, notes, number)
        lines.append(f'V:{number + 1} name="{voice_name(voice.program)}" clef={clef}')
    beats = list(_beats(tune))
    for line in _lines(voices, tune.n_bars, width):
        for number, bars in enumerate(voices):
            texts = [
                _changes(tune, bar, number == 0) + _with_beams(bars[bar], *beats[bar])
                for bar in line
            ]
            lines.append(f"[V:{number + 1}]" + "".join(texts))
    return "\n".join(lines) + "\n"


def _bars(voice: str) -> list[str]:
    """Returns the bars of a voice's block, behind its number."""
    music = [line for line in voice.splitlines()[1:] if not _FIELD.match(line)]
    return _BAR.findall("".join(music))


def _changes(tune: Tune, bar: int, is_first_voice: bool) -> str:
    meter = f"[M:{tune.meters[bar]}]" if bar and bar in tune.meters else ""
    has_tempo = bar and bar in tune.tempos and is_first_voice
    return meter + (f"[{tempo_line(tune.tempos[bar])}]" if has_tempo else "")


def _lines(voices: list[list[str]], n_bars: int, width: int) -> Iterator[range]:
    """Yields the bars of each line: as many as fit; the widest voice decides."""
    first, left = 0, width - _LINE_START
    for bar in range(n_bars):
        needed = max(_bar_width(bars[bar]) for bars in voices)
        if needed > left and bar > first:
            yield range(first, bar)
            first, left = bar, width - _LINE_START
        left -= needed
    yield range(first, n_bars)


def _bar_width(bar: str) -> float:
    n_signs = len(ELEMENT.findall(bar)) + len(_ACCIDENTAL.findall(bar)) / 2
    return _BAR_WIDTH + _NOTE_WIDTH * n_signs


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
    """Returns a bar with a space wherever another beat begins, which ends the beams."""
    text, place, n_in_tuplet, ticks, before = "", 0, 0, start, start
    for match in ELEMENT.finditer(bar):
        if ticks // beat > before // beat and not n_in_tuplet:
            text += " "
        before = ticks
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
