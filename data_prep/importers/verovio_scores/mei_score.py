"""MEI, as verovio writes it for a score of any format -> what stands in each measure.

Times are not here: they depend on repeats, see played_score.py.

Source: Music Encoding Initiative, https://music-encoding.org, version 5.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from .instruments import program_of_name

MEI = "{http://www.music-encoding.org/ns/mei}"
_ID = "{http://www.w3.org/XML/1998/namespace}id"
_DRUM_CHANNEL = "9"  # counted from 0
_EVENTS = ("note", "chord", "rest", "mRest", "multiRest", "space", "mSpace", "mRpt")
_SYMBOLS = {"common": (4, 4), "cut": (2, 2)}
_LONG_VALUES = {"breve": 2, "long": 4, "maxima": 8}  # in whole notes
_LETTERS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_ALTERATIONS = {
    **{"s": 1, "ss": 2, "x": 2, "xs": 3, "sx": 3, "ts": 3, "ns": 1, "su": 1, "3qs": 1},
    **{"f": -1, "ff": -2, "tf": -3, "nf": -1, "fd": -1, "3qf": -1},
}
_MOST_TEMPO = 10_000.0  # quarters a minute


class Staff(NamedTuple):
    """What holds for a staff.

    Attributes:
        program: General MIDI program; None for drums.
        semitones: By how much it sounds higher than it is written.
    """

    program: int | None
    semitones: int


class Note(NamedTuple):
    """A note as it is written.

    Attributes:
        id: Its xml:id.
        pitch: MIDI pitch as written, or the sound of a drum; None if it has neither.
        is_drum: Whether it has a sound of its own.
    """

    id: str
    pitch: int | None
    is_drum: bool


class Event(NamedTuple):
    """A note, chord, rest or space of a layer, or the sign that repeats the measure before.

    Attributes:
        kind: Its element in MEI.
        id: Its xml:id.
        notes: The notes of a chord; one for a note, else none.
        is_grace: Whether it is a grace note or chord, without a time of its own.
        quarters: Its length by its note value; None if that does not tell it.
    """

    kind: str
    id: str
    notes: tuple[Note, ...]
    is_grace: bool
    quarters: float | None


class Layer(NamedTuple):
    """A voice of a staff in one measure."""

    staff: str
    number: str
    events: list[Event]


class Tempo(NamedTuple):
    """A tempo.

    Attributes:
        quarters_a_minute: Positive.
        beat: Where, in beats of the meter from 1.
        start: xml:id of the note where it is instead, or "".
    """

    quarters_a_minute: float
    beat: float
    start: str


@dataclass
class Measure:
    """A measure as it is written.

    Attributes:
        meter: Numerator and denominator in force; None without any.
        staves: Number -> what holds for the staff.
        layers: Its voices, by staff.
        tempos: In document order.
    """

    meter: tuple[int, int] | None
    staves: dict[str, Staff]
    layers: list[Layer] = field(default_factory=list)
    tempos: list[Tempo] = field(default_factory=list)


def read_ties(mei: ET.Element) -> dict[str, str]:
    """Returns xml:id of the second of two tied notes -> that of the first."""
    ties = ((tie.get("endid", ""), tie.get("startid", "")) for tie in mei.iter(f"{MEI}tie"))
    return {end[1:]: start[1:] for end, start in ties if end and start}


def read_measures(mei: ET.Element) -> dict[str, Measure]:
    """Returns xml:id -> measure, in document order."""
    found: dict[str, Measure] = {}
    meter, staves, tempos = None, {}, []
    for element in mei.iter():
        kind = _kind(element)
        if kind == "scoreDef":
            meter = _meter(element) or meter
            staves = staves | dict(_staves(element, None, ""))
            tempos += _tempos([element])
        elif kind == "staffDef" and element.get("n") in staves:
            # A change between measures; those inside a scoreDef were read with it.
            if element.get("n") == next(iter(staves)):
                meter = _meter(element) or meter
            staves = staves | dict(_staves([element], None, "", staves))
        elif kind == "measure":
            layers = [layer for staff in element.iter(f"{MEI}staff") for layer in _layers(staff)]
            tempos += _tempos(element.iter(f"{MEI}tempo"))
            found[element.get(_ID, "")] = Measure(meter, staves, layers, tempos)
            tempos = []
    return found


def _kind(element: ET.Element) -> str:
    return element.tag.removeprefix(MEI) if isinstance(element.tag, str) else ""


# ---------------------------------------------------------------- what holds from a place on


def _meter(element: ET.Element) -> tuple[int, int] | None:
    """Returns the meter that a scoreDef or staffDef sets; None if it sets none."""
    signs = [*element.iter(f"{MEI}meterSig")]
    sign, prefix = (signs[0], "") if signs else (element, "meter.")
    count, unit = sign.get(f"{prefix}count"), sign.get(f"{prefix}unit")
    try:
        beats = sum(int(part) for part in (count or "").split("+"))
        return (beats, int(unit or 0)) if beats > 0 and int(unit or 0) > 0 else None
    except ValueError:
        return _SYMBOLS.get(sign.get(f"{prefix}sym", ""))


def _staves(
    parent: ET.Element | list[ET.Element],
    above: ET.Element | None,
    label: str,
    before: Mapping[str, Staff] = MappingProxyType({}),
) -> Iterator[tuple[str, Staff]]:
    """Yields number and staff below an element; groups of staves may share one instrument.

    Args:
        parent: The element.
        above: The instrDef of the group.
        label: The name of the group.
        before: The staves so far; what an element does not say is as before.
    """
    for element in parent:
        kind = _kind(element)
        if kind not in ("staffGrp", "staffDef"):
            continue
        named = element.find(f"{MEI}label")
        name = " ".join("".join(named.itertext()).split()) if named is not None else ""
        name = name or element.get("label", "") or label
        instrument = element.find(f"{MEI}instrDef")
        instrument = above if instrument is None else instrument
        if kind == "staffGrp":
            yield from _staves(element, instrument, name)
            continue
        number, old = element.get("n", ""), before.get(element.get("n", ""))
        program = old.program if old and instrument is None else _program(instrument, name)
        yield number, Staff(program, _semitones(element, old))


def _semitones(staff: ET.Element, before: Staff | None) -> int:
    try:
        return int(staff.get("trans.semi", ""))
    except ValueError:
        return before.semitones if before else 0


def _program(instrument: ET.Element | None, label: str) -> int | None:
    given = {} if instrument is None else instrument.attrib
    if given.get("midi.channel") == _DRUM_CHANNEL:
        return None
    number = given.get("midi.instrnum", "")
    if number.isascii() and number.isdigit() and int(number) < 128:
        return int(number)
    return program_of_name(given.get("midi.instrname", "").replace("_", " ") or label)


def _tempos(elements: Iterator[ET.Element] | list[ET.Element]) -> list[Tempo]:
    found = []
    for element in elements:
        try:
            bpm = float(element.get("midi.bpm", 0)) or float(element.get("mm", 0)) * 4 / float(
                element.get("mm.unit", 4)
            ) * (2 - 0.5 ** int(element.get("mm.dots", 0)))
            beat = float(element.get("tstamp", 1))
        except (ValueError, ZeroDivisionError, OverflowError):
            continue  # a word such as "Allegro", or a mark without a number
        if 0 < bpm < _MOST_TEMPO and 0 <= beat < _MOST_TEMPO:
            found.append(Tempo(bpm, beat, element.get("startid", "")[1:]))
    return found


# ---------------------------------------------------------------- what stands in a measure


def _layers(staff: ET.Element) -> Iterator[Layer]:
    for layer in staff.iter(f"{MEI}layer"):
        yield Layer(staff.get("n", ""), layer.get("n", ""), [*_events(layer, False, 1.0)])


def _events(parent: ET.Element, in_graces: bool, scale: float | None) -> Iterator[Event]:
    """Yields the events below an element, out of their beams and tuplets.

    Args:
        parent: The element.
        in_graces: Whether it is a group of grace notes.
        scale: Of the note values in it; None if these do not tell lengths.
    """
    for element in parent:
        kind = _kind(element)
        is_grace = in_graces or kind == "graceGrp" or element.get("grace") is not None
        if kind not in _EVENTS:
            yield from _events(element, is_grace, _scale(element, scale))
            continue
        notes = [element] if kind == "note" else element.iter(f"{MEI}note")
        quarters = _quarters(element)
        yield Event(
            kind,
            element.get(_ID, ""),
            tuple(_note(note) for note in notes),
            is_grace,
            quarters * scale if quarters and scale else None,
        )


def _scale(element: ET.Element, above: float | None) -> float | None:
    """Returns the scale inside an element: tuplets change it, tremolos of two notes hide it."""
    if _kind(element) == "fTrem" or above is None:
        return None
    if _kind(element) != "tuplet":
        return above
    try:
        return above * int(element.get("numbase", 0)) / int(element.get("num", 0))
    except (ValueError, ZeroDivisionError):
        return None


def _quarters(element: ET.Element) -> float | None:
    """Returns the length of a note value; None without one."""
    value = element.get("dur", "")
    try:
        whole = _LONG_VALUES.get(value) or 1 / int(value)
        return 4 * whole * (2 - 0.5 ** int(element.get("dots", 0)))
    except (ValueError, ZeroDivisionError, OverflowError):
        return None


def _note(note: ET.Element) -> Note:
    letter = note.get("pname.ges") or note.get("pname")
    try:
        if letter is None:
            pitch = int(note.get("pnum", ""))
        else:
            octave = int(note.get("oct.ges") or note.get("oct", ""))
            pitch = 12 * (octave + 1) + _LETTERS[letter] + _alteration(note)
    except (ValueError, KeyError):
        pitch = None
    return Note(note.get(_ID, ""), pitch, letter is None)


def _alteration(note: ET.Element) -> int:
    """Returns by how many semitones a note is altered; quarter tones go to the natural note."""
    for name in ("accid.ges", "accid"):
        for element in (note, *note.iter(f"{MEI}accid")):
            if sign := element.get(name):
                return _ALTERATIONS.get(sign, 0)
    return 0
