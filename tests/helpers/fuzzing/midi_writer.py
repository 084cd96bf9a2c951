"""Events -> the bytes of a MIDI file, legal or not."""

from __future__ import annotations

from collections.abc import Sequence

Event = tuple[int, bytes]  # tick from the start of the track, message
Chunk = tuple[bytes, bytes]  # four letters, content


def vlq(value: int, padding: int = 0) -> bytes:
    """Writes a variable-length quantity, after `padding` redundant leading zeros.

    If `value` requires it, this is five bytes, more than the four that MIDI allows.
    """
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(value & 0x7F | 0x80)
    return b"\x80" * padding + bytes(reversed(out))


def chunk(kind: bytes, content: bytes, length: int | None = None) -> bytes:
    """Writes a chunk; `length` is what its header claims, by default the actual length."""
    claimed = len(content) if length is None else length
    return kind + (claimed & 0xFFFFFFFF).to_bytes(4, "big") + content


def track(*events: Event, running: bool = False, padding: int = 0, end: bool = True) -> bytes:
    """Writes a track chunk.

    Args:
        events: Sorted here by tick; events of one tick keep their order.
        running: Omits a status byte that repeats that of the previous message.
        padding: Padding of every delta time; see `vlq`.
        end: Whether the track ends with the end-of-track event, as it should.
    """
    out, now, status = [], 0, b""
    for tick, message in sorted(events, key=lambda event: event[0]):
        out.append(vlq(tick - now, padding))
        repeats = running and message[:1] == status
        out.append(message[1:] if repeats else message)
        now, status = tick, message[:1] if b"\x80" <= message[:1] < b"\xf0" else b""
    return chunk(b"MTrk", b"".join(out) + (b"\x00\xff\x2f\x00" if end else b""))


def midi_file(
    *tracks: bytes,
    division: int = 480,
    file_format: int = 1,
    n_tracks: int | None = None,
    more_header: bytes = b"",
) -> bytes:
    """Writes a Standard MIDI File.

    Args:
        tracks: Chunks.
        division: The 16 bits of the header: ticks per quarter note, or SMPTE from 0x8000 on.
        file_format: The 16 bits of the header: 0, 1, 2, or an invalid value.
        n_tracks: What the header claims, by default the actual number.
        more_header: Bytes after the standard six of the header chunk.
    """
    count = len(tracks) if n_tracks is None else n_tracks
    fields = (file_format, min(count, 0xFFFF), division)
    header = b"".join(field.to_bytes(2, "big") for field in fields)
    return chunk(b"MThd", header + more_header) + b"".join(tracks)


def notes(*rows: Sequence[int], channel: int = 0) -> list[Event]:
    """Returns the events of notes, each (onset, length, pitch)."""
    return [
        event
        for onset, length, pitch in rows
        for event in (
            (onset, note_on(pitch, channel)),
            (onset + length, note_off(pitch, channel)),
        )
    ]


def note_on(pitch: int, channel: int = 0, velocity: int = 80) -> bytes:
    """Returns a note-on message; velocity 0 means note-off."""
    return bytes((0x90 | channel, pitch, velocity))


def note_off(pitch: int, channel: int = 0) -> bytes:
    """Returns a note-off message."""
    return bytes((0x80 | channel, pitch, 64))


def program(number: int, channel: int = 0) -> bytes:
    """Returns a program change."""
    return bytes((0xC0 | channel, number))


def meta(kind: int, content: bytes) -> bytes:
    """Returns a meta event."""
    return bytes((0xFF, kind)) + vlq(len(content)) + content


def tempo(mspq: int) -> bytes:
    """Returns a tempo event of `mspq` microseconds per quarter note."""
    return meta(0x51, mspq.to_bytes(3, "big"))


def time_signature(numerator: int, power: int) -> bytes:
    """Returns a time signature of `numerator` / 2 ** `power`."""
    return meta(0x58, bytes((numerator, power, 24, 8)))
