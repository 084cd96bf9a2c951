import random
from dataclasses import replace
from fractions import Fraction

import pytest
from symusic import Note, Score, Tempo, Track

from data_prep.dialect.abc_to_midi import abc_to_midi, perform
from data_prep.dialect.bar_writer import BarWriter
from data_prep.dialect.notation import KEYS, Segment
from data_prep.dialect.tune import Meter, Tune, Voice, print_tune, read_bars
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.selection.clean import fingerprint
from data_prep.tokens.augment import (
    OTHER_KEYS,
    AugmentSettings,
    augmented,
    transpose,
    transpositions,
    with_tempo,
)

Rows = list[tuple[float, float, int]]


def text_of(notes: Rows, drums: Rows = (), tempos: dict[float, float] | None = None) -> str:
    """The converter's text of notes given as (onset, length, pitch), times in quarters."""
    score = Score(480)
    for rows, is_drum in [(notes, False), (drums, True)]:
        track = Track("", 0, is_drum)
        for onset, length, pitch in rows:
            track.notes.append(Note(round(onset * 480), round(length * 480), pitch, 80))
        if rows:
            score.tracks.append(track)
    for onset, tempo in (tempos or {}).items():
        score.tempos.append(Tempo(round(onset * 480), qpm=tempo))
    return midi_to_abc(score.dumps_midi())


# A beat of two grids, a tie over the bar line, chords, altered letters in two octaves, a kit whose
# pitches need accidentals, and a change of tempo.
BAND = text_of(
    [
        *((n / 3, 1 / 3, 60 + n) for n in range(6)),
        (2, 3, 64),
        *((5 + n / 2, 1 / 2, 61 + 12 * (n % 2)) for n in range(4)),
        *((7, 2, pitch) for pitch in (48, 52, 55, 58)),
        *((9 + n / 4, 1 / 4, 72 - n) for n in range(12)),
    ],
    drums=[(beat / 2, 1 / 4, 36 + beat % 7) for beat in range(24)],
    tempos={0: 100, 8: 133.5},
)


@pytest.fixture(scope="session")
def songs(tune_files, chorale) -> list[str]:
    """Sixty fiddle tunes, a chorale, and a band with drums, as the converter writes them."""
    return [*(midi_to_abc(midi.read_bytes()) for midi in tune_files), midi_to_abc(chorale), BAND]


def test_band_holds_what_the_tests_need():
    tune = parse_tune(BAND)
    assert [voice.is_drums for voice in tune.voices].count(True) == 1
    assert len(tune.tempos) == 2
    assert all(sign in BAND for sign in ("(3", "-|", "=", "_", "[C"))


def test_up_and_down_again_is_the_same_text(songs):
    for abc in songs:
        for semitones in transpositions(parse_tune(abc)):
            up = print_tune(transpose(parse_tune(abc), semitones))
            assert up != abc
            assert print_tune(transpose(parse_tune(up), -semitones)) == abc


def test_all_sounding_notes_move_alike_and_drums_stay(songs):
    for number, abc in enumerate(songs):
        semitones = OTHER_KEYS[number % len(OTHER_KEYS)]
        before = perform(parse_tune(abc))
        after = perform(parse_tune(print_tune(transpose(parse_tune(abc), semitones))))
        for voice, chords, moved in zip(
            before.tune.voices, before.voices, after.voices, strict=True
        ):
            by = 0 if voice.is_drums else semitones
            assert moved == [
                (onset, end, tuple(pitch + by for pitch in pitches))
                for onset, end, pitches in chords
            ]
        assert after.starts == before.starts
        assert not after.bar_errors


def test_all_but_pitches_and_key_is_kept(songs):
    for abc in songs:
        tune, moved = parse_tune(abc), transpose(parse_tune(abc), -3)
        assert (moved.meters, moved.tempos, moved.pickup) == (tune.meters, tune.tempos, tune.pickup)
        assert [(v.program, v.channel) for v in moved.voices] == [
            (v.program, v.channel) for v in tune.voices
        ]
        pitches_off = str.maketrans("", "", "ABCDEFGabcdefg^_=,'")
        for voice, other in zip(tune.voices, moved.voices, strict=True):
            assert [bar.translate(pitches_off) for bar in voice.bars] == [
                bar.translate(pitches_off) for bar in other.bars
            ]


