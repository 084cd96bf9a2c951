import json
import math
import shutil
from collections import defaultdict

import numpy as np
import pytest

from evaluation import evaluate_model
from evaluation.loading.finished_run import FinishedRun
from evaluation.loss import likelihood
from evaluation.loss.kneser_ney import KneserNey
from evaluation.loss.likelihood import ratio
from training.data.blocks import load_songs

EOS = 0


@pytest.fixture(scope="module")
def work(scored_runs):
    return scored_runs


@pytest.fixture(scope="module")
def content(work):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        command = ["runs/t/gpt", "runs/t/lstm", "--split", "validation", "--positions", "32"]
        assert likelihood.main([*command, "--out", "out/likelihood.json"]) == 0
        return json.loads((work / "out" / "likelihood.json").read_text())


def test_loss_of_a_run_is_its_validation_loss_in_every_unit(work, content, monkeypatch):
    monkeypatch.chdir(work)
    for row in content["runs"]:
        record = json.loads((work / "runs" / "t" / row["run"] / "record.json").read_text())
        recorded = record["loss_nats_per_token"]["validation"]
        assert row["loss_nats_per_token"] == pytest.approx(recorded, rel=1e-5)
        assert row["perplexity"] == pytest.approx(math.exp(recorded), rel=1e-5)
        run = FinishedRun.open(work / "runs" / "t" / row["run"])
        songs = run.songs("validation")
        n_targets = sum(len(ids) + 1 for ids in songs.ids)
        bits = row["loss_nats_per_token"] * n_targets / math.log(2)
        for unit, total in songs.totals.items():
            name = f"bits_per_{unit.removeprefix('n_').removesuffix('s')}"
            assert row[name] == pytest.approx(bits / total)
            assert row[f"{name}_standard_error"] > 0


def test_test_loss_of_evaluate_model_is_the_same_number(work, monkeypatch):
    monkeypatch.chdir(work)
    run = FinishedRun.open(work / "runs" / "t" / "gpt")
    found = evaluate_model.test_loss(run)
    denominators = likelihood.song_denominators(run, "test")
    row = likelihood.likelihood(*run.song_nll_nats("test"), denominators)
    assert {name: row[name] for name in found} == pytest.approx(found)


def test_loss_by_position_is_there_or_left_out_where_songs_are_short(work, content, monkeypatch):
    monkeypatch.chdir(work)
    ways = [set(row["by_position"]["ways"]) for row in content["runs"]]
    assert ways == [{"stride", "reset", "crops"}, {"carried", "reset", "crops"}]
    curve = content["runs"][0]["by_position"]["ways"]["reset"]
    assert curve["to"][-1] == 32
    assert all(0 < loss < 5 for loss in curve["loss"])
    run = FinishedRun.open(work / "runs" / "t" / "gpt")
    settings = likelihood.ContextSettings(split="test", positions=32)  # two songs only
    assert likelihood.by_position(run, settings) is None


def test_sanity_rows_are_ordered_and_stand_once_for_a_data_set(work, content, monkeypatch):
    monkeypatch.chdir(work)
    (rows,) = content["sanity"].values()
    uniform, unigram, five_gram = (
        rows[n]["loss_nats_per_token"] for n in ("uniform", "unigram", "five_gram")
    )
    run = FinishedRun.open(work / "runs" / "t" / "gpt")
    assert uniform == pytest.approx(math.log(run.files.vocab_size))
    assert uniform > unigram > five_gram > 0
    assert rows["five_gram"]["n_train_songs"] == rows["five_gram"]["of_train_songs"] == 60
    for name in ("gzip", "xz"):
        assert rows[name]["alone"]["bits_per_char"] > rows[name]["together"]["bits_per_char"] > 0


def test_sanity_rows_need_no_weights(work, content, monkeypatch, tmp_path):
    monkeypatch.chdir(work)
    shutil.copytree("runs/t/gpt", tmp_path / "emptied")
    (tmp_path / "emptied" / "checkpoint" / "model.safetensors").unlink()
    run = FinishedRun.open(tmp_path / "emptied")
    (rows,) = content["sanity"].values()
    assert likelihood.sanity_rows(run, "validation") == rows


