"""One ABC tune of our dialect: headers, voices, bars; what it is, and how it is printed.

Two layouts of the same tune are read and written, and converted into each other without loss:

`voices`  one block per voice, all padded to the same number of bars; other programs read it right.
`bars`    one line per bar, `[V:1]...|[V:2]...|`; voices that rest in the bar are left out. Models
          train on it: a short context then sees all voices at once.

Bars stay text here, so that re-laying cannot lose anything; `read_bars` reads their notes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from .bar_reader import BarReader
from .notation import (
    TICKS_PER_WHOLE,
    AbcError,
    Segment,
    rest_text,
)

LAYOUTS = ("bars", "voices")
BARS_PER_LINE = 4  # of the voices layout
FIRST_LINES = ("X:1",)
UNIT_LINE = "L:1/16"
# Without it abc2midi plays each chord as an arpeggio and a very short one shifts the whole voice.
CHORD_ATTACK_LINE = "%%MIDI chordattack 0"

_METER = re.compile(r"([0-9]{1,3})/(1|2|4|8|16|32|64)")
MAX_NUMERATOR = 255  # a byte in MIDI


@dataclass(frozen=True, slots=True)
class Meter:
    """A metre such as 6/8."""

    numerator: int
    denominator: int

    @property
    def ticks(self) -> int:
        """Length of a full bar in ticks (`notation.TICKS_PER_QUARTER` a quarter note)."""
        return self.numerator * TICKS_PER_WHOLE // self.denominator

    def __str__(self) -> str:
        return f"{self.numerator}/{self.denominator}"

    @classmethod
    def parse(cls, text: str, line: int = 1, column: int = 1) -> Meter:
        """Reads `3/4`; raises `AbcError` for anything else."""
        match = _METER.fullmatch(text)
        if not match or not 1 <= int(match[1]) <= MAX_NUMERATOR:
            expected = f"expected one such as 4/4, of at most {MAX_NUMERATOR} beats"
            raise AbcError(f"metre {text!r}, {expected}", line, column)
        return cls(int(match[1]), int(match[2]))


@dataclass
class Voice:
    """One voice: its General MIDI program (0-127), or drums, and the text of its bars.

    Attributes:
        program: General MIDI program; None for drums.
        channel: MIDI channel (1-16) where it is written; drums have 10.
        bars: Bar texts without bar lines and inline fields; "" where the voice rests all through.
    """

    program: int | None
    channel: int | None = None
    bars: list[str] = field(default_factory=list)

    @property
    def is_drums(self) -> bool:
        """Whether the voice is the drum kit."""
        return self.channel == 10


@dataclass
class Tune:
    """A tune: what holds for all voices, and the voices.

    Attributes:
        key: Name of the major key of the signature, one of `notation.KEYS`.
        meters: Bar number (from 0) -> metre from there on; holds bar 0.
        tempos: Bar number -> quarters a minute from there on; holds bar 0.
        voices: In the order of their numbers.
        origins: (voice index, bar) -> line and column where the bar's text stood, if it was read.
    """

    key: str
    meters: dict[int, Meter]
    tempos: dict[int, Fraction]
    voices: list[Voice]
    origins: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict, compare=False)

    @property
    def n_bars(self) -> int:
        """Number of bars, the same for all voices."""
        return max((len(voice.bars) for voice in self.voices), default=0)

    def bar_meters(self) -> list[Meter]:
        """Returns the metre of each bar."""
        out, meter = [], self.meters[0]
        for bar in range(self.n_bars):
            meter = self.meters.get(bar, meter)
            out.append(meter)
        return out


def _tempo_text(quarters_per_minute: Fraction) -> str:
    if quarters_per_minute.denominator == 1:
        return f"1/4={quarters_per_minute}"
    # abc2midi and abcjs floor a fraction of a beat a minute; in sixteenths all three read it.
    return f"1/16={int(quarters_per_minute * 4)}"


def print_tune(tune: Tune, layout: str = "bars") -> str:
    """Writes a tune; the inverse of `parse_tune`.

    Args:
        tune: Of at least one bar.
        layout: One of `LAYOUTS`.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout {layout!r}, expected one of {LAYOUTS}")
    head = [*FIRST_LINES, f"M:{tune.meters[0]}", UNIT_LINE, f"Q:{_tempo_text(tune.tempos[0])}"]
    head += [CHORD_ATTACK_LINE, f"K:{tune.key}"]
    body = _print_bars(tune) if layout == "bars" else _print_voices(tune)
    return "\n".join(head + body) + "\n"


