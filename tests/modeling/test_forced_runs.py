"""Runs of characters without a choice: read at once, with the tunes of one step per token."""

import pytest
import torch
from decoding_models import build, generate_tunes, make_model, padded, tokens
from transformers import GenerationMixin, LlamaConfig, LlamaForCausalLM, set_seed

from data_prep.tokens.tokenizers import TokenSettings, train_tokenizer
from modeling.decoding_abc_gpt import AbcGPTDecoder, AbcGPTFastDecoder
from modeling.decoding_abc_llama import LlamaFastDecoder, sample_llama
from modeling.decoding_abc_lstm import AbcLSTMDecoder
from modeling.grammar_abc_decoding import TokenGrammar, TuneLogitsProcessor
from modeling.grammar_abc_header import full_bar_ticks
from modeling.grammar_abc_limits import GENERATION
from modeling.grammar_abc_plan import PLANNED, Plan, PlannedBar

HEAD = "X:1\nM:3/4\nL:1/16\nQ:1/4=90\n%%MIDI chordattack 0\nK:G\n"
VOICES = "V:1\n%%MIDI program 40\nV:2\n%%MIDI channel 10\n"
ONE_BY_ONE = {"custom_generate": GenerationMixin._sample}  # the library's loop, with the whole mask
DECODERS = {
    "gpt": (AbcGPTFastDecoder, AbcGPTDecoder),
    "llama": (LlamaFastDecoder, AbcGPTDecoder),
    "lstm": (AbcLSTMDecoder,),
}
CUTS = (
    {},
    {"top_k": 5},
    {"top_k": 20, "temperature": 0.8},
    {"top_p": 0.9},
    {"min_p": 0.1},
    {"top_k": 10, "top_p": 0.8, "min_p": 0.05, "temperature": 1.5},
    {"do_sample": False, "top_k": None},
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([HEAD], TokenSettings("char"), 128)


def model_of(family, tokenizer, context=512):
    if family != "llama":
        model = make_model(tokenizer, f"abc_{family}")
        if family == "gpt" and context != 512:
            model.config.max_position_embeddings = context
        return model, {}
    ids = {f"{n}_token_id": getattr(tokenizer, f"{n}_token_id") for n in ("bos", "eos", "pad")}
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape |= {"intermediate_size": 40, "max_position_embeddings": context}
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.3, **shape, **ids)
    return LlamaForCausalLM(config).eval(), {"custom_generate": sample_llama}


@pytest.mark.parametrize("family", ["gpt", "lstm", "llama"])
@pytest.mark.parametrize("rows", [(5,), (5, 3, 4)])
def test_reading_tokens_at_once_is_reading_them_one_by_one(family, rows):
    model, prompt = build(family), padded(*rows)
    ids = torch.cat([prompt["input_ids"], tokens(len(rows), 40)], dim=1)
    for kind in DECODERS[family]:
        single, several = (kind(*((model,) if family == "lstm" else (model, 45))) for _ in "12")
        with torch.inference_mode():
            for decoder in (single, several):
                decoder.read(**prompt)
            expected = [single.step(ids[:, :end]) for end in range(6, 46)]
            end = 5
            for n_new in (1, 4, 1, 9, 2, 23):
                end += n_new
                logits = several.step(ids[:, :end], n_new)
                torch.testing.assert_close(logits, expected[end - 6], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["gpt", "lstm", "llama"])
@pytest.mark.parametrize("cut", range(len(CUTS)))
def test_forced_runs_and_cuts_give_the_tunes_of_the_whole_mask(tokenizer, family, cut):
    (model, sampler), grammar = model_of(family, tokenizer), TokenGrammar.of(tokenizer)
    prompts = [HEAD + VOICES, "X:1\n"] if cut % 2 else [""]
    options = {"prompts": prompts, "n_new": 130, "seed": cut, **CUTS[cut]}
    fast, processor = generate_tunes(model, tokenizer, grammar, **options, **sampler)
    after = torch.rand(1)
    slow, _ = generate_tunes(model, tokenizer, grammar, **options, **ONE_BY_ONE)
    assert torch.equal(fast, slow)
    assert after == torch.rand(1)  # the generator has moved as far
    if len(prompts) == 1:
        assert 0.1 < processor.counts.n_forced / processor.counts.n_steps < 0.9


@pytest.mark.parametrize("family", ["gpt", "llama"])
def test_forced_runs_cross_the_context_as_single_steps_do(tokenizer, family, monkeypatch):
    (model, sampler), grammar = model_of(family, tokenizer, 24), TokenGrammar.of(tokenizer)
    options = {"prompts": [HEAD + VOICES, ""], "n_new": 200, **sampler}
    runs, _ = generate_tunes(model, tokenizer, grammar, **options)
    monkeypatch.setattr(TuneLogitsProcessor, "forced", lambda *args: None)
    single, processor = generate_tunes(model, tokenizer, grammar, **options)
    assert torch.equal(runs, single)
    assert processor.counts.n_forced == 0


def test_given_bars_of_a_plan_are_forced_runs(tokenizer):
    """Fill-in and accompaniment: what is given is read at once, and is what it was."""
    (model, _), grammar = model_of("gpt", tokenizer), TokenGrammar.of(tokenizer, PLANNED)
    given = "GABcGABcGABc"
    free = PlannedBar(full_bar_ticks("3/4"), "", (None, None), (None, None))
    beside = free._replace(given=(given, None))
    plan = Plan((free, beside, free), first=1, ends_tune=False)
    state = grammar.planned(f"{HEAD}{VOICES}[V:1]{given}|\n", plan)
    ids = tokenizer(f"{HEAD}{VOICES}[V:1]{given}|\n", return_tensors="pt")["input_ids"]
    outputs = []
    for path in ({}, ONE_BY_ONE):
        processor = TuneLogitsProcessor(grammar, 250, [state])
        set_seed(3)
        options = {"max_new_tokens": 250, "do_sample": True, "top_k": 0, **path}
        ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        outputs.append(model.generate(ids, logits_processor=[processor], **options, **ends))
    assert torch.equal(*outputs)
    assert f"[V:1]{given}|" in tokenizer.decode(outputs[0][0, ids.shape[1] :])


def test_the_only_token_is_the_only_legal_one(tokenizer):
    grammar = TokenGrammar.of(tokenizer, GENERATION)
    state, n_forced = grammar.read_prompt(""), 0
    generator = torch.Generator().manual_seed(0)
    for n_left in range(300, 0, -1):
        legal, only = grammar.legal(state, n_left), grammar.only(state)
        if only is not None:
            n_forced += 1
            assert legal == [only[0]]
            if only[1] is None:
                break
            assert only[1] == grammar.advance(state, only[0], n_left)
        token = legal[int(torch.randint(len(legal), (1,), generator=generator))]
        state = grammar.advance(state, token, n_left)
    assert n_forced > 50
