"""One ABC tune of our dialect: its data model (headers, voices, bars) and its printer.

Two layouts of the same tune are read and written, and converted into each other without loss:

`voices`  one block per voice, all padded to the same number of bars; other programs read it
          correctly.
`bars`    one line per bar, `[V:1]...|[V:2]...|`; voices that rest in the bar are left out. Models
          train on it: a short context then sees all voices at once.

Bars are kept as text here, so that neither layout can lose anything; `read_bars` parses the notes.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from .bar_reader import bar_reader
from .notation import (
    BARS_PER_LINE,
    CHORD_ATTACK_LINE,
    DENOMINATORS,
    DRUM_CHANNEL,
    FIRST_LINE,
    KEY_NAMES,
    MAX_NUMERATOR,
    TICKS_PER_QUARTER,
    TICKS_PER_WHOLE,
    UNIT_LINE,
    AbcError,
    Segment,
    header_meter,
    meter_ticks,
    read_meter,
    rest_text,
    tempo_text,
)

LAYOUTS = ("bars", "voices")
MICROSECONDS = 240_000_000  # microseconds in a minute, times 4 for quarters of a beat
# Quarters of a beat a minute: the slowest that MIDI can write, and a bound of five digits.
_SLOWEST, _FASTEST = 15, 96_000


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter such as 6/8."""

    numerator: int
    denominator: int

    @property
    def ticks(self) -> int:
        """Length of a full bar in ticks (`notation.TICKS_PER_QUARTER` a quarter note)."""
        return meter_ticks(self.numerator, self.denominator)

    def __str__(self) -> str:
        return f"{self.numerator}/{self.denominator}"

    @classmethod
    def of_ticks(cls, ticks: int) -> "Meter | None":
        """Returns the simplest meter of a bar, in quarters if possible; None if MIDI has none."""
        share = Fraction(ticks, TICKS_PER_WHOLE)
        denominator = max(4, share.denominator)
        numerator = int(share * denominator)
        if denominator not in DENOMINATORS or numerator > MAX_NUMERATOR:
            return None
        return cls(numerator, denominator)

    @classmethod
    def parse(cls, text: str, line: int = 1, column: int = 1) -> "Meter":
        """Reads `3/4`; raises `AbcError` for anything else."""
        found = read_meter(text)
        if not found:
            expected = f"expected one such as 4/4, of at most {MAX_NUMERATOR} beats"
            raise AbcError(f"metre {text!r}, {expected}", line, column)
        return cls(*found)


@dataclass
class Voice:
    """One voice: its General MIDI program (0-127), or drums, and the text of its bars.

    Attributes:
        program: General MIDI program; None for drums.
        channel: MIDI channel (1-16) if it is written; 10 for drums.
        bars: Bar texts without bar lines and inline fields; "" where the voice rests throughout.
    """

    program: int | None
    channel: int | None = None
    bars: list[str] = field(default_factory=list)

    @property
    def is_drums(self) -> bool:
        """Whether the voice is the drum kit."""
        return self.channel == DRUM_CHANNEL


@dataclass
class Tune:
    """A tune: what all voices share, and the voices.

    Attributes:
        key: Name of the major key of the signature, one of `notation.KEYS`.
        meters: Bar number (from 0) -> meter from there on; always contains bar 0.
        tempos: Bar number -> quarters a minute from there on; always contains bar 0.
        voices: In the order of their numbers.
        pickup: Ticks of the first bar, if all voices agree that it is shorter than its meter.
        origins: (voice index, bar) -> line and column of the bar's text, if it was read from text.
    """

    key: str
    meters: dict[int, Meter]
    tempos: dict[int, Fraction]
    voices: list[Voice]
    pickup: int | None = None
    origins: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict, compare=False)

    @property
    def n_bars(self) -> int:
        """Number of bars, the same for all voices."""
        return max((len(voice.bars) for voice in self.voices), default=0)

    def bar_ticks(self) -> list[int]:
        """Returns the length that each bar should have."""
        out, ticks = [], 0
        for bar in range(self.n_bars):
            ticks = self.meters[bar].ticks if bar in self.meters else ticks
            out.append(ticks)
        if self.pickup is not None:
            out[0] = self.pickup
        return out


