"""The models of `pretrained/`, as they are committed: complete, current, small, ready to play."""

import json
from pathlib import Path

import pytest
from huggingface_hub import metadata_load
from transformers import AutoTokenizer, LlamaForCausalLM, pipeline

from data_prep.dialect.tune_parser import parse_tune
from evaluation.loading.models import load_writer
from model_cards import suite
from modeling.lark_abc import LARK_FILE, lark_grammar
from modeling.plan_abc import read_bars

SUITE = suite.CODE.parent / "pretrained"
NAMES = sorted(path.parent.name for path in SUITE.glob("*/config.json"))
SHORT = {"meter": "6/8", "key": "D", "tempo": 120, "instruments": [0]}


@pytest.fixture(scope="module", params=NAMES)
def folder(request) -> Path:
    return SUITE / request.param


def test_suite_has_the_model_that_plays_and_is_small():
    assert "llama_small" in NAMES
    suite.check_size(SUITE)


def test_code_and_grammar_are_those_of_this_version(folder):
    for path in folder.glob("*.py"):
        assert path.resolve() == (suite.CODE / path.name).resolve()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (folder / LARK_FILE).read_text("utf-8") == lark_grammar(tokenizer.eos_token_id)


def test_card_names_licence_data_and_measures(folder):
    card = metadata_load(folder / "README.md")
    assert card["license"] == "cc0-1.0"
    measured = {each["name"] for each in card["model-index"][0]["results"][0]["metrics"]}
    assert any("bits per note" in name for name in measured)
    text = (folder / "README.md").read_text("utf-8")
    assert "OpenScore" in text
    assert "passages that are also in the training music" in text


def test_tune_is_written_and_then_filled_in(folder):
    write = load_writer(str(folder))
    [tune] = write(SHORT, seed=1)
    abc = tune["abc"]
    parse_tune(abc)
    first = read_bars(abc)
    [again] = write(prompt=abc, fill=(2, 3), seed=2)
    second = read_bars(again["abc"])
    assert second.ticks == first.ticks
    assert [*second.lines[:1], *second.lines[3:]] == [*first.lines[:1], *first.lines[3:]]


def test_llama_needs_no_code_of_ours():
    folder = SUITE / "llama_small"
    assert "auto_map" not in json.loads((folder / "config.json").read_text("utf-8"))
    write = pipeline("text-generation", model=str(folder), trust_remote_code=False)
    [text] = write("X:1\n", max_new_tokens=16, do_sample=False)
    assert text["generated_text"].startswith("X:1\nM:")
    assert type(write.model) is LlamaForCausalLM
