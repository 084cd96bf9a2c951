"""The facts of the ABC dialect: ticks, lengths, the spelling of pitches, what text may hold.

This file stands twice, byte for byte: as data_prep/dialect/notation.py, and as
modeling/notation_abc.py, which travels with the models. So it imports nothing but the standard
library; a test holds the two equal.

Time is counted in ticks of 1/48 quarter note, so that 1/64 notes (3 ticks) and triplets of 1/32
notes (4 ticks) are whole numbers; the ABC unit `L:1/16` is 12 ticks. Behind each rule of what is
written stands a reader (music21, abc2midi or abcjs) that misreads the alternative.

Source: ABC standard v2.1, sections 4.2 (accidentals), 4.3 (lengths), 4.11 (ties), 4.13 (tuplets),
4.17 (chords).
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

TICKS_PER_QUARTER = 48
TICKS_PER_WHOLE = 4 * TICKS_PER_QUARTER
TICKS_PER_UNIT = 12  # L:1/16
TICKS_PER_TUPLET_UNIT = 8  # the same unit inside (3: three in the time of two

KEYS = {  # key signatures as K: writes them -> sharps (+) or flats (-)
    "Gb": -6, "Db": -5, "Ab": -4, "Eb": -3, "Bb": -2, "F": -1, "C": 0,
    "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F#": 6,
}  # fmt: skip
KEY_NAMES = {sharps: name for name, sharps in KEYS.items()}

LETTERS = "CDEFGAB"
LETTER_PITCH_CLASS = dict(zip(LETTERS, (0, 2, 4, 5, 7, 9, 11), strict=True))
_FIFTHS_LETTERS = "FCGDAEB"  # position -1 .. 5 on the line of fifths; +7 raises by a semitone
SIGNS = {-2: "__", -1: "_", 0: "=", 1: "^", 2: "^^"}
ALTERATIONS = {sign: alteration for alteration, sign in SIGNS.items()}

SHORTEST_TICKS = 3  # a quarter of the unit: `/4`

FIRST_LINE = "X:1"
UNIT_LINE = "L:1/16"
# Without it abc2midi plays each chord as an arpeggio and a very short one shifts the whole voice.
CHORD_ATTACK_LINE = "%%MIDI chordattack 0"
DRUM_CHANNEL = 10
BARS_PER_LINE = 4  # of the layout `voices`
DENOMINATORS = (1, 2, 4, 8, 16, 32, 64)  # of metres
MAX_NUMERATOR = 255  # a byte in MIDI
DEFAULT_METER = (4, 4)
DEFAULT_TEMPO = 480  # in quarters of a beat a minute: 120 quarters
# All characters that a tune can have. A test holds it against the converter's output.
ALPHABET = "".join(
    sorted(set("\n %%MIDIprogramchannelchordattackXMLQKV:/=^_,'|[]()-z#bABCDEFGabcdefg0123456789"))
)

# Special tokens of models that fill in: before the bars ahead, the bars behind, and those to write.
FILL_IN_TOKENS = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")

VOICE_ID = re.compile(r"[0-9]{1,3}")
VOICE_LINE = re.compile(r"V:([0-9]{1,3})")
MIDI_LINE = re.compile(r"%%MIDI (program|channel) ([0-9]{1,3})")
MIDI_RANGES = {"program": (0, 127), "channel": (1, 16)}
VOICE_MARK = re.compile(r"\[V:([^\]\n]*)\]")
INLINE_FIELD = re.compile(r"\[([VMQ]):([^\]\n]*)\]")
SILENCE = re.compile(r"(z[0-9/]*)*")
NOTE = re.compile(r"([_=^]{0,2})(([A-Ga-g])[,']*)")
ELEMENT = re.compile(
    r"""(?P<tuplet>\(\d(?::\d?)?(?::\d?)?)
      | (?P<rest>z)(?P<rest_length>\d{0,5}(?:/\d{0,5})?)
      | (?:\[(?P<chord>(?:[_=^]{0,2}[A-Ga-g][,']{0,6}){1,128})\]
          |(?P<note>[_=^]{0,2}[A-Ga-g][,']{0,6}))
        (?P<length>\d{0,5}(?:/\d{0,5})?)(?P<tie>-?)""",
    re.VERBOSE | re.ASCII,
)
_TUPLET = re.compile(r"\(3(?::2?)?(?::(\d?))?", re.ASCII)
_METER = re.compile(rf"([0-9]{{1,3}})/({'|'.join(map(str, DENOMINATORS))})")
_TEMPO = re.compile(r"1/(4|16)=([0-9]{1,5})")


class AbcError(ValueError):
    """Text that is not in the dialect. Names the line and column (both from 1) where it stops."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message, line, column)  # as given: pickle makes it anew from these
        self.message, self.line, self.column = message, line, column

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.message}"


class Segment(NamedTuple):
    """One element of a bar: a note, a chord or a rest.

    Attributes:
        start: First tick, from the start of the bar.
        end: Tick after the last.
        pitches: MIDI pitches, rising; empty for a rest.
        tied: Whether it sounds on into the next element.
    """

    start: int
    end: int
    pitches: tuple[int, ...] = ()
    tied: bool = False


def plain_text(text: str) -> str:
    """Returns text without byte order mark and carriage returns: lines end in a newline."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


@lru_cache(maxsize=8192)
def length_text(ticks: int) -> str:
    """Returns a length in units, halves or quarters of a unit: ``, `5`, `/`, `7/2`, `3/4`.

    Args:
        ticks: A positive multiple of `SHORTEST_TICKS`.
    """
    share = Fraction(ticks, TICKS_PER_UNIT)
    if ticks <= 0 or ticks % SHORTEST_TICKS:
        raise ValueError(f"{ticks} ticks, expected a multiple of {SHORTEST_TICKS}")
    number = "" if share.numerator == 1 else str(share.numerator)
    if share.denominator == 1:
        return number
    return "/" if share == Fraction(1, 2) else f"{number}/{share.denominator}"


@lru_cache(maxsize=4096)
def length_ticks(length: str, in_tuplet: bool = False) -> int:
    """Returns the ticks of a length such as `3/2`; 0 where it is not a whole number of ticks."""
    number, slash, divisor = length.partition("/")
    unit = TICKS_PER_TUPLET_UNIT if in_tuplet else TICKS_PER_UNIT
    below = int(divisor or 2) if slash else 1
    if below == 0:
        return 0
    ticks, remainder = divmod(int(number or 1) * unit, below)
    return 0 if remainder else ticks


def tuplet_items(text: str) -> int:
    """Returns how many elements `(3` or `(3:2:4` holds; 0 if it is no tuplet of ours."""
    match = _TUPLET.fullmatch(text)
    return int(match[1] or 3) if match else 0


def header_at(header: str, bars: str) -> str:
    """Returns a header with the metre and tempo that are in force after some bars.

    Args:
        header: Lines of a header.
        bars: Lines of the layout `bars` that follow it.
    """
    in_force = {name: value for name, value in INLINE_FIELD.findall(bars) if name != "V"}
    for name, value in in_force.items():
        header = re.sub(rf"(?m)^{name}:.*$", f"{name}:{value}", header, count=1)
    return header


def rest_text(ticks: int) -> str:
    """Returns the rest that fills `ticks`, e.g. `z16` for a bar of 4/4."""
    return "z" + length_text(ticks)


def key_alterations(sharps: int) -> dict[str, int]:
    """Returns the alteration (-1, 0, 1) of each letter in the signature of `sharps` sharps."""
    order = _FIFTHS_LETTERS if sharps >= 0 else _FIFTHS_LETTERS[::-1]
    altered = order[: abs(sharps)]
    return {letter: (sharps > 0) - (sharps < 0) if letter in altered else 0 for letter in LETTERS}


@lru_cache(maxsize=2048)
def spell(pitch: int, sharps: int) -> tuple[str, int, str]:
    """Spells a MIDI pitch in a key: (letter, alteration, letter with octave marks).

    Chromatic notes are spelled as harmony mostly means them: from the lowered third (-3 fifths
    from the tonic) to the raised fifth (+8); double signs are replaced by their plain equal.
    """
    position = (pitch * 7 - sharps + 3) % 12 + sharps - 3
    if position > 12:
        position -= 12
    elif position < -7:
        position += 12
    letter = _FIFTHS_LETTERS[(position + 1) % 7]
    alteration = (position + 1) // 7
    octave = (pitch - alteration - LETTER_PITCH_CLASS[letter]) // 12 - 5  # C = MIDI 60 = octave 0
    name = letter + "," * -octave if octave <= 0 else letter.lower() + "'" * (octave - 1)
    return letter, alteration, name


@lru_cache(maxsize=8192)
def note_names(text: str) -> tuple[tuple[str, str, int], ...]:
    """Splits names of notes into (accidental, letter, MIDI pitch without any accidental)."""
    return tuple(
        (sign, letter.upper(), natural_pitch(name)) for sign, name, letter in NOTE.findall(text)
    )


@lru_cache(maxsize=1024)
def natural_pitch(name: str) -> int:
    """Returns the MIDI pitch of a letter with octave marks, such as `c'`, without accidental."""
    letter = name[0].upper()
    octave = name.count("'") - name.count(",") + (name[0] != letter)
    return 60 + 12 * octave + LETTER_PITCH_CLASS[letter]


def read_meter(text: str) -> tuple[int, int] | None:
    """Returns numerator and denominator of `3/4`; None if it is no metre of the dialect."""
    match = _METER.fullmatch(text)
    if not match or not 1 <= int(match[1]) <= MAX_NUMERATOR:
        return None
    return int(match[1]), int(match[2])


def meter_ticks(numerator: int, denominator: int) -> int:
    """Returns the length of a full bar."""
    return numerator * TICKS_PER_WHOLE // denominator


def header_meter(numerator: int, denominator: int) -> tuple[int, int]:
    """Returns the metre that the header of the layout `voices` names.

    By the metre of a header, and by that alone, abcjs takes the beat of its MIDI's tempo, which it
    takes for a quarter: 2/2 is played twice too slow. Where that is so, the header names 4/4, and
    the tune's metre stands before the first bar.
    """
    is_even = denominator == 8 or (denominator == 4 and numerator not in (6, 9, 12))
    return (numerator, denominator) if is_even else DEFAULT_METER


def read_tempo(text: str) -> int:
    """Returns the quarters of a beat a minute of `1/4=120` or `1/16=483`, or 0."""
    match = _TEMPO.fullmatch(text)
    return int(match[2]) * (4 if match[1] == "4" else 1) if match else 0


def tempo_text(quarters_of_a_beat: int) -> str:
    """Returns what `Q:` says: beats of a quarter, or of a sixteenth where that gives a fraction.

    abc2midi and abcjs floor a fraction of a beat a minute; in sixteenths all three read it.

    Args:
        quarters_of_a_beat: Tempo in quarters of a beat a minute: 480 is `1/4=120`.
    """
    beats, rest = divmod(quarters_of_a_beat, 4)
    return f"1/16={quarters_of_a_beat}" if rest else f"1/4={beats}"
