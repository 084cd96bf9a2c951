"""The registry of families: one entry and a size file are all that a stock class needs."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from training_data import CONFIGS
from transformers import AutoModelForCausalLM, GPTNeoXForCausalLM
from transformers.generation import GenerationMixin

import modeling
from data_prep import pipeline
from data_prep.model_tokens import take_from_model
from data_prep.settings import load_settings
from evaluation.loading.finished_run import FinishedRun
from evaluation.loss.context_use import ContextSettings, score
from evaluation.pages import report
from evaluation.samples import sampling
from evaluation.samples.sampling import read_samples
from model_cards import publish
from scaling import fit, loss_curves, plots, records
from scaling.counts import ModelShape, count_parameters, train_flops_per_token
from scaling.families import FAMILIES, Family, Look, family_of, in_order, label_of, register
from train import train_one
from training.config import ConfigError, load_config
from training.pretrained import add_adapter
from training.study.study_plan import is_finished, plan_study

NEOX = Family(
    *("neox", "GPT-NeoX", "gpt_neox", "attention"),
    dropout_keys=("hidden_dropout", "attention_dropout"),
    settings=lambda model: {
        "tie_word_embeddings": True,
        "intermediate_size": 4 * model["hidden_size"],
    },
    look=Look("#CC79A7", "D", "-", "#CC79A7", "#E8C4D8", "#4D1F38"),
)
SIZE = {
    "base": str(CONFIGS / "base.yaml"),
    "model": {
        **{"model_type": "gpt_neox", "num_hidden_layers": 1},
        **{"hidden_size": 16, "num_attention_heads": 2},
    },
    "training": {"learning_rate": 0.01, "per_device_train_batch_size": 8},
}
WIDTHS = (8, 16, 24)
CONTEXT = 256


@pytest.fixture(scope="module")
def neox():
    """The registry with one more entry."""
    register(NEOX)
    yield NEOX
    del FAMILIES["neox"]


@pytest.fixture(scope="module")
def study(neox, tmp_path_factory, tune_files):
    """Three sizes of the stock family, trained and fitted as a user's study is."""
    folder = tmp_path_factory.mktemp("families")
    preset = folder / "data_char.yaml"
    preset.write_text(
        f"split: {{validation: 0.15, test: 0.15}}\nblocks: {{block_length: {CONTEXT}}}\n"
    )
    (folder / "neox_tiny.yaml").write_text(yaml.safe_dump(SIZE))
    sizes = [
        {"config": "neox_tiny", "name": f"neox_d{width}", "model.hidden_size": width}
        for width in WIDTHS
    ]
    overrides = {"budget.global_batch_tokens": 2048, "training.disable_tqdm": True}
    content = {"name": "neox", "overrides": overrides, "sizes": sizes}
    content |= {"tokens": [30 * 2048], "seeds": [1]}
    (folder / "study_neox.yaml").write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert pipeline.main([str(tune_files[0].parent), "--config", str(preset)]) == 0
        planned = plan_study(Path("study_neox.yaml"))
        for cell, _ in planned.runs:
            train_one(Path(cell.config), cell.overrides)
        assert all(is_finished(*of) for of in planned.runs)
        assert records.main(["runs/neox"]) == 0
        assert loss_curves.main(["runs/neox"]) == 0
        assert fit.main(["runs/neox/runs.csv", "--out", "runs/neox/fits.json"]) == 0
        assert plots.main(["runs/neox"]) == 0
        yield planned


@pytest.fixture
def run(study):
    return next(folder.path for cell, folder in study.runs if "d16" in cell.name)


def test_own_families_are_those_that_modeling_registers():
    configs = [getattr(modeling, name) for name in modeling.__all__ if name.endswith("Config")]
    own = {family.model_type for family in FAMILIES.values() if not family.is_stock}
    assert own == {config.model_type for config in configs}


def test_plan_and_record_of_a_stock_family_have_the_same_counts(study):
    for cell, folder in study.runs:
        record = json.loads(folder.record.read_text())
        width = record["hidden_size"]
        # weights and biases of attention and MLP, two norms a layer and one at the end
        in_matrices, in_vectors = 12 * width**2, 9 * width + 4 * width + 2 * width
        assert record["model_type"] == "gpt_neox"
        assert record["n_params_non_embedding"] == in_matrices + in_vectors
        vocab_size = (record["n_params_total"] - in_matrices - in_vectors) // width
        per_token = 6 * (in_matrices + vocab_size * width) + 12 * width * CONTEXT
        assert record["flops_train"] == cell.flops_train == per_token * record["n_tokens_seen"]


