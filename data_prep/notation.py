"""What bars are made of: ticks, lengths, the spelling of pitches.

Time is counted in ticks of 1/48 quarter note, so that 1/64 notes (3 ticks) and triplets of 1/32
notes (4 ticks) are whole numbers; the ABC unit `L:1/16` is 12 ticks. Behind each rule of what is
written stands a reader (music21, abc2midi or abcjs) that misreads the alternative.

Source: ABC standard v2.1, sections 4.2 (accidentals), 4.3 (lengths), 4.11 (ties), 4.13 (tuplets),
4.17 (chords).
"""

from __future__ import annotations

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
