"""Stages 2 to 6 over a corpus: each reads the files of the stage before and writes its own.

Rows go through `datasets.map`; what is done to one tune stands in tune_rows.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset
from transformers import AutoTokenizer

from .blocks import cut_blocks, cut_stream
from .duplicates import clusters
from .settings import DataSettings
from .split import SPLITS, split_of
from .stages import run_stage
from .tokens import TokenSettings, train_tokenizer
from .tune_rows import DROPPED, MEASURED, clean_row, drop_duplicate, filter_row

DIALECT = ("notation", "bar_reader", "tune", "tune_parser", "abc_to_midi")


class CorpusStages:
    """The stages after conversion; each reads the files of the one before.

    Attributes:
        settings: The data preset.
        folder: `data/<dataset>/<preset>`.
        cache: For what `datasets` leaves on the way.
        shards: Of the conversion.
        done: Stage name -> content of its stage.json; at first that of the conversion.
    """

    def __init__(
        self,
        settings: DataSettings,
        folder: Path,
        cache: Path,
        shards: list[Path],
        conversion: dict[str, Any],
    ) -> None:
        self.settings, self.folder = settings, folder
        self.cache, self.shards = cache, shards
        self.done = {"1_abc": conversion}

    def run(self) -> dict[str, dict[str, Any]]:
        """Runs all stages; returns stage name -> content of its stage.json."""
        self._stage(
            "2_clean",
            self._digest("1_abc"),
            asdict(self.settings.clean) | {"duplicates": asdict(self.settings.duplicates)},
            (*DIALECT, "clean", "duplicates"),
            self._clean,
        )
        self._stage(
            "3_filtered",
            self._digest("2_clean"),
            asdict(self.settings.filter) | {"duplicates": asdict(self.settings.duplicates)},
            (*DIALECT, "clean", "filter_tunes", "duplicates"),
            self._filter,
        )
        self._stage(
            "4_split",
            self._digest("3_filtered"),
            asdict(self.settings.split),
            ("split",),
            self._split,
        )
        context = {"context_length": self.settings.blocks.block_length}
        self._stage(
            "5_tokens",
            self._digest("4_split"),
            asdict(self.settings.tokens) | context,
            ("tokens",),
            self._tokens,
        )
        self._stage(
            "6_blocks",
            self._digest("5_tokens"),
            asdict(self.settings.blocks),
            ("blocks",),
            self._blocks,
        )
        return self.done

    def _digest(self, name: str) -> list[str]:
        return [self.done[name]["digest"]]

    def _stage(
        self,
        name: str,
        inputs: list[str],
        settings: dict[str, Any],
        modules: tuple[str, ...],
        work: Callable[[Path], dict[str, Any]],
    ) -> None:
        self.done[name] = run_stage(
            self.folder / name,
            inputs=inputs,
            settings=settings,
            modules=(*modules, "corpus", "tune_rows"),
            work=work,
        )

    def _read(self, *paths: Path) -> Dataset:
        datasets.disable_progress_bars()  # of the reading; those of the stages' map stay
        rows = Dataset.from_parquet([str(p) for p in paths], cache_dir=str(self.cache))
        datasets.enable_progress_bars()
        return rows

    def _clean(self, out: Path) -> dict[str, Any]:
        rows = _without_dropped(self._read(*self.shards), "conversion")
        rows = rows.remove_columns("message")
        clean = partial(clean_row, settings=self.settings)
        features = datasets.Features({**rows.features, **MEASURED, **DROPPED})
        rows = rows.map(clean, desc="clean", features=features)
        counts = Counter(reason for reason in rows["drop_reason"] if reason)
        kept = _without_dropped(rows, "cleaning")
        _save(kept, out / "tunes.parquet")
        return _counted(len(rows), counts) | _sums(kept)

    def _filter(self, out: Path) -> dict[str, Any]:
        rows = self._read(self.folder / "2_clean" / "tunes.parquet")
        n_notes_in = sum(rows["n_notes"])
        choose = partial(filter_row, settings=self.settings)
        features = datasets.Features({**rows.features, **DROPPED})
        rows = rows.map(choose, desc="filter", features=features)
        digests = rows["digest"]
        rows = rows.select(sorted(range(len(rows)), key=digests.__getitem__))
        if self.settings.filter.drop_duplicates:
            # Which of several stays is decided by the digests, not by the files' order.
            seen: set[str] = set()
            rows = rows.map(partial(drop_duplicate, seen=seen), desc="duplicates")
        counts = Counter(reason for reason in rows["drop_reason"] if reason)
        kept = _without_dropped(rows, "filtering")
        ids = clusters(_sketches(kept), kept["fingerprint"], self.settings.duplicates)
        kept = kept.remove_columns(["figures", "fingerprint"]).add_column("cluster_id", ids)
        _save(kept, out / "tunes.parquet")
        sizes = Counter(ids).values()
        clustered = {
            "n_notes_in": n_notes_in,
            "n_clusters": len(sizes),
            "n_songs_with_near_duplicates": sum(size for size in sizes if size > 1),
            "largest_cluster": max(sizes),
        }
        return _counted(len(rows), counts) | clustered | _sums(kept)

    def _split(self, out: Path) -> dict[str, Any]:
        rows = self._read(self.folder / "3_filtered" / "tunes.parquet")
        by = "cluster_id" if self.settings.split.by == "cluster" else "path"
        where = [split_of(name, self.settings.split) for name in rows[by]]
        counts = {}
        for split in SPLITS:
            part = rows.select([i for i, name in enumerate(where) if name == split])
            if not len(part):
                raise ValueError(
                    f"the {split} split is empty: {len(rows)} songs, of which it takes its share "
                    "by chance; give more music, or raise split.validation and split.test"
                )
            _save(part, out / f"{split}.parquet")
            counts[split] = _sums(part)
        return {"rows_in": len(rows), "rows_out": len(rows), "splits": counts}

    def _tokens(self, out: Path) -> dict[str, Any]:
        context = self.settings.blocks.block_length
        train = self._read(self.folder / "4_split" / "train.parquet")
        tokenizer = train_tokenizer(_texts(train), self.settings.tokens, context)
        tokenizer.save_pretrained(out)
        counts = {}
        for split in SPLITS:
            rows = self._read(self.folder / "4_split" / f"{split}.parquet")
            encode = partial(_encode, tokenizer=tokenizer)
            columns = [name for name in rows.column_names if name not in _TOKEN_COLUMNS]
            rows = rows.map(
                encode,
                batched=True,
                remove_columns=columns,
                desc=f"tokens of {split}",
                features=_TOKEN_FEATURES,
            )
            rows, dropped = _of_length(rows, self.settings.tokens)
            unknown = sum(ids.count(tokenizer.unk_token_id) for ids in rows["input_ids"])
            n_tokens = sum(map(len, rows["input_ids"]))
            _save(rows, out / f"{split}.parquet")
            counts[split] = _sums(rows) | {"n_tokens": n_tokens, "n_unknown": unknown} | dropped
        return {"vocab_size": len(tokenizer), "splits": counts}

    def _blocks(self, out: Path) -> dict[str, Any]:
        train = self._read(self.folder / "5_tokens" / "train.parquet")
        tokens = self.done["5_tokens"]
        length = self.settings.blocks.block_length
        songs = (row["input_ids"] for row in train)
        tokenizer = AutoTokenizer.from_pretrained(self.folder / "5_tokens")
        if separator := self.settings.blocks.separator:
            ids = tokenizer(separator, add_special_tokens=False)["input_ids"]
            blocks = cut_stream(songs, ids, length)
        else:
            blocks = cut_blocks(songs, tokenizer.eos_token_id, length)
        np.save(out / "train.npy", blocks)
        return {
            "block_length": length,
            "n_blocks": len(blocks),
            "n_tokens": blocks.size,
            "vocab_size": tokens["vocab_size"],
        }


def _sketches(rows: Dataset) -> list[np.ndarray]:
    """Returns the figures of each tune, (S,) uint32."""
    batches = rows.select_columns("figures").with_format("numpy").iter(1000)
    return [np.asarray(figures, np.uint32) for batch in batches for figures in batch["figures"]]


_TOKEN_FEATURES = datasets.Features(
    {
        "digest": datasets.Value("string"),
        "n_chars": datasets.Value("int64"),
        "n_notes": datasets.Value("int64"),
        "n_bars": datasets.Value("int64"),
        "n_seconds": datasets.Value("float64"),
        "input_ids": datasets.List(datasets.Value("uint16")),
    }
)
_TOKEN_COLUMNS = tuple(_TOKEN_FEATURES)


def _encode(batch: dict[str, list[Any]], tokenizer: Any) -> dict[str, Any]:
    tokens = tokenizer(batch["abc"], add_special_tokens=False, verbose=False)
    return {"input_ids": tokens["input_ids"]}


def _of_length(rows: Dataset, settings: TokenSettings) -> tuple[Dataset, dict[str, int]]:
    """Leaves out songs of too few or too many tokens; says how many of each."""
    lengths = [len(ids) for ids in rows["input_ids"]]
    most = settings.max_tokens or max(lengths, default=0)
    kept = [i for i, length in enumerate(lengths) if settings.min_tokens <= length <= most]
    dropped = {
        "n_too_few_tokens": sum(length < settings.min_tokens for length in lengths),
        "n_too_many_tokens": sum(length > most for length in lengths),
    }
    if not kept:
        raise ValueError(f"no song is left after min_tokens and max_tokens; dropped were {dropped}")
    return (rows if len(kept) == len(rows) else rows.select(kept)), dropped


def _texts(rows: Dataset) -> Iterator[str]:
    for batch in rows.iter(1000):
        yield from batch["abc"]


# ---------------------------------------------------------------- tables and counts


def _without_dropped(rows: Dataset, step: str) -> Dataset:
    reasons = rows["drop_reason"]
    kept = rows.select([i for i, reason in enumerate(reasons) if not reason])
    if not len(kept):
        found = dict(Counter(reasons))
        raise ValueError(f"no tune is left after {step}; dropped were {found}")
    return kept.remove_columns("drop_reason")


def _save(rows: Dataset, path: Path) -> None:
    datasets.disable_progress_bars()
    rows.to_parquet(str(path))
    datasets.enable_progress_bars()


def _counted(rows_in: int, dropped: Counter[str]) -> dict[str, Any]:
    counts = dict(sorted(dropped.items()))
    return {"rows_in": rows_in, "rows_out": rows_in - dropped.total(), "dropped": counts}


def _sums(rows: Dataset) -> dict[str, Any]:
    names = ("n_chars", "n_notes", "n_bars", "n_seconds")
    return {"n_songs": len(rows)} | {name: round(sum(rows[name]), 3) for name in names}
