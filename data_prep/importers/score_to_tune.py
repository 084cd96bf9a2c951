"""A score -> a tune of the dialect."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import groupby, pairwise
from typing import NamedTuple

from ..dialect.bar_writer import bar_writer
from ..dialect.midi_channels import midi_channels
from ..dialect.notation import (
    KEY_NAMES,
    LETTER_PITCH_CLASS,
    AbcError,
    key_alterations,
)
from ..dialect.tune import Tune, Voice, best_key
from ..midi.limits import Limits
from .report import Report
from .score import Score, ScoreNote
from .score_bars import bars_of
from .score_grid import Grid

MAX_CHORD_NOTES = 12  # as in the converter of MIDI


class _Chord(NamedTuple):
    """Notes of one onset and end, in ticks; pitches rise."""

    onset: int
    end: int
    pitches: tuple[int, ...]


def score_to_tune(score: Score, report: Report, limits: Limits) -> Tune:
    """Makes a tune of a score.

    Args:
        score: At least one note.
        report: Takes the warnings: of what cannot be written exactly.
        limits: Limits of bars, voices and length.

    Raises:
        AbcError: If the tune is above them.
    """
    bars = bars_of(score, report, limits)
    lines: list[tuple[int | None, list[_Chord]]] = []
    for voice in score.voices:
        notes_of: dict[int | None, list[ScoreNote]] = defaultdict(list)
        for note in voice.notes:
            notes_of[note.program].append(note)
        for program, notes in notes_of.items():
            chords = _chords(notes, bars.grid, report)
            lines += [(program, line) for line in _lines(chords)]
    if len(lines) > limits.voices:
        raise AbcError(f"{len(lines):,} voices, limit {limits.voices:,}", *score.place)
    key = _key(score)
    channels = midi_channels([program for program, _ in lines])
    voices = [
        Voice(program, channel, _write(chords, bars.grid.ticks, key))
        for (program, chords), channel in zip(lines, channels, strict=True)
    ]
    return Tune(key, bars.meters, bars.tempos, voices, bars.pickup)


def _key(score: Score) -> str:
    """Returns the signature of the score that needs the fewest accidentals; the first of equals."""
    classes = Counter(
        note.pitch % 12 for v in score.voices for note in v.notes if note.program is not None
    )

    def in_key(sharps: int) -> int:
        alterations = key_alterations(sharps)
        return sum(classes[(LETTER_PITCH_CLASS[n] + by) % 12] for n, by in alterations.items())

    # The dialect has no signature of seven: the same pitches have one of five.
    named = [sharps if abs(sharps) < 7 else sharps % 24 - 12 for sharps in score.signatures]
    if named:
        return KEY_NAMES[max(named, key=in_key)]
    return best_key([classes[pitch_class] for pitch_class in range(12)])


# ---------------------------------------------------------------- notes to chords


def _chords(notes: list[ScoreNote], grid: Grid, report: Report) -> list[_Chord]:
    """Returns the notes of one instrument of a voice as chords, by onset, highest first."""
    onsets, offs, moved = grid.snap(
        [note.onset for note in notes], [note.onset + note.duration for note in notes]
    )
    attacks = sorted(set(onsets))
    ends: dict[tuple[int, int], int] = {}  # (onset, pitch) -> end
    exact: dict[tuple[int, int], Fraction] = {}
    for note, onset, end, is_moved in zip(notes, onsets, offs, moved, strict=True):
        if is_moved:
            report.warn("a note is set on the nearest place that the dialect has", note.place)
        if end <= onset:
            later = bisect_right(attacks, onset)
            end = attacks[later] if later < len(attacks) else grid.ticks[-1]
        place = onset, note.pitch
        if is_moved and exact.setdefault(place, note.onset) != note.onset:
            report.warn("a note too close to the one before it is left out", note.place)
        ends[place] = max(end, ends.get(place, 0))
    _end_at_repetitions(ends)
    if notes[0].program is None:
        _end_drums_together(ends, attacks)
    together: dict[tuple[int, int], list[int]] = defaultdict(list)
    for (onset, pitch), end in ends.items():
        if end > onset:
            together[onset, end].append(pitch)
    chords = []
    for (onset, end), pitches in together.items():
        pitches.sort()
        for first in range(0, len(pitches), MAX_CHORD_NOTES):
            chords.append(_Chord(onset, end, tuple(pitches[first : first + MAX_CHORD_NOTES])))
    return sorted(chords, key=lambda chord: (chord.onset, -chord.pitches[-1]))


def _end_at_repetitions(ends: dict[tuple[int, int], int]) -> None:
    """Ends a note where its pitch is played again."""
    for (before, pitch), (onset, other) in pairwise(sorted(ends, key=lambda at: (at[1], at[0]))):
        if pitch == other:
            ends[before, pitch] = min(ends[before, pitch], onset)


def _end_drums_together(ends: dict[tuple[int, int], int], onsets: list[int]) -> None:
    """Gives drums of one attack one end, at the next attack at the latest."""
    longest: dict[int, int] = defaultdict(int)
    for (onset, _), end in ends.items():
        longest[onset] = max(longest[onset], end)
    following = dict(pairwise(onsets))
    for onset, pitch in ends:
        ends[onset, pitch] = min(longest[onset], following.get(onset, longest[onset]))


def _lines(chords: list[_Chord]) -> list[list[_Chord]]:
    """Returns the chords as lines without overlaps: each goes to the first line that is free."""
    lines: list[list[_Chord]] = []
    for chord in chords:
        line = next((line for line in lines if line[-1].end <= chord.onset), None)
        if line is None:
            lines.append(line := [])
        line.append(chord)
    return lines


# ---------------------------------------------------------------- chords to bars


def _write(chords: list[_Chord], bar_lines: Sequence[int], key: str) -> list[str]:
    """Returns the text of each bar; "" where all of it is silent."""
    writer = bar_writer(key)
    bars = [""] * (len(bar_lines) - 1)
    for bar, pieces in groupby(_pieces(chords, bar_lines), key=lambda piece: piece[0]):
        segments = [segment for _, segment in pieces]
        bars[bar] = writer.write(segments, bar_lines[bar + 1] - bar_lines[bar])
    return bars


def _pieces(
    chords: list[_Chord], bar_lines: Sequence[int]
) -> Iterator[tuple[int, tuple[int, int, tuple[int, ...], bool]]]:
    """Yields (bar, segment) for the chords, cut at bar lines."""
    for onset, end, pitches in chords:
        bar = bisect_right(bar_lines, onset) - 1
        while onset < end:
            stop = min(end, bar_lines[bar + 1])
            start = bar_lines[bar]
            yield bar, (onset - start, stop - start, pitches, stop < end)
            onset, bar = stop, bar + 1
