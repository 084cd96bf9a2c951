"""Stage 1: MIDI bytes -> ABC text of our dialect, or a drop reason.

Every track becomes one part; notes of a part that overlap without sharing their ends become extra
voices. Bar lines follow the time signatures; tempo is kept bar by bar, with the error fed back so
that it never accumulates. Text -> `abc_to_midi` -> this converter gives the same text.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np

from ..dialect.bar_writer import bar_writer
from ..dialect.midi_channels import midi_channels
from ..dialect.notation import TICKS_PER_QUARTER
from ..dialect.tune import LAYOUTS, Meter, Tune, Voice, best_key, print_tune
from ..midi.channels import DRUMS
from ..midi.limits import LIMITS, Limits, check_limit
from ..midi.midi_file import MidiFile, read_midi
from ..storage.drop_reasons import DropReason
from .merge_voices import merge_voices
from .quantize import find_phase, snap_onsets
from .timeline import BarGrid, bar_tempos, seconds_at
from .voices import Voices, split_voices

_CHARS_OF_A_REST = 3  # z4|
# Share of a part's chords that an extra voice must have; larger where abc2midi runs out of voices.
_LEAST_VOICE_SHARES = (0.02, 0.1, 0.5)
_MANY_VOICES = 30


def midi_to_abc(midi: bytes, *, layout: str = "bars", limits: Limits = LIMITS) -> str:
    """Converts a MIDI file to one ABC tune.

    Args:
        midi: The bytes of a Standard MIDI File.
        layout: One of `tune.LAYOUTS`.
        limits: Limits above which the file is refused.

    Raises:
        MidiError: With the drop reason, if the file is not to be converted.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout {layout!r}, expected one of {LAYOUTS}")
    abc = print_tune(midi_to_tune(midi, limits=limits).tune, layout)
    check_chars(len(abc), len(midi), limits)
    return abc


@dataclass(frozen=True)
class Converted:
    """A file as a tune, and the number of notes that the tune leaves out.

    Attributes:
        tune: The tune.
        n_doubled: Notes left out because the grid puts them on another of their part and pitch.
    """

    tune: Tune
    n_doubled: int


def midi_to_tune(midi: bytes, *, limits: Limits = LIMITS) -> Converted:
    """Converts a MIDI file to a `Tune`; see `midi_to_abc`."""
    read = read_midi(midi, limits)
    notes = _Notes.of(read)
    end = notes.ends.max() + TICKS_PER_QUARTER
    check = partial(check_chars, n_bytes=len(midi), limits=limits)
    voices, grid = _quantize(notes, BarGrid.of(read, end, limits), read, check)
    if not grid.counts_bars():
        voices, grid = _quantize(notes, BarGrid.common_time(end), read, check)
    tempos = bar_tempos(read, grid.starts, limits)
    n_voices, n_bars = len(voices.parts), len(grid.meters)
    check_limit(DropReason.TOO_MANY_VOICES, n_voices, "voices", limits.voices)
    check(n_voices * n_bars * _CHARS_OF_A_REST)  # a lower bound, for the layout `voices`

    numbers = notes.programs[voices.parts].tolist()
    programs = [None if number == DRUMS else number for number in numbers]
    key = _best_key(voices, notes.programs)
    lines = zip(programs, midi_channels(programs), _write_voices(voices, grid, key), strict=True)
    written = [Voice(program, channel, bars) for program, channel, bars in lines]
    meters, pickup = _meter_changes(grid.meters)
    tune = Tune(key, meters, tempos, written, pickup)
    return Converted(tune, len(notes.pitches) - len(voices.pitches))


def _meter_changes(meters: list[Meter]) -> tuple[dict[int, Meter], int | None]:
    """Returns bar -> meter from there on, and the ticks of the first bar if it is a pickup."""
    pickup = None
    if len(meters) > 1 and meters[0].ticks < meters[1].ticks:
        pickup, meters = meters[0].ticks, [meters[1], *meters[1:]]
    changes = (bar for bar, meter in enumerate(meters) if meter != meters[bar - 1])
    return {bar: meters[bar] for bar in (0, *changes)}, pickup


def check_chars(n_chars: int, n_bytes: int, limits: Limits) -> None:
    """Raises `MidiError` if the text is too long, by itself or for the size of the file."""
    check_limit(DropReason.TOO_MANY_CHARS, n_chars, "characters", limits.chars)
    most = limits.chars_per_byte * max(n_bytes, limits.small_file_bytes)
    what = f"characters of {n_bytes:,} bytes"
    check_limit(DropReason.TOO_MUCH_EXPANSION, n_chars, what, most)


@dataclass
class _Notes:
    """All notes of a file, by part, then onset.

    Attributes:
        programs: (parts,) General MIDI program of each part; `DRUMS` for drums.
        parts: (n,) part of each note.
        onsets: (n,) ticks, as played.
        ends: (n,) ticks, as played.
        pitches: (n,) MIDI pitches.
    """

    programs: np.ndarray
    parts: np.ndarray
    onsets: np.ndarray
    ends: np.ndarray
    pitches: np.ndarray

    @classmethod
    def of(cls, midi: MidiFile) -> Self:
        """Makes one part per track, channel and program, and one part of all drums."""
        notes = midi.notes
        is_drums = notes.program == DRUMS
        sources = np.stack([notes.track, notes.channel, notes.program])
        is_new = np.append(True, (sources[:, 1:] != sources[:, :-1]).any(0)) & ~is_drums
        if is_drums.any():
            is_new[is_drums.argmax()] = True
        parts = np.cumsum(is_new) - 1
        parts[is_drums] = parts[is_drums.argmax()]
        order = np.lexsort((notes.onset, parts))
        scale = TICKS_PER_QUARTER / midi.ticks_a_quarter
        return cls(
            programs=notes.program[is_new],
            parts=parts[order],
            onsets=(notes.onset * scale)[order],
            ends=(notes.end * scale)[order],
            pitches=notes.pitch[order],
        )


