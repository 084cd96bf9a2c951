"""What a voice consists of, in the order of the text: notes, bar lines, changes.

Lengths are in whole notes.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from fractions import Fraction

from ..report import Place


class Sign(Enum):
    """Bar lines, and what else directs the way through the text."""

    BAR = auto()  # |
    DOUBLE_BAR = auto()  # || |] [| and dotted bar lines
    START_REPEAT = auto()  # |:
    END_REPEAT = auto()  # :|
    BOTH_REPEATS = auto()  # ::
    ENDING = auto()  # [1
    PART = auto()  # P:


BAR_LINES = frozenset(Sign) - {Sign.ENDING, Sign.PART}


class Ornament(Enum):
    """Ornaments of one note that are played as several; others are left out."""

    TRILL = auto()
    ROLL = auto()
    CUT = auto()  # `~`: a short note above before it


@dataclass(slots=True)
class Head:
    """One pitch of a note or chord.

    Attributes:
        pitch: MIDI pitch.
        natural: MIDI pitch without accidentals: a tie over a bar line joins equal letters.
        is_tied: Whether a tie leads on to the next note.
        sounding: How long it sounds, ties joined; 0 if an earlier note sounds on instead. Set
            once all of a voice is read.
        ornament: TRILL or ROLL, if it has one.
        above: Pitch above, for ornaments.
        below: Pitch below, for ornaments.
    """

    pitch: int
    natural: int
    is_tied: bool = False
    sounding: Fraction | None = None
    ornament: Ornament | None = None
    above: int = 0
    below: int = 0


@dataclass(slots=True)
class Unit:
    """A note, a chord, or a rest if it has no heads.

    Attributes:
        heads: The pitches.
        length: Until the next unit.
        place: Where it is written.
        program: General MIDI program; None for drums.
        is_chord: Whether it stands in brackets.
        is_staccato: Whether it is marked to be played short, which is left out.
    """

    heads: list[Head]
    length: Fraction
    place: Place
    program: int | None
    is_chord: bool = False
    is_staccato: bool = False


@dataclass(slots=True)
class Graces:
    """Grace notes before a unit, with their lengths as written.

    Attributes:
        units: The notes.
        share: The part of their written lengths that they get, taken from the unit after them.
        is_of_host: Whether `share` is a part of that unit instead, for all of them together.
    """

    units: list[Unit]
    share: Fraction
    is_of_host: bool


@dataclass(slots=True)
class Mark:
    """A sign in a voice.

    Attributes:
        sign: Which.
        place: Where it is written.
        passes: For `ENDING`, the passes that it is for, as ranges (first, last).
        label: For `PART`, its letter.
    """

    sign: Sign
    place: Place
    passes: tuple[tuple[int, int], ...] = ()
    label: str = ""


@dataclass(slots=True)
class MeterChange:
    """A change of meter: numerator and denominator, None for free meter."""

    meter: tuple[int, int] | None


@dataclass(slots=True)
class TempoChange:
    """A change of tempo, in quarters a minute."""

    tempo: Fraction


Event = Unit | Graces | Mark | MeterChange | TempoChange


@dataclass
class Stream:
    """Events of a voice, or of an overlay (`&`) of it, which has no changes.

    Attributes:
        events: In the order of the text.
        time: Length of all units, as written: grace notes take none.
    """

    events: list[Event] = field(default_factory=list)
    time: Fraction = Fraction(0)