def test_stock_family_learns_and_gets_a_law_and_figures(study, run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [line.get("validation_loss_nats_per_token") for line in lines]
    losses = [loss for loss in losses if loss]
    assert losses[-1] < losses[0] < 4.3  # ln 70
    fits = json.loads((run.parent / "fits.json").read_text())
    assert list(fits["laws"]) == ["neox"]
    assert "alpha" in fits["laws"]["neox"]["power"]["params"]
    figure = (run.parent / "figures" / "scaling_law.svg").read_text()
    assert "GPT-NeoX" in figure
    assert NEOX.look.colour.lower() in figure
    rows = [
        {"run": "a", "arch": "neox", "n_params": 10.0, "loss": 2.0, "bits_per_char": 3.0},
        {"run": "b", "arch": "neox", "n_params": 100.0, "loss": 1.5, "bits_per_char": 2.0},
    ]
    meeting = {"at": "equal_params", "archs": ["gpt", "neox"], "n_tokens": 9}
    meeting |= {"n_params": 50.0, "interval_95": [40.0, 60.0], "note": ""}
    splits = {"splits": {"train": {"n_songs": 3, "n_seconds": 60.0}}}
    lines = report.summary(
        *(rows, fits | {"crossovers": [meeting]}, {"stages": {"5_tokens": splits}}),
        {"sets": {}, "judges": {}, "test": None},
    )
    assert lines[1].startswith("GPT-NeoX: the loss falls from 2.00 to 1.50 nats per token")
    assert "GPT and GPT-NeoX reach the same loss at 50 parameters [40, 60]." in lines


def test_checkpoint_of_a_stock_family_needs_no_code_of_ours(run):
    config = json.loads((run / "checkpoint" / "config.json").read_text())
    assert "auto_map" not in config
    assert config["hidden_dropout"] == config["attention_dropout"] == 0.0
    assert config["max_position_embeddings"] == CONTEXT
    model = AutoModelForCausalLM.from_pretrained(run / "checkpoint", trust_remote_code=False)
    assert type(model) is GPTNeoXForCausalLM
    assert model.config.tie_word_embeddings


def test_stock_family_writes_whole_tunes_within_the_grammar(run, tmp_path, monkeypatch):
    taken, library = [], GenerationMixin._sample
    monkeypatch.setattr(
        GenerationMixin,
        "_sample",
        lambda *args, **kwargs: taken.append(1) or library(*args, **kwargs),
    )
    arguments = ["--n", "3", "--max-new-tokens", "200", "--out", str(tmp_path)]
    assert sampling.main([str(run), *arguments]) == 0
    rows = read_samples(tmp_path / "samples.jsonl")
    assert taken
    assert len(rows) == 3
    assert all(row["ended"] and row["abc_voices"] and not row["error"] for row in rows)


def test_loss_and_use_of_context_of_a_stock_family(run):
    opened = FinishedRun.open(run)
    nll, n_targets = opened.song_nll_nats("validation")
    assert opened.facts["arch"] == "neox"
    loss = opened.facts["validation_loss_nats_per_token"]
    assert nll.sum() / n_targets.sum() == pytest.approx(loss, abs=1e-4)
    settings = ContextSettings(positions=128, crops=1)
    ids = [song for song in opened.songs("validation").ids if len(song) > settings.positions]
    ways = score(opened, ids, settings)
    assert set(ways) == {"stride", "reset", "crops"}
    assert all(np.isfinite(nll).all() for nll in ways.values())


def test_card_of_a_stock_family_runs_no_code_for_plain_text(run, capsys):
    assert publish.main([str(run), "someone/neox", "--dry-run"]) == 0
    (card,) = run.glob("publish*/README.md")
    text = card.read_text()
    assert "This GPT-NeoX with " in text
    assert "`GPTNeoXForCausalLM`, a class that ships with transformers." in text
    assert 'pipeline("text-generation", model="someone/neox")' in text
    assert "with a saved copy, put the .py" in text


def test_model_of_a_stock_family_can_be_fine_tuned(run):
    preset = load_settings(CONFIGS / "data/finetune.yaml")
    assert take_from_model(preset, str(run)).blocks.block_length == CONTEXT
    model = AutoModelForCausalLM.from_pretrained(run / "checkpoint")
    adapted = add_adapter(model, {"r": 2, "lora_alpha": 4})
    trained = {name for name, weights in adapted.named_parameters() if weights.requires_grad}
    assert {re.search(r"(\w+)\.lora", name)[1] for name in trained} == {
        *("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
    }


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("hiden_size=3", r"did you mean model\.hidden_size\?"),
        ("rope_parameter={}", r"did you mean model\.rope_parameters\?"),
        ("hidden_act=3", "expected str"),
        ("vocab_size=3", "comes from the tokenizer"),
    ],
)
def test_keys_of_a_stock_family_are_those_of_its_config_class(neox, tmp_path, key, advice):
    path = tmp_path / "neox_tiny.yaml"
    path.write_text(yaml.safe_dump(SIZE))
    assert load_config(path)["model"]["dropout"] == 0.0
    with pytest.raises(ConfigError, match=advice):
        load_config(path, [f"model.{key}"])


def test_entry_may_bring_a_formula_of_its_own(neox):
    def formula(width, layers, mlp_width):
        return layers * (4 * width**2 + 2 * width * mlp_width), layers * (13 + 2) * width

    family = Family("own", "Own", "abc_own", "attention", layer_parameters=formula)
    register(family)
    try:
        shape = ModelShape("abc_own", 8, 2, 10, 64)
        assert count_parameters(shape).non_embedding == 2 * (12 * 64 + 15 * 8)
        assert train_flops_per_token(shape) == 6 * (24 * 64 + 80) + 12 * 2 * 8 * 64
        assert (
            Family("own", "Own", "own", "state", dropout_keys=()).config_keys({"dropout": 0}) == {}
        )
        with pytest.raises(ValueError, match=r"dropout is 0\.1, but Own has none"):
            replace(family, dropout_keys=()).config_keys({"dropout": 0.1})
    finally:
        del FAMILIES["own"]
    with pytest.raises(ValueError, match="no formula for its parameters; give layer_parameters"):
        ModelShape("gpt_neox", 8, 2, 10, 64)


def test_no_family_is_registered_twice():
    for name, model_type in (("gpt", "other"), ("other", "abc_gpt")):
        with pytest.raises(ValueError, match="there is 'gpt' of abc_gpt already"):
            register(Family(name, "Other", model_type, "attention"))
    with pytest.raises(ValueError, match="is 'mamba', expected one of abc_gpt, abc_lstm"):
        family_of("mamba")


def test_order_is_that_of_the_registry_and_others_keep_their_names():
    assert in_order(["zebra", "lstm", "apes", "gpt", "lstm"]) == ["gpt", "lstm", "apes", "zebra"]
    assert label_of("zebra") == "zebra"