def instruments(tune: Tune) -> dict[str, Any]:
    """Returns `n_voices`, `programs` (distinct, General MIDI, without drums) and `has_drums`."""
    return {
        "n_voices": len(tune.voices),
        "programs": sorted({v.program for v in tune.voices if v.program is not None}),
        "has_drums": any(voice.is_drums for voice in tune.voices),
    }


def best_key(classes: Sequence[int]) -> str:
    """Returns the key of the signature that needs the fewest accidentals.

    Args:
        classes: (12,) number of notes of each pitch class, C first.
    """

    def in_key(sharps: int) -> int:
        return sum(int(classes[7 * (sharps + step) % 12]) for step in range(-1, 6))

    sharps = min(KEY_NAMES, key=lambda sharps: (-in_key(sharps), abs(sharps), -sharps))
    return KEY_NAMES[sharps]


def playable_tempo(tempo: int) -> int:
    """Returns the nearest tempo that `Q:` can write and MIDI's whole microseconds round-trip.

    Args:
        tempo: Quarters of a beat a minute.
    """
    tempo = min(max(tempo, _SLOWEST), _FASTEST)
    return round(MICROSECONDS / round(MICROSECONDS / tempo))


def seconds(tune: Tune, lengths: Iterable[int]) -> float:
    """Returns how long bars of these lengths (in ticks) last by the tempo map."""
    ticks_at: Counter[Fraction] = Counter()  # tempo -> number of ticks
    tempo = tune.tempos[0]
    for bar, ticks in enumerate(lengths):
        tempo = tune.tempos.get(bar, tempo)
        ticks_at[tempo] += ticks
    return float(
        sum(Fraction(60 * ticks, TICKS_PER_QUARTER) / tempo for tempo, ticks in ticks_at.items())
    )


def bar_clock(tune: Tune, lengths: Iterable[int]) -> list[float]:
    """Returns the start of each bar and the end of the last, in seconds; `lengths` in ticks."""
    clock, tempo = [0.0], tune.tempos[0]
    for bar, ticks in enumerate(lengths):
        tempo = tune.tempos.get(bar, tempo)
        clock.append(clock[-1] + float(Fraction(60 * ticks, TICKS_PER_QUARTER) / tempo))
    return clock


def tempo_line(quarters_per_minute: Fraction) -> str:
    """Returns the field `Q:1/4=120` of a tempo."""
    return f"Q:{tempo_text(int(quarters_per_minute * 4))}"


