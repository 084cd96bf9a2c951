"""MusicXML, MEI and Humdrum -> a tune of our dialect, by verovio.

What is played: repeats, endings and jumps; bars, pickups and tempos as
written; grace notes as 1/32 notes before their note. Signs that ornament or abbreviate (trills,
turns, arpeggios, tremolos) are not played out.

Verovio may end the process on files that are badly damaged: call this in a worker process.
"""

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..dialect.notation import DENOMINATORS, MAX_NUMERATOR, SHORTEST_TICKS, TICKS_PER_QUARTER
from ..dialect.tune import Meter
from ..midi.limits import LIMITS, MidiError
from ..midi.midi_writer import MidiTrack, write_midi
from ..midi_to_abc.converter import midi_to_tune
from ..storage.drop_reasons import DropReason
from .imported import Imported
from .verovio_scores.mei_score import MEI, read_measures, read_ties
from .verovio_scores.note_values import complete_values
from .verovio_scores.played_score import Bar, PlayedScore, TimeMap, play
from .verovio_scores.repeats import played_order
from .verovio_scores.score_file import read_score_file
from .verovio_scores.signs import signs_of_mei, signs_of_musicxml

ET.register_namespace("", MEI[1:-1])  # verovio reads MEI without prefixes
# All movements, each measure once (repeats.py); no layout; ids that do not vary.
_OPTIONS = {"mdivAll": True, "expandNever": True, "breaks": "none", "xmlIdSeed": 1}
_TIMES = {"includeMeasures": True, "includeRests": True}
_TICKS = 20 * TICKS_PER_QUARTER  # of a quarter in MIDI: also septuplets come near enough
_BAR_STEPS = TICKS_PER_QUARTER // SHORTEST_TICKS  # of a quarter, where bar lines may be
_STEP_TICKS = _TICKS // _BAR_STEPS


def score_to_tune(content: bytes) -> Imported:
    """Converts a score.

    Args:
        content: The bytes of a file of one of `score_file.SCORE_SUFFIXES`.

    Raises:
        MidiError: With the drop reason, if the file is not to be converted.
    """
    score = _played(*read_score_file(content))
    converted = midi_to_tune(_midi(score))
    return Imported(converted.tune, converted.n_doubled + score.n_left_out)


def _played(text: str, file_format: str) -> PlayedScore:
    source = _parsed(text, file_format)
    if source is not None and any([_without_arpeggios(source), complete_values(source)]):
        text = ET.tostring(source, "unicode")
    mei, times = _engraved(text, file_format)
    if not times.measures:
        raise MidiError(DropReason.NO_NOTES, "verovio finds no measure in it")
    score = ET.fromstring(mei)
    signs = signs_of_musicxml(source) if file_format == "xml" else signs_of_mei(score)
    if len(signs) != len(times.measures):  # such as a score with its measures outside
        signs = signs_of_mei(score)
    if len(signs) != len(times.measures):
        raise MidiError(
            DropReason.UNREADABLE,
            f"verovio tells the times of {len(times.measures)} of {len(signs)} measures",
        )
    if any(stop < start for start, _, stop in times.measures):
        raise MidiError(DropReason.UNREADABLE, "verovio's times of the measures go back")
    order = played_order(signs, LIMITS)
    return play(read_measures(score), read_ties(score), times, order)


def _parsed(text: str, file_format: str) -> ET.Element | None:
    """Returns the root of XML; None for Humdrum.

    Raises:
        MidiError: If the score is cut off: verovio would read the part that is there.
    """
    if file_format == "humdrum":
        lines = [line for line in text.split("\n") if line.strip() and not line.startswith("!!")]
        if set(lines[-1].split()) != {"*-"}:
            raise MidiError(DropReason.UNREADABLE, "Humdrum that does not end with *-")
        return None
    try:
        return ET.fromstring(text)
    except ET.ParseError as error:
        raise MidiError(DropReason.UNREADABLE, f"XML that is not well-formed: {error}") from None


def _without_arpeggios(score: ET.Element) -> bool:
    """Removes the signs of arpeggios, which move notes; returns whether there were any."""
    found = [
        (parent, child)
        for parent in score.iter()
        for child in parent
        if isinstance(child.tag, str) and child.tag.rpartition("}")[2] in ("arpeggiate", "arpeg")
    ]
    for parent, child in found:
        parent.remove(child)
    return bool(found)


def _engraved(text: str, file_format: str) -> tuple[str, TimeMap]:
    """Returns a score as MEI, and the times of its elements; none if it cannot be read."""
    import verovio  # here, because few collections need it

    with _silence():
        verovio.enableLog(verovio.LOG_OFF)
        toolkit = verovio.toolkit()
        toolkit.setOptions(_OPTIONS | {"inputFrom": file_format})
        mei = toolkit.getMEI() if toolkit.loadData(text) else ""
        return mei, TimeMap(toolkit.renderToTimemap(_TIMES) if mei else [])


@contextmanager
def _silence() -> Iterator[None]:
    """Discards what C++ code prints: verovio's reader of Humdrum talks, with its log off, too."""
    streams = (1, 2)
    saved = [os.dup(stream) for stream in streams]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in streams:
            os.dup2(nowhere, stream)
        yield
    finally:
        for stream, before in zip(streams, saved, strict=True):
            os.dup2(before, stream)
            os.close(before)
        os.close(nowhere)


# ---------------------------------------------------------------- MIDI


def _midi(score: PlayedScore) -> bytes:
    """Writes a score as MIDI, one track per staff and instrument."""
    tracks = []
    for (_, program), sounds in score.parts.items():
        rows = [(sound.onset * _TICKS, sound.end * _TICKS, sound.pitch) for sound in sounds]
        notes = np.round(np.array(rows)).astype(np.int64)
        tracks.append(MidiTrack(program, notes[np.argsort(notes[:, 0], kind="stable")]))
    tempos = [(round(time * _TICKS), round(60e6 / bpm)) for time, bpm in sorted(score.tempos)]
    return write_midi(_TICKS, tempos, _meters(score.bars, score.end), tracks)


def _meters(bars: list[Bar], end: float) -> list[tuple[int, int, int]]:
    """Returns (tick, numerator, denominator) wherever the meter, or the length of bars, changes.

    A bar that is shorter or longer than its meter gets one of its own; not the last bar, which is
    filled with silence.
    """
    places = [round(bar.start * _BAR_STEPS) for bar in bars]
    stops = [*places[1:], round(end * _BAR_STEPS)]
    changes: list[tuple[int, int, int]] = []
    for bar, start, stop in zip(bars, places, stops, strict=True):
        ticks = (stop - start) * SHORTEST_TICKS
        if not ticks:
            continue
        meter = _meter_of(ticks, bar.meter, is_last=bar is bars[-1])
        if not changes or changes[-1][1:] != (meter.numerator, meter.denominator):
            changes.append((start * _STEP_TICKS, meter.numerator, meter.denominator))
    return changes


def _meter_of(ticks: int, nominal: tuple[int, int] | None, *, is_last: bool) -> Meter:
    """Returns the meter of a bar of this length, in the unit of its nominal meter if possible."""
    common = Meter(4, 4)
    if nominal and nominal[1] in DENOMINATORS and nominal[0] <= MAX_NUMERATOR:
        meter = Meter(*nominal)
        if ticks == meter.ticks or (is_last and ticks < meter.ticks):
            return meter
        beats, rest = divmod(ticks * meter.denominator, 4 * TICKS_PER_QUARTER)
        if not rest and beats <= MAX_NUMERATOR:
            return Meter(beats, meter.denominator)
    return Meter.of_ticks(ticks) or common
