"""Stages 5 and 6 where passages in fill-in form are added to the train songs; see fill_in.py.

A passage is a sequence of its own that fits a block, so it is never cut: its block is filled up
with the remainders of the plain songs.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import IO

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from ..dialect.notation import FILL_IN_TOKENS
from .fill_in import FillInSettings, added_passages, is_chosen, passages
from .tokenizers import UNK, load_encoder

_OF_SONGS = ("n_chars", "n_notes", "n_bars", "n_seconds")  # 0 in the rows of passages


def add_marks(folder: Path) -> int:
    """Adds `FILL_IN_TOKENS` to the tokenizer of a folder; returns the size of its vocabulary."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": list(FILL_IN_TOKENS)})
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def passage_rows(
    rows: Dataset, tokenizer_file: Path, block_length: int, settings: FillInSettings
) -> tuple[Dataset, Counter[str]]:
    """Adds passages of a share of the encoded songs, one row each, after the songs.

    A song with characters that the tokenizer lacks has none.

    Args:
        rows: Rows of stage 5.
        tokenizer_file: The tokenizer.json with the three marks.
        block_length: Longest sequence, with its start and end.
        settings: Which songs, and how.

    Returns:
        The rows; and counts: `n_fill_in_songs`, `n_passages`, `n_tokens` of all rows.
    """
    tokenizer, encoder = Tokenizer.from_file(str(tokenizer_file)), load_encoder(tokenizer_file)
    marks = [tokenizer.token_to_id(mark) for mark in FILL_IN_TOKENS]
    unknown = tokenizer.token_to_id(UNK)
    table = rows.with_format("arrow")[:].to_pylist()
    added = []
    counts = Counter(n_fill_in_songs=0, n_passages=0)

    def n_tokens(text: str) -> int:
        return len(next(iter(encoder([text]))))

    for row in table:
        if not is_chosen(row["digest"], settings) or unknown in row["input_ids"]:
            continue
        abc = tokenizer.decode(row["input_ids"])
        found = passages(abc, row["digest"], block_length, n_tokens, settings)
        counts["n_fill_in_songs"] += 1
        for passage in added_passages(row["digest"], found):
            parts = encoder((passage.prefix, passage.suffix, passage.middle_text))
            ids = [each for mark, part in zip(marks, parts, strict=True) for each in (mark, *part)]
            added.append(row | dict.fromkeys(_OF_SONGS, 0) | {"input_ids": ids})
    counts["n_passages"] = len(added)
    counts["n_tokens"] = sum(len(row["input_ids"]) for row in (*table, *added))
    schema = rows.features.arrow_schema
    found_rows = pa.Table.from_pylist([*table, *added], schema=schema)
    return Dataset(found_rows, datasets.DatasetInfo(features=rows.features)), counts


def heads_passages_rests(
    songs: Iterable[np.ndarray], marks: list[int], end_id: int, block_length: int, folder: Path
) -> Iterator[np.ndarray]:
    """Yields the part of each plain song that fills blocks, the passages, and the remainders.

    A passage has the end token before and after it. As many as fit share a block, which is filled
    up from the remainders of the plain songs, or with end tokens once these are used up.

    Args:
        songs: Ids of each song or passage, (n,) integers.
        marks: Ids of `FILL_IN_TOKENS`; a passage starts with the first of them.
        end_id: Id of the token that starts and ends a sequence.
        block_length: T.
        folder: For temporary files.
    """
    with tempfile.TemporaryFile(dir=folder) as rests, tempfile.TemporaryFile(dir=folder) as moved:
        lengths = [0]
        for song in songs:
            ids = np.concatenate([[end_id], song, [end_id]]).astype("<u2")
            if len(song) and song[0] == marks[0]:
                lengths.append(lengths[-1] + len(ids))
                moved.write(ids.tobytes())
                continue
            cut = len(ids) - len(ids) % block_length
            yield ids[:cut]
            rests.write(ids[cut:].tobytes())
        rests.seek(0)
        moved.seek(0)
        block = np.empty(0, "<u2")
        for start, stop in pairwise(lengths):
            if len(block) + stop - start > block_length:
                yield _filled(block, rests, end_id, block_length)
                block = np.empty(0, "<u2")
            block = np.concatenate([block, np.frombuffer(moved.read(2 * (stop - start)), "<u2")])
        if len(block):
            yield _filled(block, rests, end_id, block_length)
        while data := rests.read(2**24):
            yield np.frombuffer(data, "<u2")


def _filled(block: np.ndarray, rests: IO[bytes], end_id: int, block_length: int) -> np.ndarray:
    """Returns passages, (n,) with n <= T, filled up to (T,)."""
    filler = np.frombuffer(rests.read(2 * (block_length - len(block))), "<u2")
    n_missing = block_length - len(block) - len(filler)
    return np.concatenate([block, filler, np.full(n_missing, end_id, "<u2")])
