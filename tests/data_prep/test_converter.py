import contextlib
import random
import subprocess
from fractions import Fraction
from pathlib import Path
from time import process_time

import pytest
import symusic
from fuzzing.midi_writer import midi_file, notes, time_signature, track
from symusic import Note, Score, Tempo, TimeSignature, Track

from data_prep.dialect.abc_to_midi import abc_to_midi, perform
from data_prep.dialect.notation import AbcError, meter_ticks
from data_prep.dialect.tune import Meter, Tune, Voice, print_tune
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi.limits import Limits, MidiError
from data_prep.midi.midi_file import read_midi
from data_prep.midi_to_abc.converter import midi_to_abc, midi_to_tune
from modeling.export_abc import to_voices

REPORTED = Path(__file__).parent.parent / "data" / "reported"


def score_of(notes, *, tpq=480, program=0, drums=False, **events) -> Score:
    score = Score(tpq)
    track = Track("", program, drums)
    for onset, length, pitch in notes:
        track.notes.append(Note(int(onset * tpq), int(length * tpq), pitch, 80))
    score.tracks.append(track)
    for time, mspq in events.get("tempos", []):
        score.tempos.append(Tempo(int(time * tpq), mspq=mspq))
    for time, numerator, denominator in events.get("meters", []):
        score.time_signatures.append(TimeSignature(int(time * tpq), numerator, denominator))
    return score


def quarters(midi: bytes) -> set[tuple[float, float, int]]:
    score = Score.from_midi(midi)
    return {
        (note.time / score.tpq, note.duration / score.tpq, note.pitch)
        for track in score.tracks
        for note in track.notes
    }


def test_all_notes_of_real_tunes_come_back(tune_files):
    assert len(tune_files) > 50
    for file in tune_files:
        midi = file.read_bytes()
        original, returned = quarters(midi), quarters(abc_to_midi(midi_to_abc(midi)))
        assert len(original) == len(returned), file.name
        by_pitch = [sorted((pitch, onset) for onset, _, pitch in n) for n in (original, returned)]
        for (pitch, onset), (pitch_back, onset_back) in zip(*by_pitch, strict=True):
            assert pitch == pitch_back
            assert onset == pytest.approx(onset_back, abs=1 / 8)  # a 32nd note


def test_chorale_keeps_its_four_voices_and_pickup(chorale):
    tune = parse_tune(midi_to_abc(chorale))
    assert len(tune.voices) == 4
    assert tune.key == "G"
    assert tune.voices[0].bars[0] == "z8G4"
    assert not perform(tune).bar_errors


def test_both_layouts_are_the_same_music_byte_for_byte(tune_files, chorale):
    for midi in [chorale, *(file.read_bytes() for file in tune_files[:10])]:
        bars, voices = (midi_to_abc(midi, layout=layout) for layout in ("bars", "voices"))
        assert abc_to_midi(bars) == abc_to_midi(voices)
        assert print_tune(parse_tune(voices), "bars") == bars
        assert print_tune(parse_tune(bars), "voices") == voices


def test_text_to_midi_to_text_is_a_fixed_point(tune_files, chorale):
    for midi in [chorale, *(file.read_bytes() for file in tune_files)]:
        abc = midi_to_abc(midi)
        assert midi_to_abc(abc_to_midi(abc)) == abc


def test_overlapping_notes_become_extra_voices():
    held = score_of([(0, 4, 48), (0, 1, 60), (1, 1, 62), (2, 2, 64)])
    abc = midi_to_abc(held.dumps_midi())
    assert len(parse_tune(abc).voices) == 2
    assert quarters(abc_to_midi(abc)) == {(0, 4, 48), (0, 1, 60), (1, 1, 62), (2, 2, 64)}


def test_straight_and_swung_beats_stand_side_by_side():
    swing = [(0, 0.5, 60), (0.5, 0.5, 62), (1, 2 / 3, 64), (1 + 2 / 3, 1 / 3, 65), (2, 2, 67)]
    abc = midi_to_abc(score_of(swing).dumps_midi())
    assert "C2D2(3:2:2E4F2G8" in abc


