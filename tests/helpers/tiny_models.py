"""A tiny model of each family with random weights, and a tokenizer with a few characters."""

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

import modeling  # noqa: F401  (registers our own families)
from data_prep.tokens.passage_rows import add_marks
from data_prep.tokens.tokenizers import TokenSettings, train_tokenizer

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


def save_filling_model(folder):
    """Saves a tiny GPT with random weights, whose tokenizer can fill in; returns the folder."""
    train_tokenizer([], TokenSettings(tokenizer="char"), 256).save_pretrained(folder)
    add_marks(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos")}
    config = AutoConfig.for_model("abc_gpt", **shape, **ids, vocab_size=len(tokenizer))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder
