"""`%%MIDI` and other directives that change what is played, as far as a tune can hold it."""

import re
from fractions import Fraction

from ...dialect.notation import ALTERATIONS, LETTER_PITCH_CLASS, MIDI_RANGES
from ..report import Place, Report
from .bounded_numbers import MAX_DIVISOR
from .key_field import Properties
from .voice import Rules, Voice

_NUMBERED = {"transpose", "rtranspose", "grace", "gracedivider", "ratio", "programbase", "C"}
# Directives of the sound, which the dialect has no place for: left out without a word.
_SOUND = re.compile(
    r"(no)?beat(mod|accents|string|)|(bass|chord)(prog|vol)|chordname|(random)?chordattack"
    r"|control(combo|string|)|deltaloudness|gchord(on|off|bars|)|pitchbend(range)?|ptstress"
    r"|bend(string(ex)?|velocity)|(no)?portamento|stressmodel|snt|trim|expand|vol(inc)?"
    r"|makechordchannels|drum(bars|off|)|drone(off)?|temperamentnormal"
)
_ACCOMPANIMENT = {"drumon": "drum patterns", "droneon": "drones"}
_DRUM_NOTE = re.compile(r"(\^{1,2}|_{1,2}|=|)([A-Ga-g])([,']{0,6})")


class Directives:
    """Applies directives to a tune.

    Attributes:
        in_body: Whether the header has ended: a transposition then holds for the current voice.
    """

    def __init__(self, rules: Rules, report: Report) -> None:
        self._rules, self._report = rules, report
        self.in_body = False

    def read(self, text: str, voice: Voice, place: Place) -> None:
        """Applies what follows `%%` or `I:`; `voice` is the current one."""
        words = text.replace("=", " ", 1).split()
        name = words[0] if words else ""
        if name.upper() == "MIDI" and len(words) > 1:
            self._midi(words[1], words[2:], voice, place)
        elif name == "propagate-accidentals" and words[-1] in ("not", "octave", "pitch"):
            self._rules.accidentals = words[-1]
        elif name == "octave" and (octaves := _numbers(words[1:2])):
            voice.set_properties(Properties(octaves=octaves[0]))

    def _midi(self, name: str, words: list[str], voice: Voice, place: Place) -> None:
        numbers, rules = _numbers(words), self._rules
        if name in ("barlines", "nobarlines"):
            rules.accidentals = "pitch" if name == "barlines" else "not"
        elif name in ("fermatafixed", "fermataproportional"):
            rules.fixed_fermata = name == "fermatafixed"
        elif name in _ACCOMPANIMENT:
            self._report.warn(f"{_ACCOMPANIMENT[name]} of %%MIDI {name} are left out", place)
        elif name == "drummap":
            self._map_drum(words, place)
        elif name not in {*MIDI_RANGES, *_NUMBERED}:
            if not _SOUND.fullmatch(name):
                self._report.warn(f"%%MIDI {name[:20]} is left out", place)
        elif name in ("grace", "gracedivider") and words:
            self._grace(name, words[0], place)
        elif not numbers:
            self._report.warn(f"%%MIDI {name} without a number is left out", place)
        elif name in MIDI_RANGES:
            self._instrument(name, numbers, voice, place)
        elif name == "ratio":
            self._ratio(numbers, place)
        elif name == "programbase":
            rules.program_base = int(numbers[0] != 0)
        elif name == "C":
            rules.middle_c = min(numbers[0], 127)
        else:
            self._transpose(name, numbers[0], voice)

    def _instrument(self, name: str, numbers: list[int], voice: Voice, place: Place) -> None:
        """Sets the program or channel; `program 3 40` is for channel 3 only."""
        value = numbers[min(len(numbers), 2) - 1] if name == "program" else numbers[0]
        value -= self._rules.program_base if name == "program" else 0
        low, high = MIDI_RANGES[name]
        if not low <= value <= high:
            self._report.warn(f"%%MIDI {name} {value}: expected {low} to {high}", place)
        elif name == "channel":
            voice.channel = value
        elif len(numbers) == 1 or voice.channel in (None, numbers[0]):
            voice.program = value

    def _transpose(self, name: str, semitones: int, voice: Voice) -> None:
        if name == "rtranspose":
            before = voice.midi_semitones if self.in_body else self._rules.semitones
            semitones += before or 0
        if self.in_body:
            voice.midi_semitones = semitones
        else:
            self._rules.semitones = semitones

    def _grace(self, name: str, word: str, place: Place) -> None:
        """Sets how long grace notes are: `grace 1/4` of the next note, `gracedivider 4`."""
        above, _, below = word.rpartition("/")
        numbers = _numbers([above or "1", below])
        if len(numbers) < 2 or not 0 < numbers[0] < numbers[1] <= MAX_DIVISOR:
            self._report.warn(f"%%MIDI {name} {word[:20]} is left out", place)
            return
        # In the header, abc2midi takes `grace` for `gracedivider`.
        self._rules.grace_of_host = name == "grace" and self.in_body
        above = numbers[0] if self._rules.grace_of_host else 1
        self._rules.grace_share = Fraction(above, numbers[1])

    def _ratio(self, numbers: list[int], place: Place) -> None:
        if len(numbers) < 2 or min(numbers[:2]) < 1 or sum(numbers[:2]) > MAX_DIVISOR:
            expected = f"expected two numbers of at most {MAX_DIVISOR} together"
            self._report.warn(f"%%MIDI ratio is left out: {expected}", place)
            return
        long, short = numbers[:2]
        self._rules.broken = Fraction(2 * long, long + short), Fraction(2 * short, long + short)

    def _map_drum(self, words: list[str], place: Place) -> None:
        match = _DRUM_NOTE.fullmatch(words[0]) if words else None
        drums = _numbers(words[1:2])
        if not match or not drums or drums[0] > 127:
            self._report.warn("%%MIDI drummap is left out: expected a note and a number", place)
            return
        sign, letter, octaves = match.groups()
        octave = letter.islower() + octaves.count("'") - octaves.count(",")
        pitch = 60 + 12 * octave + LETTER_PITCH_CLASS[letter.upper()]
        self._rules.drum_map[pitch + (ALTERATIONS[sign] if sign else 0)] = drums[0]


def _numbers(words: list[str]) -> list[int]:
    """Returns the numbers at the start of a directive's words, signed, of at most six digits."""
    found = []
    for word in words:
        if not re.fullmatch(r"[+-]?[0-9]{1,6}", word):
            break
        found.append(int(word))
    return found
