"""Odd inputs for the converter, and what must hold for each of them.

Used by test_fuzz_conversion.py, a few seconds of it, and by benchmarks/fuzz_conversion.py, hours.

Inputs keep enough structure to get past the first check of a parser: MIDI files are written event
by event or are real ones with parts moved about; texts follow the grammar of the dialect nearly
or are real output with parts moved about. Random bytes alone would only ever test the header.

A check returns None, or one line that says what failed: a kind, which does not depend on the
details of the input, then " (", details, ")". `kind_of` cuts the details off, for grouping.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import resource
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from symusic import Score

from data_prep.abc_to_midi import Performance, abc_to_midi, perform
from data_prep.midi_file import REASONS, MidiError
from data_prep.midi_to_abc import midi_to_abc
from data_prep.notation import TICKS_PER_QUARTER, AbcError
from data_prep.tune import print_tune
from data_prep.tune_parser import parse_tune

MAX_SECONDS = 5.0  # of wall time, for all that a check does
MAX_GROWTH_BYTES = 512 * 2**20

T = TypeVar("T")
Event = tuple[int, bytes]  # tick from the start of the track, message
Chunk = tuple[bytes, bytes]  # four letters, content


# ---------------------------------------------------------------- writing MIDI files


def vlq(value: int, padding: int = 0) -> bytes:
    """Writes a variable-length quantity, after `padding` leading zeros that need not be there.

    Five bytes, beyond the four that MIDI allows, come out where `value` asks for them.
    """
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(value & 0x7F | 0x80)
    return b"\x80" * padding + bytes(reversed(out))


def chunk(kind: bytes, content: bytes, length: int | None = None) -> bytes:
    """Writes a chunk; `length` is what its header claims, by default the truth."""
    claimed = len(content) if length is None else length
    return kind + (claimed & 0xFFFFFFFF).to_bytes(4, "big") + content


def track(*events: Event, running: bool = False, padding: int = 0, end: bool = True) -> bytes:
    """Writes a track chunk.

    Args:
        events: Sorted here by tick, those of one tick kept in order.
        running: Leaves out a status byte that is that of the message before.
        padding: See `vlq`; of every delta time.
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
        division: The 16 bits of the header: ticks a quarter note, or SMPTE from 0x8000 on.
        file_format: The 16 bits of the header: 0, 1, 2; or what no file should say.
        n_tracks: What the header claims, by default the truth.
        more_header: Bytes after the six that the header chunk has today.
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
    """Returns a note-on message; with velocity 0 it means note-off."""
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
    """Returns a tempo event of `mspq` microseconds a quarter note."""
    return meta(0x51, mspq.to_bytes(3, "big"))


def time_signature(numerator: int, power: int) -> bytes:
    """Returns a time signature of `numerator` / 2 ** `power`."""
    return meta(0x58, bytes((numerator, power, 24, 8)))


# ---------------------------------------------------------------- hand-built MIDI files

_DIVISIONS = (1, 2, 3, 5, 7, 24, 48, 96, 120, 192, 240, 384, 480, 960, 1000, 1024, 15360, 32767)
_HUGE_TICKS = (0x7F, 0x80, 0x3FFF, 0x4000, 0x1FFFFF, 0x200000, 0xFFFFFFF, 0x10000000, 0x7FFFFFFF)
_TEMPOS = (0, 1, 100, 20_000, 250_000, 499_999, 500_000, 507_614, 1_000_000, 4_000_001, 0xFFFFFF)


def _division(rng: random.Random) -> int:
    """Draws the division: mostly a common one, at times any, at times SMPTE, valid or not."""
    kind = rng.random()
    if kind < 0.7:
        return rng.choice(_DIVISIONS)
    if kind < 0.85:
        return rng.randint(1, 32767)
    if kind < 0.95:
        frames = rng.choice((24, 25, 29, 30, 1, 100))
        return (256 - frames) << 8 | rng.choice((0, 1, 4, 8, 10, 40, 80, 100, 255))
    return rng.randint(0, 0xFFFF)


