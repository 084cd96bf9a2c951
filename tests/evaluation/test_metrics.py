import math

import numpy as np
import pytest

from data_prep.dialect.abc_to_midi import abc_to_midi
from data_prep.dialect.notation import AbcError
from data_prep.dialect.tune import print_tune
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi_to_abc.converter import midi_to_abc
from evaluation.metrics import judged_scores, mean_interval, rate, summarise, validity
from evaluation.music import distance
from evaluation.music.distance import (
    FRECHET,
    compare_sets,
    frechet_distance,
    overlap_and_kl,
    shrunk_covariance,
)
from evaluation.music.memorisation import (
    TrainingIndex,
    body,
    copied_passages,
    memorisation,
    text_symbols,
)
from evaluation.music.music_statistics import (
    STATISTICS,
    describe_tune,
    describe_tunes,
)
from evaluation.music.musical_form import estimate_key
from evaluation.music.musical_piece import read_piece
from evaluation.music.passage_index import PassageIndex, window_hashes

HEAD = "X:1\nM:4/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\n"


def tune(*voices, key="C", drums=()):
    """Voices as bar texts joined by |, in the voices layout."""
    text = HEAD.replace("K:C", f"K:{key}")
    for number, bars in enumerate(voices, 1):
        sound = "channel 10" if number in drums else "program 0"
        text += f"V:{number}\n%%MIDI {sound}\n{bars}|]\n"
    return text


def statistics(*voices, **settings):
    return describe_tune(tune(*voices, **settings))


@pytest.fixture(scope="module")
def tunes(tune_files):
    return [midi_to_abc(path.read_bytes()) for path in tune_files]


def test_scale_of_c_major_is_in_scale_and_has_seven_equal_classes():
    found = statistics("C4D4E4F4|G4A4B4z4")
    assert found["scale_consistency"] == 1
    assert found["pitch_class_entropy"] == pytest.approx(math.log2(7))
    assert (found["n_pitch_classes"], found["pitch_range"]) == (7, 11)
    assert found["polyphony"] == 1
    assert found["polyphony_rate"] == 0
    chromatic = statistics("C4^C4D4^D4|E4F4^F4G4|^G4A4^A4B4")
    assert chromatic["scale_consistency"] == pytest.approx(7 / 12)


def test_single_repeated_pitch_has_no_entropy_and_no_range():
    found = statistics("C4C4C4C4")
    assert found["pitch_class_entropy"] == found["pitch_range"] == 0


def test_polyphony_counts_different_pitches_that_sound():
    # 8 sixteenths of two voices on one pitch, then 4 of a third, then silence
    found = statistics("C8[CE]4z4", "C8z8")
    assert found["polyphony"] == pytest.approx((8 + 4 * 2) / 12)
    assert found["polyphony_rate"] == pytest.approx(4 / 12)
    assert found["notes_per_chord_mean"] == pytest.approx(4 / 3)
    assert found["empty_beat_rate"] == 0.25


def test_drums_are_no_pitches_but_break_the_silence():
    found = statistics("C16|z16", "C4C4C4C4|C4C4C4C4", drums=(2,))
    assert found["polyphony"] == found["n_pitch_classes"] == 1
    assert found["empty_bar_rate"] == 0.5
    assert found["rest_bar_rate"] == found["longest_silence_bars"] == 0
    assert statistics("C16|z16")["rest_bar_rate"] == 0.5


def test_groove_compares_the_onsets_of_neighbouring_bars():
    assert statistics("C4C4C4C4|D4D4D4D4")["groove_consistency"] == 1
    assert statistics("C4C4C4C4|C8C8")["groove_consistency"] == 1 - 2 / 16
    # silence is not the steadiest groove
    assert statistics("C16|z16|z16|z16")["groove_consistency"] == 1 - 1 / 16


def test_equal_bars_are_repetition():
    found = statistics("C4D4E4F4|C4D4E4F4|C4D4E4F4|G16")
    assert found["bar_repeat_rate"] == pytest.approx(2 / 3)
    assert found["max_same_bar_run"] == 3
    assert found["distinct_4bar"] == 1
    assert statistics(*["|".join(["C16"] * 8)])["distinct_4bar"] == 1 / 5


