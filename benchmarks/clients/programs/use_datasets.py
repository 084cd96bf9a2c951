"""datasets: the published songs, tokenized by a folder's tokenizer, as its card says."""

import os

from datasets import load_dataset
from report import report
from transformers import AutoTokenizer

SPLITS = ("train", "validation", "test")


def check(folder: str, trust: bool, context: int) -> str:
    """Each row must begin with the start token, once, and decode to its text."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    splits = load_dataset(os.environ["SONGS"])
    if tuple(splits) != SPLITS:
        raise ValueError(f"splits {tuple(splits)}, expected {SPLITS}")
    songs = splits["validation"]
    rows = songs.map(lambda row: tokenizer(row["abc"], verbose=False))
    for row in rows:
        ids = row["input_ids"]
        if ids[0] != tokenizer.bos_token_id or ids[1:].count(ids[0]):
            raise ValueError(f"a row begins with the tokens {ids[:3]}")
        if tokenizer.decode(ids[1:]) != row["abc"]:
            raise ValueError(f"tokens do not decode to the text {row['abc'][:40]!r}")
    counts = ", ".join(f"{len(splits[name]):,} {name}" for name in SPLITS)
    return f"songs: {counts}; tokens of validation decode to their texts"


report(check)
