import io
import json
import logging
import re
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from training_data import CONFIGS, make_dataset, save_tokenizer, train_tiny, write_stage
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from data_prep import pipeline
from data_prep.model_tokens import take_from_model
from data_prep.settings import load_settings
from data_prep.tokens.passage_rows import add_marks
from scaling.families import FAMILIES
from training.budget import plan_run
from training.config import load_config
from training.config_checks import ConfigError
from training.pretrained import overfitting
from training.run.progress import RunLog

CONTEXT = 32
SMALL = (
    *("model.hidden_size=24", "model.num_hidden_layers=2", "budget.global_batch_tokens=512"),
    *("training.learning_rate=1.0e-2", "training.max_steps=40", "training.disable_tqdm=true"),
)
SHORT = ("data.dataset=fiddle", "training.max_steps=40", "training.disable_tqdm=true")


@pytest.fixture(scope="module")
def place(tmp_path_factory, tune_files):
    """Both families trained on made-up bars, and real tunes made ready for them."""
    place = tmp_path_factory.mktemp("place")
    data = make_dataset(place / "data", "tiny", block_length=CONTEXT)
    config_file = data / "5_tokens" / "tokenizer_config.json"
    saved = json.loads(config_file.read_text())
    config_file.write_text(json.dumps({**saved, "model_max_length": CONTEXT}))
    music = place / "fiddle"
    music.mkdir()
    for file in tune_files[:24]:
        shutil.copy(file, music)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for family in FAMILIES:
            heads = ["model.num_attention_heads=2"] if family == "gpt" else []
            config = f"{family}_tiny"
            assert train_tiny(*SMALL, *heads, "data.dataset=tiny", config=config) == 0
    return place


@pytest.fixture(scope="module")
def warnings(place):
    """What the data pipeline warned of when it made data/fiddle/finetune."""
    command = [str(place / "fiddle"), "--config", str(CONFIGS / "data/finetune.yaml")]
    command += ["--model", str(place / "runs/single/gpt_tiny"), "--workers", "1"]
    command += ["--data-root", str(place / "data"), "--keep-latest", "--folder"]
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    pipeline.logger.addHandler(handler)
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as counts:
        assert pipeline.main(command) == 0
    # `make finetune` trains on what is printed; the counts are for people
    assert printed.getvalue() == f"{place / 'data/fiddle/finetune'}\n"
    assert " files -> " in counts.getvalue()
    pipeline.logger.removeHandler(handler)
    return said


@pytest.fixture
def ready(place, warnings, monkeypatch):
    """The working directory with models and data."""
    monkeypatch.chdir(place)
    return place


def tune(*overrides, family="gpt", lora=False):
    config = "finetune_lora" if lora else "finetune"
    return train_tiny(
        *SHORT, f"model.pretrained=runs/single/{family}_tiny", *overrides, config=config
    )


def read_record(run):
    return json.loads((run / "record.json").read_text())


def logits(model, ids):
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits


def base_model(family):
    return AutoModelForCausalLM.from_pretrained(f"runs/single/{family}_tiny/checkpoint")


def test_data_have_the_tokenizer_and_the_context_of_the_model(ready, warnings):
    data = ready / "data/fiddle/finetune"
    blocks = np.load(data / "6_blocks/train.npy", mmap_mode="r")
    assert blocks.shape[1] == CONTEXT
    ours = AutoTokenizer.from_pretrained(data / "5_tokens")
    models = AutoTokenizer.from_pretrained(ready / "runs/single/gpt_tiny/checkpoint")
    assert ours.get_vocab() == models.get_vocab()
    # the model's alphabet has no %%MIDI
    stage = json.loads((data / "5_tokens/stage.json").read_text())
    unknown = sum(split["n_unknown"] for split in stage["splits"].values())
    assert unknown > 0
    assert any(f"{unknown:,} of " in text and "<unk>" in text for text in warnings)
    assert str(ready) not in json.dumps(stage["settings"])  # content decides, not place


