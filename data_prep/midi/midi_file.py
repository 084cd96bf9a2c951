"""Bytes of a MIDI file -> its notes, tempos and meters; tolerates wrappers and slight damage.

Tracks are counted rather than trusting the header, which may name fewer than there are.

Source: Standard MIDI File specification 1.0 (RP-001), header and track chunks; RIFF RMID (RP-029).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..storage.drop_reasons import DropReason
from .channels import Notes, read_notes
from .events import TEMPO, TIME_SIGNATURE, Events, read_events
from .limits import LIMITS, Limits, MidiError, check_limit

# What counts as a MIDI file, by name and by content (`find_header`), is defined only here.
MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".rmi", ".rmid", ".smf")
_HEADER_SEARCH_BYTES = 65_536
_HEADER_LENGTH = 6
_PATTERNS = 2  # the format whose tracks are separate pieces
_MOST_POWER = 32  # cap on the exponent of a denominator: no real meter has it, and 2**32 fits int64
_SMPTE_29 = 30_000 / 1001  # 29 means 30 drop-frame; any other number is taken literally
_SMPTE_QUARTERS_A_SECOND = 2  # 120 quarters a minute, MIDI's own default


@dataclass
class MidiFile:
    """What the converter needs from a file.

    Attributes:
        ticks_a_quarter: Ticks per quarter note, for all times here.
        notes: At least one note.
        tempos: (n, 2) tick and microseconds per quarter note, in file order.
        meters: (n, 3) tick, numerator and denominator of time signatures, in file order.
    """

    ticks_a_quarter: int
    notes: Notes
    tempos: np.ndarray
    meters: np.ndarray


def find_header(content: bytes) -> int:
    """Returns the offset of the MThd chunk, above 0 in RIFF RMID and MacBinary; -1 if missing."""
    return content.find(b"MThd", 0, _HEADER_SEARCH_BYTES)


def read_midi(midi: bytes, limits: Limits = LIMITS) -> MidiFile:
    """Reads a MIDI file, starting at its header chunk.

    Raises:
        MidiError: With the drop reason, if the file is not to be converted.
    """
    check_limit(DropReason.TOO_MANY_BYTES, len(midi), "bytes", limits.bytes)
    start = find_header(midi)
    if start < 0:
        raise MidiError(DropReason.NOT_MIDI, f"starts with {midi[:16]!r}, expected the chunk MThd")
    midi = midi[start:]
    length = int.from_bytes(midi[4:8], "big")
    if length < _HEADER_LENGTH or len(midi) < 8 + length:
        raise MidiError(DropReason.UNREADABLE, f"header of {length} bytes in a file of {len(midi)}")
    file_format, n_tracks, division = (int.from_bytes(midi[n : n + 2], "big") for n in (8, 10, 12))
    ticks_a_second = _smpte_ticks_a_second(midi[12:14])
    if ticks_a_second:
        division = round(ticks_a_second / _SMPTE_QUARTERS_A_SECOND)
    if not division:
        raise MidiError(DropReason.UNREADABLE, "0 ticks a quarter note")
    events = read_events(midi, [*_tracks(midi, 8 + length, n_tracks)], n_tracks)
    if file_format == _PATTERNS:
        events = _in_turn(events, division)
    notes = read_notes(events, division)
    _check(notes, division, limits)
    tempos = _metas(events, TEMPO, 3)
    tempos = np.column_stack([tempos[:, 0], tempos[:, 1:] @ [1 << 16, 1 << 8, 1]])
    if ticks_a_second:  # SMPTE time is absolute: tempo events do not change it
        tempos = np.array([[0, round(division / ticks_a_second * 1e6)]])
    meters = _metas(events, TIME_SIGNATURE, 2)
    meters[:, 2] = 1 << np.minimum(meters[:, 2], _MOST_POWER)
    return MidiFile(division, notes, tempos, meters)


def _check(notes: Notes, ticks_a_quarter: int, limits: Limits) -> None:
    n_notes = len(notes.pitch)
    if n_notes == 0:
        raise MidiError(DropReason.NO_NOTES, "no track holds a note")
    check_limit(DropReason.TOO_MANY_NOTES, n_notes, "notes", limits.notes)
    quarters = notes.end.max() / ticks_a_quarter
    check_limit(DropReason.TOO_MANY_QUARTERS, quarters, "quarters", limits.quarters)


def _smpte_ticks_a_second(division: bytes) -> float | None:
    """Returns the ticks per second of a header in SMPTE frames, None for any other header."""
    if division[0] < 0x80:
        return None
    frames = 256 - division[0]
    return (_SMPTE_29 if frames == 29 else frames) * division[1]


def _tracks(midi: bytes, start: int, n_tracks: int) -> Iterator[tuple[int, int]]:
    """Yields (start, stop) of the events of each track chunk.

    Args:
        midi: The file.
        start: Offset of the first chunk after the header.
        n_tracks: Number of tracks in the header; tracks directly after them are read if complete.

    Raises:
        MidiError: If one of the tracks that the header counts is truncated.
    """
    found = 0
    while start + 8 <= len(midi):
        stop = start + 8 + int.from_bytes(midi[start + 4 : start + 8], "big")
        after = midi[stop : stop + 4]
        is_followed = not after or after.isalnum()
        if not is_followed:  # neither a chunk nor the end of the file follows: the length is wrong
            following = midi.find(b"MTrk", start + 8)
            stop = following if following >= 0 else len(midi)
        if midi[start : start + 4] == b"MTrk":
            if stop <= len(midi):
                yield start + 8, stop
            elif found < n_tracks:
                message = f"track {found + 1} has {len(midi) - start - 8:,} of its bytes"
                raise MidiError(DropReason.UNREADABLE, f"{message}, expected {stop - start - 8:,}")
            found += 1
        if not is_followed and found >= n_tracks:
            return  # files that were written over longer ones still contain tracks of those
        start = stop


def _metas(events: Events, kind: int, size: int) -> np.ndarray:
    """Returns the tick and first bytes of all meta events of a type: (n, 1 + size).

    Shorter events are malformed and skipped.
    """
    rows = [
        (message.tick, *message.content[:size])
        for message in events.messages
        if message.kind == kind and len(message.content) >= size
    ]
    return np.array(rows, np.int64).reshape(-1, 1 + size)


def _in_turn(events: Events, ticks_a_quarter: int) -> Events:
    """Lays the tracks of format 2, which are separate pieces, end to end, in whole bars of 4/4."""
    bar = 4 * ticks_a_quarter
    starts = np.concatenate([[0], np.cumsum(-(-events.ends // bar) * bar)])
    messages = [replace(m, tick=m.tick + int(starts[m.track])) for m in events.messages]
    tick = events.tick + starts[events.track]
    return replace(events, tick=tick, messages=messages, ends=events.ends + starts[:-1])
