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
    """An available tokenizer.

    Attributes:
        name: Value of `tokens.tokenizer` in a data preset.
        label: Name in figures.
        about: Description in one line.
    """

    name: str
    label: str
    about: str


# The list of all tokenizers; `train_tokenizer` makes them.
TOKENIZERS = {
    kind.name: kind
    for kind in (
        # lossless, since the alphabet is the dialect's own
        TokenizerKind("char", "characters", "one token per character of the dialect"),
        # study A's vocabulary; other characters become `<unk>`, and are counted
        TokenizerKind("char64", "64 characters", "the most frequent characters, 64 tokens in all"),
        # study B's idea; lossless, since rare units fall back to characters
        TokenizerKind("note", "notes", "one token per note name, length, voice mark, header field"),
        # learned from the train split only, never across a bar line or line end
        TokenizerKind("bpe", "byte pairs", "byte-pair merges within a bar"),
    )
}
OF_MODEL = "model"  # the tokenizer of a trained model, for fine-tuning; see model_tokens.py
_CHAR64_SIZE = 64
_N_ASCII = 128
_TEXTS_AT_ONCE = 32  # an encoding takes some hundred bytes a token until its ids are extracted
# Units that `note` keeps whole: header fields, voice marks, notes with accidental and octave,
# lengths.
NOTE_UNITS = (
    r"%%MIDI [a-z]+ |[XMLQKV]:|\[V:\d+\]|[_=^]{0,2}[A-Ga-g][,']*|\d*/\d*|\d+|\(3(?::2:\d)?|.|\n"
)


@dataclass(frozen=True)
class TokenSettings:
    """Settings of the tokenizer.

    Attributes:
        tokenizer: One of `TOKENIZERS`, or `model`.
        vocab_size: For `bpe`: vocabulary size including special tokens; 0 for the others, whose
            size is not a setting.
        min_frequency: For `note`: units that are rarer in the train split are spelled in
            characters.
        min_tokens: Songs with fewer tokens are left out of all splits.
        max_tokens: Songs with more tokens are left out; 0 for no limit.
        tokenizer_sha256: For `model`: the digest of its tokenizer.json; set by model_tokens.py.
        folder: For `model`: folder of its tokenizer. Not a field, so that it is in no stage.json:
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
        texts: The train split; not used by the char tokenizer.
        settings: Settings of the tokenizer.
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
    # ignore_merges: a unit in the vocabulary is one token, any other falls back to characters.
    model = models.BPE(
        vocab=vocab, merges=[], unk_token=UNK, fuse_unk=False, ignore_merges=bool(units)
    )
    backend = Tokenizer(model)
    if settings.tokenizer == "bpe":
        # GPT-2's pattern separates letters from digits, which splits notes; bars stay whole here.
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
    # It may have been saved with truncation or padding enabled; songs are encoded whole here.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _most_frequent(texts: Iterable[str], count: int) -> str:
    """Returns the most frequent characters; ties go to the lower code point."""
    counts = Counter(itertools.chain.from_iterable(texts))
    return "".join(sorted(counts, key=lambda char: (-counts[char], char))[:count])


@cache
def load_encoder(file: Path) -> Callable[[Sequence[str]], Iterator[np.ndarray]]:
    """Returns the encoder of a tokenizer.json: texts -> the ids of each, (T,) uint16.

    It does not use transformers, whose call takes twice the time, since there is nothing to pad. If
    each token is one character, ids are looked up: the same result in a tenth of the time.
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

    table = np.full(_N_ASCII + 1, tokenizer.token_to_id(UNK), np.uint16)  # last: all other chars
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
