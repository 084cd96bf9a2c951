"""The signs of a score that say what is played next: of MusicXML, and of MEI for other formats.

Sources: MusicXML 4.0, elements barline, ending and sound; MEI, elements ending and repeatMark, and
the attributes left and right of measure.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from itertools import pairwise

from .mei_score import MEI
from .repeats import Signs

_HEAVY = ("light-heavy", "heavy", "heavy-heavy", "heavy-light")
_WORDS = {  # what is written where a program gives no sound for it
    re.compile(r"\W*(d\W{0,2}c\b|da capo)", re.IGNORECASE): ("jump", "capo"),
    re.compile(r"\W*(d\W{0,2}s\b|dal segno)", re.IGNORECASE): ("jump", "segno"),
    re.compile(r"\W*fine\W*\Z", re.IGNORECASE): ("is_fine", True),
    re.compile(r"\W*to coda\b", re.IGNORECASE): ("to_coda", True),
}
_SOUNDS = {
    **{"dacapo": ("jump", "capo"), "dalsegno": ("jump", "segno"), "fine": ("is_fine", True)},
    **{"segno": ("is_segno", True), "coda": ("is_coda", True), "tocoda": ("to_coda", True)},
}
_MARKS = {  # repeatMark of MEI
    **{"daCapo": ("jump", "capo"), "dalSegno": ("jump", "segno"), "fine": ("is_fine", True)},
    "segno": ("is_segno", True),
}
_NUMBERS = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")
_MOST_ENDINGS = 100


def signs_of_musicxml(score: ET.Element) -> list[Signs]:
    """Returns the signs of each measure; a sign may be in any part."""
    parts = [[*part.iter("measure")] for part in score.iter("part")]
    signs = [Signs() for _ in max(parts, key=len, default=[])]
    for part in parts:
        open_endings: set[int] = set()
        for place, measure in enumerate(part):
            open_endings = _read_barlines(measure, signs, place, open_endings)
            _read_sounds(measure, signs[place])
    for before, place in pairwise(range(len(signs))):
        measures = [(part[before], part[place]) for part in parts if place < len(part)]
        signs[place].begins_movement = any(_divides(*pair) for pair in measures)
    return _with_endings_of_repeats(signs)


def _read_barlines(
    measure: ET.Element, signs: list[Signs], place: int, endings: set[int]
) -> set[int]:
    """Reads the bar lines of a measure; returns the endings that are open after it."""
    after = endings
    for line in measure.findall("barline"):
        repeat, ending = line.find("repeat"), line.find("ending")
        if repeat is not None and repeat.get("direction") == "forward":
            following = place + (line.get("location") == "right")
            if following < len(signs):
                signs[following].begins_repeat = True
        elif repeat is not None:
            times = repeat.get("times", "")
            signs[place].times = max(2, int(times) if times.isdecimal() else 2)
        if ending is not None and ending.get("type") == "start":
            endings = after = _numbers(ending.get("number", ""))
        elif ending is not None:
            after = set()
    signs[place].endings |= endings
    return after


def _numbers(text: str) -> set[int]:
    """Returns the numbers in `1, 2` or `1-3`."""
    found: set[int] = set()
    for first, last in _NUMBERS.findall(text[:_MOST_ENDINGS]):
        start, stop = int(first), int(last or first)
        if 0 < start <= stop <= _MOST_ENDINGS:
            found |= set(range(start, stop + 1))
    return found


def _read_sounds(measure: ET.Element, sign: Signs) -> None:
    for sound in measure.iter("sound"):
        for name, (attribute, value) in _SOUNDS.items():
            if sound.get(name) not in (None, "no"):
                setattr(sign, attribute, value)
    for words in measure.iter("words"):
        for pattern, (attribute, value) in _WORDS.items():
            if pattern.match((words.text or "")[:_MOST_ENDINGS]):
                setattr(sign, attribute, value)
    sign.is_segno |= measure.find("direction/direction-type/segno") is not None
    has_coda = measure.find("direction/direction-type/coda") is not None
    sign.is_coda |= has_coda and not sign.to_coda


def _divides(before: ET.Element, measure: ET.Element) -> bool:
    """Whether a movement may begin between two measures."""
    styles = [line.findtext("bar-style") for line in before.findall("barline")]
    is_new = measure.find("attributes/time") is not None or measure.get("number") in ("0", "1")
    return is_new and any(style in _HEAVY for style in styles)


def signs_of_mei(score: ET.Element) -> list[Signs]:
    """Returns the signs of each measure, in document order."""
    endings = {
        measure: _numbers(ending.get("n", "") or ending.get("label", ""))
        for ending in score.iter(f"{MEI}ending")
        for measure in ending.iter(f"{MEI}measure")
    }
    measures = [*score.iter(f"{MEI}measure")]
    firsts = {next(part.iter(f"{MEI}measure"), None) for part in score.iter(f"{MEI}mdiv")}
    signs = [Signs() for _ in measures]
    for place, (measure, sign) in enumerate(zip(measures, signs, strict=True)):
        left, right = measure.get("left", ""), measure.get("right", "")
        sign.begins_repeat |= left in ("rptstart", "rptboth")
        sign.times = 2 if right in ("rptend", "rptboth") else sign.times
        if place and left in ("rptend", "rptboth"):
            signs[place - 1].times = 2
        if place + 1 < len(signs):
            signs[place + 1].begins_repeat |= right in ("rptstart", "rptboth")
            signs[place + 1].begins_movement |= right == "end"
        sign.endings = endings.get(measure, set())
        sign.begins_movement |= measure in firsts
        for mark in measure.iter(f"{MEI}repeatMark"):
            if found := _MARKS.get(mark.get("func", "")):
                setattr(sign, *found)
    return _with_endings_of_repeats(signs)


def _with_endings_of_repeats(signs: list[Signs]) -> list[Signs]:
    """Returns the signs without endings to which no repeat belongs."""
    for group in _groups(signs):
        if not any(sign.times for sign in group):
            for sign in group:
                sign.endings = set()
    return signs


def _groups(signs: list[Signs]) -> Iterable[list[Signs]]:
    """Yields the measures of endings beside each other."""
    group: list[Signs] = []
    for sign in [*signs, Signs()]:
        if sign.endings:
            group.append(sign)
        elif group:
            yield group
            group = []
