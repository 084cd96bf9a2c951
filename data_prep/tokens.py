"""Stage 5: tokenizers, each a plain tokenizer.json that AutoTokenizer loads without code.

`char`    one token per character of the dialect: lossless, since the alphabet is the dialect's own.
`bpe`     byte-pair merges on top, learned from the train split only, never across a line end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, UNK, END = "<pad>", "<unk>", "<|endoftext|>"
SPECIAL_TOKENS = (PAD, UNK, END)
# All that `tune.print_tune` can write. A test holds it against the converter's output.
DIALECT_ALPHABET = "".join(
    sorted(set("\n %%MIDIprogramchannelchordattackXMLQKV:/=^_,'|[]()-z#bABCDEFGabcdefg0123456789"))
)
TOKENIZERS = ("char", "bpe")


@dataclass(frozen=True)
class TokenSettings:
    """Which tokenizer.

    Attributes:
        tokenizer: One of `TOKENIZERS`.
        vocab_size: Of `bpe`, special tokens included; `char` takes what the dialect has (0).
    """

    tokenizer: str = "char"
    vocab_size: int = 0


def train_tokenizer(
    texts: Iterable[str], settings: TokenSettings, context_length: int
) -> PreTrainedTokenizerFast:
    """Makes a tokenizer.

    Args:
        texts: The train split; the char tokenizer does not look at it.
        settings: Which one.
        context_length: Stored as `model_max_length`.

    Raises:
        ValueError: For an unknown tokenizer.
    """
    if settings.tokenizer not in TOKENIZERS:
        raise ValueError(f"tokenizer {settings.tokenizer!r}, expected one of {TOKENIZERS}")
    vocab = {token: i for i, token in enumerate([*SPECIAL_TOKENS, *DIALECT_ALPHABET])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token=UNK, fuse_unk=False))
    if settings.tokenizer == "bpe":
        # GPT-2's pattern splits letters from digits, which tears notes apart; whole lines do best.
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n"), "merged_with_previous")
        trainer = trainers.BpeTrainer(
            vocab_size=settings.vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=list(DIALECT_ALPHABET),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=END,
        eos_token=END,
        unk_token=UNK,
        pad_token=PAD,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=context_length,
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Saves it so that `AutoTokenizer.from_pretrained(folder)` needs no code of ours."""
    tokenizer.save_pretrained(folder)