def test_models_with_one_tokenizer_share_their_data(ready):
    preset = load_settings(CONFIGS / "data/finetune.yaml")
    of_gpt, of_lstm, _ = (take_from_model(preset, f"runs/single/{f}_tiny") for f in FAMILIES)
    assert of_gpt == of_lstm
    assert of_gpt.blocks.block_length == CONTEXT
    assert of_gpt.tokens.tokenizer_sha256 != preset.tokens.tokenizer_sha256


def test_passages_to_fill_in_are_for_models_that_know_them(ready, tmp_path):
    preset = load_settings(CONFIGS / "data/finetune.yaml")
    assert preset.fill_in.share > 0
    assert take_from_model(preset, "runs/single/gpt_tiny").fill_in.share == 0
    folder = tmp_path / "knows"
    shutil.copytree("runs/single/gpt_tiny/checkpoint", folder)
    add_marks(folder)
    assert take_from_model(preset, str(folder)).fill_in == preset.fill_in


@pytest.mark.parametrize("family", FAMILIES)
def test_full_fine_tuning_learns_the_new_music_and_says_where_it_began(family, ready):
    before = (ready / f"runs/single/{family}_tiny/checkpoint/model.safetensors").read_bytes()
    assert tune(family=family) == 0
    run = ready / f"runs/finetune/{family}_tiny_fiddle"
    record = read_record(run)
    origin = record["finetuned_from"]
    assert origin["pretrained"] == f"runs/single/{family}_tiny"
    assert origin["lora"] is None
    assert origin["n_params_trained"] == record["n_params_total"]
    loss = record["loss_nats_per_token"]["validation"]
    assert loss < 0.9 * origin["loss_nats_per_token"]["validation"]
    assert not (run / "adapter").exists()
    path = ready / f"runs/single/{family}_tiny/checkpoint/model.safetensors"
    assert path.read_bytes() == before


@pytest.mark.parametrize("family", FAMILIES)
def test_adapter_and_merged_model_give_the_same(family, ready):
    assert tune(family=family, lora=True) == 0
    run = ready / f"runs/finetune/{family}_tiny_fiddle_lora"
    record = read_record(run)
    origin = record["finetuned_from"]
    assert record["loss_nats_per_token"]["validation"] < (
        0.95 * origin["loss_nats_per_token"]["validation"]
    )
    assert 0 < origin["n_params_trained"] < record["n_params_total"]
    adapter = load_file(run / "adapter/adapter_model.safetensors")
    assert sum(weight.numel() for weight in adapter.values()) == origin["n_params_trained"]

    merged = AutoModelForCausalLM.from_pretrained(run / "checkpoint")
    adapted = PeftModel.from_pretrained(base_model(family), run / "adapter")
    ids = torch.randint(4, 64, (3, CONTEXT), generator=torch.Generator().manual_seed(1))
    assert torch.allclose(logits(adapted, ids), logits(merged, ids), atol=1e-5)
    assert not torch.allclose(logits(base_model(family), ids), logits(merged, ids), atol=1e-2)
    with adapted.disable_adapter():
        assert torch.equal(logits(adapted, ids), logits(base_model(family), ids))
    # all weights of the layers have moved, and nothing else
    was = base_model(family).state_dict()
    moved = {k for k, weight in merged.state_dict().items() if not torch.equal(weight, was[k])}
    held = ("embed_tokens", "embed_positions", "lm_head", "norm")
    kinds = {name for name in was if was[name].ndim == 2 and not any(h in name for h in held)}
    assert moved == kinds

    # the fast way to decode stands aside for the adapter, and is taken for the merged model
    for how in ({"do_sample": False}, {"do_sample": True}):
        texts = []
        for model in (adapted, merged):
            torch.manual_seed(1)
            texts.append(model.generate(input_ids=ids[:, :4], max_new_tokens=20, **how))
        assert torch.equal(*texts)


