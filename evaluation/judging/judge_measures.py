"""Measures beyond the readers' own verdicts: bars and ties (our reader), length, note agreement.

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
ONSET_TOLERANCE = 0.13  # quarters: abc2midi delays chord notes slightly
SECONDS_TOLERANCE = 0.05

Note = tuple[float, int]  # onset in quarters, or in seconds, and MIDI pitch


@dataclass
class OwnVerdict:
    """Our own reader's verdict on a text.

    Attributes:
        reads: Whether it accepts the text.
        bar_accuracy: Share of bars with notes whose length matches the meter. A first bar that is
            equally short in all voices is a pickup and counts as right. A bar that cannot be read
            is wrong; 0 if the text cannot be read.
        bar_perfect: It accepts the text, all bars are right, and all voices have equally many.
        tie_ok: It accepts the text, and each tie leads directly to the same pitches.
        only_drums: All voices are drums.
        chord_ties: Onset and pitch of the chord notes that a tie continues.
        timed: Onset in seconds and pitch of all notes.
        message: Its complaint, if any.
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
    """Reads a text with the strict reader of this project."""
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
    # per voice, the bars that are in the text; the others were added as rests
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
    """Returns the share of right bars if some bars cannot be read; see `OwnVerdict`."""
    reader, expected = bar_reader(tune.key), tune.bar_ticks()
    bars = [(bar, text) for voice in tune.voices for bar, text in enumerate(voice.bars) if text]
    right = 0
    for bar, text in bars:
        with contextlib.suppress(AbcError, IndexError):
            right += reader.read(text)[-1].end == expected[bar]
    return right / len(bars) if bars else 0.0


def _ties(voices: list[list[list[Segment]]], starts: list[int]) -> tuple[bool, list[Note]]:
    """Returns whether all ties continue a note, and the chord notes that they continue."""
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
    """Whether a reader's MIDI file is worth listening to.

    It has at least 16 notes and 2 pitches (drums: any number), all in 0-127, and lasts 4 s to
    10 min.
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
    """Returns F1 of the notes, matched one to one by pitch and by onset within a tolerance.

    If neither reader has any notes, the agreement is 0.
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
    """Returns the notes of music21 without those that it repeats inside a tied chord.

    music21 does not join tied chords. Our own reader tells which notes these are: one note is
    removed for each. If our reader rejects the text, none are removed.
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
