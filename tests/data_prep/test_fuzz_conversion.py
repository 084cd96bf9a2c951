"""A few seconds of the fuzz campaign (benchmarks/fuzz_conversion.py), and what it found before."""

import itertools
import random
from pathlib import Path

import pytest
from fuzzing.abc_inputs import abc_inputs
from fuzzing.checks import check_abc, check_foreign, check_midi, kind_of, limited
from fuzzing.foreign_inputs import foreign_inputs
from fuzzing.midi_inputs import midi_inputs
from fuzzing.midi_writer import midi_file, notes, tempo, time_signature, track

from data_prep.midi_to_abc.converter import midi_to_abc

N_MIDI, N_ABC, N_FOREIGN = 200, 120, 100
REPORTED = Path(__file__).parent.parent / "data" / "reported"
HEAD = "X:1\nM:4/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\nV:1\n%%MIDI program 0\n"


def one_track(*events, division=480) -> bytes:
    return midi_file(track(*events), division=division)


# What was odd -> a file on which a check once failed.
MIDI_FINDINGS = {
    "tempo_below_what_midi_can_say_in_quarters_of_a_beat": one_track(
        (0, tempo(0xFFFFFF)), *notes((0, 480, 60))
    ),
    "tempo_change_that_corrects_the_drift": one_track(
        (0, tempo(507_614)), *notes((0, 200 * 1920, 60))
    ),
    "drum_that_sounds_into_the_next": one_track(*notes((0, 4000, 36), (960, 240, 38), channel=9)),
    "bars_of_a_thirty_second": one_track((0, time_signature(1, 5)), *notes((0, 480, 60))),
    "release_soon_after_a_short_bar": one_track(
        (0, time_signature(1, 3)), *notes((0, 7 * 480 + 13, 60))
    ),
    "release_off_the_grid_at_a_bar_cut_short": one_track(
        (11, time_signature(3, 2)), *notes((10, 1, 60)), division=3
    ),
    "bar_of_more_than_255_quarters_cut_short": one_track(
        (0, time_signature(255, 1)),
        (480 * 500, time_signature(4, 2)),
        *notes((480 * 600, 480, 60)),
    ),
    "chord_of_128_notes_with_ends_of_their_own": one_track(
        *notes(*((0, 480 + 48 * pitch, pitch) for pitch in range(128)))
    ),
    "drum_chord_of_65_notes": one_track(*notes(*((0, 480, p) for p in range(65)), channel=9)),
    "notes_farther_apart_than_our_midi_can_say": one_track(
        (0, tempo(1000)),
        (0, time_signature(255, 0)),
        *notes((0, 480, 60), (0xFFFFFFF, 480, 60)),
        division=48,
    ),
    "few_bytes_many_bars": one_track(
        (0, tempo(1000)),
        (0, time_signature(255, 0)),
        *notes((0, 480, 60), (0x7FFFFFF, 480, 60)),
        division=24,
    ),
    "one_pitch_on_two_channels_released_in_turn": bytes.fromhex(
        "4d54686400000006000100010180"
        "4d54726b00000026"
        "00ce4f6050609e3c50603c40408e3c40009e3c50608e3c40609e3c50403c40208e3c40003c00"
    ),
}

# What was odd -> a text on which a check once failed.
ABC_FINDINGS = {
    "rest_of_no_length_in_a_first_bar": HEAD + "z0|]\n",
    "voice_number_of_5000_digits": f"{HEAD}[V:{'9' * 5000}]C16|]\n",
    "metre_beyond_a_byte": HEAD.replace("4/4", "999/1") + "C16|]\n",
    "ticks_beyond_32_bits": HEAD + "z99999" * 3000 + "C|]\n",
    "ticks_beyond_what_midi_can_say": HEAD + "z99999" * 300 + "C|]\n",
}

