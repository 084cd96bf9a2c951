"""ABC text of our dialect, in either layout -> `Tune`; the inverse of `tune.print_tune`."""

import re
from fractions import Fraction

from .bar_reader import bar_reader
from .notation import (
    CHORD_ATTACK_LINE,
    DEFAULT_METER,
    DEFAULT_TEMPO,
    DRUM_CHANNEL,
    INLINE_FIELD,
    KEYS,
    MIDI_LINE,
    MIDI_RANGES,
    SHORTEST_TICKS,
    SILENCE,
    UNIT_LINE,
    VOICE_ID,
    VOICE_LINE,
    VOICE_MARK,
    AbcError,
    plain_text,
    read_tempo,
)
from .tune import Meter, Tune, Voice, tempo_line

MAX_VOICE_BARS = 4_000_000  # more than `limits.Limits` allows to be written

_BAR_LINE = re.compile(r"\|\]|\|")


def parse_tune(abc: str) -> Tune:
    """Reads a tune of our dialect in either layout.

    Bars are kept as text here; `read_bars` reads their notes. Any line endings are accepted.

    Raises:
        AbcError: With line and column, if the text is not in the dialect, or voices disagree on the
            meter or tempo of a bar.
    """
    return _Parser(abc).tune()


class _Parser:
    """Reads line by line; its state is the voice and bar to which the next bar text belongs."""

    def __init__(self, abc: str) -> None:
        self.lines = plain_text(abc).split("\n")
        self.key: str | None = None
        self.meters: dict[int, Meter] = {}
        self.tempos: dict[int, Fraction] = {}
        self.voices: dict[int, Voice] = {}
        self.marks: dict[str, int] = {}  # beginning of a voice's bar -> voice number
        self.voice: Voice | None = None
        self.origins: dict[tuple[int, int], tuple[int, int]] = {}
        self.bars_layout = False
        self.first_rests: set[int] = set()  # lengths of silent first bars
        self.n_bars = 0  # bars read so far, in the bars layout

    def tune(self) -> Tune:
        for number, text in enumerate(self.lines, start=1):
            if not text.strip():
                continue
            if self.key is None:
                self._header_line(text, number)
            elif (match := VOICE_LINE.fullmatch(text)) and not self.bars_layout:
                self._open_voice(int(match[1]), number)
            elif match := MIDI_LINE.fullmatch(text):
                self._midi_line(match, number)
            elif text[:2] in ("M:", "Q:", "L:") and not self.bars_layout:
                self._field_line(text, number)
            elif text.startswith("[V:"):
                self._bars_line(text, number)
            else:
                self._voice_text(text, number)
        if self.key is None:
            raise AbcError("no K: field, expected the header to end in one", len(self.lines))
        self.n_bars = max((len(voice.bars) for voice in self.voices.values()), default=0)
        self._check_size(len(self.lines))
        for voice in self.voices.values():
            voice.bars += [""] * (self.n_bars - len(voice.bars))
        self.meters.setdefault(0, Meter(*DEFAULT_METER))
        self.tempos.setdefault(0, Fraction(DEFAULT_TEMPO, 4))
        voices = list(self.voices.values())
        return Tune(self.key, self.meters, self.tempos, voices, self._pickup(voices), self.origins)

    def _header_line(self, text: str, number: int) -> None:
        name, value = text[:2], text[2:].strip()
        if name == "M:":
            self.meters[0] = Meter.parse(value, number, 3)
        elif name == "Q:":
            self.tempos[0] = _parse_tempo(value, number, 3)
        elif name == "L:":
            _check_unit(value, number)
        elif name == "K:":
            if value not in KEYS:
                raise AbcError(f"key {value!r}, expected one of {' '.join(KEYS)}", number, 3)
            self.key = value
        elif name != "X:" and text != CHORD_ATTACK_LINE:
            raise AbcError(f"{text[:20]!r} is no header line of the dialect", number)

    def _field_line(self, text: str, number: int) -> None:
        """Reads a change of meter or tempo in the voices layout, which applies to the next bar."""
        if self.voice is None:
            raise AbcError(f"{text[:20]!r} outside a voice", number)
        value, bar = text[2:].strip(), len(self.voice.bars)
        if text[0] == "L":
            _check_unit(value, number)
        else:
            if text[0] == "M" and not bar and len(self.voices) == 1:
                self.meters.pop(0, None)  # the header's is for abcjs: `notation.header_meter`
            self._change(text[0], value, bar, number, (1, 3))

    def _change(
        self, field: str, text: str, bar: int, number: int, columns: tuple[int, int]
    ) -> None:
        """Sets the meter (`M`) or tempo (`Q`) from a bar on; `columns`: of field and text."""
        if field == "M":
            name, changes, parse, line = "metre", self.meters, Meter.parse, "M:{}".format
        else:
            name, changes, parse, line = "tempo", self.tempos, _parse_tempo, tempo_line
        value = parse(text, number, columns[1])
        before = changes.setdefault(bar, value)
        if before != value:
            found = f"{line(value)}, after {line(before)}"
            message = f"voices disagree on the {name} of bar {bar + 1}: {found}"
            raise AbcError(message, number, columns[0])

    def _pickup(self, voices: list[Voice]) -> int | None:
        """Returns the length of a short first bar on which all voices agree."""
        reader = bar_reader(self.key)
        lengths = set(self.first_rests)
        for text in {voice.bars[0] for voice in voices if voice.bars and voice.bars[0]}:
            try:
                lengths.add(reader.read(text)[-1].end)
            except AbcError:
                return None  # `tune.read_bars` raises it, with the place
        ticks = min(lengths, default=0)
        is_pickup = len(lengths) == 1 and ticks < self.meters[0].ticks
        # A length that no rest can fill (two thirds of a unit, in a tuplet) is a wrong length.
        return ticks if is_pickup and ticks % SHORTEST_TICKS == 0 else None

    def _open_voice(self, voice_id: int, number: int) -> None:
        if voice_id != len(self.voices) + 1:
            expected = len(self.voices) + 1
            raise AbcError(f"voice {voice_id}, expected voice {expected} next", number, 3)
        self.voice = self.voices[voice_id] = Voice(program=0)
        self.marks[f"[V:{voice_id}"] = voice_id

    def _midi_line(self, match: re.Match[str], number: int) -> None:
        value, program = int(match[2]), match[1] == "program"
        if self.voice is None or self.bars_layout:
            raise AbcError("%%MIDI program or channel outside a voice's head", number)
        low, high = MIDI_RANGES[match[1]]
        if not low <= value <= high:
            raise AbcError(f"{match[0]!r}: program is 0-127, channel 1-16", number)
        if program:
            self.voice.program = value
        elif self.voice.channel is not None:
            raise AbcError(f"{match[0]!r}: the voice has channel {self.voice.channel}", number)
        else:
            self.voice.channel = value
            self.voice.program = None if value == DRUM_CHANNEL else self.voice.program

    def _bars_line(self, text: str, number: int) -> None:
        """Reads one bar of the bars layout; voices that it does not name rest."""
        self.bars_layout = True
        bar = self.n_bars
        self.n_bars += 1
        self._check_size(number)
        if self._plain_bars_line(text, bar, number):
            return
        position = 0
        while position < len(text):
            column = position + 1
            match = VOICE_MARK.match(text, position)
            if not match:
                raise AbcError("expected [V:n] at the start of a voice's bar", number, column)
            name = match[1]
            voice = self.voices.get(int(name)) if VOICE_ID.fullmatch(name) else None
            if voice is None:
                raise AbcError(f"voice {name!r} was not declared", number, column)
            if len(voice.bars) > bar:
                raise AbcError(f"voice {name} stands twice in one bar", number, column)
            if len(voice.bars) < bar:
                voice.bars += [""] * (bar - len(voice.bars))
            stop = text.find("|", match.end())
            stop = len(text) if stop < 0 else stop
            self._add_bar(int(name), text, match.end(), stop, number)
            position = stop + 2 if text.startswith("|]", stop) else stop + 1

    def _plain_bars_line(self, text: str, bar: int, number: int) -> bool:
        """Reads a typical line in one pass; changes nothing if the line is not typical.

        Returns:
            Whether it was typical: no field changes, no silent bar, each voice once, in order.
        """
        if not text.endswith(("|", "|]")):
            return False
        found = []
        column, last = 1, 0
        for piece in text.rstrip("]")[:-1].split("|"):
            mark, _, body = piece.partition("]")
            voice_id = self.marks.get(mark, 0)
            if voice_id <= last or not body or body[1:2] in ("M", "Q", "V"):
                return False
            if body[0] == "z" and SILENCE.fullmatch(body):
                return False
            if len(self.voices[voice_id].bars) > bar:
                return False
            found.append((voice_id, body, column + len(mark) + 1))
            column, last = column + len(piece) + 1, voice_id
        for voice_id, body, start in found:
            bars = self.voices[voice_id].bars
            if len(bars) < bar:
                bars += [""] * (bar - len(bars))
            bars.append(body)
            self.origins[voice_id - 1, bar] = (number, start)
        return True

    def _check_size(self, number: int) -> None:
        """Rejects text with many voices and long rests: few bytes, but much memory."""
        if self.n_bars * len(self.voices) > MAX_VOICE_BARS:
            found = f"{self.n_bars:,} bars of {len(self.voices)} voices"
            raise AbcError(f"{found}, expected at most {MAX_VOICE_BARS:,} together", number)

    def _voice_text(self, text: str, number: int) -> None:
        """Reads a line of the voices layout: bars of the current voice."""
        if self.bars_layout:
            raise AbcError("expected a line [V:1]...|, one bar a line", number)
        if self.voice is None:
            if self.voices:
                raise AbcError("bars outside a voice", number)
            self._open_voice(1, number)  # a tune of one voice needs no V:
        position = 0
        while position < len(text):
            end = _BAR_LINE.search(text, position)
            stop = end.start() if end else len(text)
            if end or text[position:stop].strip():  # a bar without its bar line counts
                self._add_bar(len(self.voices), text, position, stop, number)
            position = end.end() if end else stop

    def _add_bar(self, voice_id: int, text: str, start: int, stop: int, number: int) -> None:
        """Strips leading [M:] and [Q:] from a bar and keeps the rest as the voice's next bar."""
        bars = self.voices[voice_id].bars
        bar = len(bars)
        # the cheap test first, since almost no bar begins with a field
        while text.startswith("[", start) and (match := INLINE_FIELD.match(text, start, stop)):
            if match[1] == "V":
                raise AbcError("[V:] inside a bar", number, start + 1)
            self._change(match[1], match[2], bar, number, (start + 1, start + 4))
            start = match.end()
        body = text[start:stop]
        if body[:1] in ("", "z") and SILENCE.fullmatch(body):
            if not bar and body:
                self.first_rests.update(
                    s.end for s in bar_reader(self.key).read(body, number, start + 1)[-1:]
                )
            body = ""
        bars.append(body)
        self.origins[voice_id - 1, bar] = (number, start + 1)


def _check_unit(value: str, line: int) -> None:
    if value != UNIT_LINE[2:]:
        raise AbcError(f"unit {value!r}, expected {UNIT_LINE[2:]}", line, 3)


def _parse_tempo(text: str, line: int, column: int) -> Fraction:
    tempo = read_tempo(text)
    if not tempo:
        raise AbcError(f"tempo {text!r}, expected 1/4=120 or 1/16=483", line, column)
    return Fraction(tempo, 4)
