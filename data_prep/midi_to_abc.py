"""Stage 1: MIDI bytes -> ABC text of our dialect, or the reason why not.

Every track becomes one part; notes of a part that overlap without sharing their ends become extra
voices. Onsets are drawn to the grid that fits each beat of a part best (sixteenths, triplets, or
twice as fine), so that straight and swung beats can stand side by side. Bar lines follow the time
signatures; tempo is kept bar by bar, with the error fed back so that it never adds up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from symusic import Score
from symusic.core import ScoreTick, TrackTick

from .bar_writer import BarWriter
from .notation import KEY_NAMES, TICKS_PER_QUARTER, Segment
from .timeline import LIMITS, BarGrid, Limits, MidiError, bar_tempos
from .tune import LAYOUTS, Tune, Voice, print_tune

# Grids of a beat of 48 ticks, and what each costs: it must bring the mean error of the beat's
# onsets down by so many ticks to be preferred to the ones before it.
_GRIDS = ((12, 0.0), (16, 0.3), (6, 0.4), (8, 0.6), (3, 1.0))
_COLLISION_TICKS = 3.0
# Onsets that end a beat nearer than this to the next element's onset are held until it: the gap
# is how keys are released, not a rest that a composer would write.
_HELD_GAP_TICKS = 12
_SAME_END_TICKS = 6
_MAX_VOICES_A_PART = 6
_MAX_CHORD_NOTES = 12
_CHANNELS_WITHOUT_DRUMS = tuple(c for c in range(1, 17) if c != 10)


def midi_to_abc(midi: bytes, *, layout: str = "bars", limits: Limits = LIMITS) -> str:
    """Converts a MIDI file to one ABC tune.

    Args:
        midi: The bytes of a Standard MIDI File.
        layout: One of `tune.LAYOUTS`.
        limits: Where to refuse.

    Raises:
        MidiError: With a reason of `REASONS`.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout {layout!r}, expected one of {LAYOUTS}")
    return print_tune(midi_to_tune(midi, limits=limits), layout)


def midi_to_tune(midi: bytes, *, limits: Limits = LIMITS) -> Tune:
    """Converts a MIDI file to a `Tune`; see `midi_to_abc`."""
    score = _load(midi, limits)
    grid = BarGrid.of(score, limits)
    parts = [part for track in score.tracks if (part := _read_part(track, score, grid))]
    if not parts:
        raise MidiError("no_notes", "no track holds a note")
    pitches = Counter(
        pitch % 12 for part in parts if not part.is_drums for _, _, p in part.chords for pitch in p
    )
    key = KEY_NAMES[_best_key(pitches)]
    voices = [
        Voice(part.program, 10 if part.is_drums else None, _write_bars(chords, grid, key))
        for part in parts
        for chords in _split_voices(part)
    ]
    _number_channels(voices)
    meters = {
        bar: meter
        for bar, meter in enumerate(grid.meters)
        if bar == 0 or meter != grid.meters[bar - 1]
    }
    return Tune(key, meters, bar_tempos(score, grid, limits), voices)


def _load(midi: bytes, limits: Limits) -> ScoreTick:
    start = midi.find(b"MThd", 0, 4096)
    if start < 0:
        found = bytes(midi[:16])
        raise MidiError("not_midi", f"starts with {found!r}, expected the chunk MThd")
    try:
        score = Score.from_midi(midi[start:], sanitize_data=True)
    except RuntimeError as error:
        raise MidiError("unreadable", str(error).splitlines()[0][:200]) from error
    n_notes = score.note_num()
    if n_notes == 0:
        raise MidiError("no_notes", "no track holds a note")
    if n_notes > limits.notes:
        raise MidiError("too_many_notes", f"{n_notes:,} notes, limit {limits.notes:,}")
    if score.tpq <= 0:
        raise MidiError("unreadable", f"{score.tpq} ticks a quarter note")
    return score


# ---------------------------------------------------------------- notes


@dataclass
class _Part:
    """One track on the grid.

    Attributes:
        program: General MIDI program; None for drums.
        chords: (onset, end, rising pitches), sorted.
    """

    program: int | None
    is_drums: bool
    chords: list[tuple[int, int, tuple[int, ...]]]


def _read_part(track: TrackTick, score: ScoreTick, grid: BarGrid) -> _Part | None:
    notes = track.notes.numpy()
    if not len(notes["time"]):
        return None
    scale = TICKS_PER_QUARTER / score.tpq
    onsets = notes["time"] * scale
    ends = onsets + notes["duration"] * scale
    pitches = np.clip(notes["pitch"], 0, 127)
    steps = _beat_grids(onsets, ends, grid)
    starts, ends = _snap(onsets, steps, grid), _snap(ends, steps, grid, is_end=True)
    cell = np.searchsorted(grid.cells, starts, side="right") - 1
    step = steps[np.clip(cell, 0, len(steps) - 1)]
    ends = np.maximum(ends, starts + step)
    ends = np.minimum(ends, grid.starts[-1])
    inside = starts < grid.starts[-1]
    rows = sorted(
        zip(starts[inside].tolist(), pitches[inside].tolist(), ends[inside].tolist(), strict=True)
    )
    drums = bool(track.is_drum)
    chords = _chords(rows, drums=drums)
    return _Part(None if drums else track.program & 127, drums, chords)


def _beat_grids(onsets: np.ndarray, ends: np.ndarray, grid: BarGrid) -> np.ndarray:
    """Chooses the grid step of each beat of a part: (cells,) ticks.

    The onsets decide. A grid that would make a chord of notes that follow one another (a grace note
    and its main note) is avoided; where the onsets fit several grids, one that the ends fit
    exactly is preferred, so that text that was converted before is converted to itself.

    Args:
        onsets: (n,) ticks.
        ends: (n,) ticks.
        grid: Bars and beats.
    """
    lengths = np.diff(grid.cells)
    n_cells = len(lengths)
    cell, count, offset = _per_cell(onsets, grid, side="right")
    end_cell, end_count, end_offset = _per_cell(ends, grid, side="left")
    order = np.argsort(onsets, kind="stable")
    first, second = order[:-1], order[1:]
    follows = (onsets[second] - onsets[first] > 2) & (ends[first] <= onsets[second] + 1)
    best, best_cost = np.full(n_cells, 3), np.full(n_cells, np.inf)  # 3 divides every bar
    for step, penalty in _GRIDS:
        allowed = lengths % step == 0
        if step % 3:  # triplets fill a beat or half a beat
            allowed &= np.isin(lengths, (24, 48))
        slots = np.round(offset / step)
        cost = np.bincount(cell, np.abs(offset - slots * step), n_cells) / np.maximum(count, 1)
        collide = follows & (slots[first] == slots[second]) & (cell[first] == cell[second])
        cost += _COLLISION_TICKS * (np.bincount(cell[second], collide, n_cells) > 0)
        missed = np.abs(end_offset - np.round(end_offset / step) * step) > 0.25
        cost += np.bincount(end_cell, missed, n_cells) / np.maximum(end_count, 1)
        cost = np.where(allowed, cost + penalty, np.inf)
        best = np.where(cost < best_cost, step, best)
        best_cost = np.minimum(cost, best_cost)
    return best


