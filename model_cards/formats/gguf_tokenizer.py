"""A tokenizer of characters -> the tokenizer inside a GGUF file."""

import json

import gguf
from gguf import TokenType
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerBase


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase) -> None:
    """Writes the tokens, and that a start token goes before each prompt.

    llama.cpp knows tokenizers by name only. Its BPE with GPT-2's pattern reads a text as its
    characters if there are no merges, as ours does. All of its patterns split notes or bars, so it
    cannot read other tokenizers of ours.

    Raises:
        ValueError: If a token is more than a character.
    """
    said = json.loads(tokenizer.backend_tokenizer.to_str())
    if said["model"]["merges"] or said["pre_tokenizer"]:
        raise ValueError(
            "this model's tokenizer splits texts in a way that llama.cpp does not know; expected a "
            "tokenizer of characters: publish without the format gguf"
        )
    special = set(tokenizer.all_special_ids)
    texts = [tokenizer.convert_ids_to_tokens(i) for i in range(len(tokenizer))]
    types = [TokenType.CONTROL if i in special else TokenType.NORMAL for i in range(len(texts))]
    types[tokenizer.unk_token_id] = TokenType.UNKNOWN
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(
        [text if i in special else _in_bytes(text) for i, text in enumerate(texts)]
    )
    writer.add_token_types(types)
    # llama.cpp refuses a file without merges; texts never hold these two as characters
    writer.add_token_merges([f"{tokenizer.pad_token} {tokenizer.unk_token}"])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_unk_token_id(tokenizer.unk_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(True)


def _in_bytes(text: str) -> str:
    """Returns a token as GPT-2 writes it, one letter for each byte: a newline is Ċ."""
    ((spelled, _),) = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return spelled
