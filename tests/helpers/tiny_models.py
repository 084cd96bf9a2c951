"""A tiny model of each family with random weights, and a tokenizer with a few characters."""

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

import modeling  # noqa: F401  (registers our own families)

SPECIAL = ["<pad>", "<unk>", "<|endoftext|>"]
CHARS = SPECIAL + sorted(set("X:1\nM:4/4\nL:1/8\nK:C\nCDEF GABc|"))
FAMILIES = {
    "abc_gpt": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "abc_lstm": {"hidden_size": 24, "num_hidden_layers": 2},
}


def build(model_type, **changes):
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 2}
    settings = {"vocab_size": len(CHARS), **FAMILIES[model_type], **ids, **changes}
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings)).eval()


def char_tokenizer():
    vocab = {char: number for number, char in enumerate(CHARS)}
    raw = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", fuse_unk=False))
    raw.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<unk>",
        pad_token="<pad>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