def _per_cell(
    times: np.ndarray, grid: BarGrid, side: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the beat of each time, the number of times in each beat, and ticks into the beat."""
    n_cells = len(grid.cells) - 1
    cell = np.clip(np.searchsorted(grid.cells, times, side=side) - 1, 0, n_cells - 1)
    return cell, np.bincount(cell, minlength=n_cells), times - grid.cells[cell]


def _snap(
    times: np.ndarray, steps: np.ndarray, grid: BarGrid, *, is_end: bool = False
) -> np.ndarray:
    """Draws times to the grid of their beats: (n,) whole ticks."""
    side = "left" if is_end else "right"  # an end on a bar line belongs to the beat before it
    cell, _, offset = _per_cell(times, grid, side)
    snapped = grid.cells[cell] + np.round(offset / steps[cell]) * steps[cell]
    return snapped.astype(np.int64)


def _chords(
    rows: Sequence[tuple[int, int, int]], *, drums: bool
) -> list[tuple[int, int, tuple[int, ...]]]:
    """Joins notes of one onset whose ends (nearly) agree.

    Args:
        rows: (onset, pitch, end), sorted.
        drums: Then all notes of one onset are joined: a drum has no length of its own.
    """
    by_onset: dict[int, dict[int, int]] = {}
    for onset, pitch, end in rows:
        notes = by_onset.setdefault(onset, {})
        notes[pitch] = max(end, notes.get(pitch, 0))  # a doubled note is one note
    chords = []
    for onset, notes in by_onset.items():
        groups: list[tuple[int, list[int]]] = []  # end, pitches
        for pitch, end in sorted(notes.items(), key=lambda note: (-note[1], note[0])):
            near = groups and (drums or groups[-1][0] - end <= _SAME_END_TICKS)
            if near and len(groups[-1][1]) < _MAX_CHORD_NOTES:
                groups[-1][1].append(pitch)
            else:
                groups.append((end, [pitch]))
        # Highest first, so that the first voice of a part is its melody.
        groups.sort(key=lambda group: -max(group[1]))
        chords += [(onset, end, tuple(sorted(pitches))) for end, pitches in groups]
    return chords


def _split_voices(part: _Part) -> list[list[tuple[int, int, tuple[int, ...]]]]:
    """Spreads chords over voices in which nothing overlaps, at most `_MAX_VOICES_A_PART`.

    When all are taken, the chord that ends first is cut short; drums are cut short at once.
    """
    voices: list[list[tuple[int, int, tuple[int, ...]]]] = []
    limit = 1 if part.is_drums else _MAX_VOICES_A_PART
    for onset, end, pitches in part.chords:
        free = [v for v in voices if v[-1][1] <= onset]
        if free:
            voice = free[0]
        elif len(voices) < limit:
            voice = []
            voices.append(voice)
        else:
            voice = min(voices, key=lambda v: (v[-1][0] == onset, v[-1][1]))
            last_onset, last_end, last_pitches = voice[-1]
            if last_onset == onset:
                merged = tuple(sorted({*last_pitches, *pitches}))
                voice[-1] = (onset, max(last_end, end), merged)
                continue
            voice[-1] = (last_onset, onset, last_pitches)
        if voice and 0 < onset - voice[-1][1] < _HELD_GAP_TICKS:
            voice[-1] = (voice[-1][0], onset, voice[-1][2])
        voice.append((onset, end, pitches))
    return voices


def _best_key(pitch_classes: Counter[int]) -> int:
    """Returns the sharps (-6 to 6) of the signature that needs the fewest accidentals."""

    def accidentals(sharps: int) -> int:
        scale = {(7 * (sharps + step)) % 12 for step in range(-1, 6)}
        return sum(count for pitch, count in pitch_classes.items() if pitch not in scale)

    return min(KEY_NAMES, key=lambda sharps: (accidentals(sharps), abs(sharps), -sharps))


def _number_channels(voices: list[Voice]) -> None:
    """Writes MIDI channels where readers would run out of them: one for each program."""
    if sum(not voice.is_drums for voice in voices) <= len(_CHANNELS_WITHOUT_DRUMS):
        return
    programs = list(dict.fromkeys(v.program for v in voices if not v.is_drums))
    for voice in voices:
        if not voice.is_drums:
            place = programs.index(voice.program) % len(_CHANNELS_WITHOUT_DRUMS)
            voice.channel = _CHANNELS_WITHOUT_DRUMS[place]


def _write_bars(
    chords: Sequence[tuple[int, int, tuple[int, ...]]], grid: BarGrid, key: str
) -> list[str]:
    """Writes one voice bar by bar; "" for bars of rest."""
    bars: list[list[Segment]] = [[] for _ in grid.meters]
    starts = grid.starts.tolist()
    bar = 0
    for onset, end, pitches in chords:
        while onset >= starts[bar + 1]:
            bar += 1
        place = bar
        while True:
            first, stop = starts[place], starts[place + 1]
            segments = bars[place]
            filled = segments[-1].end if segments else 0
            begin = max(onset - first, 0)
            if begin > filled:
                segments.append(Segment(filled, begin))
            cut = min(end, stop) - first
            segments.append(Segment(begin, cut, pitches, end > stop))
            if end <= stop:
                break
            place += 1
    writer = BarWriter(key)
    texts = []
    for segments, start, stop in zip(bars, starts, starts[1:], strict=False):
        if segments and segments[-1].end < stop - start:
            segments.append(Segment(segments[-1].end, stop - start))
        texts.append(writer.write(segments) if segments else "")
    return texts
