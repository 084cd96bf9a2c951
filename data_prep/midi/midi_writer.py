"""Tracks of notes -> the bytes of a Standard MIDI File, format 1.

Source: Standard MIDI File specification 1.0 (RP-001); the port is its meta event 21.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

VELOCITY = 80
_DRUM_CHANNEL = 9
_CHANNELS = tuple(c for c in range(16) if c != _DRUM_CHANNEL)
_DELTA_BYTES = 4
_SLOWEST_MSPQ = (1 << 24) - 1
_TEMPO, _TIME_SIGNATURE, _PORT = 0x51, 0x58, 0x21


@dataclass
class MidiTrack:
    """The notes of one instrument.

    Attributes:
        program: General MIDI program; None for drums.
        notes: (n, 3) onset and end in ticks, MIDI pitch.
    """

    program: int | None
    notes: np.ndarray


def write_midi(
    ticks_per_quarter: int,
    tempos: Iterable[tuple[int, int]],
    meters: Iterable[tuple[int, int, int]],
    tracks: Sequence[MidiTrack],
) -> bytes:
    """Writes a file; shares channels and uses ports only if there are too many tracks.

    Args:
        ticks_per_quarter: Resolution of all times.
        tempos: (tick, microseconds per quarter note); clipped to the slowest that MIDI can write.
        meters: (tick, numerator, denominator).
        tracks: Each becomes one track of the file, after a first track of tempos and meters.
    """
    metas = [
        (tick, _meta(_TEMPO, min(max(mspq, 1), _SLOWEST_MSPQ).to_bytes(3, "big")))
        for tick, mspq in tempos
    ]
    for tick, numerator, denominator in meters:
        # 24 MIDI clocks per click and 8 thirty-seconds per quarter note, as usual
        content = bytes([min(numerator, 255), denominator.bit_length() - 1, 24, 8])
        metas.append((tick, _meta(_TIME_SIGNATURE, content)))
    metas.sort(key=lambda pair: pair[0])
    times = np.array([tick for tick, _ in metas], np.int64)
    deltas = np.diff(times, prepend=0).tolist()
    chunks = [_chunk(b"".join(_number(d) + m for d, (_, m) in zip(deltas, metas, strict=True)))]
    for track, (port, channel) in zip(tracks, _channels(tracks), strict=True):
        start = b""
        if port:
            start += b"\0" + _meta(_PORT, bytes([port]))
        start += bytes([0, 0xC0 | channel, track.program or 0])
        chunks.append(_chunk(start + _note_events(track.notes, channel)))
    header = (1, len(chunks), ticks_per_quarter)
    head = b"MThd" + (6).to_bytes(4, "big") + b"".join(n.to_bytes(2, "big") for n in header)
    return head + b"".join(chunks)


def _channels(tracks: Sequence[MidiTrack]) -> list[tuple[int, int]]:
    """Returns (port, channel) of each track: its own if there are enough, else one per program.

    Most synthesizers ignore ports: they are used only beyond fifteen programs.
    """
    others = [number for number, track in enumerate(tracks) if track.program is not None]
    if len(others) <= len(_CHANNELS):
        keys = {number: number for number in others}
    else:
        keys = {number: tracks[number].program for number in others}
    places = ((port, channel) for port in itertools.count() for channel in _CHANNELS)
    given = dict(zip(dict.fromkeys(keys.values()), places, strict=False))
    drums = (0, _DRUM_CHANNEL)
    return [given[keys[n]] if n in keys else drums for n in range(len(tracks))]


def _note_events(notes: np.ndarray, channel: int) -> bytes:
    """Returns the events of notes; at each tick, note-offs come before note-ons."""
    n = len(notes)
    ticks = np.concatenate([notes[:, 1], notes[:, 0]])
    order = np.lexsort((np.arange(2 * n), ticks))  # the ends come first in `ticks`
    is_on = order >= n
    deltas = np.diff(ticks[order], prepend=0)
    table = np.empty((2 * n, _DELTA_BYTES + 3), np.uint8)
    used = np.ones(table.shape, bool)
    for column, bits in enumerate(range(7 * (_DELTA_BYTES - 1), 0, -7)):
        table[:, column] = deltas >> bits & 0x7F | 0x80
        used[:, column] = deltas >> bits > 0
    table[:, _DELTA_BYTES - 1] = deltas & 0x7F
    table[:, _DELTA_BYTES] = np.where(is_on, 0x90, 0x80) | channel
    table[:, _DELTA_BYTES + 1] = notes[order % max(n, 1), 2]
    table[:, _DELTA_BYTES + 2] = np.where(is_on, VELOCITY, 0)
    return table[used].tobytes()


def _number(value: int) -> bytes:
    """Returns a variable-length number."""
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(value & 0x7F | 0x80)
    return bytes(reversed(out))


def _meta(kind: int, content: bytes) -> bytes:
    return bytes([0xFF, kind]) + _number(len(content)) + content


def _chunk(events: bytes) -> bytes:
    """Returns a track chunk, closed by an end-of-track event."""
    events += b"\0" + _meta(0x2F, b"")
    return b"MTrk" + len(events).to_bytes(4, "big") + events
