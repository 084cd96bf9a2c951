"""Numbers that no reader decides: bars and ties by our own reader, length, agreement of notes.

Conventions: an onset is in quarter notes from the start; shares and F1 are in [0, 1].
"""

import contextlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from data_prep.dialect.abc_to_midi import perform_bars
from data_prep.dialect.bar_reader import bar_reader
from data_prep.dialect.notation import TICKS_PER_QUARTER, AbcError, Segment
from data_prep.dialect.tune import Tune, read_bars
from data_prep.dialect.tune_parser import parse_tune

MIN_NOTES, MIN_PITCHES = 16, 2
SECONDS = (4.0, 600.0)
ONSET_TOLERANCE = 0.13  # quarters: abc2midi delays the notes of chords a little
SECONDS_TOLERANCE = 0.05

Note = tuple[float, int]  # onset in quarters, or in seconds, and MIDI pitch


@dataclass
class OwnVerdict:
    """What our own reader says of a text.

    Attributes:
        reads: It takes it.
        bar_accuracy: Share of bars with notes that are as long as their metre says; a first bar
            that is shorter in all voices alike is a pick-up, and right. One that cannot be read
            is wrong; 0 where the text cannot be.
        bar_perfect: It takes it, all bars are right, and all voices have as many.
        tie_ok: It takes it, and each tie leads to the same pitches at once.
        only_drums: All voices are drums.
        chord_ties: Onset and pitch of notes in a chord that a tie continues.
        timed: Onset in seconds and pitch of all notes.
        message: What it complains of.
    """

    reads: bool = False
    bar_accuracy: float = 0.0
    bar_perfect: bool = False
    tie_ok: bool = False
    only_drums: bool = False
    chord_ties: list[Note] = field(default_factory=list)
    timed: list[Note] = field(default_factory=list)
    message: str | None = None


def read_by_us(text: str) -> OwnVerdict:
    """Reads a text by the strict reader of this project."""
    try:
        tune = parse_tune(text)
    except AbcError as error:
        return OwnVerdict(message=str(error))
    try:
        voices, errors = read_bars(tune)
        performance = perform_bars(tune, voices, errors)
    except AbcError as error:
        return OwnVerdict(bar_accuracy=_bar_accuracy(tune), message=str(error))
    n_bars = sum(bool(text) for voice in tune.voices for text in voice.bars)
    accuracy = (n_bars - len(errors)) / n_bars if n_bars else 0.0
    verdict = OwnVerdict(reads=True, bar_accuracy=accuracy)
    # of each voice, the bars that stand in the text; the others were added as rests
    n_written = Counter(number for number, _ in tune.origins)
    equal = "\n[V:" in text or len({n_written[v] for v in range(len(tune.voices))}) <= 1
    verdict.bar_perfect = tune.n_bars > 0 and not errors and equal
    verdict.only_drums = bool(tune.voices) and all(voice.is_drums for voice in tune.voices)
    verdict.tie_ok, verdict.chord_ties = _ties(voices, performance.starts)
    verdict.timed = performance.timed_notes()
    if errors:
        verdict.message = f"{len(errors)} bars of wrong length"
    elif not equal:
        verdict.message = "voices of different numbers of bars"
    return verdict


def _bar_accuracy(tune: Tune) -> float:
    """Returns the share of right bars of a tune in which some cannot be read; see `OwnVerdict`."""
    reader, expected = bar_reader(tune.key), tune.bar_ticks()
    bars = [(bar, text) for voice in tune.voices for bar, text in enumerate(voice.bars) if text]
    right = 0
    for bar, text in bars:
        with contextlib.suppress(AbcError, IndexError):
            right += reader.read(text)[-1].end == expected[bar]
    return right / len(bars) if bars else 0.0


def _ties(voices: list[list[list[Segment]]], starts: list[int]) -> tuple[bool, list[Note]]:
    """Returns whether all ties lead on, and what they continue in chords."""
    all_lead_on, continued = True, []
    for bars in voices:
        flat = [
            (start + part.start, start + part.end, part.pitches, part.tied)
            for start, bar in zip(starts, bars, strict=False)
            for part in bar
        ]
        for place, (_, end, pitches, tied) in enumerate(flat, start=1):
            following = flat[place] if place < len(flat) else None
            if not tied or not pitches:
                all_lead_on &= not tied
            elif following is None or following[0] != end or following[2] != pitches:
                all_lead_on = False
            elif len(pitches) > 1:
                continued += [(end / TICKS_PER_QUARTER, pitch) for pitch in pitches]
    return all_lead_on, continued


def is_playable(answer: dict[str, Any], only_drums: bool) -> bool:
    """Whether a reader's MIDI file is music that one would listen to.

    It has 16 notes of 2 pitches (drums: of any), all of them in 0-127, and lasts 4 s to 10 min.
    """
    if not answer.get("midi"):
        return False
    pitches = [note[2] for note in answer["notes"]]
    return (
        len(pitches) >= MIN_NOTES
        and (only_drums or len(set(pitches)) >= MIN_PITCHES)
        and all(0 <= pitch <= 127 for pitch in pitches)
        and SECONDS[0] <= answer["seconds"] <= SECONDS[1]
    )


def agreement(left: list[Note], right: list[Note], tolerance: float = ONSET_TOLERANCE) -> float:
    """Returns F1 of the notes, matched one to one by pitch and onset within a tolerance.

    Two readers that hear nothing agree on no note: 0.
    """
    sides: dict[int, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for side, notes in enumerate((left, right)):
        for onset, pitch in notes:
            sides[pitch][side].append(onset)
    n_matched = 0
    for onsets, others in sides.values():
        onsets.sort()
        others.sort()
        i = j = 0
        while i < len(onsets) and j < len(others):
            difference = onsets[i] - others[j]
            if abs(difference) <= tolerance:
                n_matched, i, j = n_matched + 1, i + 1, j + 1
            elif difference < 0:
                i += 1
            else:
                j += 1
    return 2 * n_matched / max(1, len(left) + len(right))


def without_continued(notes: list[list[float]], continued: list[Note]) -> list[list[float]]:
    """Returns the notes of music21 without those that it strikes again inside a tied chord.

    It joins no ties of chords. Which notes these are, our own reader says: one note is taken off
    for each. Where our reader does not take the text, none are.
    """
    spots = Counter((round(onset * TICKS_PER_QUARTER), pitch) for onset, pitch in continued)
    out = []
    for note in notes:
        spot = round(note[0] * TICKS_PER_QUARTER), note[2]
        if spots[spot]:
            spots[spot] -= 1
        else:
            out.append(note)
    return out
