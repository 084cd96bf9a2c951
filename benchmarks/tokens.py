"""The tokenizers on held-out music: how short, lossless and fast, compared with two common ones.

    python benchmarks/tokens.py data/<dataset>/<preset> [--train-chars 0] [--only note bpe_4096]

The folder is a dataset from `make data`. Each tokenizer is trained only on its train split, in a
separate process, and measured on its validation split. Peers are byte-level byte-pair tokenizers
of 4096 tokens, 256 of them the bytes, trained on the same songs:

    bytes_gpt2_4096   text split by GPT-2's pattern into words, numbers and what is between
    bytes_lines_4096  text split only at line ends, so that a token may span several voices of a bar

The columns, and the keys of the JSON:

    vocab_size         tokens of the vocabulary, special ones included: rows of the embedding
    vocab_used         of these, the tokens that occur in the validation split
    chars_per_token    characters of the validation split over its tokens
    tokens_per_note    its tokens over its notes, each note of a chord counted
    unknown_share      tokens that are <unk>, over its tokens
    round_trip_share   songs of ALL splits for which decode(encode(song)) is unchanged, over all
                       songs; for our tokenizers only
    encode_mb_per_second               10^6 characters of the validation split per CPU second, one
                       thread, as in stage 5: encode_batch_fast with 32 songs per batch; the median
                       of the rounds
    encode_mb_per_second_transformers  the same by calling AutoTokenizer; rounds interleaved
    train_seconds      CPU time of training, one thread, including reading the songs
    train_peak_memory_mb   peak memory of the process until the end of training, in 10^6 bytes;
                       about 500 of it are libraries and reading
    chars_per_token_ratio  of a peer: chars_per_token of bpe_4096 over the peer's, if both ran

The JSON contains `dataset`, `train_chars` (characters trained on), `tokenizers` and `peers` (name
-> keys above), and `versions`.

bytes_lines_4096 needs about 5 GB of memory for 100 million characters: lines hardly ever repeat.
--train-chars uses the songs with the lowest digests up to that many characters, for all tokenizers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.compute as pc
import tokenizers
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_prep.selection.split import SPLITS
from data_prep.storage.parts import parts_of_file
from data_prep.storage.stages import measure_resources, worker_pool
from data_prep.tokens.tokenizers import END, SPECIAL_TOKENS, UNK, TokenSettings, train_tokenizer

CONTEXT = 1024  # only stored in the tokenizer
SONGS_AT_ONCE = 32  # as in stage 5
ROUNDS = 3
OURS = {
    "char": TokenSettings("char"),
    "char64": TokenSettings("char64"),
    "note": TokenSettings("note"),
    "bpe_4096": TokenSettings("bpe", 4096),
    "bpe_20000": TokenSettings("bpe", 20000),
}
COMPARED, PEER_SIZE = "bpe_4096", 4096
PEERS = {
    "bytes_gpt2_4096": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    "bytes_lines_4096": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "merged_with_previous"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
}
COLUMNS = {
    "vocab_size": ("tokens", "{:,}"),
    "vocab_used": ("used", "{:,}"),
    "chars_per_token": ("chars/token", "{:.3f}"),
    "tokens_per_note": ("tokens/note", "{:.3f}"),
    "unknown_share": ("unknown", "{:.2e}"),
    "round_trip_share": ("round trip", "{:.4f}"),
    "encode_mb_per_second": ("MB/s", "{:.2f}"),
    "encode_mb_per_second_transformers": ("MB/s Auto", "{:.2f}"),
    "train_seconds": ("train s", "{:.1f}"),
    "train_peak_memory_mb": ("peak MB", "{:,}"),
    "chars_per_token_ratio": ("ratio", "{:.3f}"),
}


# ---------------------------------------------------------------- songs


def split_file(dataset: Path, split: str) -> Path:
    """Returns the path of a split's table.

    Raises:
        FileNotFoundError: If the folder is not a dataset.
    """
    file = dataset / "4_split" / f"{split}.parquet"
    if not file.is_file():
        raise FileNotFoundError(f"{file} not found; expected a folder from make data")
    return file


def read_texts(dataset: Path, split: str) -> Iterator[str]:
    """Yields the songs of a split, with one part of the table in memory at a time."""
    for part in parts_of_file(split_file(dataset, split)):
        yield from part.read(["abc"])["abc"].to_pylist()


def last_digest(dataset: Path, train_chars: int) -> str:
    """Returns the last digest of the train songs that fit in `train_chars` (0: of all songs).

    Raises:
        ValueError: If not even one song fits.
    """
    parts = parts_of_file(split_file(dataset, "train"))
    rows = [row for part in parts for row in part.read(["digest", "n_chars"]).to_pylist()]
    rows.sort(key=lambda row: row["digest"])
    ends = np.cumsum([row["n_chars"] for row in rows])
    n_songs = np.searchsorted(ends, train_chars, side="right") if train_chars else len(rows)
    if not n_songs:
        raise ValueError(
            f"{train_chars} train characters are less than one song; expected at least "
            f"{ends[0]:,}, or 0 for all"
        )
    return rows[n_songs - 1]["digest"]


def learned_texts(dataset: Path, train_chars: int) -> Iterator[str]:
    """Yields the train songs with the lowest digests, up to `train_chars` characters (0: all)."""
    last = last_digest(dataset, train_chars)
    for part in parts_of_file(split_file(dataset, "train")):
        rows = part.read(["digest", "abc"])
        yield from rows.filter(pc.less_equal(rows["digest"], last))["abc"].to_pylist()


# ---------------------------------------------------------------- one tokenizer


def train_peer(
    texts: Iterator[str], pre_tokenizer: pre_tokenizers.PreTokenizer
) -> PreTrainedTokenizerFast:
    """Trains a byte-level byte-pair tokenizer of `PEER_SIZE` tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizer
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=PEER_SIZE,
        special_tokens=list(SPECIAL_TOKENS),  # as many as ours have
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, unk_token=UNK)


