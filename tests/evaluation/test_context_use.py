import json

import numpy as np
import pytest
import torch
from scored_runs import CONTEXT

from evaluation.loading.finished_run import FinishedRun, open_runs, song_draws, window_nll
from evaluation.loss import compare_tokenizers, context_use, leakage
from evaluation.loss.context_use import ContextSettings, choose_songs, score
from evaluation.loss.position_curve import describe_curve, log_bins, paired_differences, range_means
from scaling.families import FAMILIES

SETTINGS = ContextSettings(songs=12, positions=32, crops=2)


@pytest.fixture
def work(scored_runs):
    return scored_runs


@pytest.fixture
def runs(work, monkeypatch):
    monkeypatch.chdir(work)
    return {name: FinishedRun.open(work / "runs" / "t" / name) for name in FAMILIES}


def ways_of(run):
    _, ids = choose_songs(run, SETTINGS)
    return ids, score(run, ids, SETTINGS)


@pytest.mark.parametrize("name", FAMILIES)
def test_within_the_first_window_all_ways_from_the_start_agree(runs, name):
    _, ways = ways_of(runs[name])
    whole = FAMILIES[name].way
    assert ways[whole].shape == ways["reset"].shape == (12, SETTINGS.positions)
    first = slice(None), slice(CONTEXT)
    assert ways[whole][first] == pytest.approx(ways["reset"][first], abs=1e-5)
    beyond = slice(None), slice(CONTEXT, None)
    assert np.abs(ways[whole][beyond] - ways["reset"][beyond]).max() > 1e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_reset_windows_are_the_validation_loss(runs, name):
    ids, ways = ways_of(runs[name])
    digests = runs[name].column("validation", "digest")
    nll, _ = runs[name].song_nll_nats("validation")
    names, _ = choose_songs(runs[name], SETTINGS)
    # a song of exactly as many tokens as were scored does not exist; the rest of it is added
    model, eos = runs[name].load()
    for digest, song, scored in zip(names, ids, ways["reset"], strict=True):
        rest = np.array([*song, eos])[SETTINGS.positions - 1 :]
        windows = [rest[s : s + CONTEXT + 1] for s in range(0, len(rest) - 1, CONTEXT)]
        tail = sum(window_nll(model, w[None, :-1], w[None, 1:]).sum() for w in windows)
        assert scored.sum() + tail == pytest.approx(nll[digests.index(digest)], rel=1e-4)


