"""A tokenizer of characters or byte pairs -> the tokenizer inside a GGUF file."""

import json

import gguf
from gguf import TokenType
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerBase

SPACE = "▁"  # how llama.cpp's SentencePiece tokenizer writes a space


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase) -> None:
    """Writes the tokens, how they are joined, and that a start token goes before each prompt.

    Without merges, llama.cpp's BPE with GPT-2's pattern reads a text as its characters, as ours
    does. With merges, that pattern would split notes, and no pattern of llama.cpp leaves a text
    whole. Its SentencePiece tokenizer does: it joins the neighbors whose token was learned first.
    Unlike ours it asks only whether the joined text is a token, not for the pair that was learned;
    `check_tokens` compares texts.

    Raises:
        ValueError: If the tokenizer is of another kind.
    """
    said = json.loads(tokenizer.backend_tokenizer.to_str())
    model = said["model"]
    if model["type"] != "BPE" or model["ignore_merges"]:
        raise ValueError(
            "the tokenizer splits texts by rules that GGUF files cannot hold; expected characters "
            "or byte pairs: publish without this format"
        )
    special = set(tokenizer.all_special_ids)
    texts = [tokenizer.convert_ids_to_tokens(i) for i in range(len(tokenizer))]
    types = [TokenType.CONTROL if i in special else TokenType.NORMAL for i in range(len(texts))]
    types[tokenizer.unk_token_id] = TokenType.UNKNOWN
    if model["merges"]:
        writer.add_tokenizer_model("llama")
        ranks = {"".join(pair): rank for rank, pair in reversed(list(enumerate(model["merges"])))}
        writer.add_token_list([text.replace(" ", SPACE) for text in texts])
        writer.add_token_scores([float(-ranks.get(text, 0)) for text in texts])
        writer.add_add_space_prefix(False)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        spelled = [text if i in special else _in_bytes(text) for i, text in enumerate(texts)]
        writer.add_token_list(spelled)
        # llama.cpp refuses a file without merges; texts never hold these two as characters
        writer.add_token_merges([f"{tokenizer.pad_token} {tokenizer.unk_token}"])
    writer.add_token_types(types)
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_unk_token_id(tokenizer.unk_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(True)


def _in_bytes(text: str) -> str:
    """Returns a token as GPT-2 writes it, one letter for each byte: a newline is Ċ."""
    ((spelled, _),) = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return spelled
