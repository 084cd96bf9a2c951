"""The lines of one tune -> its voices: fields, directives, music.

As in abc2midi, the first K: ends the header, an empty line the tune.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from ...dialect.notation import AbcError
from ..report import Place, Report
from .directives import Directives
from .events import Mark, MeterChange, Sign, TempoChange
from .fields import (
    MAX_FIELD_CHARS,
    MAX_PARTS,
    FieldError,
    read_meter,
    read_symbol,
    read_tempo,
    read_unit,
)
from .header import Header, read_header
from .key_field import Key, read_key, read_properties
from .lines import Kind, Line
from .music_line import MusicLine
from .note_builder import SWING, NoteBuilder
from .voice import Rules, Voice

MAX_VOICES = 100
_NOTE = re.compile(r"[A-Ga-gz]")


@dataclass
class Read:
    """A tune as read, before its repeats are played out.

    Attributes:
        header: What its header says.
        voices: In the order in which they are named.
        keys: All keys named, with the transposition in semitones where they stand.
    """

    header: Header
    voices: list[Voice]
    keys: list[tuple[Key, int]]


def read_tune(lines: Iterator[Line], defaults: Iterable[Line], report: Report) -> Read:
    """Reads a tune.

    Args:
        lines: Of the tune.
        defaults: Of the file's header.
        report: Takes the warnings.

    Raises:
        AbcError: If it cannot be read.
    """
    header = read_header(lines, defaults, report)
    return _Body(header, report).read(lines)


class _Body:
    """Reads what follows the header; its state is the current voice."""

    def __init__(self, header: Header, report: Report) -> None:
        self.header, self.report, self.rules = header, report, Rules()
        self.rules.semitones = header.key.properties.semitones or 0
        header.key.properties.semitones = None
        self.directives = Directives(self.rules, report)
        self.parts: list[Mark] = []  # so far, for voices that begin later
        self.voices: dict[str, Voice] = {}
        self.is_named = False
        voice = self._new_voice("1", header.place)
        self.keys = [(header.key, voice.semitones)]
        is_triple = (header.meter or (4, 4))[0] % 3 == 0
        self.builder = NoteBuilder(voice, report, is_triple)
        self.music = MusicLine(self.builder, report)
        if header.is_hornpipe:
            self.rules.broken = SWING
            if header.meter in ((2, 4), (4, 4)):
                self.builder.hornpipe_unit = Fraction(header.meter[0], 32)

    def read(self, lines: Iterator[Line]) -> Read:
        for line in self.header.deferred:
            self._line(line)
        self.builder.voice = next(iter(self.voices.values()))
        self.directives.in_body = True
        place = self.header.place
        for line in lines:
            if line.kind is Kind.EMPTY:
                break
            self._line(line)
            place = line.place
        self.builder.leave(place)
        self._look_behind_the_end(lines)
        voices = list(self.voices.values())
        return Read(self.header, voices, self.keys)

    def _look_behind_the_end(self, lines: Iterator[Line]) -> None:
        for line in lines:
            before, bar_line, _ = line.text.partition("|")
            if line.kind is Kind.MUSIC and bar_line and _NOTE.search(before):
                message = "this line after the empty line that ends the tune is left out"
                self.report.warn(message, line.place)
                return

    def _line(self, line: Line) -> None:
        if line.kind is Kind.DIRECTIVE:
            self.directives.read(line.text, self.builder.voice, line.place)
        elif line.kind is Kind.FIELD:
            self._field(line.letter, line.text, line.place)
        else:
            for field in self.music.read(line.text, *line.place):
                self._field(*field)

    # ------------------------------------------------------------ fields

    def _field(self, letter: str, text: str, place: Place) -> None:
        """Applies a field; those that say nothing of the music are left out."""
        reader = _FIELDS.get(letter)
        if reader:
            try:
                reader(self, text.strip()[:MAX_FIELD_CHARS], place)
            except FieldError as error:
                self.report.warn(str(error), place)

    def _key(self, text: str, place: Place) -> None:
        key = read_key(text)
        for complaint in key.complaints:
            self.report.warn(complaint, place)
        if key.properties.octaves is not None:
            self.report.warn("octave= in a K: after the first is left out", place)
        self.builder.voice.set_key(key)
        if key.sharps is not None:
            self.keys.append((key, self.builder.voice.semitones))

    def _meter(self, text: str, place: Place) -> None:
        voice = self.builder.voice
        voice.meter = read_meter(text, place)
        voice.change(MeterChange(voice.meter))

    def _unit(self, text: str, place: Place) -> None:
        self.builder.voice.unit = read_unit(text, place)

    def _tempo(self, text: str, place: Place) -> None:
        tempo = read_tempo(text, self.header.unit, place)
        self.builder.voice.change(TempoChange(tempo))

    def _directive(self, text: str, place: Place) -> None:
        self.directives.read(text, self.builder.voice, place)

    def _symbol(self, text: str, place: Place) -> None:
        symbol = read_symbol(text)
        if symbol:
            self.music.symbols[symbol[0]] = symbol[1]
        else:
            self.report.warn(f"U:{text[:20]} is left out: expected U: T = !trill!", place)

    def _macro(self, text: str, place: Place) -> None:
        self.report.warn("macros (m:) are not expanded", place)

    def _part(self, text: str, place: Place) -> None:
        """Begins a part, in all voices; the first of them goes on."""
        if not "A" <= text[:1] <= "Z":
            self.report.warn(f"part {text[:20]!r} is left out: expected a letter A-Z", place)
            return
        if len(self.parts) >= MAX_PARTS:
            raise AbcError(f"more than {MAX_PARTS:,} parts", *place)
        mark = Mark(Sign.PART, place, label=text[0])
        self.parts.append(mark)
        for voice in self.voices.values():
            voice.mark(mark)
        self._go_to(next(iter(self.voices.values())), place)

    # ------------------------------------------------------------ voices

    def _voice(self, text: str, place: Place) -> None:
        label, *rest = text.split(maxsplit=1) or [""]
        if not label:
            self.report.warn("V: names no voice and is left out", place)
            return
        if not self.is_named:  # the first to be named is the one that is there
            self.is_named = True
            first = self.voices.pop("1")
            number = "1" if label.isdecimal() and label != "1" else label
            self.voices[number] = first
        voice = self.voices.get(label) or self._new_voice(label, place)
        self._go_to(voice, place)
        _, properties = read_properties("".join(rest))
        for unknown in properties.unknown:
            self.report.warn(f"{unknown} in V: is left out", place)
        voice.set_properties(properties)

    def _new_voice(self, label: str, place: Place) -> Voice:
        if len(self.voices) >= MAX_VOICES:
            raise AbcError(f"more than {MAX_VOICES} voices", *place)
        header = self.header
        voice = Voice(header.key, header.unit, header.meter, self.rules, self.report)
        for mark in self.parts:
            voice.mark(mark)
        self.voices[label] = voice
        return voice

    def _go_to(self, voice: Voice, place: Place) -> None:
        if voice is not self.builder.voice:
            self.builder.leave(place)
            self.builder.voice = voice


_FIELDS: dict[str, Callable[[_Body, str, Place], None]] = {
    "K": _Body._key,
    "M": _Body._meter,
    "L": _Body._unit,
    "Q": _Body._tempo,
    "V": _Body._voice,
    "P": _Body._part,
    "I": _Body._directive,
    "U": _Body._symbol,
    "m": _Body._macro,
}
