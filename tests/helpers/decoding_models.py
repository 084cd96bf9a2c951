"""Models with random weights that prefer some tokens clearly, and sampling from them."""

import functools

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, set_seed

from modeling import AbcGPTConfig, AbcGPTForCausalLM, AbcLSTMConfig, AbcLSTMForCausalLM
from modeling.decoding_abc_llama import sample_llama
from modeling.grammar_abc_decoding import TuneLogitsProcessor


def build(family, **changes):
    """A small model that prefers some tokens clearly, and not the same ones for ever."""
    special = {"vocab_size": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    torch.manual_seed(0)
    if family == "gpt":
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        shape |= {"max_position_embeddings": 64, "initializer_range": 0.4}
        return AbcGPTForCausalLM(AbcGPTConfig(**{**special, **shape, **changes})).eval()
    if family == "llama":
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        shape |= {"max_position_embeddings": 64, "initializer_range": 0.3}
        shape |= {"intermediate_size": 86, "tie_word_embeddings": True}
        model = LlamaForCausalLM(LlamaConfig(**{**special, **shape, **changes})).eval()
        model.generate = functools.partial(model.generate, custom_generate=sample_llama)
        return model
    shape = {"hidden_size": 24, "num_hidden_layers": 2}
    model = AbcLSTMForCausalLM(AbcLSTMConfig(**{**special, **shape, **changes})).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2.0)
    return model


def tokens(rows, length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, 20, (rows, length), generator=generator)


def padded(*lengths):
    """Rows of these lengths, padded on the left, and their mask."""
    longest = max(lengths)
    rows = [tokens(1, length, seed=length) for length in lengths]
    rows = [torch.nn.functional.pad(row, (longest - row.shape[1], 0)) for row in rows]
    batch = torch.cat(rows)
    return {"input_ids": batch, "attention_mask": (batch != 0).long()}


def generate(model, seed=0, **options):
    torch.manual_seed(seed)
    return model.generate(**options)


def make_model(tokenizer, model_type="abc_gpt"):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": len(tokenizer)}
    ids = {f"{n}_token_id": getattr(tokenizer, f"{n}_token_id") for n in ("bos", "eos", "pad")}
    more = {"num_attention_heads": 2, "max_position_embeddings": 512}
    config = AutoConfig.for_model(
        model_type, **shape, **ids, **(more if model_type == "abc_gpt" else {})
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():  # a model of any opinion, however wrong
        for weight in model.parameters():
            weight.mul_(8.0)
    return model


def generate_tunes(model, tokenizer, tokens, prompts=None, n_new=200, seed=1, **more):
    prompts = prompts or [""]
    ids = [[tokenizer.bos_token_id, *tokenizer(p)["input_ids"]] for p in prompts]
    inputs = tokenizer.pad({"input_ids": ids}, padding_side="left", return_tensors="pt")
    processor = TuneLogitsProcessor(tokens, n_new)
    set_seed(seed)
    sampling = {"do_sample": True, "top_k": 0} | more
    out = model.generate(
        **inputs,
        max_new_tokens=n_new,
        pad_token_id=tokenizer.pad_token_id,
        logits_processor=[processor],
        **{"eos_token_id": tokenizer.eos_token_id} | sampling,
    )
    return out, processor
