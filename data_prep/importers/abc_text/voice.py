"""One voice while it is read: its pitches, and the events that it has so far.

Accidentals, broken rhythm and overlays are abc2midi's: an accidental holds to the end of the bar in
all octaves; `>` lengthens one unit and shortens the next if both are equally long; `&` goes back to
the last bar line, in a stream of its own.
"""

from dataclasses import dataclass, field
from fractions import Fraction

from ...dialect.notation import DRUM_CHANNEL, LETTER_PITCH_CLASS, LETTERS, AbcError
from ..report import Place, Report
from .events import BAR_LINES, Event, Graces, Head, Mark, MeterChange, Stream, TempoChange, Unit
from .key_field import Key, Properties

MAX_OVERLAYS = 8
MAX_EVENTS = 100_000  # notes, bar lines and changes of a tune, as written
MIDDLE_C = 60


@dataclass
class Rules:
    """What holds for all voices of a tune, and can be set by its fields and directives.

    Attributes:
        accidentals: How far an accidental reaches to the end of its bar: `not` beyond its note,
            `octave` in its octave, `pitch` in all octaves.
        broken: Factors of the two units of `>`.
        grace_share: Part of its written length that a grace note gets.
        grace_of_host: Whether that is a part of the unit after it, for all its grace notes.
        semitones: Transposition of all voices.
        fixed_fermata: Whether a fermata adds one unit of length instead of doubling its note.
        program_base: The number that means General MIDI program 0.
        middle_c: MIDI pitch of `C`.
        drum_map: MIDI pitch -> drum, for the notes that follow.
        n_events: Events of all voices so far.
    """

    accidentals: str = "pitch"
    broken: tuple[Fraction, Fraction] = (Fraction(3, 2), Fraction(1, 2))
    grace_share: Fraction = Fraction(1, 4)
    grace_of_host: bool = False
    semitones: int = 0
    fixed_fermata: bool = False
    program_base: int = 0
    middle_c: int = MIDDLE_C
    drum_map: dict[int, int] = field(default_factory=dict)
    n_events: int = 0


@dataclass
class Pitch:
    """A pitch as written.

    Attributes:
        letter: A capital.
        octave: 0 for the octave above middle C.
        alteration: Of an explicit accidental; None without one.
    """

    letter: str
    octave: int
    alteration: int | None


