"""What a MIDI file plays: beside an independent reading of the same events, and file by file."""

import random
import re
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.midi_truth import DRUMS as TRUE_DRUMS
from benchmarks.midi_truth import read_truth
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi import events
from data_prep.midi.channels import DRUMS
from data_prep.midi.midi_file import read_midi
from data_prep.midi_to_abc.converter import midi_to_abc

REPORTED = Path(__file__).parent.parent / "data" / "reported"
GS_RESET = "41 10 42 12 40 00 7F 00 41"
XG_ON = "43 10 4C 00 00 7E 00"
GM_ON = "7E 7F 09 01"


def number(value: int) -> bytes:
    """A number of variable length."""
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(value & 0x7F | 0x80)
    return bytes(reversed(out))


def sysex(content: str) -> bytes:
    data = bytes.fromhex(content) + b"\xf7"
    return b"\xf0" + number(len(data)) + data


def file_of(*tracks: list[tuple[int, bytes]], n_tracks: int | None = None) -> bytes:
    """A file of 96 ticks a quarter; tracks are (delta, event)."""
    chunks = b""
    for track in tracks:
        events = b"".join(number(delta) + event for delta, event in track)
        chunks += b"MTrk" + len(events).to_bytes(4, "big") + events
    count = len(tracks) if n_tracks is None else n_tracks
    return b"MThd\0\0\0\6\0\1" + count.to_bytes(2, "big") + b"\0\x60" + chunks


def end(delta: int = 0) -> tuple[int, bytes]:
    return delta, b"\xff\x2f\0"


def note(pitch: int, channel: int = 0, length: int = 96) -> list[tuple[int, bytes]]:
    return [(0, bytes([0x90 | channel, pitch, 80])), (length, bytes([0x80 | channel, pitch, 0]))]


def heard(midi: bytes) -> Counter:
    """(group, pitch, onset, end) of all notes as the converter reads them."""
    notes = read_midi(midi).notes
    groups = [TRUE_DRUMS if p == DRUMS else p for p in notes.program.tolist()]
    columns = (notes.pitch.tolist(), notes.onset.tolist(), notes.end.tolist())
    return Counter(zip(groups, *columns, strict=True))


def true(midi: bytes) -> Counter:
    """The same by mido and a synthesiser of our own."""
    return Counter((n.group, n.pitch, n.onset, n.offset) for n in read_truth(midi).notes)


def voices(midi: bytes) -> list[int | None]:
    """Programs of the tune's voices; None for drums."""
    return [None if v.is_drums else v.program for v in parse_tune(midi_to_abc(midi)).voices]


def test_real_files_are_heard_as_by_the_independent_reader(tune_files, chorale):
    reported = sorted(REPORTED.rglob("*.mid"))
    assert len(reported) > 15
    for midi in [
        chorale,
        *(f.read_bytes() for f in tune_files[::5]),
        *map(Path.read_bytes, reported),
    ]:
        assert heard(midi) == true(midi)


def random_track(rng: random.Random) -> list[tuple[int, bytes]]:
    """Messages that change what a channel is, and notes, some without end, on few keys."""
    track, status = [], 0
    for _ in range(rng.randrange(40)):
        channel, delta = rng.choice((0, 1, 9, 10)), rng.choice((0, 0, 1, 24, 200))
        kind = rng.choices((0x90, 0x80, 0xC0, 0xB0, 0xE0, 0xD0, "port", "sysex", "text"), WEIGHTS)[
            0
        ]
        if kind == "port":
            event = b"\xff\x21\1" + bytes([rng.randrange(3)])
        elif kind == "text":
            event = b"\xff\1\3\x90\x91\x92"
        elif kind == "sysex":
            event, status = sysex(rng.choice(SYSEX)), 0  # which ends running status
        else:
            data = {
                0x90: [rng.randrange(60, 63), rng.choice((0, 80))],
                0x80: [rng.randrange(60, 63), 64],
                0xC0: [rng.randrange(128)],
                0xB0: rng.choice(
                    ([0, rng.choice((0, 120, 121, 126, 127))], [123, 0], [120, 0], [7, 9])
                ),
                0xE0: [1, 64],
                0xD0: [50],
            }[kind]
            running = status == kind | channel and rng.random() < 0.5
            status = kind | channel
            event = bytes(data) if running else bytes([status, *data])
        track.append((delta, event))
    return [*track, end(rng.choice((0, 50)))]


SYSEX = (
    *(GS_RESET, XG_ON, GM_ON),
    *("41 10 42 12 40 1A 15 01 10", "41 10 42 12 40 10 15 00 1B", "41 10 42 12 40 11 15 02 00"),
    *("43 10 4C 08 0A 07 01", "43 10 4C 08 09 07 00", "43 10 4C 08"),
)
WEIGHTS = (30, 20, 8, 8, 3, 3, 2, 3, 1)


def test_random_messages_are_heard_as_by_the_independent_reader():
    rng = random.Random(0)
    for _ in range(400):
        midi = file_of(*(random_track(rng) for _ in range(rng.randrange(1, 5))))
        notes = true(midi)
        if notes:
            assert heard(midi) == notes