def _voice_head(number: int, voice: Voice) -> list[str]:
    lines = [f"V:{number}"]
    if voice.channel is not None:
        lines.append(f"%%MIDI channel {voice.channel}")
    if not voice.is_drums:
        lines.append(f"%%MIDI program {voice.program}")
    return lines


def _bar_head(tune: Tune, bar: int, *, with_tempo: bool) -> str:
    text = f"[M:{tune.meters[bar]}]" if bar and bar in tune.meters else ""
    if with_tempo and bar and bar in tune.tempos:
        text += f"[Q:{_tempo_text(tune.tempos[bar])}]"
    return text


def _print_bars(tune: Tune) -> list[str]:
    lines = [line for n, voice in enumerate(tune.voices, 1) for line in _voice_head(n, voice)]
    for bar, meter in enumerate(tune.bar_meters()):
        sounding = [(n, v.bars[bar]) for n, v in enumerate(tune.voices, 1) if v.bars[bar]]
        if not sounding:
            sounding = [(1, rest_text(meter.ticks))]
        lines.append(
            "".join(
                f"[V:{n}]{_bar_head(tune, bar, with_tempo=not place)}{text}|"
                for place, (n, text) in enumerate(sounding)
            )
        )
    return [*lines[:-1], lines[-1] + "]"]


def _print_voices(tune: Tune) -> list[str]:
    rests = [rest_text(meter.ticks) for meter in tune.bar_meters()]
    if pickup := _pickup_ticks(tune):
        rests[0] = rest_text(pickup)
    lines = []
    for number, voice in enumerate(tune.voices, 1):
        lines += _voice_head(number, voice)
        texts = [
            _bar_head(tune, bar, with_tempo=number == 1) + (text or rests[bar]) + "|"
            for bar, text in enumerate(voice.bars)
        ]
        texts[-1] += "]"
        lines += [
            "".join(texts[start : start + BARS_PER_LINE])
            for start in range(0, len(texts), BARS_PER_LINE)
        ]
    return lines


def _pickup_ticks(tune: Tune) -> int | None:
    """Returns the length of a short first bar on which all sounding voices agree."""
    reader = BarReader(tune.key)
    lengths = {reader.read(voice.bars[0])[-1].end for voice in tune.voices if voice.bars[0]}
    short = len(lengths) == 1 and min(lengths) < tune.meters[0].ticks
    return lengths.pop() if short else None


@dataclass(frozen=True, slots=True)
class BarError:
    """A bar whose length is not its metre's. Bars and voices are numbered from 1."""

    voice: int
    bar: int
    ticks: int
    expected_ticks: int


def read_bars(tune: Tune) -> tuple[list[list[list[Segment]]], list[BarError]]:
    """Reads the notes of all bars.

    Returns:
        Per voice, per bar, the segments ([] for a bar of rest); and the bars of wrong length.
        A short first bar is a pick-up, and right, if all sounding voices agree on its length.

    Raises:
        AbcError: Where a bar's text is not in the dialect.
    """
    reader = BarReader(tune.key)
    known: dict[str, list[Segment]] = {"": []}  # bars repeat a lot
    voices = []
    for number, voice in enumerate(tune.voices):
        bars = []
        for bar, text in enumerate(voice.bars):
            if text not in known:
                known[text] = reader.read(text, *tune.origins.get((number, bar), (1, 1)))
            bars.append(known[text])
        voices.append(bars)
    expected = [meter.ticks for meter in tune.bar_meters()]
    first = {bars[0][-1].end for bars in voices if bars and bars[0]}
    if len(first) == 1:
        expected[0] = min(expected[0], *first)
    errors = [
        BarError(number, bar + 1, segments[-1].end, expected[bar])
        for number, bars in enumerate(voices, 1)
        for bar, segments in enumerate(bars)
        if segments and segments[-1].end != expected[bar]
    ]
    return voices, errors