class Voice:
    """A voice of the tune.

    Attributes:
        unit: Whole notes of the unit length.
        meter: The meter in force, None for free.
        program: General MIDI program.
        channel: MIDI channel, 1-16, if it is set; 10 plays drums.
        midi_semitones: Transposition by `%%MIDI transpose` in the music; None without it.
        last: The last unit, for ties; None after none.
        streams: The voice itself, then its overlays.
    """

    def __init__(
        self, key: Key, unit: Fraction, meter: tuple[int, int] | None, rules: Rules, report: Report
    ) -> None:
        self.unit, self.meter, self.rules, self.report = unit, meter, rules, report
        self.program, self.channel, self.midi_semitones = 0, None, None
        self.last: Unit | None = None
        self.streams = [Stream()]
        self._octaves, self._clef_octaves, self._semitones = 0, 0, 0
        self._key = dict(key.alterations)
        self._altered: dict[tuple[str, int | None], int] = {}
        self._layer = 0
        self._before: Unit | None = None  # the last unit, for broken rhythm
        self._broken: tuple[Fraction, Fraction] | None = None
        # per stream, where `&` goes back to: number of events, time
        self._starts = [(0, Fraction(0))]
        self._is_extended = False
        self.set_properties(key.properties)

    # ------------------------------------------------------------ pitches

    def set_key(self, key: Key) -> None:
        """Changes the key here."""
        if key.sharps is not None:
            self._key = dict(key.alterations)
            self._altered.clear()
        if key.properties.clef_octaves is not None:
            self._clef_octaves = key.properties.clef_octaves
        if key.properties.semitones is not None:
            self._semitones = key.properties.semitones

    def set_properties(self, properties: Properties) -> None:
        """Sets clef, octave and transposition, where given: of the header's K:, or of V:.

        The octave of a clef gives way to `octave=`, and that of a later K: to both.
        """
        octaves = (properties.octaves, properties.clef_octaves)
        self._octaves = next((each for each in octaves if each is not None), self._octaves)
        if properties.semitones is not None:
            self._semitones = properties.semitones

    @property
    def is_drums(self) -> bool:
        """Whether its notes are drums."""
        return self.channel == DRUM_CHANNEL

    @property
    def semitones(self) -> int:
        """By how much its notes sound higher than written."""
        if self.is_drums:
            return 0
        own = self.midi_semitones
        return self._semitones + (self.rules.semitones if own is None else own)

    def head(self, pitch: Pitch) -> Head:
        """Returns the pitch as it sounds here; its accidental, if it has one, then holds."""
        octave, natural = self._natural(pitch)
        place = (pitch.letter, octave if self.rules.accidentals == "octave" else None)
        if pitch.alteration is None:
            alteration = self._altered.get(place, self._key[pitch.letter])
        else:
            alteration = pitch.alteration
            if self.rules.accidentals != "not":
                self._altered[place] = alteration
        sounding = natural + alteration + self.semitones
        if self.is_drums:
            sounding = self.rules.drum_map.get(sounding, sounding)
        return Head(sounding, natural)

    def _natural(self, pitch: Pitch) -> tuple[int, int]:
        """Returns octave and MIDI pitch without accidentals and transposition."""
        octave = pitch.octave + (self._octaves or self._clef_octaves)
        return octave, self.rules.middle_c + 12 * octave + LETTER_PITCH_CLASS[pitch.letter]

    def neighbors(self, pitch: Pitch) -> tuple[int, int]:
        """Returns the pitches of the letters above and below, for ornaments."""
        _, natural = self._natural(pitch)
        above, below = (self._neighbor(pitch.letter, natural, step) for step in (1, -1))
        return min(above + self.semitones, 127), max(below + self.semitones, 0)

    def _neighbor(self, letter: str, natural: int, step: int) -> int:
        """Returns the pitch of the next letter, by the key signature alone."""
        octaves, place = divmod(LETTERS.index(letter) + step, len(LETTERS))
        other = LETTERS[place]
        c = natural - LETTER_PITCH_CLASS[letter] + 12 * octaves
        return c + LETTER_PITCH_CLASS[other] + self._key[other]

    # ------------------------------------------------------------ units

    def add(self, unit: Unit) -> None:
        """Adds a note, chord or rest."""
        stream = self.streams[self._layer]
        if self._broken and self._before:
            self._break_rhythm(self._before, unit, stream)
        self._broken = None
        self._before = self.last = unit
        self._append(stream, unit)
        stream.time += unit.length

    def _append(self, stream: Stream, event: Event) -> None:
        stream.events.append(event)
        self.rules.n_events += 1
        if self.rules.n_events > MAX_EVENTS:
            place = event.place if isinstance(event, Unit | Mark) else (1, 1)
            raise AbcError(f"more than {MAX_EVENTS:,} notes and bar lines", *place)

    def _break_rhythm(self, first: Unit, second: Unit, stream: Stream) -> None:
        """Lengthens one unit and shortens the other, if abc2midi does.

        It compares their lengths, and takes a staccato note for half as long; chords go with all.
        """
        has_chord = first.is_chord or second.is_chord
        lengths = [unit.length / (1 + unit.is_staccato) for unit in (first, second)]
        if not has_chord and lengths[0] != lengths[1]:
            message = "broken rhythm between unequal lengths (staccato counts half) is left out"
            self.report.warn(message, second.place)
        else:
            stream.time -= first.length
            first.length *= self._broken[0]
            second.length *= self._broken[1]
            stream.time += first.length

    def break_rhythm(self, first: Fraction, second: Fraction) -> None:
        """Multiplies the lengths of the last unit and the next one, if they are equal."""
        self._broken = (first, second)

    def add_graces(self, units: list[Unit]) -> None:
        """Adds grace notes to the unit that follows."""
        if units:
            self.last = units[-1]
            graces = Graces(units, self.rules.grace_share, self.rules.grace_of_host)
            self._append(self.streams[self._layer], graces)

    def rest(self, length: Fraction, place: Place) -> Unit:
        """Returns a rest."""
        return Unit([], length, place, self.sound)

    @property
    def sound(self) -> int | None:
        """General MIDI program; None for drums."""
        return None if self.is_drums else self.program

    # ------------------------------------------------------------ bar lines and overlays

    def mark(self, mark: Mark) -> None:
        """Adds a sign to the voice and its overlays; a bar line ends overlays and accidentals."""
        if mark.sign not in BAR_LINES:
            self._add_to_all(mark)
            return
        self._altered.clear()
        if self._is_extended and self._layer:
            self._append(self.streams[self._layer], mark)
            return
        self._layer = 0
        self._add_to_all(mark)
        if not self._is_extended:
            self._starts = self._ends()

    def change(self, change: MeterChange | TempoChange) -> None:
        """Adds a change of meter or tempo."""
        self._append(self.streams[0], change)

    def _add_to_all(self, mark: Mark) -> None:
        """Adds a sign to the voice and, at the same time, to its overlays."""
        for stream in self.streams:
            self._fill(stream, self.streams[0].time)
            self._append(stream, mark)

    def _fill(self, stream: Stream, time: Fraction) -> None:
        """Fills a stream with silence up to a time."""
        if stream.time < time:
            self._append(stream, self.rest(time - stream.time, (1, 1)))
            stream.time = time

    def _ends(self) -> list[tuple[int, Fraction]]:
        return [(len(stream.events), stream.time) for stream in self.streams]

    def overlay(self, place: Place) -> None:
        """Goes back to the last bar line, or to `(&`, in the next overlay."""
        if self._layer + 1 > MAX_OVERLAYS:
            raise AbcError(f"more than {MAX_OVERLAYS} overlays (&) in a bar", *place)
        self._layer += 1
        self._altered.clear()
        self._before = self._broken = None
        if self._layer == len(self.streams):
            n_events, time = self._starts[0]
            events = [_silent(event) for event in self.streams[0].events[:n_events]]
            self.streams.append(Stream([event for event in events if event], time))
            self.rules.n_events += len(self.streams[-1].events)
            self._starts.append((len(self.streams[-1].events), time))
        elif self._is_extended:
            n_events, time = self._starts[self._layer]
            stream = self.streams[self._layer]
            del stream.events[n_events:]
            stream.time = time

    def start_extended_overlay(self) -> None:
        """Makes this the place to which `&` goes back, until `&)`: `(&`."""
        self._layer, self._is_extended = 0, True
        for stream in self.streams:
            self._fill(stream, self.streams[0].time)
        self._starts = self._ends()

    def stop_extended_overlay(self) -> None:
        """Ends the overlay of several bars: `&)`."""
        self._layer, self._is_extended = 0, False
        for stream in self.streams:
            self._fill(stream, self.streams[0].time)


def _silent(event: Event) -> Unit | Mark | None:
    """Returns what an overlay that begins later has in the place of an event."""
    if isinstance(event, Unit):
        return Unit([], event.length, event.place, event.program)
    return event if isinstance(event, Mark) else None
