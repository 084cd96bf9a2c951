"""What a MusicXML file plays, as music21 reads it: the reference for the importer of scores.

Music21 shares no code with verovio or the importer. Of its reading, the notes of each measure are
used: pitch as it sounds, and the offset in the measure. The order of the measures is given, since
music21 expands each part by the signs of that part alone, and repeats without a beginning from the
start of the file. It takes a whole-measure rest to fill the meter, also in a measure that is
shorter: a measure is as long as in the part where it is longest, of those with notes in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from music21 import chord, converter, harmony, note, repeat, stream


@dataclass(frozen=True)
class TruthNote:
    """A note.

    Attributes:
        program: General MIDI program.
        pitch: MIDI pitch, as it sounds.
        quarters: Onset from the start of the piece.
        is_grace: Whether it is a grace note; then its onset is that of its main note.
    """

    program: int
    pitch: int
    quarters: float
    is_grace: bool


@dataclass
class Truth:
    """A score.

    Attributes:
        notes: In the order that was given.
        order: Places of the measures as music21 plays them; None if that was not asked for.
    """

    notes: list[TruthNote]
    order: list[int] | None


def read_truth(path: Path, order: list[int], *, with_order: bool) -> Truth:
    """Reads a score.

    Args:
        path: A MusicXML file.
        order: Places of its measures in the order in which they are played.
        with_order: Whether music21 should expand the repeats, which takes it long.
    """
    parts = converter.parse(path).toSoundingPitch().parts
    measures = [[*part.getElementsByClass(stream.Measure)] for part in parts]
    lengths = [_quarters(place) for place in zip(*measures, strict=True)]
    notes: list[TruthNote] = []
    start = 0.0
    programs = [_program(part) for part in parts]
    written = [[[*_notes(measure)] for measure in part] for part in measures]
    for place in order:
        for program, part in zip(programs, written, strict=True):
            notes += [TruthNote(program, p, start + at, grace) for p, at, grace in part[place]]
        start += lengths[place]
    return Truth(notes, _order(parts[0]) if with_order else None)


def _quarters(measures: tuple[stream.Measure, ...]) -> float:
    """Returns the length of a measure, given as it is in each part."""
    with_notes = [measure for measure in measures if measure.recurse().notes]
    return max(float(measure.highestTime) for measure in with_notes or measures)


def _program(part: stream.Part) -> int:
    program = part.getInstrument(returnDefault=True).midiProgram
    return 0 if program is None else program


def _order(part: stream.Part) -> list[int]:
    """Returns the places of the measures in the order in which they are played."""
    for place, measure in enumerate(part.getElementsByClass(stream.Measure)):
        measure.editorial.place = place
    played = repeat.Expander(part).process()
    return [m.editorial.place for m in played.getElementsByClass(stream.Measure)]


def _notes(measure: stream.Measure) -> Iterator[tuple[int, float, bool]]:
    """Yields (pitch, offset in quarters, whether it is a grace note) of notes that begin."""
    for each in measure.recurse().notes:
        if isinstance(each, harmony.Harmony):
            continue
        offset = float(each.getOffsetInHierarchy(measure))
        for one in each.notes if isinstance(each, chord.ChordBase) else [each]:
            is_held = one.tie is not None and one.tie.type in ("stop", "continue")
            if isinstance(one, note.Note) and not is_held:
                yield one.pitch.midi, offset, bool(each.duration.isGrace)
