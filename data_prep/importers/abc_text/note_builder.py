"""Notes, rests, chords, grace notes and tuplets as they are read -> units of a voice.

Lengths are counted as abc2midi counts them: a chord lasts as long as its first note, or as the
length after its bracket says; grace notes take their time from the unit after them; a hornpipe's
pairs of eighths are played 2:1.
"""

from fractions import Fraction

from ...dialect.notation import AbcError
from ..report import Place, Report
from .bounded_numbers import MAX_DIVISOR
from .events import Head, Ornament, Unit
from .voice import Pitch, Voice

MAX_CHORD_NOTES = 64
MAX_GRACE_NOTES = 64
_SHORTHAND = {"T": "trill", "R": "roll", "~": "cut", "H": "fermata", ".": "breath"}
_ORNAMENTS = {"trill": Ornament.TRILL, "roll": Ornament.ROLL, "cut": Ornament.CUT}
_PLAYED = {"trill", "fermata", "breath"}  # of the decorations between exclamation marks
_TUPLET_TIME = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}  # 5, 7 and 9: 3 in meters of three, else 2
SWING = (Fraction(4, 3), Fraction(2, 3))


class NoteBuilder:
    """Builds the units of the current voice.

    Attributes:
        voice: The current voice.
        is_triple: Whether the header's meter counts in threes.
        hornpipe_unit: Length of the notes that a hornpipe swings, in whole notes; None if the
            tune is none.
    """

    def __init__(self, voice: Voice, report: Report, is_triple: bool) -> None:
        self.voice, self._report, self.is_triple = voice, report, is_triple
        self.hornpipe_unit: Fraction | None = None
        self._decorations: set[str] = set()  # for the next note
        self._chord: Unit | None = None
        self._chord_decorations: set[str] = set()
        self._graces: list[Unit] | None = None
        self._factor, self._left = Fraction(1), 0  # of the tuplet, and units left in it
        self._in_bar = Fraction(0)
        self._swung: Fraction | None = None  # length of the last note, if it can be swung

    # ------------------------------------------------------------ decorations

    def decorate(self, name: str) -> None:
        """Takes note of a decoration such as `trill` or `fermata` for the next note."""
        if name in _PLAYED:
            self._decorations.add(name)

    def _take_decorations(self, shorthand: str) -> set[str]:
        found = self._decorations | {_SHORTHAND[sign] for sign in shorthand if sign in _SHORTHAND}
        if self._chord is None:
            self._decorations = set()
        return found

    def _held(self, length: Fraction, decorations: set[str]) -> Fraction:
        """Returns a length with its fermata."""
        if "fermata" not in decorations:
            return length
        return length + self.voice.unit if self.voice.rules.fixed_fermata else 2 * length

    # ------------------------------------------------------------ notes and rests

    def note(self, pitch: Pitch, length: Fraction, place: Place, shorthand: str) -> None:
        """Adds a note, or one of a chord or of grace notes.

        Args:
            pitch: As written.
            length: In units, as written.
            place: Where it is written.
            shorthand: The letters and dots before it that decorate it.
        """
        decorations = self._take_decorations(shorthand)
        head = self._head(pitch, place)
        is_one = length.numerator == 1 and not self._left
        length *= self.voice.unit * (self._factor if self._left else 1)
        if self._chord is not None:
            self._add_to_chord(head, length, decorations | self._chord_decorations, place)
            return
        unit = Unit([head] if head else [], length, place, self.voice.sound)
        if self._graces is not None:
            self._add_grace(unit)
            return
        self._swing(length if is_one else None)
        self._count(length)
        unit.length = self._held(length, decorations)
        unit.is_staccato = "breath" in decorations
        ornament = next((_ORNAMENTS[n] for n in sorted(decorations) if n in _ORNAMENTS), None)
        if head and ornament:
            head.above, head.below = self.voice.neighbors(pitch)
        if head and ornament is Ornament.CUT:
            self._add_cut(unit, head)
            return
        if head:
            head.ornament = ornament
        self.voice.add(unit)

    def _head(self, pitch: Pitch, place: Place) -> Head | None:
        head = self.voice.head(pitch)
        if 0 <= head.pitch <= 127:
            return head
        self._report.warn(f"MIDI pitch {head.pitch} is left out: expected 0-127", place)
        return None

    def _add_cut(self, unit: Unit, head: Head) -> None:
        """Adds a note with `~`: a short note above before it; three notes if it lasts three."""
        voice = self.voice
        above, below = (
            Unit([Head(pitch, pitch)], voice.unit, unit.place, unit.program)
            for pitch in (head.above, head.below)
        )
        if unit.length != 3 * voice.unit:
            voice.add_graces([above])
            voice.add(unit)
            return
        for short in (None, above, below):
            if short:
                voice.add_graces([short])
            third = [Head(head.pitch, head.natural)]
            voice.add(Unit(third, voice.unit, unit.place, unit.program))

    def rest(self, length: Fraction, place: Place, shorthand: str = "") -> None:
        """Adds a rest; `length` in units."""
        decorations = self._take_decorations(shorthand)
        length *= self.voice.unit * (self._factor if self._left else 1)
        length = self._held(length, decorations)
        self._swung = None
        if self._chord is not None:
            self._add_to_chord(None, length, set(), place)
        elif self._graces is not None:
            self._add_grace(self.voice.rest(length, place))
        else:
            self._count(length)
            self.voice.add(self.voice.rest(length, place))

    def whole_rest(self, place: Place) -> None:
        """Adds a rest of one bar."""
        numerator, denominator = self.voice.meter or (4, 4)
        self._swung = None
        self.voice.add(self.voice.rest(Fraction(numerator, denominator), place))

    def _count(self, length: Fraction) -> None:
        if self.hornpipe_unit:
            self._in_bar += length
        self._left -= self._left > 0

    def bar(self, place: Place) -> None:
        """Ends a bar, or goes back for an overlay."""
        self._close("a bar line", place)
        self._in_bar = Fraction(0)

    def _close(self, before: str, place: Place) -> None:
        """Ends a chord and grace notes that are still open."""
        if self._chord is not None:
            self._report.warn(f"chord without ] before {before}", place)
            self.close_chord(Fraction(1), place)
        if self._graces is not None:
            self._report.warn(f"grace notes without }} before {before}", place)
            self.close_graces(place)

    def _swing(self, length: Fraction | None) -> None:
        """Swings a note of a hornpipe with the one before it, if it is the second of a pair."""
        unit = self.hornpipe_unit
        if unit and length == unit == self._swung and self._in_bar.denominator == unit.denominator:
            self.voice.break_rhythm(*SWING)
        self._swung = length

    # ------------------------------------------------------------ chords

    @property
    def is_chord_open(self) -> bool:
        """Whether a chord has begun and not ended."""
        return self._chord is not None

    def open_chord(self, place: Place, shorthand: str = "") -> None:
        """Begins a chord."""
        if self._chord is not None:
            self._report.warn("chord inside a chord: its notes join the outer one", place)
            return
        self._chord_decorations = self._take_decorations(shorthand)
        self._chord = Unit([], Fraction(0), place, self.voice.sound, is_chord=True)
        self._chord.is_staccato = "breath" in self._chord_decorations

    def _add_to_chord(
        self, head: Head | None, length: Fraction, decorations: set[str], place: Place
    ) -> None:
        chord = self._chord
        self._swung = None
        if len(chord.heads) >= MAX_CHORD_NOTES:
            raise AbcError(f"chord of more than {MAX_CHORD_NOTES} notes", *place)
        if not chord.length:
            if self._graces is None and self.hornpipe_unit:
                self._in_bar += length
            chord.length = self._held(length, decorations)
        elif self._held(length, decorations) != chord.length:
            self._report.warn("notes of a chord differ in length: its first counts", place)
        if head:
            chord.heads.append(head)

    def close_chord(self, length: Fraction, place: Place) -> None:
        """Ends the chord; `length` in units, 1 if none is written."""
        chord, self._chord = self._chord, None
        if chord is None:
            self._report.warn("] without [ is left out", place)
            return
        if length != 1:
            if chord.length not in (0, self.voice.unit * (self._factor if self._left else 1)):
                self._report.warn("chord with two lengths: the one after ] counts", place)
            chord.length = length * self.voice.unit * (self._factor if self._left else 1)
            chord.length = self._held(chord.length, self._chord_decorations)
        self._left -= self._left > 0
        self._decorations = set()
        if chord.length and self._graces is not None:
            self._add_grace(chord)
        elif chord.length:
            self.voice.add(chord)

    # ------------------------------------------------------------ grace notes

    def open_graces(self, place: Place) -> None:
        """Begins grace notes."""
        if self._chord is not None or self._graces is not None:
            self._report.warn("{ inside a chord or grace notes is left out", place)
        else:
            self._graces = []

    def _add_grace(self, unit: Unit) -> None:
        self._swung = None
        if len(self._graces) >= MAX_GRACE_NOTES:
            raise AbcError(f"more than {MAX_GRACE_NOTES} grace notes before a note", *unit.place)
        self._graces.append(unit)

    def close_graces(self, place: Place) -> None:
        """Ends the grace notes."""
        graces, self._graces = self._graces, None
        if graces is None:
            self._report.warn("} without { is left out", place)
        else:
            self.voice.add_graces(graces)

    # ------------------------------------------------------------ ties, broken rhythm, tuplets

    def tie(self, place: Place) -> None:
        """Ties the last note or chord, or the last note of an open chord, to the next."""
        if self._chord is not None:
            heads = self._chord.heads[-1:]
        else:
            unit = self._graces[-1] if self._graces else self.voice.last
            heads = unit.heads if unit and not unit.is_staccato else []
        if not heads:
            self._report.warn("tie (-) without a note, or after a staccato one, is left out", place)
        for head in heads:
            head.is_tied = True

    def broken(self, sign: str, place: Place) -> None:
        """Takes `>`, `>>`, `>>>` or their reverse."""
        if self._chord is not None or self._graces is not None:
            self._report.warn(f"{sign} inside a chord or grace notes is left out", place)
            return
        if len(sign) > 3:
            self._report.warn(f"{sign[:8]} is left out: expected at most three", place)
            return
        if len(sign) == 1:
            factors = self.voice.rules.broken
        else:
            short = Fraction(1, 4 if len(sign) == 2 else 8)
            factors = (2 - short, short)
        self.voice.break_rhythm(*(factors if sign[0] == ">" else factors[::-1]))

    def tuplet(self, p: int, q: int, r: int, place: Place) -> None:
        """Begins a tuplet: `p` in the time of `q`, for `r` units; 0 where not given."""
        if self._left:
            self._report.warn("tuplet inside a tuplet is left out", place)
        elif not (1 <= p <= MAX_DIVISOR and q <= MAX_DIVISOR) or (not q and not 2 <= p <= 9):
            expected = f"expected 2 to 9, or p:q:r up to {MAX_DIVISOR}"
            self._report.warn(f"tuplet ({p}:{q}:{r} is left out: {expected}", place)
        else:
            time = q or _TUPLET_TIME.get(p, 3 if self.is_triple else 2)
            self._factor, self._left = Fraction(time, p), r or p

    def leave(self, place: Place) -> None:
        """Ends what is open in a voice, before another goes on."""
        self._close("the end of the voice", place)
        if self._left:
            self._report.warn("tuplet is cut short by the end of the voice", place)
        self._left, self._in_bar, self._swung = 0, Fraction(0), None
