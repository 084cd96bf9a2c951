"""Conditions for a tune -> the lines that it must start with."""

import difflib
import math
from dataclasses import dataclass

from .export_abc import check_meter
from .notation_abc import (
    CHORD_ATTACK_LINE,
    DRUM_CHANNEL,
    FIRST_LINE,
    KEYS,
    UNIT_LINE,
    tempo_text,
)

FIRST_BAR = "[V:"  # how it starts
_MELODIC_CHANNELS = tuple(channel for channel in range(1, 17) if channel != DRUM_CHANNEL)
# General MIDI instruments, by program.
INSTRUMENTS = tuple(
    """\
Acoustic Grand Piano,Bright Acoustic Piano,Electric Grand Piano,Honky-tonk Piano,Electric Piano 1,
Electric Piano 2,Harpsichord,Clavi,Celesta,Glockenspiel,Music Box,Vibraphone,Marimba,Xylophone,
Tubular Bells,Dulcimer,Drawbar Organ,Percussive Organ,Rock Organ,Church Organ,Reed Organ,Accordion,
Harmonica,Tango Accordion,Acoustic Guitar (nylon),Acoustic Guitar (steel),Electric Guitar (jazz),
Electric Guitar (clean),Electric Guitar (muted),Overdriven Guitar,Distortion Guitar,
Guitar Harmonics,Acoustic Bass,Electric Bass (finger),Electric Bass (pick),Fretless Bass,
Slap Bass 1,Slap Bass 2,Synth Bass 1,Synth Bass 2,Violin,Viola,Cello,Contrabass,Tremolo Strings,
Pizzicato Strings,Orchestral Harp,Timpani,String Ensemble 1,String Ensemble 2,Synth Strings 1,
Synth Strings 2,Choir Aahs,Voice Oohs,Synth Voice,Orchestra Hit,Trumpet,Trombone,Tuba,
Muted Trumpet,French Horn,Brass Section,Synth Brass 1,Synth Brass 2,Soprano Sax,Alto Sax,Tenor Sax,
Baritone Sax,Oboe,English Horn,Bassoon,Clarinet,Piccolo,Flute,Recorder,Pan Flute,Blown Bottle,
Shakuhachi,Whistle,Ocarina,Lead 1 (square),Lead 2 (sawtooth),Lead 3 (calliope),Lead 4 (chiff),
Lead 5 (charang),Lead 6 (voice),Lead 7 (fifths),Lead 8 (bass + lead),Pad 1 (new age),Pad 2 (warm),
Pad 3 (polysynth),Pad 4 (choir),Pad 5 (bowed),Pad 6 (metallic),Pad 7 (halo),Pad 8 (sweep),
FX 1 (rain),FX 2 (soundtrack),FX 3 (crystal),FX 4 (atmosphere),FX 5 (brightness),FX 6 (goblins),
FX 7 (echoes),FX 8 (sci-fi),Sitar,Banjo,Shamisen,Koto,Kalimba,Bagpipe,Fiddle,Shanai,Tinkle Bell,
Agogo,Steel Drums,Woodblock,Taiko Drum,Melodic Tom,Synth Drum,Reverse Cymbal,Guitar Fret Noise,
Breath Noise,Seashore,Bird Tweet,Telephone Ring,Helicopter,Applause,Gunshot""".replace(
        "\n", ""
    ).split(",")
)
_PROGRAMS = {name.lower(): program for program, name in enumerate(INSTRUMENTS)} | {"drums": None}


@dataclass(frozen=True)
class Line:
    """A line of the tune: its start, and its full text unless the model chooses the rest."""

    start: str
    text: str | None = None


def header_lines(
    meter: str | None = None,
    key: str | None = None,
    tempo: float | None = None,
    instruments: list[int | str] | None = None,
) -> list[Line]:
    """Returns the lines of the header up to the last one with a condition."""
    lines = [
        Line("X:", FIRST_LINE),
        Line("M:", None if meter is None else "M:{}/{}".format(*check_meter(str(meter)))),
        Line("L:", UNIT_LINE),
        Line("Q:", None if tempo is None else _tempo_line(tempo)),
        Line("%%MIDI", CHORD_ATTACK_LINE),
        Line("K:", None if key is None else _key_line(key)),
    ]
    if instruments is not None:
        lines += [Line(text, text) for text in voice_lines(instruments)]
        return [*lines, Line(FIRST_BAR)]
    n_lines = max(
        (n for n, condition in ((2, meter), (4, tempo), (6, key)) if condition is not None),
        default=0,
    )
    return lines[:n_lines]


def _key_line(key: str) -> str:
    if key not in KEYS:
        raise ValueError(
            f"key {key!r}, expected the major key of the signature (for a minor key, its "
            f"relative major), one of {' '.join(KEYS)}"
        )
    return f"K:{key}"


def _tempo_line(tempo: float) -> str:
    is_number = isinstance(tempo, (int, float)) and math.isfinite(tempo)
    if not is_number or tempo * 4 % 1 or not 3.75 <= tempo <= 24_000:
        raise ValueError(
            f"tempo {tempo!r}, expected quarters per minute from 3.75 to 24,000 in steps of 0.25"
        )
    return f"Q:{tempo_text(int(tempo * 4))}"


def voice_lines(instruments: list[int | str], first: int = 1) -> list[str]:
    """Returns the header lines of voices.

    Args:
        instruments: One per voice: General MIDI programs, their names, or "drums".
        first: Number of the first voice.

    Raises:
        ValueError: If there is none, or one is unknown.
    """
    if not isinstance(instruments, (list, tuple)) or not instruments:
        raise ValueError(f"instruments {instruments!r}, expected a list of them, one per voice")
    programs = [_program(instrument) for instrument in instruments]
    melodic = list(dict.fromkeys(program for program in programs if program is not None))
    n_melodic = sum(program is not None for program in programs)
    lines = []
    for number, program in enumerate(programs, first):
        lines.append(f"V:{number}")
        if program is None:
            lines.append(f"%%MIDI channel {DRUM_CHANNEL}")
            continue
        if n_melodic > len(_MELODIC_CHANNELS):  # readers run out of channels: one per program
            channel = _MELODIC_CHANNELS[melodic.index(program) % len(_MELODIC_CHANNELS)]
            lines.append(f"%%MIDI channel {channel}")
        lines.append(f"%%MIDI program {program}")
    return lines


def _program(instrument: int | str) -> int | None:
    """Returns the General MIDI program for a number or name, None for drums."""
    if isinstance(instrument, str) and instrument.lower() in _PROGRAMS:
        return _PROGRAMS[instrument.lower()]
    if isinstance(instrument, int) and 0 <= instrument <= 127:
        return instrument
    near = difflib.get_close_matches(str(instrument).lower(), _PROGRAMS, 1, 0)[0]
    raise ValueError(
        f"instrument {instrument!r}, expected a General MIDI program (0 to 127), its name (the "
        f"nearest is {near!r}), or 'drums'"
    )
