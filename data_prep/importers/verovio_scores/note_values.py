"""MusicXML with a note value for each note, which verovio goes by.

MusicXML gives each note its duration, which is what sounds. Its note value (quarter, dots, tuplet)
may be missing, or may be a tuplet without its sign; verovio then plays another rhythm. Here such a
note gets a value of its duration, if necessary as a tuplet of its own.

Source: MusicXML 4.0, elements duration, type, time-modification and tuplet.
"""

import xml.etree.ElementTree as ET
from collections import Counter
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
_QUARTERS = {name: quarters for quarters, name in _TYPES.items()}


def complete_values(score: ET.Element) -> bool:
    """Gives a value to all notes that have none of their duration; returns whether any had none."""
    n_changed = 0
    for part in score.iter("part"):
        divisions, open_tuplets = Fraction(1), Counter()
        for element in part.iter():
            if element.tag == "divisions":
                divisions = _number(element.text) or divisions
            elif element.tag == "note":
                n_changed += _complete(element, divisions, open_tuplets)
    return n_changed > 0


def _complete(note: ET.Element, divisions: Fraction, open_tuplets: Counter[str]) -> bool:
    duration, voice = _number(note.findtext("duration")), note.findtext("voice", "1")
    signs = [sign.get("type") for sign in note.iter("tuplet")]
    open_tuplets[voice] += signs.count("start")
    in_tuplet = open_tuplets[voice] > 0
    open_tuplets[voice] = max(0, open_tuplets[voice] - signs.count("stop"))
    # A chord has the value of its first note. A tremolo of two notes shows the value of both.
    others = ("rest[@measure]", "grace", "chord", "notations/ornaments/tremolo")
    if not duration or in_tuplet or any(note.find(each) is not None for each in others):
        return False
    quarters = duration / divisions
    if quarters == _value(note) and note.find("time-modification") is None:
        return False
    for name in ("type", "dot", "time-modification"):
        for element in note.findall(name):
            note.remove(element)
    _set_value(note, quarters)
    return True


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