# What was odd -> ABC of others on which a check once failed.
FOREIGN_FINDINGS = {
    "overlay_in_the_first_bar": "X:1\nK:C\nC&D|E|",
    "sharp_and_flat_at_once": "X:1\nK:C\n_^C|",
    "bar_too_long_with_a_rest_too_short": "X:1\nM:none\nL:1/1\nK:C\nC70(3:4:1D/64",
    "no_note_before_a_bar_line": "X:1\nK:C\n{c}|[]4|D|",
    "tune_shorter_than_the_shortest_note": "K:\nC////",
    "last_bar_between_two_ticks": "L:1/16\nK:\nea<<<:|2C",
    "grace_chord_of_nothing": "K:\n{[:|e",
    "bar_of_a_thousand_notes": "X:1\nM:none\nL:1/32\nK:C\n" + "(3CDE" * 3000,
    "line_of_stars": "X:1\nK:C\nC|" + "*" * 60_000 + "C|",
    "line_of_decorations": "X:1\nK:C\n" + "u" * 30_000 + "C|",
    "many_primes": "X:1\nK:C\n" + "".join(f"C/{n}(97:{n}:1D" for n in range(2, 99)),
}


def findings(inputs, count, check) -> dict[str, str]:
    """Kind of finding -> one of them, with its number."""
    found = {}
    for number, data in enumerate(itertools.islice(inputs, count)):
        if description := check(data):
            found.setdefault(kind_of(description), f"input {number}: {description}")
    return found


@pytest.fixture(scope="module")
def tunes(tune_files, chorale) -> list[bytes]:
    return [chorale, *(file.read_bytes() for file in tune_files[::6])]


def test_odd_midi_files_become_sound_text_or_are_refused_with_a_reason(tunes):
    assert findings(midi_inputs(random.Random(1), tunes), N_MIDI, check_midi) == {}


def test_odd_texts_become_sound_midi_or_are_refused_with_a_place(tunes):
    texts = [midi_to_abc(midi, layout=layout) for midi in tunes for layout in ("bars", "voices")]
    assert findings(abc_inputs(random.Random(1), texts), N_ABC, check_abc) == {}


def test_odd_abc_of_others_becomes_sound_tunes_or_is_refused_with_a_place():
    reported = REPORTED / "abc-prompt-by-music21"
    seeds = [path.read_text("utf-8") for path in sorted(reported.glob("*.abc"))]
    assert findings(foreign_inputs(random.Random(1), seeds), N_FOREIGN, check_foreign) == {}


@pytest.mark.parametrize("text", FOREIGN_FINDINGS.values(), ids=FOREIGN_FINDINGS)
def test_abc_of_others_that_failed_once_does_not_again(text):
    assert check_foreign(text.encode()) is None


@pytest.mark.parametrize("midi", MIDI_FINDINGS.values(), ids=MIDI_FINDINGS)
def test_midi_files_that_failed_once_do_not_again(midi):
    assert check_midi(midi) is None


@pytest.mark.parametrize("abc", ABC_FINDINGS.values(), ids=ABC_FINDINGS)
def test_texts_that_failed_once_do_not_again(abc):
    assert check_abc(abc) is None


def test_one_seed_gives_the_same_inputs_again(tunes):
    first, second = (list(itertools.islice(midi_inputs(random.Random(5), tunes), 50)) for _ in "12")
    assert first == second
    assert len(set(first)) > 40
    texts = [midi_to_abc(tunes[0])]
    first, second = (list(itertools.islice(abc_inputs(random.Random(5), texts), 50)) for _ in "12")
    assert first == second
    assert len(set(first)) > 40


def test_check_that_takes_too_much_memory_or_time_is_stopped_and_told_of(monkeypatch):
    assert limited(len, b"") is None
    monkeypatch.setattr("fuzzing.checks.MAX_GROWTH_BYTES", 2**25)
    # far more than what earlier tests may have left free in this process
    assert "MemoryError" in limited(lambda data: bytearray(2**31), b"")
    assert len(bytearray(2**27)) == 2**27  # the limit is gone again
    monkeypatch.setattr("fuzzing.checks.MAX_SECONDS", 0.01)
    assert "more than" in limited(lambda data: [0 for _ in itertools.count() if _ < 0], b"")