def print_tune(tune: Tune, layout: str = "bars") -> str:
    """Writes a tune; the inverse of `parse_tune`.

    Args:
        tune: A tune of at least one bar.
        layout: One of `LAYOUTS`.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout {layout!r}, expected one of {LAYOUTS}")
    meter = _header_meter(tune) if layout == "voices" else tune.meters[0]
    head = [FIRST_LINE, f"M:{meter}", UNIT_LINE, tempo_line(tune.tempos[0])]
    head += [CHORD_ATTACK_LINE, f"K:{tune.key}"]
    body = _print_bars(tune) if layout == "bars" else _print_voices(tune)
    return "\n".join(head + body) + "\n"


def _header_meter(tune: Tune) -> Meter:
    return Meter(*header_meter(tune.meters[0].numerator, tune.meters[0].denominator))


def _voice_head(number: int, voice: Voice) -> list[str]:
    lines = [f"V:{number}"]
    if voice.channel is not None:
        lines.append(f"%%MIDI channel {voice.channel}")
    if not voice.is_drums:
        lines.append(f"%%MIDI program {voice.program}")
    return lines


def _print_bars(tune: Tune) -> list[str]:
    lines = [line for n, voice in enumerate(tune.voices, 1) for line in _voice_head(n, voice)]
    names = [f"[V:{number}]" for number in range(1, len(tune.voices) + 1)]
    for bar, ticks in enumerate(tune.bar_ticks()):
        meter = f"[M:{tune.meters[bar]}]" if bar and bar in tune.meters else ""
        tempo = f"[{tempo_line(tune.tempos[bar])}]" if bar and bar in tune.tempos else ""
        line = []
        for name, voice in zip(names, tune.voices, strict=True):
            if text := voice.bars[bar]:
                line.append(f"{name}{meter}{tempo}{text}|")
                tempo = ""  # written once, in the first voice of the bar
        lines.append("".join(line) or f"{names[0]}{meter}{tempo}{rest_text(ticks)}|")
    return [*lines[:-1], lines[-1] + "]"]


def _print_voices(tune: Tune) -> list[str]:
    """Prints voice by voice, with changes of meter and tempo as field lines in each.

    Inline, music21 reads none of them, and abcjs loses tempo changes in voices whose tuplets end a
    rounding error away from those of the first. Each is followed by `L:`, since music21 drops a
    lone field line before a note. The meter is repeated where a voice begins: abcjs takes a rest of
    a whole note for a bar of whatever meter it read last. It is also written there if the header
    names another one (`notation.header_meter`).
    """
    rests = [rest_text(ticks) for ticks in tune.bar_ticks()]
    says_meters = len(tune.meters) > 1 or _header_meter(tune) != tune.meters[0]
    fields = {bar: [] for bar in sorted({*tune.meters, *tune.tempos})}
    for bar, lines in fields.items():
        if bar in tune.meters and says_meters:
            lines.append(f"M:{tune.meters[bar]}")
        if bar in tune.tempos and (bar or len(tune.tempos) > 1):
            lines.append(tempo_line(tune.tempos[bar]))
        if lines:
            lines.append(UNIT_LINE)
    breaks = [*(bar for bar, lines in fields.items() if lines and bar), tune.n_bars]
    out = []
    for number, voice in enumerate(tune.voices, 1):
        texts = [(text or rest) + "|" for text, rest in zip(voice.bars, rests, strict=True)]
        texts[-1] += "]"
        out += _voice_head(number, voice)
        start = 0
        for stop in breaks:
            out += fields.get(start, [])
            out += [
                "".join(texts[first : min(first + BARS_PER_LINE, stop)])
                for first in range(start, stop, BARS_PER_LINE)
            ]
            start = stop
    return out


@dataclass(frozen=True, slots=True)
class BarError:
    """A bar whose length differs from its meter. Bars and voices are numbered from 1."""

    voice: int
    bar: int
    ticks: int
    expected_ticks: int


def read_bars(tune: Tune) -> tuple[list[list[list[Segment]]], list[BarError]]:
    """Reads the notes of all bars.

    Returns:
        Per voice, per bar, the segments ([] for a silent bar); and the bars of wrong length.

    Raises:
        AbcError: If a bar's text is not in the dialect.
    """
    reader = bar_reader(tune.key)
    known: dict[str, list[Segment]] = {"": []}  # bars repeat a lot
    voices = []
    for number, voice in enumerate(tune.voices):
        bars = []
        for bar, text in enumerate(voice.bars):
            if text not in known:
                known[text] = reader.read(text, *tune.origins.get((number, bar), (1, 1)))
            bars.append(known[text])
        voices.append(bars)
    expected = tune.bar_ticks()
    errors = [
        BarError(number, bar + 1, segments[-1].end, expected[bar])
        for number, bars in enumerate(voices, 1)
        for bar, segments in enumerate(bars)
        if segments and segments[-1].end != expected[bar]
    ]
    return voices, errors
