"""A score as verovio plays it -> its bars and notes, with repeats and jumps played out.

Verovio's times are those of a performance: grace notes on the beat push the next note away, and
arpeggios spread chords. Here every note begins where it is written, and grace
notes are short notes before it.

Source: the time map of verovio's reference book.
"""

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .instruments import DEFAULT_PROGRAM
from .mei_score import Event, Layer, Measure, Note, Staff

GRACE_QUARTERS = 1 / 8  # the length of a grace note, which it takes from the note before
SAME_TIME = 1e-3  # quarters, above verovio's rounding errors
_RENDITION = re.compile(r"(.*?)(-rend\d+)?", re.DOTALL)  # the suffix when played again
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
        n_left_out: Notes of drums whose sound the file does not tell.
    """

    bars: list[Bar] = field(default_factory=list)
    end: float = 0.0
    tempos: list[tuple[float, float]] = field(default_factory=list)
    parts: dict[tuple[str, int | None], list[Sound]] = field(default_factory=dict)
    n_left_out: int = 0


class TimeMap:
    """When each element of a score is played, in quarters from the start of the piece.

    Attributes:
        on: xml:id, with a suffix where it is played again -> its start.
        off: The same -> its end.
        measures: Start and xml:id, with its suffix, of each measure, in order.
        end: The end of all.
    """

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self.on: dict[str, float] = {}
        self.off: dict[str, float] = {}
        self.measures: list[tuple[float, str]] = []
        for entry in entries:
            time = float(entry["qstamp"])
            self.on |= dict.fromkeys([*entry.get("on", ()), *entry.get("restsOn", ())], time)
            self.off |= dict.fromkeys([*entry.get("off", ()), *entry.get("restsOff", ())], time)
            if "measureOn" in entry:
                self.measures.append((time, entry["measureOn"]))
        self.end = float(entries[-1]["qstamp"]) if entries else 0.0


def play(
    measures: dict[str, Measure],
    ties: dict[str, str],
    times: TimeMap,
    pitch_of: Callable[[str], int],
) -> PlayedScore:
    """Puts the notes of all measures in the order in which they are played.

    Args:
        measures: xml:id -> measure.
        ties: xml:id of the second of two tied notes -> that of the first.
        times: When each element is played.
        pitch_of: xml:id of a note -> its MIDI pitch, as it sounds.
    """
    player = _Player(ties, times, pitch_of)
    stops = [start for start, _ in times.measures[1:]] + [times.end]
    for (start, name), stop in zip(times.measures, stops, strict=True):
        measure_id, suffix = _RENDITION.fullmatch(name).groups("")
        player.play_measure(measures[measure_id], start, stop, suffix)
    score = player.score
    score.end = times.end
    if not score.tempos or score.tempos[0][0] > SAME_TIME:
        score.tempos.insert(0, (0.0, _START_TEMPO))
    return score


class _Player:
    def __init__(
        self, ties: dict[str, str], times: TimeMap, pitch_of: Callable[[str], int]
    ) -> None:
        self.score = PlayedScore()
        self._ties, self._times, self._pitch_of = ties, times, pitch_of
        self._last: dict[str, Sound] = {}  # xml:id -> its note, when it was played last
        self._lines: dict[tuple[str, str], list[Sound]] = defaultdict(list)  # (staff, layer)
        self._before: dict[str, list[tuple[int | None, Sound]]] = {}  # staff -> last measure
        self._now: dict[str, list[tuple[int | None, Sound]]] = {}
        self._start = 0.0

    def play_measure(self, measure: Measure, start: float, stop: float, suffix: str) -> None:
        self.score.bars.append(Bar(start, measure.meter))
        unit = measure.meter[1] if measure.meter else 4
        for tempo in measure.tempos:
            time = self._times.on.get(tempo.start + suffix, start + (tempo.beat - 1) * 4 / unit)
            self.score.tempos.append((time, tempo.quarters_a_minute))
        self._before, self._now = self._now, defaultdict(list)
        shift, self._start = start - self._start, start
        for layer in measure.layers:
            staff = measure.staves.get(layer.staff, _PIANO)
            if any(event.kind == "mRpt" for event in layer.events):
                for same, sound in self._before.get(layer.staff, ()):
                    again = Sound(sound.onset + shift, sound.end + shift, sound.pitch)
                    self._add(layer, same, again)
            else:
                self._play_layer(layer, staff, start, stop, suffix)

    def _play_layer(
        self, layer: Layer, staff: Staff, start: float, stop: float, suffix: str
    ) -> None:
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
            ids = [note.id + suffix for note in event.notes] or [event.id + suffix]
            onsets = [self._times.on[each] for each in ids if each in self._times.on]
            onset = min(onsets, default=place)
            if graces:
                onset = min((onset, end), key=lambda time: abs(time - place))
                self._play_graces(layer, staff, onset, graces, self._held(event))
            for note in event.notes:
                self._play_note(layer, staff, note, onset, suffix, bool(graces))
            ends = [self._times.off[each] for each in ids if each in self._times.off]
            end = max(ends, default=onset + (event.quarters or 0))
            place = onset + event.quarters if event.quarters else end
            graces = []
        if graces:
            self._play_graces(layer, staff, stop, graces, [])

    def _held(self, event: Event) -> list[Sound]:
        """Returns the notes that are tied to those of an event."""
        starts = (self._ties.get(note.id, "") for note in event.notes)
        return [self._last[start] for start in starts if start in self._last]

    def _play_note(
        self,
        layer: Layer,
        staff: Staff,
        note: Note,
        onset: float,
        suffix: str,
        has_graces: bool,
    ) -> None:
        end = self._times.off.get(note.id + suffix)
        if end is None:
            return  # verovio does not play it
        if note.is_silent:
            self.score.n_left_out += 1
            return
        pitch = self._sounding(note, staff)
        held = self._last.get(self._ties.get(note.id, ""))
        is_next = held and (abs(held.end - onset) < SAME_TIME or has_graces)
        if is_next and held.pitch == pitch and held.onset < onset < end:
            held.end = end
            self._last[note.id] = held
            return
        sound = self._last[note.id] = Sound(onset, end, pitch)
        self._add(layer, None if note.is_drum else staff.program, sound)

    def _sounding(self, note: Note, staff: Staff) -> int:
        return self._pitch_of(note.id) + (0 if note.is_drum else staff.semitones)

    def _play_graces(
        self,
        layer: Layer,
        staff: Staff,
        onset: float,
        graces: list[Event],
        held: list[Sound],
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
                if note.is_silent:
                    self.score.n_left_out += 1
                    continue
                sound = Sound(begin, begin + GRACE_QUARTERS, self._sounding(note, staff))
                self._add(layer, None if note.is_drum else staff.program, sound)

    def _add(self, layer: Layer, program: int | None, sound: Sound) -> None:
        self.score.parts.setdefault((layer.staff, program), []).append(sound)
        self._lines[layer.staff, layer.number].append(sound)
        self._now[layer.staff].append((program, sound))