def swung_eighths(bpm: int, off_by_seconds: float, rng: random.Random) -> bytes:
    """128 beats of swung eighths, 2:1, each attack off by as much as that, either way."""
    notes, beat_seconds = [], 60 / bpm
    for beat in range(128):
        for place in (0, 2 / 3):
            off = rng.uniform(-off_by_seconds, off_by_seconds) / beat_seconds
            notes.append((max(0, beat + place + off), 0.3, rng.randrange(60, 72)))
    return score_of(notes, tempos=[(0, round(60e6 / bpm))]).dumps_midi()


@pytest.mark.parametrize("bpm", [60, 120, 240])
def test_swung_eighths_are_triplets_however_a_player_is_off(bpm):
    for milliseconds in (0, 2, 8, 20):
        midi = swung_eighths(bpm, milliseconds / 1000, random.Random(milliseconds))
        off_beats = [onset % 1 for onset, *_ in quarters(abc_to_midi(midi_to_abc(midi)))]
        off_beats = [place for place in off_beats if place]
        assert sum(place == pytest.approx(2 / 3, abs=0.01) for place in off_beats) >= 126
        assert len(off_beats) <= 128


def test_reported_swing_is_one_reading():
    midi = (REPORTED / "swing-jitter" / "swing_jitter.mid").read_bytes()
    places = {round(onset % 1, 2) for onset, *_ in quarters(abc_to_midi(midi_to_abc(midi)))}
    assert places == {0, 0.67}


