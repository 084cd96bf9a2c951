"""Odd MIDI files: hand-built ones, and mutated real ones."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence

from .midi_writer import (
    Chunk,
    Event,
    chunk,
    meta,
    midi_file,
    note_off,
    note_on,
    notes,
    program,
    tempo,
    time_signature,
    track,
    vlq,
)

_DIVISIONS = (1, 2, 3, 5, 7, 24, 48, 96, 120, 192, 240, 384, 480, 960, 1000, 1024, 15360, 32767)
_HUGE_TICKS = (0x7F, 0x80, 0x3FFF, 0x4000, 0x1FFFFF, 0x200000, 0xFFFFFFF, 0x10000000, 0x7FFFFFFF)
_TEMPOS = (0, 1, 100, 20_000, 250_000, 499_999, 500_000, 507_614, 1_000_000, 4_000_001, 0xFFFFFF)


def _division(rng: random.Random) -> int:
    """Draws the division: mostly a common one, sometimes any, sometimes SMPTE, valid or not."""
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
        rng: The random generator.
        quarter: Ticks per quarter note.
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
    """Returns a note that starts at tick 0, occasionally with an odd attack or release."""
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
    """Draws a message other than a note: legal but rare, occasionally broken."""
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
    """Writes a track of notes in one rhythm, mixed with other messages if `any_odd`."""
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
    """Writes up to hundreds of time signatures or tempo changes with a few notes, at any ticks."""
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
    """Writes up to thousands of notes that sound at (almost) the same time."""
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
    """Writes up to hundreds of tracks with one note or none."""
    count = rng.choice((15, 16, 17, 40, 300))
    tracks = [
        track((0, program(place % 128, place % 16)), *notes((place, 480, 60), channel=place % 16))
        if rng.random() < 0.9
        else track()
        for place in range(count)
    ]
    return midi_file(*tracks, file_format=rng.choice((0, 1, 1, 2)))


def _few_far_notes(rng: random.Random) -> bytes:
    """Writes a few notes with up to as much silence between them as MIDI can express."""
    gaps = [rng.choice((*_HUGE_TICKS, rng.randrange(1 << rng.randint(1, 28)))) for _ in range(3)]
    lengths = [rng.choice((0, 1, 480, rng.choice(_HUGE_TICKS))) for _ in range(3)]
    onsets = itertools.accumulate(gaps[: rng.randint(1, 3)])
    rows = [(onset, length, 60) for onset, length in zip(onsets, lengths, strict=False)]
    speed = (0, tempo(rng.choice(_TEMPOS[1:])))
    return midi_file(track(speed, *notes(*rows)), division=rng.choice(_DIVISIONS))


_MIDI_BUILDERS = (_random_file, _many_messages, _many_notes, _many_tracks, _few_far_notes)
_MIDI_BUILDER_WEIGHTS = (20, 3, 1, 1, 1)


def _split(midi: bytes) -> list[Chunk]:
    """Returns the chunks of a file, followed by their lengths to the end."""
    out, start = [], 0
    while start + 8 <= len(midi):
        stop = start + 8 + int.from_bytes(midi[start + 4 : start + 8], "big")
        out.append((midi[start : start + 4], midi[start + 8 : stop]))
        start = stop
    return out


def _join(chunks: Iterable[Chunk]) -> bytes:
    return b"".join(chunk(kind, content) for kind, content in chunks)


def _event_places(content: bytes) -> list[int]:
    """Returns where the events of a track begin, up to the first that cannot be parsed."""
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
    """Sets the division (which moves all notes off the grid), the format, or the track count."""
    place, values = rng.choice(
        ((12, (_division(rng),)), (8, (0, 1, 2, 3, 256)), (10, (0, 1, 2, 0xFFFF)))
    )
    return midi[:place] + rng.choice(values).to_bytes(2, "big") + midi[place + 2 :]


def _mutate_length(rng: random.Random, midi: bytes, _: Sequence[bytes]) -> bytes:
    """Sets the length that a chunk, usually a track, claims."""
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
    """Drops, doubles, moves or truncates chunks, or adds unknown ones or another file's."""
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
    """Inserts odd events into a track, or drops some of its own or copies them elsewhere."""
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
    """Cuts off the end, drops or doubles a stretch of bytes, or continues with another file."""
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
    """Wraps a file as found in the wild: RIFF RMID, a Mac header, leading text, trailing bytes."""
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
    """Yields files endlessly: hand-built ones and, if there are seeds, mutations of the seeds.

    Each is drawn independently from `rng`, so that the first one of a fresh `rng` can be any kind.
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
