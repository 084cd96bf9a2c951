"""The minimal ABC dialect code that ships with a model: text in layout `bars` -> layout `voices`.

Models write `bars`, one line per bar: `[V:1]C16|[V:2]z8E8|`. Other programs read `voices`, one
block per voice with its silent bars written out; `export_tune` writes it so that they can also draw
it. Uses only the standard library.
"""

import re
from dataclasses import dataclass, field

from .notation_abc import (
    ALTERATIONS,
    BARS_PER_LINE,
    CHORD_ATTACK_LINE,
    DEFAULT_METER,
    DEFAULT_TEMPO,
    DRUM_CHANNEL,
    ELEMENT,
    FIRST_LINE,
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
    header_meter,
    key_alterations,
    length_text,
    length_ticks,
    meter_ticks,
    note_names,
    plain_text,
    read_meter,
    read_tempo,
    rest_text,
    tempo_text,
    tuplet_items,
)

_NO_MUSIC = re.compile(r"\w:|%%")
_LINE_STARTS = ("X:", "M:", UNIT_LINE, "Q:", CHORD_ATTACK_LINE, "K:", "V:", "%%MIDI ", "[V:")
# lengths that a single note can show, with zero to two dots, in ticks: 1/64 to 7/4
_DRAWN = sorted(
    (
        SHORTEST_TICKS * v * dots // 4
        for v in (1, 2, 4, 8, 16, 32, 64)
        for dots in (4, 6, 7)
        if v * dots % 4 == 0
    ),
    reverse=True,
)
_UNFINISHED_BAR = re.compile(r"\[V:[0-9A-Ga-gz/,'_=^()\[\]:|\-MQV]*")


def export_tune(abc: str) -> str:
    """Returns a tune in the layout `bars` in the form that other programs read and draw.

    Raises:
        ValueError: As `to_voices`.
    """
    return tie_lengths(to_voices(abc))


def tie_lengths(voices: str) -> str:
    """Returns a tune in the layout `voices` with lengths that can be drawn: `C5` as `C4-C`.

    Neither abcjs nor sheet music has a note or rest of five units. Tuplet items and chords stay as
    they are: music21 strikes a chord again despite a tie, and no reader rejects it.
    """
    return "\n".join(
        line if _NO_MUSIC.match(line) else _with_tied_lengths(line) for line in voices.split("\n")
    )


def _with_tied_lengths(bars: str) -> str:
    n_in_tuplet = 0

    def tie(match: re.Match) -> str:
        nonlocal n_in_tuplet
        if match["tuplet"]:
            n_in_tuplet = tuplet_items(match[0])
            return match[0]
        if n_in_tuplet or match["chord"]:
            n_in_tuplet -= n_in_tuplet > 0
            return match[0]
        left = length_ticks(match["rest_length"] if match["rest"] else match["length"])
        if not left or left % SHORTEST_TICKS or left in _DRAWN:
            return match[0]
        pieces = []
        while left:
            pieces.append(next(length for length in _DRAWN if length <= left))
            left -= pieces[-1]
        if match["rest"]:
            return "".join(rest_text(length) for length in pieces)
        return "-".join(match["note"] + length_text(length) for length in pieces) + match["tie"]

    return ELEMENT.sub(tie, bars)


def to_voices(abc: str) -> str:
    """Converts a tune from the layout `bars` to the layout `voices`.

    Raises:
        ValueError: If the text is not in the dialect or not in that layout; names the line.
    """
    return "\n".join(_Reader(plain_text(abc).split("\n")).voices_lines()) + "\n"


def check_beginning(abc: str) -> None:
    """Checks that a text begins a tune in the layout `bars`; its last line may be unfinished.

    Raises:
        ValueError: If it does not; names the line.
    """
    *lines, rest = plain_text(abc).split("\n")
    reader = _Reader(lines)
    reader.n_lines += 1
    starts = _LINE_STARTS if not reader.n_bars else ("[V:",)
    is_bar = reader.voices and _UNFINISHED_BAR.fullmatch(rest)
    if is_bar or any(start.startswith(rest) for start in starts):
        return
    if rest.startswith("[V:") or not rest.startswith(starts):
        raise reader.error(rest, "the beginning of a line of the dialect")


