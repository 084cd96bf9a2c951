"""The ABC dialect, as small as travels with a model: text in the layout `bars` -> layout `voices`.

Models write `bars`, one line a bar: `[V:1]C16|[V:2]z8E8|`. Other programs read `voices`, one block
a voice, its silent bars written out; `export_tune` writes it so that they can also draw it. Nothing
but the standard library is used here.

Time is counted in ticks: 12 a unit (L:1/16), 192 a whole note.
"""

import re
from dataclasses import dataclass, field

FIRST_LINE = "X:1"
UNIT_LINE = "L:1/16"
CHORD_ATTACK_LINE = "%%MIDI chordattack 0"
DRUM_CHANNEL = 10
KEYS = {  # of the major key: sharps (+) or flats (-)
    "Gb": -6, "Db": -5, "Ab": -4, "Eb": -3, "Bb": -2, "F": -1, "C": 0,
    "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F#": 6,
}  # fmt: skip

_TICKS_PER_WHOLE, _TICKS_PER_UNIT, _TICKS_PER_TUPLET_UNIT = 192, 12, 8
_BARS_PER_LINE = 4
_METER = re.compile(r"([0-9]{1,3})/(1|2|4|8|16|32|64)")
_TEMPO = re.compile(r"1/(4|16)=([0-9]{1,5})")
_VOICE_LINE = re.compile(r"V:([0-9]{1,3})")
_MIDI_LINE = re.compile(r"%%MIDI (program|channel) ([0-9]{1,3})")
_VOICE_MARK = re.compile(r"\[V:([0-9]{1,3})\]")
_INLINE_FIELD = re.compile(r"\[([VMQ]):([^\]\n]*)\]")
_SILENCE = re.compile(r"(z[0-9/]*)*")
_ELEMENT = re.compile(
    r"""(?P<tuplet>\(3(?::2?)?(?::(?P<items>[1-9]?))?)
      | (?P<sound>z|\[(?:[_=^]{0,2}[A-Ga-g][,']{0,6}){1,128}\]|[_=^]{0,2}[A-Ga-g][,']{0,6})
        (?P<number>\d{0,5})(?:(?P<slash>/)(?P<divisor>\d{0,5}))?(?P<tie>-?)""",
    re.VERBOSE | re.ASCII,
)
_NOTE = re.compile(r"([_=^]*)([A-Ga-g])([,']*)")
_NO_MUSIC = re.compile(r"\w:|%%")
_SIGNS = {"__": -2, "_": -1, "=": 0, "^": 1, "^^": 2}
_PITCH_CLASS = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))
_LINE_STARTS = ("X:", "M:", UNIT_LINE, "Q:", CHORD_ATTACK_LINE, "K:", "V:", "%%MIDI ", "[V:")
# lengths that one note shows, with no, one or two dots, in quarters of a unit: 1/64 to 7/4
_DRAWN = sorted(
    (v * dots // 4 for v in (1, 2, 4, 8, 16, 32, 64) for dots in (4, 6, 7) if v * dots % 4 == 0),
    reverse=True,
)
_UNFINISHED_BAR = re.compile(r"\[V:[0-9A-Ga-gz/,'_=^()\[\]:|\-MQV]*")


def export_tune(abc: str) -> str:
    """Returns a tune of the layout `bars` as other programs read and draw it.

    Raises:
        ValueError: As `to_voices`.
    """
    return tie_lengths(to_voices(abc))


def tie_lengths(voices: str) -> str:
    """Returns a tune of the layout `voices` in lengths that can be drawn: `C5` as `C4-C`.

    Neither abcjs nor paper has a note or rest of five units. Items of tuplets stay as they
    are, and chords: music21 strikes them again in spite of a tie, and no reader refuses them.
    """
    return "\n".join(
        line if _NO_MUSIC.match(line) else _with_tied_lengths(line) for line in voices.split("\n")
    )


def _with_tied_lengths(bars: str) -> str:
    n_in_tuplet = 0

    def tie(match: re.Match) -> str:
        nonlocal n_in_tuplet
        if match["tuplet"]:
            n_in_tuplet = int(match["items"] or 3)
            return match[0]
        if n_in_tuplet or match["sound"].startswith("["):
            n_in_tuplet -= n_in_tuplet > 0
            return match[0]
        below = int(match["divisor"] or 2) if match["slash"] else 1
        left, rest = divmod(4 * int(match["number"] or 1), below)
        if rest or left in _DRAWN:
            return match[0]
        pieces = []
        while left:
            pieces.append(next(length for length in _DRAWN if length <= left))
            left -= pieces[-1]
        joint = "" if match["sound"] == "z" else "-"
        texts = [match["sound"] + _length_text(length) for length in pieces]
        return joint.join(texts) + match["tie"]

    return _ELEMENT.sub(tie, bars)


def to_voices(abc: str) -> str:
    """Returns a tune of the layout `bars` in the layout `voices`.

    Raises:
        ValueError: With the line, where the text is not in the dialect or not in that layout.
    """
    reader = _Reader()
    for line in abc.split("\n"):
        reader.read_line(line)
    return "\n".join(reader.voices_lines()) + "\n"


def check_beginning(abc: str) -> None:
    """Checks that a text begins a tune in the layout `bars`; its last line may be unfinished.

    Raises:
        ValueError: With the line, where it does not.
    """
    *lines, rest = abc.split("\n")
    reader = _Reader()
    for line in lines:
        reader.read_line(line)
    reader.n_lines += 1
    starts = _LINE_STARTS if not reader.n_bars else ("[V:",)
    if any(start.startswith(rest) for start in starts):
        return
    if rest.startswith("[V:") and reader.voices and _UNFINISHED_BAR.fullmatch(rest):
        return
    if rest.startswith("[V:") or not rest.startswith(starts):
        raise reader.error(rest, "the beginning of a line of the dialect")


def cut_after_end(abc: str) -> tuple[str, bool]:
    """Returns the text up to the bar line that ends a tune, and whether there is one."""
    stop = abc.find("|]")
    return (abc, False) if stop < 0 else (abc[: stop + 2] + "\n", True)


def cut_to_whole_bars(abc: str) -> str:
    """Returns the text without its last line, if that has no end: its bar is not whole."""
    return abc[: abc.rfind("\n") + 1]


def check_meter(text: str) -> tuple[int, int]:
    """Returns numerator and denominator of `3/4`; ValueError if it is no metre of the dialect."""
    match = _METER.fullmatch(text)
    if not match or not 1 <= int(match[1]) <= 255:
        raise ValueError(f"metre {text!r}, expected one such as 4/4, 6/8 or 2/2")
    return int(match[1]), int(match[2])


def tempo_text(quarters_per_sixteen_minutes: int) -> str:
    """Returns what `Q:` says: beats of a quarter, or of a sixteenth where that gives a fraction.

    Args:
        quarters_per_sixteen_minutes: Tempo in quarters of a beat a minute: 480 is `1/4=120`.
    """
    beats, rest = divmod(quarters_per_sixteen_minutes, 4)
    return f"1/16={quarters_per_sixteen_minutes}" if rest else f"1/4={beats}"


@dataclass
class _Voice:
    """What is written at a voice's head, and the bars in which it sounds."""

    program: int = 0
    channel: int | None = None
    bars: dict[int, str] = field(default_factory=dict)


class _Reader:
    """Reads the layout `bars` line by line."""

    def __init__(self) -> None:
        self.key: str | None = None
        self.meters: dict[int, tuple[int, int]] = {}  # from this bar on
        self.tempos: dict[int, int] = {}  # likewise, in quarters of a beat a minute
        self.voices: list[_Voice] = []
        self.n_bars = 0
        self.n_lines = 0
        self._first_bar_ticks: set[int] = set()

    def error(self, found: str, expected: str) -> ValueError:
        """Returns the error at the line that is being read."""
        return ValueError(f"line {self.n_lines}: {found[:40]!r}, expected {expected}")

    def read_line(self, text: str) -> None:
        self.n_lines += 1
        if not text.strip():
            return
        if self.key is None:
            self._read_header(text)
        elif text.startswith("[V:"):
            self._read_bars(text)
        elif self.n_bars:
            raise self.error(text, "[V:1]...|, one line a bar")
        else:
            self._read_voice_head(text)

    def _read_header(self, text: str) -> None:
        name, value = text[:2], text[2:].strip()
        if name == "M:":
            self.meters[0] = self._meter(value)
        elif name == "Q:":
            self.tempos[0] = self._tempo(value)
        elif name == "K:":
            if value not in KEYS:
                raise self.error(value, f"a key of {' '.join(KEYS)}")
            self.key = value
        elif name == "L:" and value != UNIT_LINE[2:]:
            raise self.error(text, UNIT_LINE)
        elif name not in ("X:", "L:") and text != CHORD_ATTACK_LINE:
            raise self.error(text, "a header of the dialect: X: M: L: Q: and at last K:")

    def _meter(self, text: str) -> tuple[int, int]:
        try:
            return check_meter(text)
        except ValueError as error:
            raise ValueError(f"line {self.n_lines}: {error}") from None

    def _tempo(self, text: str) -> int:
        match = _TEMPO.fullmatch(text)
        if not match or not int(match[2]):
            raise self.error(text, "a tempo such as 1/4=120 or 1/16=483")
        return int(match[2]) * (4 if match[1] == "4" else 1)

    def _read_voice_head(self, text: str) -> None:
        if match := _VOICE_LINE.fullmatch(text):
            if int(match[1]) != len(self.voices) + 1:
                raise self.error(text, f"V:{len(self.voices) + 1}")
            self.voices.append(_Voice())
            return
        match = _MIDI_LINE.fullmatch(text)
        if not match or not self.voices:
            raise self.error(text, "V:n, its %%MIDI lines, or a bar [V:1]...|")
        low, high = (0, 127) if match[1] == "program" else (1, 16)
        if not low <= int(match[2]) <= high:
            raise self.error(text, f"a {match[1]} from {low} to {high}")
        setattr(self.voices[-1], match[1], int(match[2]))

    def _read_bars(self, text: str) -> None:
        position = 0
        while position < len(text):
            mark = _VOICE_MARK.match(text, position)
            number = int(mark[1]) if mark else 0
            if not 1 <= number <= len(self.voices):
                raise self.error(text[position:], "[V:n] of a voice that the header declares")
            if self.n_bars in self.voices[number - 1].bars:
                raise self.error(text[position:], "each voice once in a bar")
            stop = text.find("|", mark.end())
            stop = len(text) if stop < 0 else stop
            self.voices[number - 1].bars[self.n_bars] = self._bar(text[mark.end() : stop])
            position = stop + (2 if text.startswith("|]", stop) else 1)
        self.n_bars += 1

    def _bar(self, text: str) -> str:
        """Takes the changes off the head of a bar; returns its music, "" if that is silence."""
        while match := _INLINE_FIELD.match(text):
            if match[1] == "V":
                raise self.error(text, "a bar line before the next voice")
            if match[1] == "Q":
                self.tempos[self.n_bars] = self._tempo(match[2])
            else:
                meter = self._meter(match[2])
                if self.meters.setdefault(self.n_bars, meter) != meter:
                    raise self.error(text, "one metre in all voices of the bar")
            text = text[match.end() :]
        is_silent = bool(_SILENCE.fullmatch(text))
        if text and (not is_silent or not self.n_bars):
            ticks = self._ticks(text)
            if not self.n_bars:
                self._first_bar_ticks.add(ticks)
        return "" if is_silent else text

    def _ticks(self, text: str) -> int:
        """Returns how long a bar is; ValueError if its text is not in the dialect."""
        ticks = position = tuplet_left = 0
        altered: dict[str, int] = {}
        while position < len(text):
            match = _ELEMENT.match(text, position)
            if not match or (match["sound"] == "z" and match["tie"]):
                raise self.error(text[position:], "a note, chord, rest or tuplet")
            if match["tuplet"]:
                if tuplet_left:
                    raise self.error(text[position:], "no tuplet inside a tuplet")
                tuplet_left = int(match["items"] or 3)
            else:
                unit = _TICKS_PER_TUPLET_UNIT if tuplet_left else _TICKS_PER_UNIT
                below = int(match["divisor"] or 2) if match["slash"] else 1
                length, rest = divmod(int(match["number"] or 1) * unit, below or 1)
                if not length or rest or not below:
                    raise self.error(text[position:], "a length in whole ticks, such as 3/2")
                tuplet_left -= tuplet_left > 0
                ticks += length
                self._check_pitches(match["sound"], altered)
            position = match.end()
        if tuplet_left:
            raise self.error(text, f"{tuplet_left} more in its last tuplet")
        return ticks

    def _check_pitches(self, sound: str, altered: dict[str, int]) -> None:
        """Checks that MIDI has all notes; `altered` are the accidentals of the bar so far."""
        sharps = KEYS[self.key]
        in_key = "FCGDAEB"[:sharps] if sharps >= 0 else "BEADGCF"[:-sharps]
        for sign, letter, marks in _NOTE.findall(sound):
            upper = letter.upper()
            if sign and sign not in _SIGNS:
                raise self.error(sign + letter, "one accidental of ^^ ^ = _ __")
            if sign:
                altered[upper] = _SIGNS[sign]
            octave = (letter != upper) + marks.count("'") - marks.count(",")
            signature = ((sharps > 0) - (sharps < 0)) * (upper in in_key)
            pitch = 60 + 12 * octave + _PITCH_CLASS[upper] + altered.get(upper, signature)
            if not 0 <= pitch <= 127:
                raise self.error(sign + letter + marks, "a pitch that MIDI has, 0 to 127")

    def voices_lines(self) -> list[str]:
        """Returns the lines of the layout `voices`; ValueError if there is no tune."""
        if self.key is None or not self.n_bars:
            raise self.error("", "more: a header that ends in K:, voices, and bars")
        self.meters.setdefault(0, (4, 4))
        self.tempos.setdefault(0, 480)
        rests = self._rests()
        changes = self._changes()
        lines = [FIRST_LINE, f"M:{_meter_text(self.meters[0])}", UNIT_LINE]
        lines += [f"Q:{tempo_text(self.tempos[0])}", CHORD_ATTACK_LINE, f"K:{self.key}"]
        for number, voice in enumerate(self.voices, 1):
            lines.append(f"V:{number}")
            if voice.channel is not None:
                lines.append(f"%%MIDI channel {voice.channel}")
            if voice.channel != DRUM_CHANNEL:
                lines.append(f"%%MIDI program {voice.program}")
            texts = [(voice.bars.get(bar) or rest) + "|" for bar, rest in enumerate(rests)]
            texts[-1] += "]"
            stops = [*(bar for bar in changes if bar), self.n_bars]
            for start, stop in zip([0, *stops[:-1]], stops, strict=True):
                lines += changes.get(start, [])
                firsts = range(start, stop, _BARS_PER_LINE)
                lines += ["".join(texts[n : min(n + _BARS_PER_LINE, stop)]) for n in firsts]
        return lines

    def _rests(self) -> list[str]:
        """Returns for each bar the rest that fills it; the first may be a pick-up."""
        ticks, rests = 0, []
        for bar in range(self.n_bars):
            if bar in self.meters:
                numerator, denominator = self.meters[bar]
                ticks = numerator * _TICKS_PER_WHOLE // denominator
            first = self._first_bar_ticks if not bar else ()
            pickup = len(first) == 1 and min(first) < ticks
            rests.append(self._rest_text(min(first) if pickup else ticks))
        return rests

    def _rest_text(self, ticks: int) -> str:
        quarters_of_unit, remainder = divmod(4 * ticks, _TICKS_PER_UNIT)
        if remainder:
            raise ValueError(f"bar 1 of {ticks} ticks of 1/192, expected a multiple of 3")
        return "z" + _length_text(quarters_of_unit)

    def _changes(self) -> dict[int, list[str]]:
        """Returns the field lines that stand before a bar, in every voice."""
        changes: dict[int, list[str]] = {}
        for bar in sorted({*self.meters, *self.tempos}):
            lines = []
            if bar in self.meters and len(self.meters) > 1:
                lines.append(f"M:{_meter_text(self.meters[bar])}")
            if bar in self.tempos and (bar or len(self.tempos) > 1):
                lines.append(f"Q:{tempo_text(self.tempos[bar])}")
            if lines:
                changes[bar] = [*lines, UNIT_LINE]
        return changes


def _meter_text(meter: tuple[int, int]) -> str:
    return f"{meter[0]}/{meter[1]}"


def _length_text(quarters_of_unit: int) -> str:
    """Returns a length as it is written behind a note: 20 is `5`, 2 is `/`, 3 is `3/4`."""
    divisor = 1 if quarters_of_unit % 4 == 0 else 2 if quarters_of_unit % 2 == 0 else 4
    number = quarters_of_unit * divisor // 4
    text = "" if number == 1 else str(number)
    if divisor == 1:
        return text
    return "/" if (number, divisor) == (1, 2) else f"{text}/{divisor}"
