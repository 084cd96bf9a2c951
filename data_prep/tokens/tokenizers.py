"""Stage 5: tokenizers, each a plain tokenizer.json that AutoTokenizer loads without code."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import InitVar, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ..dialect.notation import ALPHABET

PAD, UNK, END = "<pad>", "<unk>", "<|endoftext|>"
SPECIAL_TOKENS = (PAD, UNK, END)


@dataclass(frozen=True)
class TokenizerKind:
    """A tokenizer that can be had.

    Attributes:
        name: As `tokens.tokenizer` of a data preset has it.
        label: In figures.
        about: What it is, in a line.
    """

    name: str
    label: str
    about: str


# The one table of them; `train_tokenizer` makes them.
TOKENIZERS = {
    kind.name: kind
    for kind in (
        # lossless, since the alphabet is the dialect's own
        TokenizerKind("char", "characters", "one token per character of the dialect"),
        # study A's vocabulary; what is beyond becomes `<unk>`, and is counted
        TokenizerKind("char64", "64 characters", "the most frequent characters, 64 tokens in all"),
        # study B's idea; lossless, since what is rare falls back to characters
        TokenizerKind("note", "notes", "one token per note name, length, voice mark, header field"),
        # learned from the train split only, never across a bar line or line end
        TokenizerKind("bpe", "byte pairs", "byte-pair merges within a bar"),
    )
}
OF_MODEL = "model"  # none of its own: that of a trained model, for fine-tuning; see model_tokens.py
_CHAR64_SIZE = 64
_N_ASCII = 128
_TEXTS_AT_ONCE = 32  # an encoding takes some hundred bytes a token until its ids are taken out
# What `note` keeps whole: header fields, voice marks, notes with accidental and octave, lengths.
NOTE_UNITS = (
    r"%%MIDI [a-z]+ |[XMLQKV]:|\[V:\d+\]|[_=^]{0,2}[A-Ga-g][,']*|\d*/\d*|\d+|\(3(?::2:\d)?|.|\n"
)


@dataclass(frozen=True)
class TokenSettings:
    """Which tokenizer.

    Attributes:
        tokenizer: One of `TOKENIZERS`, or `model`.
        vocab_size: Of `bpe`, special tokens included; 0 for the others, which take what they need.
        min_frequency: Of `note`: a unit that is rarer in the train split is written in characters.
        min_tokens: Songs of fewer tokens are left out of all splits.
        max_tokens: Songs of more tokens are left out; 0 for no limit.
        tokenizer_sha256: Of `model`: the digest of its tokenizer.json; model_tokens.py sets it.
        folder: Of `model`: where its tokenizer lies. Not a field, so that no stage.json has it:
            the same tokenizer elsewhere makes the same tokens.
    """

    tokenizer: str = "char"
    vocab_size: int = 0
    min_frequency: int = 2
    min_tokens: int = 0
    max_tokens: int = 0
    tokenizer_sha256: str = ""
    folder: InitVar[Path | None] = None

    def __post_init__(self, folder: Path | None) -> None:
        object.__setattr__(self, "folder", folder)
        if self.tokenizer not in (*TOKENIZERS, OF_MODEL):
            known = "; ".join(f"{kind.name} ({kind.about})" for kind in TOKENIZERS.values())
            raise ValueError(
                f"tokenizer is {self.tokenizer!r}, expected one of: {known}; {OF_MODEL} (that of a "
                "trained model)"
            )
        smallest = len(SPECIAL_TOKENS) + len(ALPHABET) + 1
        if self.tokenizer == "bpe" and not smallest <= self.vocab_size <= 2**16:
            raise ValueError(
                f"vocab_size is {self.vocab_size}, expected {smallest} to 65536 for tokenizer bpe"
            )


def train_tokenizer(
    texts: Iterable[str], settings: TokenSettings, context_length: int
) -> PreTrainedTokenizerFast:
    """Makes a tokenizer.

    Args:
        texts: The train split; the char tokenizer does not look at it.
        settings: Which one.
        context_length: Stored as `model_max_length`.
    """
    if settings.tokenizer == OF_MODEL:
        return _load_tokenizer(settings.folder, context_length)
    alphabet = ALPHABET
    if settings.tokenizer == "char64":
        alphabet = _most_frequent(texts, _CHAR64_SIZE - len(SPECIAL_TOKENS))
    vocab = {token: i for i, token in enumerate([*SPECIAL_TOKENS, *alphabet])}
    units: list[str] = []
    if settings.tokenizer == "note":
        counts = Counter(unit for text in texts for unit in re.findall(NOTE_UNITS, text))
        units = sorted(
            u for u, n in counts.items() if n >= settings.min_frequency and u not in vocab
        )
        vocab |= {unit: len(vocab) + i for i, unit in enumerate(units)}
    # ignore_merges: a unit of the vocabulary is taken whole, any other falls back to characters.
    model = models.BPE(
        vocab=vocab, merges=[], unk_token=UNK, fuse_unk=False, ignore_merges=bool(units)
    )
    backend = Tokenizer(model)
    if settings.tokenizer == "bpe":
        # GPT-2's pattern splits letters from digits, which tears notes apart; bars stay whole here.
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|\|\]?"), "merged_with_previous")
        trainer = trainers.BpeTrainer(
            vocab_size=settings.vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=list(ALPHABET),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
    elif settings.tokenizer == "note":
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(NOTE_UNITS), "isolated")
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


def _load_tokenizer(folder: Path, context_length: int) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(
        folder, local_files_only=True, model_max_length=context_length
    )
    # Whoever saved it may have cut or filled up texts with it; songs are taken whole here.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _most_frequent(texts: Iterable[str], count: int) -> str:
    """Returns the most frequent characters, the lower code point first among equals."""
    counts = Counter(itertools.chain.from_iterable(texts))
    return "".join(sorted(counts, key=lambda char: (-counts[char], char))[:count])


@cache
def load_encoder(file: Path) -> Callable[[Sequence[str]], Iterator[np.ndarray]]:
    """Returns what encodes texts by a tokenizer.json: texts -> the ids of each, (T,) uint16.

    Not through transformers: its call takes twice the time, and here there is nothing to pad. Where
    each token is one character, the ids are looked up, which gives the same in a tenth of the time.
    """
    tokenizer = Tokenizer.from_file(str(file))
    said = json.loads(file.read_text("utf-8"))
    vocab = {text: i for text, i in said["model"]["vocab"].items() if text not in SPECIAL_TOKENS}
    rules = (said["normalizer"], said["pre_tokenizer"], said["model"]["merges"])
    is_characters = not any(rules) and all(len(text) == 1 and text.isascii() for text in vocab)

    def encode(texts: Sequence[str]) -> Iterator[np.ndarray]:
        for first in range(0, len(texts), _TEXTS_AT_ONCE):
            some = texts[first : first + _TEXTS_AT_ONCE]
            for encoding in tokenizer.encode_batch_fast(some, add_special_tokens=False):
                yield np.array(encoding.ids, np.uint16)

    table = np.full(_N_ASCII + 1, tokenizer.token_to_id(UNK), np.uint16)  # the last: all others
    for text, i in vocab.items() if is_characters else ():
        table[ord(text)] = i

    def look_up(texts: Sequence[str]) -> Iterator[np.ndarray]:
        for text in texts:
            if any(token in text for token in SPECIAL_TOKENS):
                yield from encode([text])
            else:
                points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
                yield table[np.minimum(points, _N_ASCII)]

    return look_up if is_characters else encode