def cut_after_end(abc: str) -> tuple[str, bool]:
    """Returns the text up to the final bar line, and whether there is one."""
    stop = abc.find("|]")
    return (abc, False) if stop < 0 else (abc[: stop + 2] + "\n", True)


def cut_to_whole_bars(abc: str) -> str:
    """Returns the text without its last line if that has no newline: its bar is incomplete."""
    return abc[: abc.rfind("\n") + 1]


def check_meter(text: str) -> tuple[int, int]:
    """Returns numerator and denominator of `3/4`; ValueError if the dialect has no such meter."""
    meter = read_meter(text)
    if not meter:
        raise ValueError(f"meter {text!r}, expected one such as 4/4, 6/8 or 2/2")
    return meter


@dataclass
class _Voice:
    """A voice's header settings, and the bars in which it sounds."""

    program: int = 0
    channel: int | None = None
    bars: dict[int, str] = field(default_factory=dict)


class _Reader:
    """Reads lines in the layout `bars`; ValueError if they are not in the dialect."""

    def __init__(self, lines: list[str]) -> None:
        self.key: str | None = None
        self.meters: dict[int, tuple[int, int]] = {}  # from this bar on
        self.tempos: dict[int, int] = {}  # the same, in quarters of a beat per minute
        self.voices: list[_Voice] = []
        self.n_bars = 0
        self.n_lines = 0
        self._first_bar_ticks: set[int] = set()
        for line in lines:
            self._read_line(line)

    def error(self, found: str, expected: str) -> ValueError:
        """Returns an error for the line being read."""
        return ValueError(f"line {self.n_lines}: {found[:40]!r}, expected {expected}")

    def _read_line(self, text: str) -> None:
        self.n_lines += 1
        if not text.strip():
            return
        if self.key is None:
            self._read_header(text)
        elif text.startswith("[V:"):
            self._read_bars(text)
        elif self.n_bars:
            raise self.error(text, "[V:1]...|, one line per bar")
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
            raise self.error(text, "a header of the dialect: X: M: L: Q: and finally K:")

    def _meter(self, text: str) -> tuple[int, int]:
        try:
            return check_meter(text)
        except ValueError as error:
            raise ValueError(f"line {self.n_lines}: {error}") from None

    def _tempo(self, text: str) -> int:
        tempo = read_tempo(text)
        if not tempo:
            raise self.error(text, "a tempo such as 1/4=120 or 1/16=483")
        return tempo

    def _read_voice_head(self, text: str) -> None:
        if match := VOICE_LINE.fullmatch(text):
            if int(match[1]) != len(self.voices) + 1:
                raise self.error(text, f"V:{len(self.voices) + 1}")
            self.voices.append(_Voice())
            return
        match = MIDI_LINE.fullmatch(text)
        if not match or not self.voices:
            raise self.error(text, "V:n, its %%MIDI lines, or a bar [V:1]...|")
        low, high = MIDI_RANGES[match[1]]
        if not low <= int(match[2]) <= high:
            raise self.error(text, f"a {match[1]} from {low} to {high}")
        setattr(self.voices[-1], match[1], int(match[2]))

    def _read_bars(self, text: str) -> None:
        position = 0
        while position < len(text):
            mark = VOICE_MARK.match(text, position)
            number = int(mark[1]) if mark and VOICE_ID.fullmatch(mark[1]) else 0
            if not 1 <= number <= len(self.voices):
                raise self.error(text[position:], "[V:n] of a voice declared in the header")
            if self.n_bars in self.voices[number - 1].bars:
                raise self.error(text[position:], "each voice at most once per bar")
            stop = text.find("|", mark.end())
            stop = len(text) if stop < 0 else stop
            self.voices[number - 1].bars[self.n_bars] = self._bar(text[mark.end() : stop])
            position = stop + (2 if text.startswith("|]", stop) else 1)
        self.n_bars += 1

    def _bar(self, text: str) -> str:
        """Records the changes at the start of a bar; returns its music, "" for silence."""
        while match := INLINE_FIELD.match(text):
            if match[1] == "V":
                raise self.error(text, "a bar line before the next voice")
            if match[1] == "Q":
                name, changes, change = "tempo", self.tempos, self._tempo(match[2])
            else:
                name, changes, change = "meter", self.meters, self._meter(match[2])
            if changes.setdefault(self.n_bars, change) != change:
                raise self.error(text, f"the same {name} in all voices of the bar")
            text = text[match.end() :]
        is_silent = bool(SILENCE.fullmatch(text))
        if text and (not is_silent or not self.n_bars):
            ticks = self._ticks(text)
            if not self.n_bars:
                self._first_bar_ticks.add(ticks)
        return "" if is_silent else text

    def _ticks(self, text: str) -> int:
        """Returns the length of a bar; ValueError if its text is not in the dialect."""
        ticks = position = tuplet_left = 0
        altered: dict[str, int] = {}
        while position < len(text):
            match = ELEMENT.match(text, position)
            n_items = tuplet_items(match[0]) if match else 0
            if not match or (match["tuplet"] and not n_items):
                raise self.error(text[position:], "a note, chord, rest or tuplet")
            if match["tuplet"]:
                if tuplet_left:
                    raise self.error(text[position:], "no tuplet inside a tuplet")
                tuplet_left = n_items
            else:
                length = match["rest_length"] if match["rest"] else match["length"]
                element_ticks = length_ticks(length, tuplet_left > 0)
                if not element_ticks:
                    raise self.error(text[position:], "a length in whole ticks, such as 3/2")
                tuplet_left -= tuplet_left > 0
                ticks += element_ticks
                self._check_pitches(match["chord"] or match["note"] or "", altered)
            position = match.end()
        if tuplet_left:
            raise self.error(text, f"{tuplet_left} more items in its last tuplet")
        return ticks

    def _check_pitches(self, names: str, altered: dict[str, int]) -> None:
        """Checks that MIDI has all pitches; `altered` contains the bar's accidentals so far."""
        signature = key_alterations(KEYS[self.key])
        for sign, letter, natural_pitch in note_names(names):
            if sign and sign not in ALTERATIONS:
                raise self.error(sign + letter, "one accidental of ^^ ^ = _ __")
            if sign:
                altered[letter] = ALTERATIONS[sign]
            if not 0 <= natural_pitch + altered.get(letter, signature[letter]) <= 127:
                raise self.error(names, "pitches in the MIDI range, 0 to 127")

    def voices_lines(self) -> list[str]:
        """Returns the lines of the layout `voices`; ValueError if there is no tune."""
        if self.key is None or not self.n_bars:
            raise self.error("", "more: a header that ends with K:, voices, and bars")
        self.meters.setdefault(0, DEFAULT_METER)
        self.tempos.setdefault(0, DEFAULT_TEMPO)
        rests = self._rests()
        changes = self._changes()
        lines = [FIRST_LINE, "M:{}/{}".format(*header_meter(*self.meters[0])), UNIT_LINE]
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
                firsts = range(start, stop, BARS_PER_LINE)
                lines += ["".join(texts[n : min(n + BARS_PER_LINE, stop)]) for n in firsts]
        return lines

    def _rests(self) -> list[str]:
        """Returns for each bar the rest that fills it; the first bar may be a pickup."""
        ticks, rests = 0, []
        for bar in range(self.n_bars):
            if bar in self.meters:
                ticks = meter_ticks(*self.meters[bar])
            first = self._first_bar_ticks if not bar else ()
            pickup = min(first) if len(first) == 1 and min(first) < ticks else None
            if pickup is not None and pickup % SHORTEST_TICKS:
                raise ValueError(f"bar 1 of {pickup} ticks of 1/192, expected a multiple of 3")
            rests.append(rest_text(ticks if pickup is None else pickup))
        return rests

    def _changes(self) -> dict[int, list[str]]:
        """Returns the field lines that precede a bar, in every voice."""
        changes: dict[int, list[str]] = {}
        says_meters = len(self.meters) > 1 or header_meter(*self.meters[0]) != self.meters[0]
        for bar in sorted({*self.meters, *self.tempos}):
            lines = []
            if bar in self.meters and says_meters:
                lines.append("M:{}/{}".format(*self.meters[bar]))
            if bar in self.tempos and (bar or len(self.tempos) > 1):
                lines.append(f"Q:{tempo_text(self.tempos[bar])}")
            if lines:
                changes[bar] = [*lines, UNIT_LINE]
        return changes