def test_straight_beats_of_a_swung_tune_stay_straight():
    beats = [(0, 0.6), (2 / 3, 0.3)] * 12 + [(0, 0.4), (1 / 2, 0.4)] * 4
    notes = [
        (place // 2 + onset + 1 / 480, length, 60 + place % 12)
        for place, (onset, length) in enumerate(beats)
    ]
    back = {onset for onset, *_ in quarters(abc_to_midi(midi_to_abc(score_of(notes).dumps_midi())))}
    assert {12.5, 13.5, 14.5, 15.5} <= back


@pytest.mark.parametrize(
    ("off_beats", "late"),
    [
        # dotted and straight eighths together have the middle of a swung one
        ((3 / 4, 3 / 4, 1 / 2, 3 / 4, 3 / 4, 1 / 2, 3 / 4), 1 / 480),
        ((1 / 2,), 1 / 8 + 1 / 480),  # eighths that are all late by a thirty-second
    ],
)
def test_what_only_looks_like_swing_is_written_as_it_is(off_beats, late):
    places = [beat + place for beat in range(64) for place in (0, off_beats[beat % len(off_beats)])]
    notes = [(place + late, 0.2, 60 + number % 12) for number, place in enumerate(places)]
    midi = score_of(notes, tempos=[(0, 240_000)]).dumps_midi()
    back = sorted(onset for onset, *_ in quarters(abc_to_midi(midi_to_abc(midi))))
    steps = {round(place - back[0], 2) % 1 for place in back}
    assert steps == {0.0, *off_beats}


def test_grace_note_in_a_swung_beat_keeps_its_place():
    notes = [(beat + place, 0.1, 60) for beat in range(32) for place in (0, 2 / 3)]
    notes += [(16 + 1 / 8, 0.1, 72), (24 + 1 / 8, 0.1, 72)]
    notes = [(onset + 1 / 480, *rest) for onset, *rest in notes]
    back = quarters(abc_to_midi(midi_to_abc(score_of(notes).dumps_midi())))
    assert {16.125, 24.125} <= {onset for onset, _, pitch in back if pitch == 72}


def test_more_voices_than_channels_keep_their_programs():
    voices = [Voice(program, None, ["C16"]) for program in range(40)]
    abc = print_tune(Tune("C", {0: Meter(4, 4)}, {0: Fraction(120)}, voices))
    back = read_midi(abc_to_midi(abc)).notes
    assert sorted(back.program.tolist()) == list(range(40))
    assert len(set(zip(back.channel.tolist(), back.program.tolist(), strict=True))) == 40


def test_notes_that_the_text_leaves_out_are_counted():
    twice = score_of([(0, 1, 60), (0.01, 1, 60), (1, 1, 62)])
    assert midi_to_tune(twice.dumps_midi()).n_doubled == 1


@pytest.mark.parametrize("meter", ["2/2", "3/2", "6/4", "12/4", "3/1", "6/16"])
def test_metre_that_abcjs_would_stretch_stands_before_the_first_bar(meter):
    ticks = meter_ticks(*map(int, meter.split("/")))
    head = f"X:1\nM:{meter}\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\nV:1\n%%MIDI program 0\n"
    abc = head + f"[V:1]C{ticks // 12}|\n" * 3 + f"[V:1]D{ticks // 12}|]\n"
    voices = print_tune(parse_tune(abc), "voices")
    assert voices.startswith("X:1\nM:4/4\n")
    assert f"program 0\nM:{meter}\nL:1/16\n" in voices
    assert voices == to_voices(abc)
    assert print_tune(parse_tune(voices), "bars") == abc


def test_programs_drums_metre_and_tempo_changes_are_kept():
    score = score_of(
        [(beat, 1, 60 + beat) for beat in range(11)],
        program=40,
        meters=[(0, 4, 4), (8, 3, 4)],
        tempos=[(0, 500_000), (8, 375_000)],
    )
    score.tracks.append(score_of([(beat, 0.25, 36) for beat in range(11)], drums=True).tracks[0])
    abc = midi_to_abc(score.dumps_midi())
    tune = parse_tune(abc)
    assert tune.meters == {0: Meter(4, 4), 2: Meter(3, 4)}
    assert tune.tempos == {0: Fraction(120), 2: Fraction(160)}
    assert [(v.program, v.is_drums) for v in tune.voices] == [(40, False), (None, True)]
    back = Score.from_midi(abc_to_midi(abc))
    assert [(t.program, t.is_drum) for t in back.tracks] == [(40, False), (0, True)]
    assert back.end() == 11 * back.tpq


def test_fractional_tempo_does_not_drift():
    score = score_of(
        [(beat, 1, 60) for beat in range(400)], tempos=[(0, 507_614)]
    )  # 118.2 a minute
    abc = midi_to_abc(score.dumps_midi())
    assert perform(parse_tune(abc)).n_seconds == pytest.approx(400 * 0.507614, abs=0.05)


def test_bar_cut_short_by_a_metre_change_gets_its_own_metre():
    score = score_of(
        [(beat, 1, 60) for beat in range(11)], meters=[(0, 4, 4), (7, 4, 4), (7, 2, 4)]
    )
    tune = parse_tune(midi_to_abc(score.dumps_midi()))
    assert tune.meters == {0: Meter(4, 4), 1: Meter(3, 4), 2: Meter(2, 4)}
    assert not perform(tune).bar_errors


def test_straight_and_triplet_halves_of_one_beat_stand_side_by_side():
    notes = [(0, 1 / 4, 60), (1 / 4, 1 / 4, 62), *((1 / 2 + n / 6, 1 / 6, 64) for n in range(3))]
    abc = midi_to_abc(score_of(notes).dumps_midi())
    assert "[V:1]CD(3EEEz12|]" in abc


def test_recording_that_started_off_the_beat_is_written_on_it():
    late = 9 / 48  # of a quarter
    score = score_of([(late + n / 2, 1 / 2, 60 + n % 2 * 4) for n in range(16)])
    tune = parse_tune(midi_to_abc(score.dumps_midi()))
    assert (tune.meters, tune.pickup) == ({0: Meter(4, 4)}, 9)  # behind a short bar of rest
    assert tune.voices[0].bars[1] == "C2E2C2E2C2E2C2E2"


def test_drums_on_many_tracks_are_one_kit():
    score = score_of([(beat, 1 / 4, 36) for beat in range(8)], drums=True)
    score.tracks.append(score_of([(b / 2, 1 / 4, 42) for b in range(16)], drums=True).tracks[0])
    tune = parse_tune(midi_to_abc(score.dumps_midi()))
    assert [voice.is_drums for voice in tune.voices] == [True]
    assert perform(tune).n_notes == 24


def test_attacks_of_a_pitch_that_are_heard_apart_stay_two_notes():
    """12 beats a minute, as in files that were recorded without a clock; and 240."""
    attacks = [(0.10, 0.02, 60), (0.15, 0.02, 60)]
    slow, fast = (score_of(attacks, tempos=[(0, mspq)]) for mspq in (5_000_000, 250_000))
    assert midi_to_tune(slow.dumps_midi()).n_doubled == 0
    assert midi_to_tune(fast.dumps_midi()).n_doubled == 1  # 12 ms: a flam


def test_voices_are_joined_until_none_takes_another():
    """The first takes the second only when it has taken the third: a gap would be closed."""
    score = score_of([(1 / 8, 1 / 8, 60)])
    for rows in ([(3 / 8, 1 / 8, 62)], [(1 / 8, 1 / 8, 64), (1 / 4, 1 / 8, 65)]):
        score.tracks.append(score_of(rows).tracks[0])
    assert len(midi_to_tune(score.dumps_midi()).tune.voices) == 1


def test_tracks_of_one_instrument_that_take_turns_are_one_voice():
    score = score_of([(bar * 8 + beat, 1, 60) for bar in range(2) for beat in range(4)])
    answer = score_of([(bar * 8 + 4 + beat, 1, 67) for bar in range(2) for beat in range(4)])
    score.tracks.append(answer.tracks[0])
    midi = score.dumps_midi()
    abc = midi_to_abc(midi)
    assert len(parse_tune(abc).voices) == 1
    assert quarters(abc_to_midi(abc)) == quarters(midi)


def test_bars_of_one_beat_and_nothing_else_are_common_time():
    score = score_of([(beat, 1, 60) for beat in range(8)], meters=[(0, 1, 4)])
    assert parse_tune(midi_to_abc(score.dumps_midi())).meters == {0: Meter(4, 4)}


def test_releases_near_an_attack_are_one_chord_and_no_overlap():
    """Legato playing: keys go up a little after, or before, the next ones go down."""
    score = score_of([(0, 1.05, 60), (0, 0.97, 64), (1, 1.04, 62), (1, 0.9, 65), (2, 2, 64)])
    assert "[V:1][CE]4[DF]4E8|]" in midi_to_abc(score.dumps_midi())


@pytest.mark.parametrize(
    ("midi", "reason"),
    [
        (b"", "not_midi"),
        (b"<!DOCTYPE html>", "not_midi"),
        (b"MThd\x00\x00", "unreadable"),
        (midi_file(track(*notes((0, 480, 60))), division=0), "unreadable"),
        (Score(480).dumps_midi(), "no_notes"),
    ],
)
def test_what_is_no_music_is_refused_with_a_reason(midi, reason):
    with pytest.raises(MidiError) as caught:
        midi_to_abc(midi)
    assert caught.value.reason == reason


ONE_NOTE = track(*notes((0, 480, 60)))


@pytest.mark.parametrize(
    "midi",
    [
        b"RIFF\x40\x00\x00\x00RMIDdata\x2c\x00\x00\x00" + midi_file(ONE_NOTE),
        bytes(128) + midi_file(ONE_NOTE),
        midi_file(ONE_NOTE, more_header=b"\x00\x00"),
        midi_file(ONE_NOTE, file_format=65535),
        midi_file(track(*notes((0, 500, 60))), division=0xE728),  # 25 frames of 40 ticks a second
    ],
    ids=["RMID", "MacBinary", "long header", "unknown format", "SMPTE"],
)
def test_music_in_an_odd_wrapper_is_read(midi):
    assert quarters(abc_to_midi(midi_to_abc(midi))) == {(0, 1, 60)}


def test_patterns_of_format_2_are_played_one_after_another():
    midi = midi_file(ONE_NOTE, ONE_NOTE, file_format=2)
    assert quarters(abc_to_midi(midi_to_abc(midi))) == {(0, 1, 60), (4, 1, 60)}


def test_tracks_are_counted_in_the_file_where_its_header_says_fewer():
    tracks = [track(*notes((beat * 480, 480, 60 + beat))) for beat in range(3)]
    said = midi_file(*tracks, n_tracks=2)
    assert midi_to_abc(said) == midi_to_abc(midi_file(*tracks))
    two = midi_to_abc(midi_file(*tracks[:2]))
    assert midi_to_abc(said[:-3]) == two  # cut off
    assert midi_to_abc(midi_file(*tracks[:2]) + b"MTrk\0\0\0\3\0\x90\x3c") == two  # broken


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(bytes=50), "too_many_bytes"),
        (Limits(notes=8), "too_many_notes"),
        (Limits(quarters=8), "too_many_quarters"),
        (Limits(bars=2), "too_many_bars"),
        (Limits(voices=1), "too_many_voices"),
        (Limits(seconds=3), "too_many_seconds"),
        (Limits(chars=20), "too_many_chars"),
        (Limits(small_file_bytes=1, chars_per_byte=0), "too_much_expansion"),
    ],
)
def test_too_much_music_is_refused_with_a_reason_of_its_own(limits, reason):
    midi = score_of([(0, 2, 48), *((beat, 1, 60) for beat in range(9))]).dumps_midi()
    midi_to_abc(midi)
    with pytest.raises(MidiError) as caught:
        midi_to_abc(midi, limits=limits)
    assert caught.value.reason == reason


