"""The measures of a score, as verovio plays each -> bars and notes, in the order of playing.

Verovio's times are those of a performance: grace notes on the beat push the next note away, and
arpeggios spread chords. Here every note begins where it is written, and grace
notes are short notes before it.

Source: the time map of verovio's reference book.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .instruments import DEFAULT_PROGRAM
from .mei_score import Event, Layer, Measure, Note, Staff

GRACE_QUARTERS = 1 / 8  # the length of a grace note, which it takes from the note before
SAME_TIME = 1e-3  # quarters, above verovio's rounding errors
_PIANO = Staff(DEFAULT_PROGRAM, 0)  # where a staff is not defined
_START_TEMPO = 120.0  # quarters a minute, as MIDI has it where a file names none


@dataclass(eq=False)
class Sound:
    """A note as it sounds; ties are joined.

    Attributes:
        onset: Quarters from the start of the piece.
        end: The same.
        pitch: MIDI pitch.
    """

    onset: float
    end: float
    pitch: int


class Bar(NamedTuple):
    """A bar.

    Attributes:
        start: Quarters from the start of the piece.
        meter: Numerator and denominator in force; None without any.
    """

    start: float
    meter: tuple[int, int] | None


@dataclass
class PlayedScore:
    """A score as it is played.

    Attributes:
        bars: In order.
        end: Quarters from the start of the piece.
        tempos: (quarters from the start of the piece, quarters a minute); the first is at 0.
        parts: (staff, General MIDI program or None for drums) -> notes.
        n_left_out: Notes without a pitch in the range of MIDI: drums whose sound the file does not
            tell.
    """

    bars: list[Bar] = field(default_factory=list)
    end: float = 0.0
    tempos: list[tuple[float, float]] = field(default_factory=list)
    parts: dict[tuple[str, int | None], list[Sound]] = field(default_factory=dict)
    n_left_out: int = 0


class TimeMap:
    """When each element of a score is played, in quarters from the start of the piece, once.

    Attributes:
        on: xml:id -> its start.
        off: xml:id -> its end.
        measures: Start, xml:id and end of each measure, in order.
    """

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self.on: dict[str, float] = {}
        self.off: dict[str, float] = {}
        starts: list[tuple[float, str]] = []
        for entry in entries:
            time = float(entry["qstamp"])
            self.on |= dict.fromkeys([*entry.get("on", ()), *entry.get("restsOn", ())], time)
            self.off |= dict.fromkeys([*entry.get("off", ()), *entry.get("restsOff", ())], time)
            if "measureOn" in entry:
                starts.append((time, entry["measureOn"]))
        end = float(entries[-1]["qstamp"]) if entries else 0.0
        stops = [start for start, _ in starts[1:]] + [end]
        self.measures = [(*each, stop) for each, stop in zip(starts, stops, strict=False)]


def play(
    measures: dict[str, Measure], ties: dict[str, str], times: TimeMap, order: Iterable[int]
) -> PlayedScore:
    """Puts the notes of all measures in the order in which they are played.

    Args:
        measures: xml:id -> measure.
        ties: xml:id of the second of two tied notes -> that of the first.
        times: When each element is played.
        order: Places of the measures in `times.measures`.
    """
    player = _Player(ties, times)
    for place in order:
        start, name, stop = times.measures[place]
        player.play_measure(measures[name], start, stop)
    score = player.score
    if not score.tempos or score.tempos[0][0] > SAME_TIME:
        score.tempos.insert(0, (0.0, _START_TEMPO))
    return score


class _Player:
    def __init__(self, ties: dict[str, str], times: TimeMap) -> None:
        self.score = PlayedScore()
        self._ties, self._times = ties, times
        # xml:id -> its note, when it was played last, and the shift then
        self._last: dict[str, tuple[Sound, float]] = {}
        self._lines: dict[tuple[str, str], list[Sound]] = defaultdict(list)  # (staff, layer)
        self._before: dict[str, list[tuple[int | None, Sound]]] = {}  # staff -> last measure
        self._now: dict[str, list[tuple[int | None, Sound]]] = {}
        self._shift = 0.0  # of times in the time map

    def play_measure(self, measure: Measure, start: float, stop: float) -> None:
        """Plays a measure that is from `start` to `stop` in the time map."""
        before = self.score.bars[-1].start if self.score.bars else 0.0
        self._shift = self.score.end - start
        self.score.bars.append(Bar(self.score.end, measure.meter))
        unit = measure.meter[1] if measure.meter else 4
        for tempo in measure.tempos:
            time = self._times.on.get(tempo.start, start + (tempo.beat - 1) * 4 / unit)
            self.score.tempos.append((time + self._shift, tempo.quarters_a_minute))
        self._before, self._now = self._now, defaultdict(list)
        shift = self.score.end - before
        self.score.end += stop - start
        for layer in measure.layers:
            staff = measure.staves.get(layer.staff, _PIANO)
            if any(event.kind == "mRpt" for event in layer.events):
                for same, sound in self._before.get(layer.staff, ()):
                    again = Sound(sound.onset + shift, sound.end + shift, sound.pitch)
                    self._add_sound(layer, same, again)
            else:
                self._play_layer(layer, staff, start + self._shift, self.score.end)

    def _play_layer(self, layer: Layer, staff: Staff, start: float, stop: float) -> None:
        """Plays a layer.

        Grace notes are played before or after the time where they stand: the event after them
        begins late, or the one before ends early. It stands where, by its note value, the event
        before it ends.
        """
        end = place = start  # of the event before: where it ends, as played and as written
        graces: list[Event] = []
        for event in layer.events:
            if event.is_grace:
                graces.append(event)
                continue
            ids = [note.id for note in event.notes] or [event.id]
            onset = min(self._shifted(self._times.on, ids), default=place)
            if graces:
                onset = min((onset, end), key=lambda time: abs(time - place))
                held = [self._held(note) for note in event.notes]
                self._play_graces(layer, staff, onset, graces, held)
            for note in event.notes:
                self._play_note(layer, staff, note, onset)
            ends = self._shifted(self._times.off, ids)
            end = max(ends, default=onset + (event.quarters or 0))
            place = onset + event.quarters if event.quarters else end
            graces = []
        if graces:
            self._play_graces(layer, staff, stop, graces, [])

    def _shifted(self, times: dict[str, float], ids: list[str]) -> list[float]:
        """Returns those times of elements that are known, in the piece as it is played."""
        return [times[each] + self._shift for each in ids if each in times]

    def _play_note(self, layer: Layer, staff: Staff, note: Note, onset: float) -> None:
        ends = self._shifted(self._times.off, [note.id])
        pitch = self._sounding(note, staff) if ends else None
        if pitch is None:
            return
        held = self._held(note)
        if held and held.pitch == pitch and held.onset < onset < ends[0]:
            held.end = ends[0]
            self._last[note.id] = held, self._shift
            return
        self._add(layer, staff, note, Sound(onset, ends[0], pitch))

    def _held(self, note: Note) -> Sound | None:
        """Returns the note that is tied to another one, unless one jumped in between."""
        found, shift = self._last.get(self._ties.get(note.id, ""), (None, 0.0))
        return found if abs(shift - self._shift) < SAME_TIME else None

    def _sounding(self, note: Note, staff: Staff) -> int | None:
        """Returns the MIDI pitch that sounds; None, and counts the note, if there is none."""
        shift = 0 if note.is_drum else staff.semitones
        if note.pitch is None or not 0 <= note.pitch + shift < 128:
            self.score.n_left_out += 1
            return None
        return note.pitch + shift

    def _play_graces(
        self,
        layer: Layer,
        staff: Staff,
        onset: float,
        graces: list[Event],
        held: list[Sound | None],
    ) -> None:
        """Plays grace notes before a place; notes before end where they begin, unless tied over."""
        start = max(0.0, onset - GRACE_QUARTERS * len(graces))
        for sound in reversed(self._lines[layer.staff, layer.number]):
            if sound.end < onset - SAME_TIME:
                break
            if sound.onset < start - SAME_TIME and sound not in held:
                sound.end = min(sound.end, start)
        for number, event in enumerate(graces):
            begin = start + number * GRACE_QUARTERS
            for note in event.notes:
                if (pitch := self._sounding(note, staff)) is not None:
                    sound = Sound(begin, begin + GRACE_QUARTERS, pitch)
                    self._add(layer, staff, note, sound)

    def _add(self, layer: Layer, staff: Staff, note: Note, sound: Sound) -> None:
        self._last[note.id] = sound, self._shift
        self._add_sound(layer, None if note.is_drum else staff.program, sound)

    def _add_sound(self, layer: Layer, program: int | None, sound: Sound) -> None:
        self.score.parts.setdefault((layer.staff, program), []).append(sound)
        self._lines[layer.staff, layer.number].append(sound)
        self._now[layer.staff].append((program, sound))