@pytest.mark.parametrize("family", FAMILIES)
def test_killed_lora_run_goes_on_to_the_same_weights(family, ready, monkeypatch):
    settings = ["training.max_steps=12", "training.save_steps=4", "training.logging_steps=2"]
    assert tune(*settings, "name=whole", family=family, lora=True) == 0
    original = RunLog.on_step_end

    def on_step_end(self, args, state, control, **kwargs):
        original(self, args, state, control, **kwargs)
        if state.global_step == 10:
            raise RuntimeError("power cut")

    monkeypatch.setattr(RunLog, "on_step_end", on_step_end)
    with pytest.raises(RuntimeError, match="power cut"):
        tune(*settings, "name=broken", family=family, lora=True)
    monkeypatch.setattr(RunLog, "on_step_end", original)
    runs = [ready / "runs/finetune" / name for name in ("whole", "broken")]
    newest = runs[1] / "checkpoints/checkpoint-8"
    assert not (newest / "model.safetensors").exists()  # the adapter alone
    assert tune(*settings, "name=broken", family=family, lora=True) == 0
    files = [run / "adapter/adapter_model.safetensors" for run in runs]
    assert files[0].read_bytes() == files[1].read_bytes()
    before = [read_record(run)["finetuned_from"]["loss_nats_per_token"] for run in runs]
    assert before[0] == before[1]
    shutil.rmtree(runs[0])
    shutil.rmtree(runs[1])