@pytest.mark.parametrize(
    ("name", "programs"),
    [
        ("program-from-other-track/program_other_track", [40, 73]),
        ("drums-off-channel-10/gs_drums_ch11", [0, None]),
        ("drums-off-channel-10/xg_drums_ch11", [0, None]),
        ("drums-off-channel-10/gs_undrum10", [40]),
        ("notes-without-note-off/drums_no_off", [0, None]),
        ("track-count-in-header/ntrk_small", [40, 42]),
        ("passing/ports", [40, 73, None]),
    ],
)
def test_reported_files_have_the_instruments_that_they_name(name, programs):
    midi = (REPORTED / f"{name}.mid").read_bytes()
    assert voices(midi) == programs


def test_program_change_holds_for_an_attack_of_its_tick_unless_it_follows_it():
    set_up = [(0, b"\xc0\x28"), end()]
    assert heard(file_of([*note(60), end()], set_up)) == {(40, 60, 0, 96): 1}
    follows = [
        (0, b"\xc0\x05"),
        (0, b"\x90\x3c\x50"),
        (0, b"\xc0\x09"),
        (96, b"\x80\x3c\0"),
        *note(62),
    ]
    assert heard(file_of([*follows, end()])) == {(5, 60, 0, 96): 1, (9, 62, 96, 192): 1}


def test_note_without_a_release_ends_with_its_channel_or_track():
    held = [(0, b"\x90\x3c\x50")]
    assert heard(file_of([*held, end(960)])) == {(0, 60, 0, 960): 1}
    assert heard(file_of([*held, (48, b"\xb0\x7b\0"), end(960)])) == {(0, 60, 0, 48): 1}
    other = [(200, b"\x80\x3c\0"), end()]
    assert heard(file_of([*held, end(960)], other)) == {(0, 60, 0, 200): 1}
    again = [*held, (48, b"\x90\x3c\x50"), (48, b"\x80\x3c\0"), end(960)]
    assert heard(file_of(again)) == {(0, 60, 0, 96): 1, (0, 60, 48, 96): 1}


def test_drums_need_no_release():
    beats = [(96, b"\x99\x24\x50")] * 4
    assert [n for _, n, *_ in heard(file_of([*beats, end()]))] == [36] * 4
    assert voices(file_of([*beats, end()])) == [None]


@pytest.mark.parametrize(
    ("said", "programs"),
    [
        ([(0, sysex("41 10 42 12 40 1A 15 01 10"))], [None]),  # GS: part 11 is drums
        ([(0, b"\xba\0\x78"), (0, b"\xca\0")], [None]),  # General MIDI 2: bank 120
        ([(0, b"\xba\0\x7f"), (0, b"\xca\0")], [None]),  # XG: bank 127
        ([(0, b"\xba\0\x7f")], [0]),  # no program takes it up
        ([(0, sysex(GS_RESET)), (0, b"\xba\0\x7f"), (0, b"\xca\5")], [5]),  # GS: another sound
        ([(0, sysex("41 10 42 12 40 1A 15 01 10")), (48, sysex(GS_RESET))], [0]),
    ],
)
def test_drums_are_where_the_file_says(said, programs):
    assert voices(file_of([*said, *note(36, 10) * 20, end()])) == programs


def test_older_pythons_find_the_same_runs_of_events(tune_files):
    """With greedy groups, since possessive ones are wrong before Python 3.11.5."""
    chance = random.Random(1)
    for file in tune_files[:20]:
        midi = bytearray(file.read_bytes())
        for _ in range(chance.randint(0, 20)):
            midi[chance.randrange(len(midi))] = chance.randrange(256)
        for pattern in (events._PAIRS, events._SINGLES):
            greedy = re.compile(pattern.pattern.removesuffix(b"+"))
            for place in range(0, len(midi), 7):
                assert pattern.match(midi, place).end() == greedy.match(midi, place).end()


def test_broken_track_length_and_bytes_do_not_lose_the_music():
    midi = file_of([*note(60), *note(62), end()])
    short = midi[:21] + bytes([midi[21] - 5]) + midi[22:]  # the chunk is longer than it says
    assert heard(short) == heard(midi)
    loud = file_of([(0, b"\x90\x3c\xff"), (96, b"\x80\x3c\0"), end()])  # a data byte above 127
    assert heard(loud) == {(0, 60, 0, 96): 1}


def test_tracks_behind_those_of_the_header_count_if_they_follow_at_once():
    two = file_of([*note(60), end()], [*note(62), end()], n_tracks=1)
    assert {pitch for _, pitch, _, _ in heard(two)} == {60, 62}
    # What is left where a file was written over a longer one is no music of this one.
    place = two.rfind(b"MTrk")
    left_over = two[:place] + b"\0\x3e\0\0\xff\x2f\0" + two[place:]
    assert {pitch for _, pitch, _, _ in heard(left_over)} == {60}