def test_the_strided_gpt_sees_half_a_window_to_a_whole_one(runs):
    ids, ways = ways_of(runs["gpt"])
    model, eos = runs["gpt"].load()
    sequence = np.array([eos, *ids[0]])
    for t in (CONTEXT + 1, CONTEXT + CONTEXT // 2, 2 * CONTEXT):
        start = (t - CONTEXT - 1) // (CONTEXT // 2) * (CONTEXT // 2) + CONTEXT // 2
        inputs = torch.from_numpy(sequence[None, start:t])
        assert CONTEXT // 2 < inputs.shape[1] <= CONTEXT
        with torch.inference_mode():
            logits = model(input_ids=inputs).logits[0, -1]
        loss = -logits.log_softmax(0)[sequence[t]]
        assert ways["stride"][0, t - 1] == pytest.approx(float(loss), abs=1e-4)


def test_crops_are_level_with_the_whole_song_and_worse_with_less_context(runs):
    for name, family in FAMILIES.items():
        _, ways = ways_of(runs[name])
        assert ways["crops"].shape == (12, SETTINGS.positions // 2)
        loss = ways["crops"].mean(0)
        assert loss[:2].mean() > loss[-4:].mean()
        assert loss[-1] == pytest.approx(ways[family.way].mean(), abs=0.5)


def test_songs_are_the_same_for_every_run_and_seeded(runs):
    first, _ = choose_songs(runs["gpt"], SETTINGS)
    assert choose_songs(runs["lstm"], SETTINGS)[0] == first
    assert choose_songs(runs["gpt"], ContextSettings(songs=12, positions=32, seed=2))[0] != first
    with pytest.raises(ValueError, match="lower --positions"):
        choose_songs(runs["gpt"], ContextSettings(positions=1024))


# ---------------------------------------------------------------- curves


def curve_of(mean, n=40, noise=0.02, seed=0):
    rng = np.random.default_rng(seed)
    level = rng.normal(0, 0.2, (n, 1))
    nll = mean + level + rng.normal(0, noise, (n, len(mean)))
    return describe_curve(nll, log_bins(len(mean)), song_draws(n, 1) / n)


def test_bins_are_half_octaves_that_cover_every_position_once():
    for n_positions in (8, 32, 256, 1024):
        ends = log_bins(n_positions)
        assert (ends[0], ends[-1]) == (0, n_positions)
        assert (np.diff(ends) > 0).all()
        assert {1, 2, 4, 8} <= set(ends.tolist())


def test_t90_and_stop_find_where_a_known_curve_ends():
    t = np.arange(1, 1025)
    falls = 1 + np.exp(-t / 40)
    curve = curve_of(falls)
    assert curve["t90"]["value"] == pytest.approx(40 * np.log(10), rel=0.1)
    low, high = curve["t90"]["interval_95"]
    assert low < 40 * np.log(10) * 1.1
    assert high > curve["t90"]["value"] > low
    assert 100 < curve["stops_at"] < 600


def test_a_curve_that_falls_throughout_never_stops():
    curve = curve_of(3 - 0.2 * np.log(np.arange(1, 257)))
    assert curve["stops_at"] is None
    assert max(curve["slope_interval_95"][1]) < 0
    assert curve["slope"] == pytest.approx([-0.2] * len(curve["slope"]), abs=0.02)


def test_a_curve_that_never_falls_has_no_t90_and_stops_at_once():
    curve = curve_of(np.linspace(1, 2, 256))
    assert curve["t90"] == {"value": None, "interval_95": None}
    assert curve["stops_at"] == 1


def test_differences_are_paired_over_songs():
    n = 30
    level = np.random.default_rng(0).normal(0, 1, (n, 1))  # far larger than the difference
    nll = 1 + level + np.zeros((n, 2048))
    rows = [
        {"run": "a", "arch": "gpt", "size": "s", "seed": 1, "n_tokens": 1000, "context_length": c}
        for c in (256, 1024)
    ]
    rows[1]["n_tokens"] = 1003  # as block lengths make it
    means = {("a", 256): {"stride": range_means(nll)}, ("a", 1024): {"stride": range_means(nll)}}
    means["a", 1024]["stride"] = range_means(nll - 0.01)
    found = paired_differences(rows, means, song_draws(n, 1) / n)
    ranges = [(entry["from"], entry["to"]) for entry in found]
    assert ranges == [(1, 256), (257, 1024), (1025, 2048), (1, 2048)]
    for entry in found:
        assert entry["contexts"] == [256, 1024]
        assert [entry["difference"], *entry["interval_95"]] == pytest.approx([-0.01] * 3)


# ---------------------------------------------------------------- commands


def test_context_use_writes_all_runs_and_the_pair_of_contexts(runs, work):
    names = ("gpt", "lstm", "lstm_long")
    folders = [str(work / "runs" / "t" / name) for name in names]
    out = work / "out" / "context_use.json"
    options = ["--positions", "32", "--crops", "2", "--out", str(out)]
    assert context_use.main([*folders, *options]) == 0
    first = out.read_bytes()
    content = json.loads(first)
    assert [run["arch"] for run in content["runs"]] == ["gpt", "lstm", "lstm"]
    assert {entry["way"] for entry in content["context_differences"]} == {
        "carried",
        "reset",
        "crops",
    }
    assert context_use.main([*folders, *options]) == 0
    assert out.read_bytes() == first


def test_leakage_tells_songs_with_a_copy_in_train_from_the_rest(runs, work):
    out = work / "leakage.json"
    assert leakage.main([str(work / "runs" / "t" / "gpt"), "--out", str(out)]) == 0
    row = json.loads(out.read_text())["runs"][0]
    songs = row["n_songs"]
    assert songs["copied"] == songs["all"] // 2
    assert songs["clean"] == songs["all"] - songs["copied"]
    nll, targets = runs["gpt"].song_nll_nats("validation")
    clean = np.arange(len(nll)) % 2 == 0
    losses = {name: of["loss"] for name, of in row["loss_nats_per_token"].items()}
    assert losses["all"] == pytest.approx(nll.sum() / targets.sum())
    assert losses["clean"] == pytest.approx(nll[clean].sum() / targets[clean].sum())
    gap = row["gap_nats_per_token"]["clean_less_all"]
    assert gap["gap"] == pytest.approx(losses["clean"] - losses["all"])
    assert gap["interval_95"][0] < gap["gap"] < gap["interval_95"][1]


def test_tokenizers_are_compared_on_the_same_songs_by_notes(runs, work):
    out = work / "tokenizers.json"
    folders = [str(work / "runs" / "t" / name) for name in FAMILIES]
    assert compare_tokenizers.main([*folders, "--out", str(out)]) == 0
    content = json.loads(out.read_text())
    record = json.loads((work / "runs" / "t" / "gpt" / "record.json").read_text())
    n_notes = sum(runs["gpt"].column("validation", "n_notes"))
    expected = record["validation"]["nll_nats"] / np.log(2) / n_notes
    bits = content["runs"][0]["bits_per_note"]
    assert bits["value"] == pytest.approx(expected, rel=1e-4)
    assert bits["interval_95"][0] < bits["value"] < bits["interval_95"][1]
    assert content["differences"] == []
    assert content["labels"] == {"char": "characters"}


@pytest.mark.parametrize("command", [context_use, leakage, compare_tokenizers])
def test_a_folder_without_a_run_is_one_clear_line(work, capsys, command):
    assert command.main([str(work / "runs" / "nowhere"), "--out", "x.json"]) == 2
    message = capsys.readouterr().err
    assert "record.json not found; expected a finished run" in message
    assert message.count("\n") == 1


def test_runs_are_sorted_by_family_and_size(runs, work):
    opened = open_runs([work / "runs" / "t" / name for name in ("lstm", "gpt")])
    assert [run.facts["run"] for run in opened] == ["gpt", "lstm"]
