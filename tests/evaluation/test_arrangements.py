"""How fill-ins and accompaniments are measured: losses, choices, seams, what stays untouched."""

import json
import shutil
from pathlib import Path

import pytest

from data_prep import pipeline
from evaluation.arrangements import arrangements, first_voice, instruments, is_untouched
from evaluation.loading.finished_run import FinishedRun, TooFewSongsError
from evaluation.loading.models import find_model, load_writer
from evaluation.loss import fill_in_cost
from evaluation.loss.fill_in_loss import LEAST_SONGS, WAYS, find_gap, score_gaps
from evaluation.loss.forced_choice import beside, choose, header_of, songs_of_kind
from evaluation.music.seams import consonance, seam_statistics
from evaluation.samples import arranging
from evaluation.samples.engraving import WRITTEN_COLOUR
from evaluation.samples.prompts import read_tune
from modeling.plan_abc import read_bars
from train import train_one

ROOT = Path(__file__).parents[2]
HEAD = "X:1\nM:4/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\n"
ONE = HEAD + "V:1\n%%MIDI program 0\n"
TWO = ONE + "V:2\n%%MIDI program 32\n"
BLOCK = 256


@pytest.fixture(scope="module")
def run(tmp_path_factory, tune_files):
    """A tiny GPT, trained for a few steps on fiddle tunes with fill-in; its folder."""
    place = tmp_path_factory.mktemp("arranging")
    preset = place / "fill_in.yaml"
    preset.write_text(
        "split: {validation: 0.3, test: 0.3}\nfill_in: {share: 0.5}\n"
        f"blocks: {{block_length: {BLOCK}}}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        music = place / "fiddle"
        music.mkdir()
        for file in tune_files:
            shutil.copy(file, music)
        assert pipeline.main([str(music), "--config", str(preset), "--workers", "1"]) == 0
        overrides = [
            *("name=tiny", "study=t", "data.preset=fill_in", "model.hidden_size=16"),
            *("model.num_hidden_layers=1", "model.num_attention_heads=1", "training.max_steps=20"),
            *("budget.global_batch_tokens=2048", "training.per_device_train_batch_size=8"),
            *("training.learning_rate=0.01", "training.disable_tqdm=true"),
        ]
        train_one(ROOT / "configs" / "gpt_tiny.yaml", overrides)
        yield Path("runs/t/tiny")


def test_gaps_are_scored_with_both_sides_and_with_the_bars_before(run):
    row = score_gaps(FinishedRun.open(run), 2, seed=1)
    for way in WAYS:
        low, high = row["nats_per_char"][way]["interval_95"]
        assert 0 < low <= row["nats_per_char"][way]["mean"] <= high < 4.2  # ln 64, a guess
    gain = row["gain"]["before"]
    both, before = (row["nats_per_char"][way]["mean"] for way in ("both", "before"))
    assert gain["mean"] == pytest.approx(before - both)
    assert gain["interval_95"][0] <= gain["mean"] <= gain["interval_95"][1]
    assert row["n_songs"] >= LEAST_SONGS


def test_cost_on_plain_text_is_between_a_run_of_each_kind(run, tmp_path, capsys):
    """Of a run and the same without fill-in tokens; twice the same is refused."""
    assert fill_in_cost.main([str(run), str(run), "--out", str(tmp_path / "cost.json")]) == 2
    assert "gpt, seed 1: 2 runs trained to fill in, 0 others" in capsys.readouterr().err


def test_a_gap_is_in_the_middle_of_the_bars_that_fit():
    bars = [f"[V:1]{'CDEFGABc'[n % 8]}16|\n" for n in range(20)]
    room = len(ONE) + 10 * len(bars[0])
    gap = find_gap(ONE + "".join(bars), 4, room, len)
    assert gap.before == ONE + "".join(bars[:3])
    assert gap.bars == "".join(bars[3:7])
    assert gap.after == "".join(bars[7:10])
    assert find_gap(ONE + "".join(bars), 4, len(ONE) + 5 * len(bars[0]), len) is None


def test_written_music_is_measured_beside_the_true_music(run, tmp_path):
    name = find_model(str(run))
    found = arrangements(name, load_writer(name), FinishedRun.open(run), 6, 1, tmp_path)
    fills = found["fill_ins"]
    assert fills["n"] == fills["untouched"]["successes"] == 6
    assert set(fills["less_true"]) == {"leap", "repeats", "density", "out_of_key"}
    assert found["gap_loss"]["n_songs"] >= LEAST_SONGS
    # tunes for fiddle alone
    assert found["accompaniments"] is found["forced_choice"] is found["first_bar_ms"] is None
    lines = (tmp_path / "samples" / "fill_ins" / "samples.jsonl").read_text().splitlines()
    assert len({json.loads(line)["abc"] for line in lines}) == 6


def test_a_change_of_what_was_given_is_seen():
    true = ONE + "".join(f"[V:1]{note}16|\n" for note in "CDEFGA")[:-1] + "]\n"
    row = {"true": true, "asked": {"fill": [2, 5]}}
    assert is_untouched(row | {"abc": true.replace("D16", "d16")})
    assert not is_untouched(row | {"abc": true.replace("C16", "c16")})
    assert not is_untouched(row | {"abc": true.replace("[V:1]E16|\n", "")})


def test_a_first_voice_is_a_tune_of_its_own():
    two = TWO + "[V:1]C16-|[V:2]C,16|\n[V:1]C16|\n[V:2]D,16|\n[V:1]E16-|[V:2]E,16|\n[V:1]E16|]\n"
    bars = read_bars(two)
    assert first_voice(bars) == ONE + "[V:1]C16-|\n[V:1]C16|\n[V:1]z16|\n[V:1]E16-|\n[V:1]E16|]\n"
    assert first_voice(bars, 1) == ONE + "[V:1]C16|]\n"
    assert instruments(bars) == [0, 32]
    pickup = read_bars(TWO + "[V:2]C,/|\n[V:1]C16|[V:2]C,16|]\n")
    assert first_voice(pickup) == ONE + "[V:1]z/|\n[V:1]C16|]\n"


def test_choices_are_between_songs_of_one_key_and_meter():
    first = TWO + "[V:1]C16|[V:2]C,16|\n" * 5 + "[V:1]C16|]\n"
    second = TWO.replace("program 32", "program 40") + "[V:1]E16|[V:2]E,16|\n" * 5 + "[V:2]E,16|]\n"
    other_key = second.replace("K:C", "K:D")
    alone = ONE + "[V:1]C16|\n" * 5 + "[V:1]C16|]\n"
    kinds = songs_of_kind([first, second, other_key, alone])
    assert {kind: len(songs) for kind, songs in kinds.items()} == {("C", "4/4"): 2, ("D", "4/4"): 1}
    given, other = kinds["C", "4/4"]
    assert header_of(given, other) == other.header
    assert beside(given, other, 2)[0] == [("[V:1]C16|", False), ("[V:2]E,16|", True), ("\n", False)]


def test_too_few_pairs_are_one_clear_line(run):
    with pytest.raises(TooFewSongsError, match="0 pairs of songs with the same key and meter"):
        choose(FinishedRun.open(run), seed=1)


def test_seams_tell_leaps_repeats_density_and_key():
    smooth = ONE + "[V:1]C16|\n[V:1]D16|\n[V:1]E16|\n[V:1]F16|]\n"
    assert seam_statistics(smooth, 2, 3) == {
        "leap": 1.5,
        "repeats": 0.0,
        "density": 0.0,
        "out_of_key": 0.0,
    }
    rough = ONE + "[V:1]C16|\n[V:1]C16|\n[V:1]c'4^f'4^g'4^a'4|\n[V:1]C16|]\n"
    found = seam_statistics(rough, 2, 3)
    assert found["leap"] == (0 + 34) / 2
    assert found["repeats"] == 0.5
    assert found["density"] > 0.4
    assert found["out_of_key"] == pytest.approx(3 / 5)
    assert seam_statistics(smooth, 1, 4)["leap"] is None


def test_consonance_counts_the_sixteenths_in_which_both_sound():
    def tune(upper, lower):
        return TWO + f"[V:1]{upper}|[V:2]{lower}|]\n"

    assert consonance(tune("E16", "C,16"), 1) == 1.0
    assert consonance(tune("E16", "D,16"), 1) == 0.0
    assert consonance(tune("E8D8", "C,16"), 1) == 0.5
    assert consonance(tune("E8z8", "z8C,8"), 1) is None


def test_bars_of_a_file_are_written_anew_as_text_midi_and_score(run, tune_files, tmp_path):
    true = read_tune(tune_files[0])
    out = tmp_path / "out"
    assert arranging.main([str(run), str(tune_files[0]), "--fill", "3-4", "--out", str(out)]) == 0
    assert {path.suffix for path in out.iterdir()} == {".abc", ".mid", ".svg"}
    score = (out / "tune_001.svg").read_text()
    assert score.count(f'color="{WRITTEN_COLOUR}"') == 2
    assert score.count('data-class="measure"') == len(read_bars(true).lines)
    versions = [tmp_path / "again", tmp_path / "other"]
    for place, seed in zip(versions, ("1", "2"), strict=True):
        command = [str(run), str(tune_files[0]), "--fill", "3-4", "--seed", seed]
        assert arranging.main([*command, "--out", str(place)]) == 0
    texts = [(place / "tune_001.abc").read_text() for place in (out, *versions)]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--fill", "0-2"], "bar"),
        (["--fill", "five"], "expected a first and a last bar, such as 5-8"),
        (["--accompany", "Nose flute"], "Nose flute"),
        (["--fill", "1-2", "--n", "0"], "--n is 0, expected 1 or more"),
    ],
)
def test_what_cannot_be_arranged_is_one_clear_line(run, tune_files, tmp_path, capsys, asked, said):
    command = [str(run), str(tune_files[0]), *asked, "--out", str(tmp_path)]
    assert arranging.main(command) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert said in line