def train(name: str, dataset: Path, train_chars: int) -> tuple[PreTrainedTokenizerFast, dict]:
    """Trains a tokenizer of `OURS` or `PEERS`; returns it with its time and peak memory."""
    texts = learned_texts(dataset, train_chars)
    start = time.process_time()
    if name in OURS:
        tokenizer = train_tokenizer(texts, OURS[name], CONTEXT)
    else:
        tokenizer = train_peer(texts, PEERS[name])
    cost = measure_resources(time.process_time() - start, workers=1)
    return tokenizer, {
        "train_seconds": cost["seconds"],
        "train_peak_memory_mb": cost["peak_memory_mb_main"],
    }


Encode = Callable[[list[str]], list[list[int]]]


def in_batches(encode: Encode, texts: list[str]) -> list[list[int]]:
    """Encodes songs in batches of `SONGS_AT_ONCE`."""
    starts = range(0, len(texts), SONGS_AT_ONCE)
    return [ids for start in starts for ids in encode(texts[start : start + SONGS_AT_ONCE])]


def speeds(ways: dict[str, Encode], texts: list[str]) -> dict[str, float]:
    """Returns the median speed of each way to encode, in 10^6 characters per CPU second."""
    n_chars = sum(map(len, texts))
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, encode in ways.items():
            start = time.process_time()
            in_batches(encode, texts)
            found[name].append(n_chars / 1e6 / (time.process_time() - start))
    return {name: median(values) for name, values in found.items()}


def held_out(encode: Encode, unknown: int | None, dataset: Path, texts: list[str]) -> dict:
    """Returns the figures of the validation split, except speeds."""
    parts = parts_of_file(split_file(dataset, "validation"))
    n_notes = sum(pc.sum(part.read(["n_notes"])["n_notes"]).as_py() for part in parts)
    ids = np.concatenate(in_batches(encode, texts))
    return {
        "vocab_used": len(np.unique(ids)),
        "chars_per_token": sum(map(len, texts)) / len(ids),
        "tokens_per_note": len(ids) / n_notes,
        "unknown_share": float(np.mean(ids == unknown)),
    }


