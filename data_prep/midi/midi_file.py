"""Bytes of a MIDI file -> its notes, tempos and metres; what wraps or slightly breaks it is read.

Tracks are counted, not believed: a header may name fewer than there are.

Source: Standard MIDI File specification 1.0 (RP-001), header and track chunks; RIFF RMID (RP-029).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..storage.drop_reasons import DropReason
from .channels import Notes, read_notes
from .events import TEMPO, TIME_SIGNATURE, Events, read_events
from .limits import LIMITS, Limits, MidiError, check_limit

# What is a MIDI file, by name and by content (`find_header`): nobody else decides that.
MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".rmi")
_HEADER_SEARCH_BYTES = 65_536
_HEADER_LENGTH = 6
_PATTERNS = 2  # the format whose tracks are pieces of their own
_MOST_POWER = 32  # of two, as a denominator: no metre has it, and it can be computed with
_SMPTE_29 = 30_000 / 1001  # 30 frames a second with dropped numbers; any other number is meant
_SMPTE_QUARTERS_A_SECOND = 2  # 120 quarters a minute, MIDI's own default


@dataclass
class MidiFile:
    """What the converter needs of a file.

    Attributes:
        ticks_a_quarter: Of all times here.
        notes: At least one.
        tempos: (n, 2) tick and microseconds a quarter note, in the order of the file.
        meters: (n, 3) tick, numerator and denominator of time signatures, in the same order.
    """

    ticks_a_quarter: int
    notes: Notes
    tempos: np.ndarray
    meters: np.ndarray


def find_header(content: bytes) -> int:
    """Returns where the chunk MThd stands: not at 0 in RIFF RMID and Mac binary; -1 if nowhere."""
    return content.find(b"MThd", 0, _HEADER_SEARCH_BYTES)


def read_midi(midi: bytes, limits: Limits = LIMITS) -> MidiFile:
    """Reads a MIDI file, from wherever its header chunk stands.

    Raises:
        MidiError: With the reason not to convert it.
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
    if ticks_a_second:  # time is absolute there: tempo events do not stretch it
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
    """Returns the ticks a second of a header that counts frames, None for one that does not."""
    if division[0] < 0x80:
        return None
    frames = 256 - division[0]
    return (_SMPTE_29 if frames == 29 else frames) * division[1]


def _tracks(midi: bytes, start: int, n_tracks: int) -> Iterator[tuple[int, int]]:
    """Yields (start, stop) of the events of each track chunk.

    Args:
        midi: The file.
        start: Of the first chunk after the header.
        n_tracks: As the header counts them; what follows them at once is read where it is whole.

    Raises:
        MidiError: Where one of these is cut off.
    """
    found = 0
    while start + 8 <= len(midi):
        stop = start + 8 + int.from_bytes(midi[start + 4 : start + 8], "big")
        after = midi[stop : stop + 4]
        is_followed = not after or after.isalnum()
        if not is_followed:  # by a chunk, or nothing: the length is wrong
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
            return  # files that were written over longer ones still hold tracks of those
        start = stop


def _metas(events: Events, kind: int, size: int) -> np.ndarray:
    """Returns tick and the first bytes of all meta events of a type: (n, 1 + size).

    Shorter ones are broken, and passed over.
    """
    rows = [
        (message.tick, *message.content[:size])
        for message in events.messages
        if message.kind == kind and len(message.content) >= size
    ]
    return np.array(rows, np.int64).reshape(-1, 1 + size)


def _in_turn(events: Events, ticks_a_quarter: int) -> Events:
    """Moves the tracks of format 2, pieces of their own, one behind another, bar by bar of 4/4."""
    bar = 4 * ticks_a_quarter
    starts = np.concatenate([[0], np.cumsum(-(-events.ends // bar) * bar)])
    messages = [replace(m, tick=m.tick + int(starts[m.track])) for m in events.messages]
    tick = events.tick + starts[events.track]
    return replace(events, tick=tick, messages=messages, ends=events.ends + starts[:-1])