def test_new_weights_under_an_old_name_are_another_run(ready, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(ready / "runs/single/gpt_tiny/checkpoint", model)
    settings = [f"model.pretrained={model}", "training.max_steps=1", "name=twice"]
    assert tune(*settings) == 0
    assert tune(*settings) == 0
    assert "is finished" in capsys.readouterr().out
    other = AutoModelForCausalLM.from_pretrained(model)
    other.model.norm.weight.data += 1
    other.save_pretrained(model)
    assert tune(*settings) == 0
    assert read_record(ready / "runs/finetune/twice-2")["name"] == "twice-2"
    # the saved config alone repeats the run
    assert train_tiny(config=ready / "runs/finetune/twice-2/config.yaml") == 0
    assert "twice-2 is finished" in capsys.readouterr().out


def test_model_must_be_there_and_of_this_project(ready, tmp_path, capsys):
    cases = {
        "runs/single/gpt_tny": "does not exist",
        "runs/single": "(?:holds|contains) no finished model",
    }
    bare = tmp_path / "bare"
    shutil.copytree("runs/single/gpt_tiny/checkpoint", bare)
    (bare / "tokenizer.json").unlink()
    cases[str(bare)] = "tokenizer.json not found"
    stock = tmp_path / "gpt2"
    shape = GPT2Config(vocab_size=8, n_positions=8, n_embd=8, n_layer=1, n_head=1)
    GPT2LMHeadModel(shape).save_pretrained(stock)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(f"runs/single/gpt_tiny/checkpoint/{name}", stock)
    cases[str(stock)] = "'gpt2'(, expected one of abc_gpt, abc_lstm| that is not from this project)"
    preset = load_settings(CONFIGS / "data/finetune.yaml")
    for model, message in cases.items():
        assert tune(f"model.pretrained={model}") == 2
        error = capsys.readouterr().err
        assert re.search(message, error)
        assert error.startswith("error: ")
        assert len(error.strip().splitlines()) == 1
        with pytest.raises((FileNotFoundError, ValueError), match=message):
            take_from_model(preset, model)


def test_data_must_be_made_for_the_model(ready, tmp_path, capsys):
    assert tune("data.dataset=tiny", "data.preset=char", "training.max_steps=1") == 0
    assert (ready / "runs/finetune/gpt_tiny_tiny").is_dir()
    make_dataset(tmp_path, "long", block_length=2 * CONTEXT)
    place = [f"data.root={tmp_path}", "data.preset=char"]
    assert tune(*place, "data.dataset=long") == 2
    assert "blocks of 64 tokens" in capsys.readouterr().err
    other = make_dataset(tmp_path, "other", block_length=CONTEXT)
    vocabulary = json.loads((other / "5_tokens/tokenizer.json").read_text())["model"]["vocab"]
    save_tokenizer(sorted(vocabulary, reverse=True), other / "5_tokens")
    write_stage(other / "5_tokens", {})
    assert tune(*place, "data.dataset=other") == 2
    assert "have a different tokenizer than runs/single/gpt_tiny" in capsys.readouterr().err


def test_presets_and_models_that_do_not_belong_together_are_refused(ready):
    with pytest.raises(ValueError, match="add --model"):
        take_from_model(load_settings(CONFIGS / "data/finetune.yaml"), None)
    with pytest.raises(ValueError, match="its own tokenizer"):
        take_from_model(load_settings(CONFIGS / "data/char.yaml"), "runs/single/gpt_tiny")
    assert take_from_model(load_settings(CONFIGS / "data/char.yaml"), None)


def test_empty_folder_is_one_line(ready, tmp_path, capsys):
    command = [str(tmp_path), "--config", str(CONFIGS / "data/finetune.yaml")]
    command += ["--model", "runs/single/gpt_tiny", "--data-root", str(tmp_path / "data")]
    assert pipeline.main(command) == 2
    assert "contains no music" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.pretrained="], r"model\.pretrained is not given"),
        (["model.hidden_size=8"], r"model\.hidden_size in .*the shape comes from"),
        (["budget.tokens=5"], r"did you mean budget\.epochs"),
        (["budget.epochs=0"], r"expected above 0"),
        (["study=demo"], r"part of no scaling law"),
        (["lora.rank=4"], r"did you mean lora\.r"),
        (["lora.r=0"], r"lora\.r is 0 .*expected 1 or more"),
        (["lora.r=8.0"], r"expected int; write 8"),
        (["lora.lora_dropout=1.0"], r"below 1"),
    ],
)
def test_wrong_settings_are_refused_with_advice(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(CONFIGS / "finetune_lora.yaml", ["model.pretrained=x", *overrides])


def test_lora_is_for_trained_models_and_needs_its_package(monkeypatch):
    with pytest.raises(ConfigError, match=r"LoRA needs model\.pretrained"):
        load_config(CONFIGS / "gpt_tiny.yaml", ["lora.r=4"])
    monkeypatch.setitem(sys.modules, "peft", None)
    load_config(CONFIGS / "finetune.yaml", ["model.pretrained=x"])
    with pytest.raises(ConfigError, match=r"the package peft.*\[peft\]"):
        load_config(CONFIGS / "finetune_lora.yaml", ["model.pretrained=x"])


def test_lstm_takes_no_dropout_in_its_adapter(ready, capsys):
    assert tune("lora.lora_dropout=0.1", family="lstm", lora=True) == 2
    assert "set lora.lora_dropout=0" in capsys.readouterr().err


def test_name_says_which_model_learns_which_music():
    def name(*overrides):
        config = load_config(CONFIGS / "finetune.yaml", overrides)
        return config["study"], config["name"]

    assert name("model.pretrained=user/piano", "data.dataset=my songs") == (
        "finetune",
        "piano_my_songs",
    )
    assert name("model.pretrained=a/b/checkpoint/", "lora.r=2")[1] == "b_latest_lora"
    assert name("model.pretrained=a/b", "name=mine")[1] == "mine"


def test_epochs_become_steps():
    config = {
        "model": {"pretrained": "x"},
        "budget": {"epochs": 2.5, "sequences_per_step": 8},
        "training": {},
    }
    assert plan_run(config, 64, n_blocks=40).max_steps == 12
    assert plan_run(config, 64, n_blocks=1).max_steps == 1
    config["training"]["max_steps"] = 7
    assert plan_run(config, 64, n_blocks=40).n_tokens == 7 * 8 * 63


def test_overfitting_is_told_with_the_epochs_that_were_best():
    config = {"budget": {"epochs": 8}}
    assert overfitting(config, [(0, 2.0), (10, 1.5), (20, 1.4)]) == ""
    assert overfitting(config, [(0, 2.0), (10, 1.399), (20, 1.4)]) == ""
    assert "try budget.epochs=4" in overfitting(config, [(0, 2.0), (10, 1.3), (20, 1.4)])
    assert "lower training.learning_rate" in overfitting(config, [(0, 2.0), (20, 2.4)])