def test_copies_are_duplicates_to_the_pipeline(songs):
    """So a split made after augmentation would still not leak, and exact copies are known."""
    for abc in songs[::10]:
        tune = parse_tune(abc)
        assert fingerprint(perform(transpose(tune, 5))) == fingerprint(perform(tune))


def test_transposed_text_is_a_fixed_point_of_the_converter(songs):
    for number, abc in enumerate(songs):
        assert midi_to_abc(abc_to_midi(abc)) == abc
        for semitones in transpositions(parse_tune(abc))[number % 3 :: 3]:
            moved = print_tune(transpose(parse_tune(abc), semitones))
            assert midi_to_abc(abc_to_midi(moved)) == moved


def test_key_with_fewest_signs_is_taken_where_several_fit_the_notes_alike():
    pentatonic = text_of([(n, 1, pitch) for n, pitch in enumerate((60, 62, 64, 67, 69, 72))])
    tune = parse_tune(pentatonic)
    keys = {semitones: transpose(tune, semitones).key for semitones in (2, 5, -1)}
    # D, F and B by the circle of fifths; but the fourth, which would tell them apart, is missing.
    assert (tune.key, keys) == ("C", {2: "G", 5: "C", -1: "E"})


def test_key_that_was_not_the_converters_choice_moves_along():
    tune = Tune("C", {0: Meter(4, 4)}, {0: Fraction(120)}, [Voice(0, None, ["^C4^D4^F4^G4"])])
    keys = [transpose(tune, semitones).key for semitones in OTHER_KEYS]
    assert keys == ["F#", "G", "Ab", "A", "Bb", "B", "Db", "D", "Eb", "E", "F"]


@pytest.mark.parametrize("key", KEYS)
def test_bars_are_spelled_as_the_bar_writer_spells_them(key):
    rng = random.Random(key)
    ticks = [(start, start + 12) for start in range(0, 192, 12)]
    bars = [
        [
            Segment(start, end, tuple(sorted(rng.sample(range(54, 79), rng.choice([1, 1, 2, 4])))))
            for start, end in ticks
        ]
        for _ in range(50)
    ]
    texts = [BarWriter(key).write(bar, 192) for bar in bars]
    tune = Tune(key, {0: Meter(4, 4)}, {0: Fraction(120)}, [Voice(0, None, texts)])
    for semitones in OTHER_KEYS:
        moved = transpose(tune, semitones)
        writer = BarWriter(moved.key)
        for bar, text in zip(read_bars(moved)[0][0], moved.voices[0].bars, strict=True):
            assert writer.write(bar, 192) == text


def test_accidental_holds_in_all_octaves_of_the_bar_and_no_longer():
    tune = Tune("C", {0: Meter(4, 4)}, {0: Fraction(120)}, [Voice(0, None, ["^C8c8", "C16"])])
    assert [s.pitches for bar in read_bars(tune)[0][0] for s in bar] == [(61,), (73,), (60,)]
    moved = transpose(tune, 2)
    assert [s.pitches for bar in read_bars(moved)[0][0] for s in bar] == [(63,), (75,), (62,)]


def test_pitch_beyond_midi_is_refused():
    tune = parse_tune(text_of([(n, 1, pitch) for n, pitch in enumerate((3, 60, 125))]))
    with pytest.raises(ValueError, match=r"-4 semitones make pitch -1 of 3.*by -3 to \+2"):
        transpose(tune, -4)
    with pytest.raises(ValueError, match=r"\+3 semitones make pitch 128 of 125"):
        transpose(tune, 3)


@pytest.mark.parametrize(
    ("pitches", "possible"),
    [
        ((27, 60, 103), [*range(-6, 0), *range(1, 6)]),
        ((23, 60, 106), [-2, -1, 1, 2]),
        ((10, 60, 106), [1, 2]),  # low already: no lower
        ((10, 120), []),
    ],
)
def test_keys_stay_on_the_piano(pitches, possible):
    tune = parse_tune(text_of([(n, 1, pitch) for n, pitch in enumerate(pitches)]))
    assert transpositions(tune) == possible


