"""A tune as read -> a score: its voices as they are played."""

from fractions import Fraction

from ...dialect.notation import AbcError, key_alterations
from ..report import Report
from ..score import BarLine, Score, ScoreNote, ScoreVoice
from .events import BAR_LINES, Event, Mark, MeterChange, Sign, TempoChange, Unit
from .key_field import Key
from .playing import play
from .sounding import played_notes, sound
from .tune_reader import Read


def perform(read: Read, report: Report, max_notes: int) -> Score:
    """Plays a tune out.

    Args:
        read: The tune.
        report: Takes the warnings.
        max_notes: Limit of notes.

    Raises:
        AbcError: If it has no notes, or too many.
    """
    header = read.header
    streams = [(voice, stream) for voice in read.voices for stream in voice.streams]
    score = Score([], [(Fraction(0), header.meter)], [(Fraction(0), header.tempo)], [], header.place)
    n_notes = 0
    for voice, stream in streams:
        is_first = stream is read.voices[0].streams[0]
        events = sound(stream.events, report)
        performer = _Performer(read, score, follows_changes=is_first)
        for event in play(events, header.parts, len(streams) == 1, report):
            n_notes += performer.take(event)
            if n_notes > max_notes:
                raise AbcError(f"more than {max_notes:,} notes, repeats played", *header.place)
        performer.voice.end = performer.time
        score.voices.append(performer.voice)
    if not n_notes:
        raise AbcError("the tune has no notes", *header.place)
    score.signatures = _signatures(read.keys)
    return score


class _Performer:
    """Plays the events of one voice."""

    def __init__(self, read: Read, score: Score, follows_changes: bool) -> None:
        self._read, self._score, self._follows_changes = read, score, follows_changes
        self.voice = ScoreVoice()
        self.time = Fraction(0)

    def take(self, event: Event) -> int:
        """Plays an event; returns the number of its notes."""
        if isinstance(event, Unit):
            return self._unit(event)
        if isinstance(event, Mark):
            if event.sign in BAR_LINES:
                is_plain = event.sign is Sign.BAR
                self.voice.bar_lines.append(BarLine(self.time, is_plain, event.place))
        elif self._follows_changes and isinstance(event, MeterChange):
            self._score.meters.append((self.time, event.meter))
        elif self._follows_changes and isinstance(event, TempoChange):
            self._score.tempos.append((self.time, event.tempo))
        return 0

    def _unit(self, unit: Unit) -> int:
        n_before = len(self.voice.notes)
        header = self._read.header
        for head in unit.heads:
            if not head.sounding:
                continue
            for after, duration, pitch in played_notes(head, header.unit, header.tempo):
                if unit.program is None:
                    pitch = self._read.drum_map.get(pitch, pitch)
                onset = self.time + after
                note = ScoreNote(onset, duration, pitch, unit.program, unit.place)
                self.voice.notes.append(note)
        self.time += unit.length
        return len(self.voice.notes) - n_before


def _signatures(keys: list[tuple[Key, int]]) -> list[int]:
    """Returns the signatures of keys that have one, transposed as they sound, each once."""
    found = {}
    for key, semitones in keys:
        for sharps in range(-7, 8):
            if key_alterations(sharps) == key.alterations:
                found[(sharps + 7 * semitones + 5) % 12 - 5 if semitones else sharps] = None
    return list(found)