def test_form_that_comes_back_is_seen_at_its_lag():
    verse = "C4E4G4E4|D2F2A2F2D8|E8G8|C16"
    found = statistics("|".join([verse] * 5))
    assert found["bar_similarity_short"] == pytest.approx(1)  # lag 4
    assert found["bar_similarity_mid"] == pytest.approx(1)  # lag 8
    assert found["bar_similarity_long"] is None  # shorter than twice 17 bars
    other = statistics("C4E4G4E4|^F2^G2^A2^F2^G8|D16|^c6^d10")
    assert other["bar_similarity_short"] < 0.7


def test_loop_of_silence_is_found():
    found = statistics("|".join(["C16"] + ["z16"] * 8))
    assert found["silence_loop"] == 1
    assert found["longest_silence_bars"] == 8
    assert statistics("C16|z16|C16|D16")["silence_loop"] == 0
    assert statistics("C16|z16", "z16|z16")["empty_bar_rate"] == 0.75  # of 0.5 and 1


def test_voices_that_drift_apart_lose_their_common_onsets():
    together = ["C4D4E4F4"] * 4
    late = ["zC4D4E4F3"] * 4
    found = statistics("|".join(together * 2), "|".join(together + late))
    assert found["alignment_drift"] == 1
    assert found["onset_alignment"] == 0.5
    assert statistics("|".join(together), "|".join(together))["alignment_drift"] == 0
    assert statistics("|".join(together))["onset_alignment"] is None


def test_voices_that_change_role_are_seen():
    high, low = ["c4d4e4f4"] * 4, ["C,8D,8"] * 4
    swapped = statistics("|".join(high + low), "|".join(low + high))
    kept = statistics("|".join(high * 2), "|".join(low * 2))
    assert swapped["role_swap_rate"] == 1
    assert swapped["register_shift"] > 20
    assert swapped["rhythm_shift"] == 1
    assert kept["role_swap_rate"] == kept["register_shift"] == kept["rhythm_shift"] == 0
    assert statistics("|".join(high), "|".join(low))["role_swap_rate"] is None  # too few notes


def test_key_and_metre_that_are_kept_or_lost():
    c_major, f_sharp = "C4D4E4F4|G4A4B4c4|c4G4E4C4", "^F4^G4^A4B4|^c4^d4^e4^f4|^f4^c4^A4^F4"
    assert statistics("|".join([c_major] * 3))["key_kept"] == 1
    assert statistics("|".join([c_major, c_major, f_sharp]))["key_kept"] == 0
    assert statistics("C16|C16|C16")["key_kept"] is None  # too few notes
    assert estimate_key(read_piece(tune(c_major)).notes) == (0, "major")
    abc = HEAD + "V:1\n%%MIDI program 0\n[V:1]C16|\n[V:1][M:3/4]C12|\n[V:1]C12|\n[V:1]C12|]\n"
    assert describe_tune(abc)["first_meter_share"] == 0.25


def test_a_tune_without_notes_is_undefined_and_not_zero():
    rests = statistics("z16|z16")
    assert rests["empty_beat_rate"] == rests["rest_bar_rate"] == rests["silence_loop"] == 1
    measured = {"empty_beat_rate", "empty_bar_rate", "rest_bar_rate", "longest_silence_bars"}
    measured |= {"silence_loop", "first_meter_share"}
    assert {name for name, value in rests.items() if value is not None} == measured
    assert set(describe_tune(HEAD).values()) == {None}  # no bars either
    drums = statistics("C4C4C4C4", drums=(1,))
    assert drums["polyphony"] is drums["empty_beat_rate"] is None


def test_real_tunes_have_all_statistics_in_range_and_in_both_layouts(tunes, chorale):
    shares = ("scale_consistency", "polyphony_rate", "empty_beat_rate", "groove_consistency")
    shares += ("bar_repeat_rate", "distinct_4bar", "rhythm_shift", "bar_similarity_short")
    rows, unreadable = describe_tunes([*tunes, "no music"])
    assert unreadable == 1
    assert set(rows[0]) == set(STATISTICS)
    for row in rows:
        assert all(row[name] is None or 0 <= row[name] <= 1 for name in shares)
    assert np.mean([row["scale_consistency"] for row in rows]) > 0.9
    four_parts = describe_tune(midi_to_abc(chorale))
    assert 3 < four_parts["polyphony"] <= 4
    assert four_parts["onset_alignment"] > 0.7
    assert four_parts["role_swap_rate"] == 0
    voices = print_tune(parse_tune(tunes[0]), "voices")
    assert describe_tune(voices) == rows[0]
    with pytest.raises(AbcError):
        describe_tune("no music")


