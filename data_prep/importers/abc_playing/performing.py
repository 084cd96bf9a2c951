"""A tune as read -> a score: its voices as they are played."""

from fractions import Fraction

from ...dialect.notation import AbcError, key_alterations
from ..abc_text.events import BAR_LINES, Event, Mark, MeterChange, Sign, TempoChange, Unit
from ..abc_text.key_field import Key
from ..abc_text.tune_reader import Read
from ..report import Report
from ..score import BarLine, Score, ScoreNote, ScoreVoice
from .playing import MAX_PLAYED, TOO_LONG, play
from .sounding import ornament_notes, sound


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
    streams = [stream for voice in read.voices for stream in voice.streams]
    start, meter = Fraction(0), header.meter if header.has_meter else None
    score = Score([], [(start, meter)], [(start, header.tempo)], [], header.place)
    n_notes = n_played = 0
    for stream in streams:
        events = sound(stream.events, report)
        performer = _Performer(read, score, follows_changes=stream is streams[0])
        for event in play(events, header.parts, len(streams) == 1, report):
            n_notes += performer.take(event)
            n_played += 1
            if n_notes > max_notes:
                raise AbcError(f"more than {max_notes:,} notes, repeats played", *header.place)
            if n_played > MAX_PLAYED:
                raise AbcError(TOO_LONG, *header.place)
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
        notes, n_before = self.voice.notes, len(self.voice.notes)
        for head in unit.heads:
            if head.sounding and head.ornament is None:
                notes.append(self._note(self.time, head.sounding, head.pitch, unit))
            elif head.sounding:
                header = self._read.header
                for after, duration, pitch in ornament_notes(head, header.unit, header.tempo):
                    notes.append(self._note(self.time + after, duration, pitch, unit))
        self.time += unit.length
        return len(notes) - n_before

    def _note(self, onset: Fraction, duration: Fraction, pitch: int, unit: Unit) -> ScoreNote:
        return ScoreNote(onset, duration, pitch, unit.program, unit.place)


def _signatures(keys: list[tuple[Key, int]]) -> list[int]:
    """Returns the signatures of keys that have one, transposed as they sound, each once."""
    found = {}
    for key, semitones in keys:
        for sharps in range(-7, 8):
            if key_alterations(sharps) == key.alterations:
                found[(sharps + 7 * semitones + 5) % 12 - 5 if semitones else sharps] = None
    return list(found)