def _quantize(
    notes: _Notes, grid: BarGrid, midi: MidiFile, check: Callable[[int], None]
) -> tuple[Voices, BarGrid]:
    """Quantizes the notes to a grid and splits them into voices; also returns the bars they need.

    Args:
        notes: All notes of the file.
        grid: Bars and beats.
        midi: The file, for its tempos.
        check: Called with a lower bound on the characters of the text; raises `MidiError` if there
            are too many.
    """
    onsets = _snap(notes, grid, midi)
    if phase := find_phase(notes.onsets, grid.cells) or find_phase(onsets, grid.cells):
        grid = grid.after(phase)
        onsets = _snap(notes, grid, midi)
    is_drums = notes.programs == DRUMS
    for least_share in _LEAST_VOICE_SHARES:
        voices = split_voices(
            notes.parts, onsets, notes.ends, notes.pitches, is_drums, grid.cells, least_share
        )
        check(_count_letters(voices, grid.starts))  # merging does not change the count, and is slow
        voices = merge_voices(voices, notes.programs[voices.parts], grid.cells)
        if len(voices.parts) <= _MANY_VOICES:
            break
    return voices, grid.cut(voices.end.max())


def _count_letters(voices: Voices, starts: np.ndarray) -> int:
    """Counts the notes that the text will name: those held over bar lines once in each bar."""
    bar_lines = np.searchsorted(starts, voices.end, side="left") - np.searchsorted(
        starts, voices.onset, side="right"
    )
    return int(((bar_lines + 1) * np.diff(voices.first_note)).sum())


def _snap(notes: _Notes, grid: BarGrid, midi: MidiFile) -> np.ndarray:
    """Returns the onsets, snapped to the grids that fit them: (n,) whole ticks."""
    seconds = np.diff(seconds_at(midi, grid.cells))
    columns = (notes.parts, notes.onsets, notes.ends, notes.pitches)
    return snap_onsets(*columns, grid.cells, seconds)


def _best_key(voices: Voices, programs: np.ndarray) -> str:
    """Returns the key that needs the fewest accidentals, drums left out."""
    of_chord = programs[voices.parts][voices.voice] != DRUMS
    of_note = np.repeat(of_chord, np.diff(voices.first_note))
    return best_key(np.bincount(voices.pitches[of_note] % 12, minlength=12))


def _write_voices(voices: Voices, grid: BarGrid, key: str) -> list[list[str]]:
    """Writes all voices: per voice its bars, "" for silent bars."""
    starts = grid.starts
    chord, bar, rows = _cut_at_bar_lines(voices, starts)
    sets, set_of_chord = _intern_chords(voices)
    rows = np.column_stack([rows, set_of_chord[chord]])
    voice = voices.voice[chord]
    first = np.flatnonzero(np.append(True, (voice[1:] != voice[:-1]) | (bar[1:] != bar[:-1])))
    out: list[list[str]] = [[""] * len(grid.meters) for _ in range(len(voices.parts))]
    writer = bar_writer(key)
    lengths = np.diff(starts)
    known: dict[tuple[bytes, int], str] = {}  # bars repeat a lot
    content, width = rows.tobytes(), rows.itemsize * rows.shape[1]
    stops = np.append(first[1:], len(rows))
    places = np.column_stack([first, stops, voice[first], bar[first], lengths[bar[first]]])
    for start, stop, number, place, ticks in places.tolist():
        bar_key = (content[start * width : stop * width], ticks)
        if bar_key not in known:
            segments = [
                (begin, end, sets[chord_set], tied == 1)
                for begin, end, tied, chord_set in rows[start:stop].tolist()
            ]
            known[bar_key] = writer.write(segments, ticks)
        out[number][place] = known[bar_key]
    return out


def _cut_at_bar_lines(
    voices: Voices, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts chords at bar lines.

    Returns:
        For each piece its chord, its bar, and (start, end, tied) in ticks from the bar's start.
    """
    first_bar = np.searchsorted(starts, voices.onset, side="right") - 1
    last_bar = np.searchsorted(starts, voices.end, side="left") - 1
    pieces = last_bar - first_bar + 1
    chord = np.repeat(np.arange(len(pieces)), pieces)
    since = np.arange(len(chord)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    bar = first_bar[chord] + since
    begin = np.maximum(voices.onset[chord], starts[bar]) - starts[bar]
    end = np.minimum(voices.end[chord], starts[bar + 1]) - starts[bar]
    return chord, bar, np.column_stack([begin, end, bar < last_bar[chord]])


def _intern_chords(voices: Voices) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """Returns the distinct pitch sets, single pitches first, and each chord's index: (chords,)."""
    numbers = voices.pitches[voices.first_note[:-1]].copy()
    many = np.flatnonzero(np.diff(voices.first_note) > 1)
    known: dict[tuple[int, ...], int] = {}
    pitches, first = voices.pitches.tolist(), voices.first_note.tolist()
    found = []
    for chord in many.tolist():
        pitch_set = tuple(pitches[first[chord] : first[chord + 1]])
        found.append(known.setdefault(pitch_set, 128 + len(known)))
    numbers[many] = found
    return [*((pitch,) for pitch in range(128)), *known], numbers