def test_rates_count_failures_and_leave_out_what_was_not_measured():
    verdicts = [
        {"validity_music21": True, "abcjs_ok": None, "messages": [], "bar_accuracy": 1.0},
        {"validity_music21": False, "abcjs_ok": None, "valid3": True, "bar_accuracy": 0.5},
    ]
    found = validity(verdicts)
    assert found["validity_music21"]["rate"] == 0.5
    assert found["validity_music21"]["failure_rate_bound_95"] is None
    assert found["valid3"] == rate([True]) | {"n_not_measured": 1}
    assert set(found) == {"validity_music21", "valid3"}
    assert rate([True] * 1000)["failure_rate_bound_95"] == 0.003
    assert validity([]) == {}


def test_numbers_of_judges_are_averaged_with_their_pairs():
    verdicts = [
        {"sample": 1, "bar_accuracy": 1.0, "ok": True, "agreement": {"a_b": 1.0, "a_c": None}},
        {"sample": 2, "bar_accuracy": 0.5, "ok": True, "agreement": {"a_b": 0.0}},
    ]
    found = judged_scores(verdicts)
    assert set(found) == {"bar_accuracy", "agreement_a_b"}
    assert found["bar_accuracy"]["mean"] == 0.75


def test_means_have_intervals_and_count_what_is_undefined():
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = mean_interval([*values, None])
    assert (found["n"], found["n_undefined"]) == (400, 1)
    low, high = found["interval_95"]
    assert high - low == pytest.approx(2 * 1.96 * 2 / 20, rel=0.15)
    assert low < found["mean"] < high
    assert mean_interval([None])["mean"] is None
    assert summarise([{"a": 1.0}, {"a": None, "b": 2.0}])["b"]["n_undefined"] == 1


def test_same_distribution_overlaps_and_another_does_not():
    rng = np.random.default_rng(1)
    real = rng.normal(0, 1, 300)
    same, apart = overlap_and_kl(rng.normal(0, 1, 300), real), overlap_and_kl(real + 6, real)
    assert same[0] > 0.95
    assert same[1] < 0.02
    assert apart[0] < 0.2
    assert apart[1] > 1
    assert overlap_and_kl(np.ones(5), np.ones(5)) == pytest.approx((1, 0))


def test_frechet_distance_of_known_distributions():
    rng = np.random.default_rng(1)
    reference = rng.normal(0, 1, (4000, 3))
    assert frechet_distance(reference, reference) == pytest.approx(0, abs=1e-9)
    moved = reference + np.array([2, 0, 0])
    assert frechet_distance(moved, reference) == pytest.approx(4)
    # |s1 - s2|^2 in each of three dimensions
    assert frechet_distance(3 * reference, reference) == pytest.approx(3 * 4, rel=0.05)


def test_covariance_of_few_pieces_is_shrunk_and_of_many_is_not():
    rng = np.random.default_rng(1)
    truth = np.diag([4.0, 1.0, 0.25])
    many, few = (rng.normal(size=(n, 3)) @ np.sqrt(truth) for n in (5000, 4))
    assert shrunk_covariance(many) == pytest.approx(truth, abs=0.2)
    assert np.linalg.matrix_rank(shrunk_covariance(few[:3])) == 3
    assert np.trace(shrunk_covariance(few)) == pytest.approx(np.trace(np.cov(few.T, ddof=0)))