def _clock(rng: random.Random, quarter: int) -> Callable[[], int]:
    """Returns a source of time steps in ticks: on the grid, off it, all at once, far apart.

    Args:
        rng: Where chance comes from.
        quarter: Ticks of a quarter note.
    """
    straight, swung = (quarter, quarter // 2, quarter // 4), (quarter // 3, 2 * quarter // 3)
    return rng.choice(
        (
            lambda: rng.choice((0, 0, *straight)),
            lambda: rng.choice((0, *straight, *swung, quarter // 6, quarter // 8)),
            lambda: max(0, rng.choice(straight) + rng.randint(-quarter // 12, quarter // 12)),
            lambda: rng.randint(0, 2 * quarter),
            lambda: rng.randint(0, 3),
            lambda: 0 if rng.random() < 0.95 else quarter,
            lambda: rng.randint(0, 64) * quarter,
            lambda: rng.choice(_HUGE_TICKS) if rng.random() < 0.02 else quarter,
        )
    )


def _note(rng: random.Random, channel: int, length: int, pitch: int) -> list[Event]:
    """Returns a note from tick 0 on, now and then one that is struck or released oddly."""
    on, off = note_on(pitch, channel), note_off(pitch, channel)
    odd = rng.choices(range(8), (60, 15, 1, 1, 1, 1, 1, 1))[0]
    return (
        [(0, on), (length, off)],
        [(0, on), (length, note_on(pitch, channel, 0))],
        [(0, on)],  # never released
        [(0, off), (length, on)],
        [(0, on), (length // 2, on), (length, off)],  # struck again while it sounds
        [(0, on), (0, on), (length, off), (length, off)],
        [(0, on), (0, off)],
        [(0, note_on(pitch | 0x80, channel)), (length, note_off(pitch | 0x80, channel))],
    )[odd]


def _odd_message(rng: random.Random) -> bytes:
    """Draws a message that is no note: legal, if seldom seen; now and then a broken one."""
    some = rng.randbytes(rng.choice((0, 1, 2, 3, 4, 5, 200)))
    channel = rng.randrange(16)
    legal: tuple[Callable[[], bytes], ...] = (
        lambda: tempo(rng.choice(_TEMPOS)),
        lambda: tempo(rng.randint(1, 0xFFFFFF)),
        lambda: time_signature(rng.randint(1, 13), rng.randint(0, 5)),
        lambda: time_signature(rng.randint(0, 255), rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 255))),
        lambda: meta(0x59, rng.choice((b"\0\0", b"\xf9\1", b"\7\0", rng.randbytes(2)))),  # key
        lambda: meta(rng.choice((1, 3, 5, 6, 0x20, 0x21, 0x60, 0x7F)), some),
        lambda: rng.choice((b"\xf0", b"\xf7")) + vlq(len(some) + 1) + some + b"\xf7",
        lambda: program(rng.randrange(128), channel),
        lambda: bytes((0xB0 | channel, rng.randrange(128), rng.randrange(128))),
        lambda: bytes((0xE0 | channel, rng.randrange(128), rng.randrange(128))),
        lambda: bytes((0xD0 | channel, rng.randrange(128))),
    )
    broken: tuple[Callable[[], bytes], ...] = (
        lambda: meta(rng.choice((0x51, 0x58, 0x59, 0x2F, 0x54, 0x00)), some),  # wrong lengths
        lambda: bytes((0xFF, rng.randrange(128))) + vlq(rng.choice(_HUGE_TICKS)) + some,
        lambda: rng.choice((b"\xf0", b"\xf7")) + vlq(len(some) + 100) + some,
        lambda: rng.choice((b"\xf8", b"\xf1\x00", b"\xf2\x00\x00", b"\xf3\x00", b"\xf6", b"\xfe")),
        lambda: program(rng.randrange(128, 256), channel),
        lambda: bytes((0xB0 | channel, rng.randrange(128, 256), rng.randrange(256))),
        lambda: rng.randbytes(2),
    )
    return rng.choice(broken if rng.random() < 0.06 else legal)()


def _random_track(rng: random.Random, quarter: int, *, any_odd: bool) -> bytes:
    """Writes a track of notes in one rhythm; if `any_odd`, with other messages among them."""
    step, length = _clock(rng, quarter), _clock(rng, quarter)
    odd_share = rng.choice((0.0, 0.02, 0.1, 0.5)) if any_odd else 0.0
    channels = rng.choice(((rng.randrange(16),), (9,), range(16), (0, 9)))
    low, high = rng.choice(((60, 72), (36, 84), (0, 127), (60, 60), (0, 3), (120, 127)))
    now, events = 0, [(0, program(rng.randrange(128), channel)) for channel in channels]
    for _ in range(rng.choice((0, 1, 2, 5, 12, 30, 100))):
        now += step()
        if rng.random() < odd_share:
            events.append((now, _odd_message(rng)))
            continue
        sound = _note(rng, rng.choice(channels), length(), rng.randint(low, high))
        events += [(now + tick, message) for tick, message in sound]
    return track(
        *events,
        running=rng.random() < 0.3,
        padding=rng.choice((0,) * 12 + (1, 2, 3, 4)),
        end=rng.random() < 0.95,
    )


def _random_file(rng: random.Random) -> bytes:
    """Writes a file of any format, with a few tracks."""
    division = _division(rng)
    quarter = division if 0 < division < 0x8000 else 480
    any_odd = rng.random() < 0.7
    count = rng.choice((1, 1, 1, 2, 2, 3, 6))
    tracks = [_random_track(rng, quarter, any_odd=any_odd) for _ in range(count)]
    return midi_file(
        *tracks,
        division=division,
        file_format=rng.choices((0, 1, 2, 3, 0xFFFF), (3, 12, 2, 1, 1))[0],
        n_tracks=rng.choice((None,) * 8 + (0, 1, 65535)),
        more_header=rng.choice((b"",) * 30 + (b"\0", b"\0\0", bytes(100))),
    )


def _many_messages(rng: random.Random) -> bytes:
    """Writes hundreds of time signatures or tempo changes under a few notes, at any ticks."""
    division = rng.choice(_DIVISIONS[4:])
    step, count = _clock(rng, division), rng.choice((20, 100, 500))
    wild = rng.random() < 0.5
    ticks = itertools.accumulate(step() for _ in range(count))
    if rng.random() < 0.5:
        drawn = (time_signature(rng.randint(1, 12), rng.randint(0, 5)) for _ in range(count))
        odd = (time_signature(rng.randint(0, 255), rng.randint(0, 7)) for _ in range(count))
    else:
        drawn = (tempo(rng.randint(200_000, 2_000_000)) for _ in range(count))
        odd = (tempo(rng.choice(_TEMPOS)) for _ in range(count))
    changes = list(zip(ticks, odd if wild else drawn, strict=False))
    length = rng.choice((division, 4 * division, max(1, changes[-1][0])))
    music = notes(*((place * length, length, 60 + place) for place in range(rng.randint(1, 4))))
    return midi_file(track(*changes), track(*music), division=division)


def _many_notes(rng: random.Random) -> bytes:
    """Writes up to thousands of notes that sound at once, or nearly."""
    count, spread = rng.choice((30, 200, 3000)), rng.choice((0, 1, 20, 480))
    rows = [
        (rng.randint(0, spread), rng.choice((0, 1, 480, 100_000)), rng.randrange(128))
        for _ in range(count)
    ]
    channels = rng.choice(([0], [9], range(16)))
    share = -(-count // len(channels))
    events = [
        event
        for place, channel in enumerate(channels)
        for event in notes(*rows[place * share : (place + 1) * share], channel=channel)
    ]
    return midi_file(track(*events), division=rng.choice(_DIVISIONS))


def _many_tracks(rng: random.Random) -> bytes:
    """Writes up to hundreds of tracks of one note or none."""
    count = rng.choice((15, 16, 17, 40, 300))
    tracks = [
        track((0, program(place % 128, place % 16)), *notes((place, 480, 60), channel=place % 16))
        if rng.random() < 0.9
        else track()
        for place in range(count)
    ]
    return midi_file(*tracks, file_format=rng.choice((0, 1, 1, 2)))


def _few_far_notes(rng: random.Random) -> bytes:
    """Writes a few notes with as much silence between them as MIDI can say, or a little less."""
    gaps = [rng.choice((*_HUGE_TICKS, rng.randrange(1 << rng.randint(1, 28)))) for _ in range(3)]
    lengths = [rng.choice((0, 1, 480, rng.choice(_HUGE_TICKS))) for _ in range(3)]
    onsets = itertools.accumulate(gaps[: rng.randint(1, 3)])
    rows = [(onset, length, 60) for onset, length in zip(onsets, lengths, strict=False)]
    speed = (0, tempo(rng.choice(_TEMPOS[1:])))
    return midi_file(track(speed, *notes(*rows)), division=rng.choice(_DIVISIONS))


_MIDI_BUILDERS = (_random_file, _many_messages, _many_notes, _many_tracks, _few_far_notes)
_MIDI_BUILDER_WEIGHTS = (20, 3, 1, 1, 1)


# ---------------------------------------------------------------- mutations of MIDI files


def _split(midi: bytes) -> list[Chunk]:
    """Returns the chunks of a file as far as their lengths lead."""
    out, start = [], 0
    while start + 8 <= len(midi):
        stop = start + 8 + int.from_bytes(midi[start + 4 : start + 8], "big")
        out.append((midi[start : start + 4], midi[start + 8 : stop]))
        start = stop
    return out


def _join(chunks: Iterable[Chunk]) -> bytes:
    return b"".join(chunk(kind, content) for kind, content in chunks)


def _event_places(content: bytes) -> list[int]:
    """Returns where the events of a track begin, as far as they can be followed."""
    places, position, status = [], 0, 0
    with contextlib.suppress(IndexError):
        while position < len(content):
            places.append(position)
            position = _after_vlq(content, position)
            if content[position] >= 0x80:
                status, position = content[position], position + 1
            if status < 0xF0:
                position += 1 if 0xC0 <= status < 0xE0 else 2
            else:
                position += status == 0xFF
                start = _after_vlq(content, position)
                position = start + (content[start - 1] & 0x7F)
    return places


def _after_vlq(content: bytes, position: int) -> int:
    while content[position] >= 0x80:
        position += 1
    return position + 1


def _flip_bytes(rng: random.Random, midi: bytes, _: Sequence[bytes]) -> bytes:
    out = bytearray(midi)
    for _ in range(rng.choice((1, 1, 2, 5, 30)) if out else 0):
        place = rng.randrange(len(out))
        out[place] = rng.choice((out[place] ^ 1 << rng.randrange(8), 0, 0x7F, 0x80, 0xFF))
    return bytes(out)


def _mutate_header(rng: random.Random, midi: bytes, _: Sequence[bytes]) -> bytes:
    """Sets the division (so that all notes leave the grid), the format, or the number of tracks."""
    place, values = rng.choice(
        ((12, (_division(rng),)), (8, (0, 1, 2, 3, 256)), (10, (0, 1, 2, 0xFFFF)))
    )
    return midi[:place] + rng.choice(values).to_bytes(2, "big") + midi[place + 2 :]


def _mutate_length(rng: random.Random, midi: bytes, _: Sequence[bytes]) -> bytes:
    """Sets the length that a chunk claims, mostly of a track."""
    chunks = _split(midi)
    if not chunks:
        return midi
    odd = max(rng.randrange(len(chunks)), rng.randrange(len(chunks)))
    size = len(chunks[odd][1])
    claimed = rng.choice((0, 5, size - 1, size + 1, size + 8, size // 2, 2 * size, 0x7FFFFFFF, -1))
    return b"".join(
        chunk(kind, content, claimed if place == odd else None)
        for place, (kind, content) in enumerate(chunks)
    )


def _mutate_chunks(rng: random.Random, midi: bytes, seeds: Sequence[bytes]) -> bytes:
    """Drops, doubles, moves or cuts chunks, adds unknown ones, or those of another file."""
    chunks = _split(midi)
    if not chunks:
        return midi
    place = rng.randrange(len(chunks))
    kind, content = chunks[place]
    cut = rng.randint(0, len(content))
    alien = (rng.choice((b"XFIH", b"MThd", b"mtrk", b"\0\0\0\0")), rng.randbytes(rng.randint(0, 9)))
    others = _split(rng.choice(seeds or [midi]))
    return _join(
        rng.choice(
            (
                chunks[:place] + chunks[place + 1 :],
                chunks[: place + 1] + chunks[place:],
                [chunks[0], *rng.sample(chunks[1:], len(chunks) - 1)],
                [*chunks[:place], (kind, content[:cut]), *chunks[place + 1 :]],
                [*chunks[:place], (kind, content[cut:]), *chunks[place + 1 :]],
                [*chunks[:place], alien, *chunks[place:]],
                chunks + others[1:],
                chunks[: place + 1] + others[place + 1 :],
            )
        )
    )


def _mutate_events(rng: random.Random, midi: bytes, _: Sequence[bytes]) -> bytes:
    """Inserts odd events into a track, or drops, doubles or moves some of its own."""
    chunks = _split(midi)
    tracks = [place for place, (kind, content) in enumerate(chunks) if kind == b"MTrk" and content]
    if not tracks:
        return midi
    place = rng.choice(tracks)
    content = chunks[place][1]
    places = [*_event_places(content), len(content)]
    events = [content[start:stop] for start, stop in itertools.pairwise(places)]
    for _ in range(rng.choice((1, 3, 20))):
        at = rng.randint(0, len(events))
        some = slice(at, at + rng.choice((1, 2, 5, 40)))
        delta = rng.choice((0,) * 15 + (1, 30, 120, 240, 480, rng.choice(_HUGE_TICKS)))
        change = rng.randrange(4)
        if change < 2:
            events[at:at] = [vlq(delta) + _odd_message(rng)]
        elif change == 2:
            del events[some]
        else:
            moved = events[some]
            to = rng.randint(0, len(events))
            events[to:to] = moved
    chunks[place] = (b"MTrk", b"".join(events))
    return _join(chunks)


def _cut_bytes(rng: random.Random, midi: bytes, seeds: Sequence[bytes]) -> bytes:
    """Cuts the end off, drops or doubles a stretch of bytes, or goes on as another file does."""
    start, stop = sorted(rng.randint(0, len(midi)) for _ in range(2))
    other = rng.choice(seeds or [midi])
    return rng.choice(
        (
            midi[:stop],
            midi[:start] + midi[stop:],
            midi[:stop] + midi[start:],
            midi[:stop] + other[rng.randint(0, len(other)) :],
        )
    )


def _wrap(rng: random.Random, midi: bytes, _: Sequence[bytes]) -> bytes:
    """Puts a file into what MIDI files are found in: RIFF RMID, a Mac header, text, other bytes."""
    riff = b"RIFF" + (len(midi) + 12).to_bytes(4, "little")
    riff += b"RMIDdata" + len(midi).to_bytes(4, "little") + midi
    rest = rng.randbytes(rng.choice((1, 3, 128, 5000)))
    return rng.choice((riff, riff + b"\0", bytes(128) + midi, b"\r\n" + midi, midi + rest))


_MIDI_MUTATIONS = (
    *(_flip_bytes, _mutate_header, _mutate_length, _mutate_chunks, _mutate_events),
    *(_cut_bytes, _wrap),
)
_MIDI_MUTATION_WEIGHTS = (3, 3, 1, 3, 5, 1, 1)


def midi_inputs(rng: random.Random, seeds: Sequence[bytes]) -> Iterator[bytes]:
    """Yields files without end: hand-built ones and, if there are seeds, mutations of those.

    Each is drawn anew from `rng`, so that the first one of a fresh `rng` may be any.
    """
    while True:
        if seeds and rng.random() < 0.5:
            midi, count = rng.choice(seeds), rng.choice((1, 1, 2, 4))
        else:
            midi = rng.choices(_MIDI_BUILDERS, _MIDI_BUILDER_WEIGHTS)[0](rng)
            count = rng.choice((0, 0, 0, 1))
        for mutate in rng.choices(_MIDI_MUTATIONS, _MIDI_MUTATION_WEIGHTS, k=count):
            midi = mutate(rng, midi, seeds)
        yield midi


# ---------------------------------------------------------------- grammar of ABC

_LENGTHS = {  # text -> units of L:1/16
    **{"" if units == 1 else str(units): float(units) for units in (1, 2, 3, 4, 6, 7, 8, 12, 14)},
    **{"16": 16.0, "/": 0.5, "3/2": 1.5, "7/2": 3.5, "/4": 0.25, "3/4": 0.75, "7/4": 1.75},
}
_ODD_LENGTHS = (
    *("5", "9", "5/2", "0", "/0", "1/1", "01", "2/3", "4/3", "//", "/8", "1/", "32", "1000"),
    *("00000", "99999", "99999/7", "123456"),
)
_TUPLETS = (  # head, lengths of the items, units that they fill
    *(("(3", (length,) * 3, 2 * units) for length, units in (("", 1), ("2", 2), ("/", 0.5))),
    *(("(3", ("4",) * 3, 8), ("(3:2:2", ("4", "2"), 4), ("(3:2:2", ("2", "4"), 4)),
    *(("(3:2:4", ("2", "", "", "2"), 4), ("(3:2:5", ("", "", "2", "", ""), 4)),
    ("(3:2:6", ("",) * 6, 4),
)
_ODD_TUPLETS = ("(", "(2", "(3:", "(3::", "(3:2:0", "(3:2:9", "(4", "(9:8:9", "(3:3:3", "(3(3")
_KEYS = ("C", "G", "D", "A", "E", "B", "F#", "F", "Bb", "Eb", "Ab", "Db", "Gb")
_ODD_KEYS = ("", "c", "Cm", "C ", "Cb", "C#", "H", "none", "G clef=treble")
_METERS = ("4/4", "3/4", "2/4", "6/8", "9/8", "12/8", "2/2", "5/8", "7/16", "1/64", "1/4")
_ODD_METERS = ("C", "C|", "0/4", "4/3", "4/0", "999/1", "1000/4", "255/32", "4/4 ", "-1/4", "")
_ODD_TEMPOS = ("1/4=0", "1/4=1", "1/4=99999", "1/16=1", "1/16=99999", "120", "1/8=90", "")


def _abc_note(rng: random.Random, *, odd: bool) -> str:
    signs, letters = ["", "", "", *"^_=", "^^", "__"], "CDEFGABcdefgab"
    marks = ["", "", ",", "'", ",,", "''"]
    if odd:
        signs, letters = [*signs, "^^^", "_^", "^="], letters + "HhZ"
        marks += [",,,,,", "'" * 7, ",'", "'" * 40]
    return rng.choice(signs) + rng.choice(letters) + rng.choice(marks)


def _abc_sound(rng: random.Random, *, odd: bool) -> str:
    """Draws a note, a chord or a rest, without length."""
    kind = rng.random()
    if kind < 0.2:
        return rng.choice("zzzxZ") if odd else "z"
    if kind < 0.4:
        count = rng.choice((1, 2, 3, 6) + ((0, 65, 300) if odd else ()))
        return f"[{''.join(_abc_note(rng, odd=odd) for _ in range(count))}]"
    return _abc_note(rng, odd=odd)


def _full_bar(rng: random.Random, units: float) -> str:
    """Writes elements of the dialect that fill a bar of so many sixteenths exactly."""
    out = []
    while units > 0:
        tuplets = [tuplet for tuplet in _TUPLETS if tuplet[2] <= units]
        if tuplets and rng.random() < 0.2:
            head, lengths, filled = rng.choice(tuplets)
        else:
            lengths = (rng.choice([text for text, size in _LENGTHS.items() if size <= units]),)
            head, filled = "", _LENGTHS[lengths[0]]
        out.append(head)
        for length in lengths:
            sound = _abc_sound(rng, odd=False)
            tie = "-" if rng.random() < 0.2 and sound != "z" else ""
            again = tie and not head and rng.random() < 0.8 and filled * 2 <= units
            out.append((sound + length + tie) + (sound + length if again else ""))
            units -= filled if again else 0
        units -= filled
    return "".join(out)


def _odd_bar(rng: random.Random) -> str:
    """Writes elements in or near the dialect, of any lengths."""
    out = []
    for _ in range(rng.choice((1, 3, 10))):
        if rng.random() < 0.15:
            out.append(rng.choice((*_ODD_TUPLETS, *(head for head, _, _ in _TUPLETS))))
        out.append(_abc_sound(rng, odd=rng.random() < 0.1))
        out.append(rng.choice(_ODD_LENGTHS if rng.random() < 0.3 else tuple(_LENGTHS)))
        out.append(rng.choice(("", "", "", "-", "--")))
    return "".join(out)


def _abc_bars(rng: random.Random, n_voices: int, n_bars: int) -> tuple[str, list[list[str]]]:
    """Draws the first metre, and per voice its bars with changes of metre and tempo, no bar lines.

    A bar in which a voice is silent is "".
    """
    change, silence, odd = (rng.choice((0.0, share, 0.9)) for share in (0.1, 0.3, 0.02))
    change, odd = min(change, rng.random()), min(odd, rng.random() * rng.random())
    first = meter = rng.choice(_METERS)
    voices: list[list[str]] = [[] for _ in range(n_voices)]
    for bar in range(n_bars):
        head = tempo_head = ""
        if bar and rng.random() < change:
            any_meter = f"{rng.randint(1, 40)}/{rng.choice((4, 8, 16, 32, 64))}"
            meter = rng.choice((*_METERS, any_meter))
            head = f"[M:{meter}]"
        if bar and rng.random() < change / 2:
            tempo_head = f"[Q:1/4={rng.choice((20, 60, 120, 121, 300))}]"
        numerator, denominator = meter.split("/")
        size = 16 * int(numerator) / int(denominator)
        if bar == 0 and rng.random() < 0.2:
            size = max(0.25, size // 2)  # a pick-up, the same in all voices
        for number, bars in enumerate(voices):
            text = _odd_bar(rng) if rng.random() < odd else _full_bar(rng, size)
            text = "" if rng.random() < silence else text
            bars.append(head + (tempo_head if number == 0 else "") + text)
    return first, voices


def _voice_lines(rng: random.Random, number: int) -> list[str]:
    lines = [f"V:{number}"]
    kind = rng.random()
    if kind < 0.2:
        lines.append("%%MIDI channel 10")
    elif kind < 0.9:
        lines += [f"%%MIDI channel {rng.randint(1, 16)}"] if kind < 0.4 else []
        lines.append(f"%%MIDI program {rng.randrange(128)}")
    return lines


def _random_abc(rng: random.Random) -> str:
    """Writes a tune in either layout; hundreds of voices or of bars now and then."""
    n_voices, n_bars = rng.choice(
        ((1, 1), (1, 4), (1, 30), (2, 4), (4, 4)) * 5 + ((20, 2), (300, 1), (1, 300), (0, 0))
    )
    meter, voices = _abc_bars(rng, n_voices, n_bars)
    tempo_text = rng.choice((f"1/4={rng.randint(1, 400)}", f"1/16={rng.randint(40, 999)}"))
    odd = [rng.random() < 0.015 for _ in range(3)]
    lines = [
        "X:1",
        f"M:{rng.choice(_ODD_METERS) if odd[0] else meter}",
        "L:1/16",
        f"Q:{rng.choice(_ODD_TEMPOS) if odd[1] else tempo_text}",
        "%%MIDI chordattack 0",
        f"K:{rng.choice(_ODD_KEYS if odd[2] else _KEYS)}",
    ]
    heads = [_voice_lines(rng, number) for number in range(1, n_voices + 1)]
    if rng.random() < 0.5:
        for head, bars in zip(heads, voices, strict=True):
            lines += [*head, "".join(f"{bar}|" for bar in bars)]
    else:
        lines += [line for head in heads for line in head]
        for texts in zip(*voices, strict=True):
            sounding = {place: text for place, text in enumerate(texts, 1) if text}
            pairs = (sounding or {1: "z16"}).items()
            lines.append("".join(f"[V:{place}]{text}|" for place, text in pairs))
    end = "]" if n_bars and rng.random() < 0.9 else ""
    return "\n".join(lines) + end + "\n" * rng.choice((0, 1, 1, 1, 3))


# ---------------------------------------------------------------- mutations of ABC text

_TOKEN = re.compile(r"\[[A-Z]:[^\]\n]*\]|\(3(?::\d)*|[_=^]*[A-Ga-gz][,']*[\d/]*-?|.", re.DOTALL)
_NOISE = (
    *'ABCDEFGabcdefgxzZ^_=,/0123456789|[]():-"!&<>%\n \t\r',
    *("\x00", "\x0b", "\x1c", "\x85", "\xa0", "\u2028", "\ufeff", "\ud800", "\U0001d15e"),
    *("\u0663", "\u00b2", "\uff13", "\U0001d7d9", "\u0968", "\u00e9", "\uff23", "\u212a", "\u017f"),
    *("[M:3/4]", "[Q:1/4=90]", "[V:2]", "|]", "(3", "V:2\n", "%%MIDI program 5\n", "K:D\n", "[M:"),
)


def _change_pieces(rng: random.Random, pieces: list[str]) -> list[str]:
    """Drops, doubles, swaps or repeats pieces of a text."""
    if not pieces:
        return pieces
    start, stop = sorted(rng.randint(0, len(pieces)) for _ in range(2))
    stop = min(stop, start + rng.choice((1, 1, 2, 8, 10_000)))
    left, middle, right = pieces[:start], pieces[start:stop], pieces[stop:]
    change = rng.randrange(5)
    if change == 0:
        return left + right
    if change == 1:
        return left + middle + middle + right
    if change == 2:
        return left + right[:1] + middle + right[1:]
    if change == 3:
        return rng.sample(pieces, len(pieces))
    return left + middle[:2] * rng.choice((3, 50, 1000)) + right


def _change_lines(rng: random.Random, abc: str) -> str:
    return "".join(_change_pieces(rng, abc.splitlines(keepends=True)))


def _change_bars(rng: random.Random, abc: str) -> str:
    return "|".join(_change_pieces(rng, abc.split("|")))


def _change_tokens(rng: random.Random, abc: str) -> str:
    return "".join(_change_pieces(rng, _TOKEN.findall(abc)))


def _cut_text(rng: random.Random, abc: str) -> str:
    start, stop = sorted(rng.randint(0, len(abc)) for _ in range(2))
    return rng.choice((abc[:stop], abc[:stop], abc[start:], abc[:start] + abc[stop:]))


def _add_noise(rng: random.Random, abc: str) -> str:
    for _ in range(rng.choice((1, 1, 2, 10))):
        place = rng.randint(0, len(abc))
        abc = abc[:place] + rng.choice(_NOISE) + abc[place + rng.randint(0, 1) :]
    return abc


def _change_numbers(rng: random.Random, abc: str) -> str:
    """Writes odd numbers in the place of some: huge, zero, other digits than ours."""
    places = [match.span() for match in re.finditer(r"\d+", abc)]
    values = ["0", "00", "1", "3", "17", "128", "65535", "99999"]
    values += ["\u0663", "\u00b2", "\uff11\uff16"]
    for start, stop in sorted(rng.sample(places, min(len(places), rng.randint(1, 3))))[::-1]:
        value = rng.choice((*values, "9" * rng.choice((6, 20, 400, 5000))))
        abc = abc[:start] + value + abc[stop:]
    return abc


def _body_start(abc: str) -> int:
    """Returns where the header, which K: ends, is over; 0 if there is none."""
    key = abc.find("\nK:")
    return abc.find("\n", key + 1) + 1 if key >= 0 else 0


_ABC_MUTATIONS = (
    *(_change_lines, _change_bars, _change_tokens, _cut_text, _add_noise, _change_numbers),
)


def abc_inputs(rng: random.Random, seeds: Sequence[str]) -> Iterator[str]:
    """Yields texts without end: from the grammar and, if there are seeds, mutations of those.

    Each is drawn anew from `rng`, so that the first one of a fresh `rng` may be any.
    """
    while True:
        if seeds and rng.random() < 0.5:
            abc, count = rng.choice(seeds), rng.choice((1, 1, 1, 3))
        else:
            abc, count = _random_abc(rng), rng.choice((0, 0, 0, 1))
        for mutate in rng.choices(_ABC_MUTATIONS, k=count):
            # A broken header hides all that follows it from the reader: mostly it is kept.
            start = _body_start(abc) if rng.random() < 0.85 else 0
            abc = abc[:start] + mutate(rng, abc[start:])
        yield abc


# ---------------------------------------------------------------- checks


class _FindingError(Exception):
    """Carries the line that a check returns."""


class _OutOfTime(BaseException):
    """Not an `Exception`, so that no code under test can take it for its own."""


def check_midi(data: bytes) -> str | None:
    """Checks that a file becomes a sound text, or is refused with a reason.

    Returns:
        None if all is well, else one line that says what is not. Never raises.
    """
    return limited(_check_midi, data)


def check_abc(text: str) -> str | None:
    """Checks that a text becomes a sound MIDI file, or is refused with its place.

    Returns:
        None if all is well, else one line that says what is not. Never raises.
    """
    return limited(_check_abc, text)


def kind_of(description: str) -> str:
    """Returns what a check said without the details of the input, for grouping."""
    return description.split(" (", 1)[0]


def _check_midi(data: bytes) -> None:
    text = _convert("midi_to_abc", data)
    if text is not None:
        _check_converted(text)


def _check_abc(text: str) -> None:
    try:
        with _step("abc_to_midi"):
            performance = perform(parse_tune(text))
            midi = abc_to_midi(text)
    except AbcError as error:
        _check_place(text, error)
        return
    _check_notes(midi, performance)
    if not performance.bar_errors and (again := _convert("midi_to_abc of accepted text", midi)):
        _check_converted(again)


def _convert(step: str, midi: bytes) -> str | None:
    """Converts a file; None if it is refused with a reason of the list."""
    try:
        with _step(step):
            return midi_to_abc(midi, layout="bars")
    except MidiError as error:
        if error.reason not in REASONS:
            raise _FindingError(f"{step}: reason {error.reason!r} is not in the list") from error
        return None


def _check_converted(text: str) -> None:
    """Checks what must hold for all text that the converter writes."""
    try:
        with _step("abc_to_midi of converted text"):
            tune = parse_tune(text)
            performance = perform(tune)
            midi = abc_to_midi(text)
            exported = abc_to_midi(print_tune(tune, "voices"))
        if performance.bar_errors:
            raise _FindingError(f"bar errors in converted text ({performance.bar_errors[0]})")
        _check_notes(midi, performance)
        if exported != midi:
            raise _FindingError("the layouts differ as MIDI")
        with _step("midi_to_abc of converted text"):
            returned = midi_to_abc(midi, layout="bars")
    except (AbcError, MidiError) as error:
        reason = f" {error.reason}" if isinstance(error, MidiError) else ""
        what = f"converted text is refused: {type(error).__name__}{reason}"
        raise _FindingError(f"{what} ({error})") from error
    if returned != text:
        raise _FindingError(f"no fixed point: {_first_difference(text, returned)}")


def _check_notes(midi: bytes, performance: Performance) -> None:
    """Checks that symusic reads the notes that the text holds, at their places.

    A tick beyond what MIDI can hold would otherwise be written as another one, silently.
    """
    with _step("symusic"):
        score = Score.from_midi(midi)
    scale = score.tpq / TICKS_PER_QUARTER
    read = sorted(
        (note.time / scale, note.duration / scale, note.pitch)
        for part in score.tracks
        for note in part.notes
    )
    meant = sorted(
        (onset, end - onset, pitch)
        for chords in performance.voices
        for onset, end, pitches in chords
        for pitch in pitches
    )
    if len(read) != len(meant):
        raise _FindingError(f"notes are lost in the MIDI file ({len(meant)}, read {len(read)})")
    for wanted, found in zip(meant, read, strict=True):
        if wanted != found:
            raise _FindingError(f"notes are moved in the MIDI file ({wanted}, read {found})")


def _check_place(text: str, error: AbcError) -> None:
    """Checks that an error lies in the text, or just past the end of a line."""
    lines = text.split("\n")
    inside = 1 <= error.line <= len(lines)
    if not inside or not 1 <= error.column <= len(lines[error.line - 1]) + 1:
        message = re.sub(r"'.*'|\".*\"|\d+", "_", error.message)
        raise _FindingError(f"AbcError beside the text: {message[:60]} ({str(error)[:60]!r})")


def _first_difference(text: str, returned: str) -> str:
    """Says what kind of line differs first between two texts, and which."""
    pairs = itertools.zip_longest(text.split("\n"), returned.split("\n"), fillvalue="")
    line, back = next(pair for pair in pairs if pair[0] != pair[1])
    kind = "its lines"
    if line.rstrip("|]") == back.rstrip("|]"):
        kind = "number of bars"
    elif line.startswith("[V:") and back.startswith("[V:"):
        kind = "notes of a bar"
        for letter, name in (("M", "metre"), ("V", "voices"), ("Q", "tempo")):
            fields = [re.findall(rf"\[{letter}:[^\]]*\]", side) for side in (line, back)]
            if fields[0] != fields[1]:
                kind = f"{name} of a bar"
                break
    elif line[:2] == back[:2]:
        kind = "%%MIDI of a voice" if line.startswith("%") else line[:2]
    return f"{kind} ({line[:80]!r} comes back as {back[:80]!r})"


@contextlib.contextmanager
def _step(name: str) -> Iterator[None]:
    """Turns errors that are no refusals into findings that name the step and the place."""
    try:
        yield
    except (AbcError, MidiError):
        raise
    except Exception as error:
        message = " ".join(str(error).split())[:100]
        kind = f"{name}: {type(error).__name__} at {_place(error)}"
        raise _FindingError(f"{kind} ({message})") from error


def _place(error: BaseException) -> str:
    """Returns where an error was raised: in the converter, if it came through there at all."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).parent.name == "data_prep"]
    frame = (ours or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"


def limited(check: Callable[[T], None], data: T) -> str | None:
    """Runs a check within the limits of time and memory.

    Returns:
        What it found, or which limit it broke, in one line of ASCII; None if all is well. Never
        raises.
    """
    description = _in_limits(check, data)
    if description is None:
        return None
    # Odd inputs are quoted there, and a lone surrogate, for one, cannot be printed.
    return " ".join(description.encode("ascii", "backslashreplace").decode().split())


def _in_limits(check: Callable[[T], None], data: T) -> str | None:
    start = time.monotonic()
    try:
        with _memory_limit(), _time_limit():
            check(data)
    except _FindingError as finding:
        return str(finding)
    except _OutOfTime as error:
        return f"more than {MAX_SECONDS:.0f} s (interrupted at {_place(error)})"
    except Exception as error:  # of the check's own, outside its steps
        return f"check: {type(error).__name__} at {_place(error)} ({error})"
    seconds = time.monotonic() - start  # where no alarm was possible, or C code held it up
    return f"more than {MAX_SECONDS:.0f} s ({seconds:.1f} s)" if seconds > MAX_SECONDS else None


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """Raises `_OutOfTime` after `MAX_SECONDS`; only a main thread can be interrupted so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _memory_limit() -> Iterator[None]:
    """Makes memory beyond `MAX_GROWTH_BYTES` more than now a MemoryError; on Linux only."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(statm.read_text().split()[0]) * resource.getpagesize()
    limit = now + MAX_GROWTH_BYTES
    for bound in (soft, hard):
        limit = limit if bound == resource.RLIM_INFINITY else min(limit, bound)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