def test_unfinished_run_is_one_clear_line(work, monkeypatch, capsys):
    monkeypatch.chdir(work)
    assert likelihood.main(["runs/t/nowhere"]) == 2
    assert "expected a finished run" in capsys.readouterr().err


def test_standard_error_of_a_ratio_is_that_of_songs_drawn_again():
    rng = np.random.default_rng(1)
    below = rng.integers(10, 100, 500).astype(float)
    above = below * rng.normal(2, 0.5, 500)
    drawn = [rng.integers(0, 500, 500) for _ in range(2000)]
    bootstrap = np.std([above[i].sum() / below[i].sum() for i in drawn])
    found = ratio(above, below)
    assert found["value"] == pytest.approx(above.sum() / below.sum())
    assert found["standard_error"] == pytest.approx(bootstrap, rel=0.1)
    assert ratio(above[:1], below[:1])["standard_error"] is None


def plain_kneser_ney(songs, vocab_size, order):
    """The definition, gram by gram: a function of context and token."""
    windows = []
    for song in songs:
        padded = [EOS] * (order - 1) + [*song, EOS]
        windows += [tuple(padded[i - order + 1 : i + 1]) for i in range(order - 1, len(padded))]
    counts = {order: defaultdict(int)}
    for window in windows:
        counts[order][window] += 1
    for length in range(order - 1, 0, -1):
        counts[length] = defaultdict(int)
        for gram in {window[order - length - 1 :] for window in windows}:
            counts[length][gram[1:]] += 1

    def probability(context, token):
        length = len(context) + 1
        shorter = probability(context[1:], token) if context else 1 / vocab_size
        after = [n for gram, n in counts[length].items() if gram[:-1] == context]
        if not after:
            return shorter
        once, twice = (sum(n == k for n in counts[length].values()) for k in (1, 2))
        discount = once / (once + 2 * twice) if once and twice else 0.5
        kept = max(counts[length].get((*context, token), 0) - discount, 0)
        return (kept + discount * len(after) * shorter) / sum(after)

    return probability


def test_five_gram_is_kneser_ney_by_its_definition():
    rng = np.random.default_rng(1)
    motif = rng.integers(1, 6, 30)
    train = [np.where(rng.random(30) < 0.2, rng.integers(1, 6, 30), motif) for _ in range(6)]
    held_out = [np.where(rng.random(20) < 0.2, rng.integers(1, 8, 20), motif[:20]), motif[5:8]]
    model, probability = KneserNey(train, EOS, 8), plain_kneser_ney(train, 8, 5)
    expected = []
    for song in held_out:
        padded = [EOS] * 4 + [*song.tolist(), EOS]
        terms = [probability(tuple(padded[i - 4 : i]), padded[i]) for i in range(4, len(padded))]
        expected.append(-sum(map(math.log, terms)))
    assert model.song_nll_nats(held_out) == pytest.approx(expected)
    for context in ((EOS,) * 4, tuple(motif[:4].tolist()), (7, 7, 7, 7)):
        assert sum(probability(context, token) for token in range(8)) == pytest.approx(1)


def test_five_gram_reads_songs_without_tokens_and_a_sample_of_many():
    model = KneserNey([np.array([1, 2, 3])], EOS, 4)
    assert np.isfinite(model.song_nll_nats([np.array([], dtype=np.int64)])).all()
    songs = [np.full(10, i) for i in range(50)]
    assert len(likelihood._sample(songs, 100)) == 10
    assert len(likelihood._sample(songs, 10**6)) == 50
    assert len(likelihood._sample(songs, 1)) == 1


def test_songs_are_those_of_the_split(work, monkeypatch):
    monkeypatch.chdir(work)
    run = FinishedRun.open(work / "runs" / "t" / "gpt")
    columns = likelihood.song_denominators(run, "test")
    totals = load_songs(run.files, "test").totals
    assert {name: float(values.sum()) for name, values in columns.items()} == totals