def test_real_tunes_are_at_the_floor_and_altered_ones_above_it(tunes, monkeypatch):
    rows, _ = describe_tunes(tunes)
    altered = [row | {"pitch_range": row["pitch_range"] + 30} for row in rows]
    monkeypatch.setattr(distance, "N_SPLITS", 10)
    found = compare_sets(altered[:20], rows)
    assert found["frechet"]["frechet_distance"]["difference"]["splits_95"][0] > 0
    shifted, kept = (
        found["statistics"][n]["overlapping_area"] for n in ("pitch_range", "polyphony")
    )
    assert shifted["value"]["mean"] < 0.3 < 0.7 < shifted["floor"]["mean"]
    assert abs(kept["difference"]["mean"]) < 0.1
    assert found["frechet"]["n_compared"] == 20
    assert found == compare_sets(altered[:20], rows)
    assert set(FRECHET) < set(STATISTICS)
    with pytest.raises(ValueError, match="at least 4 and 8"):
        compare_sets(rows[:3], rows)


def test_body_has_no_header_lines():
    assert body(HEAD + "V:1\n%%MIDI program 0\n[V:1]C16|\n[V:1]D16|]\n") == "[V:1]C16|\n[V:1]D16|]"
    assert body("no music") == "no music"


@pytest.mark.parametrize("window", [1, 2, 7, 50])
def test_equal_windows_have_equal_hashes_and_others_have_not(window):
    symbols = np.random.default_rng(1).integers(0, 3, 2000).astype(np.uint8)
    windows = [bytes(symbols[i : i + window]) for i in range(2000 - window + 1)]
    hashes = window_hashes(symbols, window)
    assert len(hashes) == len(windows)
    assert len(set(hashes.tolist())) == len(set(windows))
    assert len(set(zip(hashes.tolist(), windows, strict=True))) == len(set(windows))
    assert len(window_hashes(symbols[: window - 1], window)) == 0


def test_longest_match_is_the_longest_common_substring():
    rng = np.random.default_rng(1)
    train = [rng.integers(0, 3, n).astype(np.uint8) for n in (300, 3, 200, 0, 400)]
    index = PassageIndex(train, window=4)
    texts = [bytes(sequence) for sequence in train]
    for _ in range(30):
        query = rng.integers(0, 3, 60).astype(np.uint8)
        start, length = index.longest_match(query)
        assert any(bytes(query[start : start + length]) in text for text in texts)
        for first in range(60 - length):
            longer = bytes(query[first : first + length + 1])
            assert not any(longer in text for text in texts)
    assert index.longest_match(np.full(10, 9, np.uint8)) == (0, 0)
    assert PassageIndex([], 4).longest_match(train[0]) == (0, 0)


def test_copied_passage_is_found_and_one_in_another_key_by_its_figures_only(tunes):
    train, held_out = tunes[:40], tunes[40:]
    index = TrainingIndex(train)
    copy = copied_passages(train[3], index)
    assert copy["seen_text"] == copy["windows_text"]
    assert copy["longest_match_chars"] == len(body(train[3]))
    whole = len(read_piece(train[3]).starts) - 1
    assert copy["longest_match_bars"] == pytest.approx(whole, abs=1)

    higher = midi_to_abc(_transposed(abc_to_midi(train[3]), 6))
    moved = copied_passages(higher, index)
    assert moved["seen_text"] < moved["windows_text"] / 10
    assert moved["seen_figures"] == moved["windows_figures"] > 0
    assert moved["longest_match_chords"] == copy["longest_match_chords"]

    found = memorisation([train[3], higher], held_out, index)
    name = "share_figures_window_16"
    assert found["tunes"][name]["share"] == 1 > 5 * found["control"][name]["share"]
    assert found["difference"][name]["interval_95"][0] > 0.5


def _transposed(midi, semitones):
    from symusic import Score

    return Score.from_midi(midi).shift_pitch(semitones).dumps_midi()


def test_text_that_no_reader_takes_can_still_be_copied(tunes):
    index = TrainingIndex(tunes[:5])
    broken = body(tunes[0])
    row = copied_passages(broken, index)
    assert row["seen_text"] == row["windows_text"] > 0
    assert row["windows_figures"] == 0
    assert row["longest_match_bars"] is None
    assert copied_passages("", index)["longest_match_chars"] is None
    assert text_symbols("X:1\nK:C\n").size == 0
    found = memorisation(["", broken], tunes[5:7], index)
    assert found["difference"]["share_figures_window_16"]["difference"] is None
