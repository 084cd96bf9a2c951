"""MusicXML with a note value for each note, which verovio goes by.

MusicXML gives each note its duration, which is what sounds. Its note value (quarter, dots, tuplet)
may be missing, or may be a tuplet without its sign, or a tuplet in a tuplet; verovio then plays
another rhythm. Here such a note gets a value of its duration, if necessary as a tuplet of its own.

Source: MusicXML 4.0, elements duration, type, time-modification and tuplet.
"""

import xml.etree.ElementTree as ET
from collections import defaultdict
from fractions import Fraction

_TYPES = {  # quarters -> name
    Fraction(32): "maxima",
    Fraction(16): "long",
    Fraction(8): "breve",
    Fraction(4): "whole",
    Fraction(2): "half",
    Fraction(1): "quarter",
    Fraction(1, 2): "eighth",
    **{Fraction(4, n): f"{n}th" for n in (16, 64, 128, 256, 512, 1024)},
    Fraction(1, 8): "32nd",
}
_MOST_DENOMINATOR = 100
_QUARTERS = {name: quarters for quarters, name in _TYPES.items()}


def complete_values(score: ET.Element) -> bool:
    """Gives a value to all notes that have none of their duration; returns whether any had none."""
    n_changed = 0
    for part in score.iter("part"):
        divisions = Fraction(1)
        for measure in part.iter("measure"):
            tuplets: dict[str, _Tuplets] = defaultdict(_Tuplets)
            for element in measure.iter():
                if element.tag == "divisions":
                    divisions = _number(element.text) or divisions
                elif element.tag == "note" and not _has_other_time(element):
                    of_voice = tuplets[element.findtext("voice", "1")]
                    for note in of_voice.without_tuplet(element):
                        n_changed += _complete(note, divisions)
    return n_changed > 0


class _Tuplets:
    """The tuplets of a voice in a measure."""

    def __init__(self) -> None:
        self._depth = self._deepest = 0
        self._notes: list[ET.Element] = []

    def without_tuplet(self, note: ET.Element) -> list[ET.Element]:
        """Takes the next note; returns the notes that are in no tuplet, or were in nested ones."""
        signs = [sign.get("type") for sign in note.iter("tuplet")]
        self._depth += signs.count("start")
        if not self._depth:
            return [note]
        self._notes.append(note)
        self._deepest = max(self._deepest, self._depth)
        self._depth = max(0, self._depth - signs.count("stop"))
        if self._depth:
            return []
        found = self._notes if self._deepest > 1 else []
        for each in found:
            for notations in each.findall("notations"):
                for sign in notations.findall("tuplet"):
                    notations.remove(sign)
        self._deepest, self._notes = 0, []
        return found


def _has_other_time(note: ET.Element) -> bool:
    """Whether the duration of a note is not that of its value.

    A chord has the value of its first note. A tremolo of two notes shows the value of both.
    """
    others = ("rest[@measure]", "grace", "chord", "notations/ornaments/tremolo")
    return any(note.find(each) is not None for each in others)


def _complete(note: ET.Element, divisions: Fraction) -> bool:
    quarters = _simple(_number(note.findtext("duration")), divisions)
    is_complete = quarters == _value(note) and note.find("time-modification") is None
    if is_complete or not quarters:
        return False
    for name in ("type", "dot", "time-modification"):
        for element in note.findall(name):
            note.remove(element)
    _set_value(note, quarters)
    return True


def _simple(duration: Fraction, divisions: Fraction) -> Fraction:
    """Returns a duration in quarters, before it was rounded to divisions: 2/9 for 107 of 480."""
    exact = duration / divisions
    if exact.denominator < _MOST_DENOMINATOR:
        return exact
    for denominator in range(1, _MOST_DENOMINATOR):
        numerator = round(duration * denominator / divisions)
        if abs(Fraction(numerator, denominator) * divisions - duration) <= Fraction(1, 2):
            return Fraction(numerator, denominator)
    return exact


def _value(note: ET.Element) -> Fraction:
    """Returns the quarters of a note by its type and dots, 0 without a type."""
    quarters = _QUARTERS.get(note.findtext("type", "").strip(), Fraction(0))
    return quarters * (2 - Fraction(1, 2 ** len(note.findall("dot"))))


def _set_value(note: ET.Element, quarters: Fraction) -> None:
    longer = [each for each in _TYPES if each >= quarters]
    if not longer:  # nobody writes it, and verovio does with it what it can
        return
    value = min(longer)
    if quarters == value * 3 / 4:
        value /= 2
        ET.SubElement(note, "dot")
    ET.SubElement(note, "type").text = _TYPES.get(value, "1024th")
    if quarters in (value, value * 3 / 2):
        return
    ratio = quarters / value
    change = ET.SubElement(note, "time-modification")
    ET.SubElement(change, "actual-notes").text = str(ratio.denominator)
    ET.SubElement(change, "normal-notes").text = str(ratio.numerator)
    notations = ET.SubElement(note, "notations")
    for kind in ("start", "stop"):
        ET.SubElement(notations, "tuplet", type=kind)


def _number(text: str | None) -> Fraction:
    """Returns a positive number, 0 if the text is none."""
    try:
        return max(Fraction(0), Fraction((text or "0").strip()))
    except (ValueError, ZeroDivisionError):
        return Fraction(0)
