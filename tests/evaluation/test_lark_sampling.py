import re
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

import modeling  # noqa: F401  (registers our own families)
from data_prep.dialect.tune_parser import parse_tune
from data_prep.tokens.tokenizers import TokenSettings, train_tokenizer
from evaluation.samples.lark_gaps import UNEXPLAINED, gaps_of
from modeling.lark_abc import LARK_FILE, NOT_COVERED, lark_grammar, save_grammar

pytest.importorskip("llguidance")
ROOT = Path(__file__).parent.parent.parent
TOKENIZER = train_tokenizer([], TokenSettings("char"), 256)
HEAD = "X:1\nM:3/4\nL:1/16\nQ:1/4=90\n%%MIDI chordattack 0\nK:G\nV:1\n%%MIDI program 40\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model with random weights, whose grammar is narrow enough for it to end."""
    folder = tmp_path_factory.mktemp("model")
    ids = {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(
        "llama",
        **{"vocab_size": len(TOKENIZER), "hidden_size": 16, "intermediate_size": 16},
        **{"num_hidden_layers": 1, "num_attention_heads": 2, **ids},
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    save_grammar(folder, TOKENIZER.eos_token_id)
    return folder


def test_example_of_the_documentation_writes_within_the_grammar(folder):
    page = (ROOT / "docs" / "how-to" / "engines.md").read_text("utf-8")
    code = re.search(r"```python\n(# transformers.*?)```", page, re.DOTALL)[1]
    code = code.replace("runs/single/gpt_tiny/publish", str(folder)).replace("=500", "=120")
    names = {}
    exec(compile(code, "engines.md", "exec"), names)
    assert isinstance(names["model"], LlamaForCausalLM)
    assert len(names["texts"]) == 4
    for text in names["texts"]:
        assert re.match(r"X:1\nM:\d+/[1248]\nL:1/16\nQ:1/(4|16)=\d+\n%%MIDI chord", text), text


def test_tunes_that_end_are_those_of_the_automaton(folder):
    from evaluation.samples.lark_sampling import LarkLogitsProcessor

    model = LlamaForCausalLM.from_pretrained(folder)
    grammar = lark_grammar(TOKENIZER.eos_token_id)
    # the start token, and a prompt that is nearly over
    text = HEAD + "[V:1]G4A4B4|\n[V:1]G4A4B"
    prompt = torch.tensor([[2, *TOKENIZER.encode(text, add_special_tokens=False)]])
    torch.manual_seed(1)
    out = model.generate(
        prompt.repeat(8, 1),
        attention_mask=torch.ones_like(prompt).repeat(8, 1),
        **{"do_sample": True, "max_new_tokens": 150, "eos_token_id": 2},
        logits_processor=[LarkLogitsProcessor(TOKENIZER, grammar)],
    )
    ended = [
        TOKENIZER.decode(ids[1:], skip_special_tokens=True) for ids in out if ids[-1] in (0, 2)
    ]
    assert ended
    for tune in ended:
        assert parse_tune(tune)
        assert UNEXPLAINED not in gaps_of(tune)


def test_prompt_that_the_grammar_forbids_is_an_error(folder):
    from evaluation.samples.lark_sampling import LarkLogitsProcessor

    processor = LarkLogitsProcessor(TOKENIZER, (folder / LARK_FILE).read_text("utf-8"))
    ids = torch.tensor([[2, *TOKENIZER.encode("X:2", add_special_tokens=False)]])
    with pytest.raises(ValueError, match="doesn't satisfy the grammar"):
        processor(ids, torch.zeros(1, len(TOKENIZER)))


@pytest.mark.parametrize(
    ("bars", "broken"),
    [
        ("[V:1]GABcGABcGABc|\n[V:1]G4A4B4|\n[V:1]GABcGABcGABc|]\n", []),
        ("[V:1]G4A4B4|]\n", ["least length"]),
        ("[V:1]GABcGABcGABc|\n[V:1]z12|\n[V:1]z12|\n[V:1]GABcGABcGABc|]\n", ["rests"]),
        ("[V:1]GABcGABcG2[Bd]2-|\n[V:1][ce]12|]\n", ["tied chord"]),
        ("[V:1]GABcGABcGABc|\n", [UNEXPLAINED]),
    ],
)
def test_rules_that_a_tune_breaks_are_named(bars, broken):
    assert gaps_of(HEAD + bars) == broken
    assert set(broken) - {UNEXPLAINED} <= {gap.name for gap in NOT_COVERED}