def test_small_file_of_long_silence_and_large_real_one_pass():
    long = score_of([(0, 1, 60), (4 * 10_000, 1, 60)]).dumps_midi()
    assert parse_tune(midi_to_abc(long)).n_bars == 10_001
    large = score_of([(n / 4, 1 / 4, 40 + n % 50) for n in range(30_000)]).dumps_midi()
    assert perform(parse_tune(midi_to_abc(large))).n_notes == 30_000


BOMBS = {
    "millions of bars": midi_file(
        track((0, time_signature(1, 5)), *notes((0, 1, 60), (0xFFFFFF, 1, 60))), division=24
    ),
    "hours of silence": midi_file(track(*notes(*((n << 27, 1, 60) for n in range(9)))), division=1),
    "millions of notes": midi_file(track(*notes((0, 1, 60))) + bytes(40_000_000)),
    "notes held for thousands of bars": midi_file(
        *[track(*notes(*((0, 5000 * 96, pitch) for pitch in range(128))))] * 16, division=24
    ),
}


@pytest.mark.parametrize("midi", BOMBS.values(), ids=BOMBS)
def test_bombs_are_refused_at_once(midi):
    start = process_time()
    with pytest.raises(MidiError, match="too_"):
        midi_to_abc(midi)
    assert process_time() - start < 1