def round_trip_share(encode: Encode, tokenizer: PreTrainedTokenizerFast, dataset: Path) -> float:
    """Returns the share of all songs whose text survives the round trip, in [0, 1]."""
    same = [
        tokenizer.decode(ids) == text
        for split in SPLITS
        for text in read_texts(dataset, split)
        for ids in encode([text])
    ]
    return sum(same) / len(same)


def measure(name: str, dataset: Path, train_chars: int) -> dict[str, Any]:
    """Trains one tokenizer and returns its figures; see the module docstring."""
    transformers.logging.set_verbosity_error()  # songs are longer than the context, by design
    trained, cost = train(name, dataset, train_chars)
    with tempfile.TemporaryDirectory() as folder:
        # Measure what a user has: the saved file, opened as in stage 5 and by AutoTokenizer.
        trained.save_pretrained(folder)
        backend = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        tokenizer = AutoTokenizer.from_pretrained(folder)
    ways = {
        "encode_mb_per_second": lambda batch: [
            encoding.ids for encoding in backend.encode_batch_fast(batch, add_special_tokens=False)
        ],
        "encode_mb_per_second_transformers": lambda batch: tokenizer(
            batch, add_special_tokens=False
        )["input_ids"],
    }
    encode = ways["encode_mb_per_second"]
    texts = list(read_texts(dataset, "validation"))
    figures = held_out(encode, tokenizer.unk_token_id, dataset, texts)
    if name in OURS:
        figures["round_trip_share"] = round_trip_share(encode, tokenizer, dataset)
    return {"vocab_size": len(tokenizer), **figures, **speeds(ways, texts), **cost}


# ---------------------------------------------------------------- the run


def run(names: list[str], dataset: Path, train_chars: int) -> dict[str, dict[str, Any]]:
    """Measures tokenizers one after the other, each in a fresh process of one thread."""
    os.environ |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    found = {}
    for name in names:
        with worker_pool(1) as pool:  # a new process each, since peak memory never decreases
            found[name] = pool.schedule(measure, [name, dataset, train_chars]).result()
        print_row(name, found[name])
    if COMPARED in found:
        for name in PEERS.keys() & found.keys():
            ratio = found[COMPARED]["chars_per_token"] / found[name]["chars_per_token"]
            found[name]["chars_per_token_ratio"] = ratio
    return found


def print_row(name: str, row: dict[str, Any]) -> None:
    """Prints one line of the table; missing values stay empty."""
    cells = [form.format(row[key]) if key in row else "" for key, (_, form) in COLUMNS.items()]
    print(f"{name:17}" + "".join(f"{cell:>12}" for cell in cells), flush=True)


def main() -> None:
    """Print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--train-chars", type=int, default=0, help="characters to train on; 0: all")
    parser.add_argument("--only", nargs="+", choices=[*OURS, *PEERS], default=[*OURS, *PEERS])
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_tokens.json"))
    options = parser.parse_args()
    n_chars = sum(map(len, learned_texts(options.dataset, options.train_chars)))
    print(f"{n_chars:,} train characters")
    print(" " * 17 + "".join(f"{title:>12}" for title, _ in COLUMNS.values()))
    found = run(options.only, options.dataset, options.train_chars)
    result = {
        "dataset": str(options.dataset),
        "train_chars": n_chars,
        "tokenizers": {name: row for name, row in found.items() if name in OURS},
        "peers": {name: row for name, row in found.items() if name in PEERS},
        "versions": {part.__name__: part.__version__ for part in (tokenizers, transformers)},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"-> {options.out}")


if __name__ == "__main__":
    main()