def test_drums_bound_nothing_and_drums_alone_have_no_other_key():
    kit = [(n, 1, pitch) for n, pitch in enumerate((22, 81, 119))]
    alone = text_of([], drums=kit)
    assert transpositions(parse_tune(alone)) == []
    assert augmented(alone, "song", AugmentSettings(copies=3)) == []
    assert len(transpositions(parse_tune(text_of([(0, 4, 60)], drums=kit)))) == 11


def test_tempos_are_multiplied_and_stay_fixed_points(songs):
    for abc in songs:
        tune = parse_tune(abc)
        for factor in (0.91, 1.07):
            changed = with_tempo(tune, factor)
            assert changed.tempos.keys() == tune.tempos.keys()
            for bar, tempo in tune.tempos.items():
                assert float(changed.tempos[bar]) == pytest.approx(tempo * factor, abs=0.13)
            text = print_tune(changed)
            assert midi_to_abc(abc_to_midi(text)) == text
        assert with_tempo(tune, 1.0) == tune


def test_tempo_stays_within_what_can_be_written_and_changes_that_vanish_are_left_out():
    bars = [Voice(0, None, ["C16", "C16", "C16"])]
    tempos = {0: Fraction(4), 1: Fraction(5), 2: Fraction(20_000)}
    tune = Tune("C", {0: Meter(4, 4)}, tempos, bars)
    assert with_tempo(tune, 0.5).tempos == {0: Fraction(15, 4), 2: Fraction(10_000)}
    assert with_tempo(tune, 2).tempos[2] == 24_000
    for factor in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="expected a positive number"):
            with_tempo(tune, factor)


def first_pitch(abc: str) -> int:
    return perform(parse_tune(abc)).voices[0][0][2][0]


def test_copies_are_in_keys_of_their_own_and_depend_on_song_and_seed_alone(songs):
    settings = AugmentSettings(copies=11, tempo_jitter=0.1)
    for number in (0, 60, 61):
        abc, digest = songs[number], f"song {number}"
        copies = augmented(abc, digest, settings)
        assert len({first_pitch(text) for text in [abc, *copies]}) == 12
        augmented(songs[5], "a song between", settings)
        assert augmented(abc, digest, settings) == copies
        assert augmented(abc, digest, replace(settings, copies=4)) == copies[:4]
        for others in [
            augmented(abc, "another", settings),
            augmented(abc, digest, replace(settings, seed=2)),
        ]:
            assert list(map(first_pitch, others)) != list(map(first_pitch, copies))


def test_songs_are_not_all_moved_by_the_same(songs):
    firsts = set()
    for number, abc in enumerate(songs[:30]):
        (copy,) = augmented(abc, f"song {number}", AugmentSettings(copies=1))
        firsts.add(first_pitch(copy) - first_pitch(abc))
    assert len(firsts) > 6


def test_no_copies_are_asked_for_none_are_made():
    assert augmented("not read at all", "song", AugmentSettings()) == []


def test_tempo_of_copies_is_drawn_within_the_jitter(songs):
    factors = []
    for number, abc in enumerate(songs[:20]):
        tempo = parse_tune(abc).tempos[0]
        for copy in augmented(abc, f"song {number}", AugmentSettings(copies=5, tempo_jitter=0.2)):
            factors.append(float(parse_tune(copy).tempos[0] / tempo))
    assert 1 / 1.21 < min(factors) < 0.9
    assert 1.1 < max(factors) < 1.21
    assert len(set(factors)) > 50


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"copies": -1}, "copies is -1, expected 0 to 11"),
        ({"copies": 12}, "copies is 12, expected 0 to 11"),
        ({"tempo_jitter": -0.1}, r"tempo_jitter is -0\.1, expected 0 to 0\.5"),
        ({"tempo_jitter": 0.6}, r"tempo_jitter is 0\.6"),
        ({"tempo_jitter": float("nan")}, "tempo_jitter is nan"),
    ],
)
def test_settings_beyond_their_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        AugmentSettings(**values)
