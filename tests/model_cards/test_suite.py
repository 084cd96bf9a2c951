"""The folders of `pretrained/`: small, complete, and with one copy of the code."""

import json

import pytest
import torch
from huggingface_hub import metadata_load
from safetensors.torch import load_file
from test_model_card import make_run, names, record
from transformers import AutoModelForCausalLM, pipeline

from model_cards import suite
from model_cards.suite import main

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "max_position_embeddings": 64, "tie_word_embeddings": True}


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A suite of one Llama, beside the code that its folders link to."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "modeling").symlink_to(suite.CODE)
    run = make_run(tmp_path, "llama", **SHAPE).rename("pretrained_llama_small_t8M")  # a branch
    facts = record("llama") | {"dataset": "pretrained", "size": "pretrained_llama_small"}
    (run / "record.json").write_text(json.dumps(facts))
    trial = {"record": facts | {"size": "copies_0"}}
    suite.TRIALS.parent.mkdir(parents=True)
    suite.TRIALS.write_text(json.dumps(trial) + "\n")
    monkeypatch.setattr(suite, "N_TOKENS", 32)
    monkeypatch.setattr(suite, "LARGEST_LOSS", 0.1)  # these weights are random
    assert main(["build", str(run)]) == 0
    return run, tmp_path / "pretrained" / "llama_small"


def test_folder_has_halved_weights_that_are_computed_with_in_float32(built):
    run, folder = built
    weights = load_file(folder / "model.safetensors")
    assert {each.dtype for each in weights.values()} == {torch.bfloat16}
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
    assert model.dtype == torch.float32
    for name, weight in load_file(run / "checkpoint" / "model.safetensors").items():
        assert torch.equal(weights[name], weight.bfloat16())


def test_folder_is_complete_and_its_code_is_that_of_modeling(built):
    _, folder = built
    code = [path for path in folder.glob("*.py")]
    assert {"README.md", "config.json", "generation_config.json", "grammar.lark"} <= names(folder)
    assert {"tokenizer.json", "pipeline_abc_music.py"} <= names(folder)
    for path in code:
        assert path.is_symlink()
        assert path.resolve() == (suite.CODE / path.name).resolve()
    card = metadata_load(folder / "README.md")
    assert card["license"] == "cc0-1.0"
    text = (folder / "README.md").read_text()
    assert "OpenScore" in text
    assert "| no copies in other keys | 5.194 |" in text


def test_library_writes_text_without_remote_code(built):
    write = pipeline("text-generation", model=str(built[1]), trust_remote_code=False)
    (text,) = write("X:1\n", max_new_tokens=8)
    assert text["generated_text"].startswith("X:1")


def test_published_suite_has_plain_files_and_the_name_of_its_user(built, capsys):
    assert main(["publish", "someone", "--dry-run"]) == 0
    folder = built[1].parents[1] / "runs" / "suite" / "llama_small"
    assert names(folder) == names(built[1])
    assert not any(path.is_symlink() for path in folder.iterdir())
    card = (folder / "README.md").read_text()
    assert 'model="someone/llama_small"' in card
    assert "pretrained/llama_small" not in card
    assert main(["publish", "someone", "--folder", "none", "--dry-run"]) == 2
    assert "no model in none" in capsys.readouterr().err


def test_weights_beyond_the_limits_are_refused(built, monkeypatch, capsys):
    run, _ = built
    monkeypatch.setattr(suite, "MOST_BYTES", 100)
    assert main(["build", str(run)]) == 2
    assert "expected at most 100" in capsys.readouterr().err
    monkeypatch.setattr(suite, "LARGEST_LOSS", 0.0)
    assert main(["build", str(run)]) == 2
    assert "rounding" in capsys.readouterr().err
    assert main(["build", "runs/single/none"]) == 2
    assert "make pretrained" in capsys.readouterr().err
