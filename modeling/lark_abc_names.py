"""How `grammar.lark` counts pitches: the forms of letters in a key, and the octaves they reach.

A note is read as sign, letter and octave marks. Its letter sets the step, its marks set the octave;
together they are its pitch, so chords can be compared and ties remembered.
"""

from typing import NamedTuple

from .grammar_abc_limits import Limits
from .lark_abc_bits import DRUM, STEP, is_clear
from .notation_abc import LETTERS, SIGNS, key_alterations, natural_pitch, spell

# Octaves from 1 as names write them: capitals with four commas to none, then small letters with no
# apostrophe to three.
MARKS = (",,,,", ",,,", ",,", ",", "", "", "'", "''", "'''")
FIRST_SMALL = 6
_CASES = (tuple(range(1, FIRST_SMALL)), tuple(range(FIRST_SMALL, len(MARKS) + 1)))
# Steps beyond those of notes: of a chord, and of a note that no tie may follow, since its
# accidental is not written in the next bar.
CHORD, UNTIED = 14, 15
IS_MELODIC = is_clear(DRUM.start)  # the condition that the voice is not the drum kit


class Form(NamedTuple):
    """A letter with its accidental, in one key.

    Attributes:
        letter: The letter, a capital.
        alteration: -1 to 1 semitones.
        step: Its place in the octave; rises with pitch.
        bit: Which bit of `ALTERED` its letter has, None if the key has but one form of the letter.
        is_in_key: Whether it is written without a sign in a bar that has not altered the letter.
    """

    letter: str
    alteration: int
    step: int
    bit: int | None
    is_in_key: bool

    @property
    def sign(self) -> str:
        """The accidental, where one is written."""
        return SIGNS[self.alteration]

    def text(self, octaves: tuple[int, ...]) -> str:
        """Returns its letter as written in these octaves, all of capitals or of small letters."""
        return self.letter if octaves[0] < FIRST_SMALL else self.letter.lower()

    def pitch(self, octave: int) -> int:
        """Returns the MIDI pitch in an octave, as in MARKS."""
        letter = self.letter if octave < FIRST_SMALL else self.letter.lower()
        return natural_pitch(letter + MARKS[octave - 1]) + self.alteration


def forms_of(sharps: int) -> list[Form]:
    """Returns the twelve forms that a key spells, in the order of their steps."""
    natural = key_alterations(sharps)
    spelled = sorted(
        {spell(pitch, sharps)[:2] for pitch in range(60, 72)},
        key=lambda form: (LETTERS.index(form[0]), form[1]),
    )
    alterable = [letter for letter, alteration in spelled if alteration != natural[letter]]
    found: list[Form] = []
    for letter, alteration in spelled:
        is_second = bool(found) and found[-1].letter == letter
        bit = alterable.index(letter) if letter in alterable else None
        step = 2 * LETTERS.index(letter) + is_second
        found.append(Form(letter, alteration, step, bit, alteration == natural[letter]))
    return found


class Reach(NamedTuple):
    """The octaves of a form within the ranges, of capitals or of small letters.

    Attributes:
        all: Those of melodic voices.
        drums: Those of the drum kit.
    """

    all: tuple[int, ...]
    drums: tuple[int, ...]

    @property
    def name(self) -> str:
        """A name for rules."""
        ends = [f"{octaves[0]}{octaves[-1]}" if octaves else "0" for octaves in self]
        return "d".join(ends)

    @property
    def only(self) -> str:
        """The condition under which one of them may be written."""
        return "" if self.drums else IS_MELODIC

    def only_in(self, octave: int) -> str:
        """Returns the condition under which one of them may be."""
        return "" if octave in self.drums else IS_MELODIC


def reaches(form: Form, limits: Limits) -> list[Reach]:
    """Returns the octaves of a form: those of capitals and those of small letters, if any."""
    found = []
    for octaves in _CASES:
        within = [
            tuple(o for o in octaves if low <= form.pitch(o) <= high)
            for low, high in (limits.pitches, limits.drum_pitches)
        ]
        if within[0]:
            found.append(Reach(within[0], tuple(o for o in within[1] if o in within[0])))
    return found


def place_of(pitch: int, sharps: int) -> int:
    """Returns step and octave of a pitch as one number, its step in the lowest bits."""
    letter, alteration, name = spell(pitch, sharps)
    step = next(
        form.step
        for form in forms_of(sharps)
        if (form.letter, form.alteration) == (letter, alteration)
    )
    octaves = _CASES[name[0].islower()]
    octave = next(o for o in octaves if MARKS[o - 1] == name[1:])
    return step | octave << STEP.width