def test_abc2midi_plays_the_export_as_our_reader_does(tune_files, chorale, tmp_path):
    abc2midi = Path(symusic.__file__).parent / "bin" / "abc2midi"
    for number, midi in enumerate([chorale, *(file.read_bytes() for file in tune_files)]):
        abc = midi_to_abc(midi, layout="voices")
        source, target = tmp_path / f"{number}.abc", tmp_path / f"{number}.mid"
        source.write_text(abc)
        done = subprocess.run([abc2midi, source, "-o", target], capture_output=True, text=True)
        assert not [line for line in done.stdout.splitlines() if line.startswith("Error")], abc
        ours, theirs = (sorted(quarters(m)) for m in (abc_to_midi(abc), target.read_bytes()))
        assert len(ours) == len(theirs)
        by_pitch = [sorted((pitch, onset) for onset, _, pitch in n) for n in (ours, theirs)]
        for (pitch, onset), (pitch_theirs, onset_theirs) in zip(*by_pitch, strict=True):
            assert pitch == pitch_theirs
            assert onset == pytest.approx(onset_theirs, abs=0.05)


def test_cut_or_broken_text_raises_nothing_but_abc_error(chorale):
    abc = midi_to_abc(chorale)
    for end in range(0, len(abc), 7):
        with contextlib.suppress(AbcError):
            abc_to_midi(abc[:end])
    for place in range(0, len(abc), 11):
        for character in "[]|:/-(zX9\n\x00":
            with contextlib.suppress(AbcError):
                abc_to_midi(abc[:place] + character + abc[place + 1 :])


def test_layouts_that_are_mixed_are_an_error_where_they_are():
    head = "X:1\nM:4/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\n"
    with pytest.raises(AbcError, match="line 8, column 1: voice 1 stands twice in one bar"):
        parse_tune(head + "C16|\n[V:1]C16|]\n")


def test_bars_of_wrong_length_are_reported_and_still_played():
    header = "X:1\nM:4/4\nL:1/16\nQ:1/4=120\nK:C\nV:1\n%%MIDI program 0\n"
    abc = header + "[V:1]C16|\n[V:1]D8|\n[V:1]E16|]\n"
    performance = perform(parse_tune(abc))
    assert [(e.voice, e.bar, e.ticks, e.expected_ticks) for e in performance.bar_errors] == [
        (1, 2, 96, 192)
    ]
    assert quarters(abc_to_midi(abc)) == {(0, 4, 60), (4, 2, 62), (8, 4, 64)}
