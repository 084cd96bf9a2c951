"""Stages 2 to 6 over a corpus: each reads the files of the previous stage and writes its own.

Rows are processed one part at a time (parts.py) by the functions in tune_rows.py. What is needed
of the whole corpus at once is kept small: a fingerprint, the sampled figures and the cluster of
each tune.
"""

import itertools
import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import InitVar, asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import AutoTokenizer

from .dialect.notation import FILL_IN_TOKENS
from .selection.split import SPLITS, split_of
from .selection.unique_tunes import cluster_tunes, first_of_copies, write_clustered
from .settings import DataSettings
from .storage.code_identity import code_digest
from .storage.drop_reasons import DropReason, counted
from .storage.parts import FILES_A_PART, Part, TableWriter, map_parts, parts_of_file, parts_of_files
from .storage.stages import STAGES, check_files, measure_resources, read_stage, run_stage
from .tokens.augment import AugmentSettings
from .tokens.blocks import heads_then_rests, songs_end_to_end, write_blocks
from .tokens.passage_rows import add_marks, heads_passages_rests, passage_rows
from .tokens.shuffled_blocks import shuffled_songs
from .tokens.tokenizers import train_tokenizer
from .tune_rows import DENOMINATORS, clean_rows, encode_rows, filter_rows

logger = logging.getLogger(__name__)

# Tokenizer training data. Learning merges from all 97 million characters of a corpus took 3.4 GB
# and shortened held-out text by only 0.4 % (4,096 tokens) and 1.7 % (20,000).
TOKENIZER_CHARS = 40_000_000
MIN_VALIDATION_SONGS = 300  # with fewer, the standard error of a loss exceeds about 1 %


@dataclass
class CorpusStages:
    """The stages after conversion; each reads the files of the previous one.

    Attributes:
        settings: The data preset.
        folder: `data/<dataset>/<preset>`.
        shards: The shards of the conversion.
        conversion: Content of the conversion's stage.json.
        workers: Number of processes; all cores if None.
        done: Stage name -> content of its stage.json; initially only the conversion's.
        measured: Stage name -> time and memory, for the stages that this run did.
        same_tokens: Whether the previous stage was 5_tokens and its files came out unchanged.
    """

    settings: DataSettings
    folder: Path
    shards: list[Path]
    conversion: InitVar[dict[str, Any]]
    workers: int | None = None
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    same_tokens: bool = False

    def __post_init__(self, conversion: dict[str, Any]) -> None:
        self.done = {"1_abc": conversion}

    def run(self) -> dict[str, dict[str, Any]]:
        """Runs all stages; returns stage name -> content of its stage.json."""
        settings = self.settings
        duplicates = {"duplicates": asdict(settings.duplicates)}
        self._stage("2_clean", asdict(settings.clean) | duplicates, self._clean)
        self._stage("3_filtered", asdict(settings.filter) | duplicates, self._filter)
        self._stage("4_split", asdict(settings.split), self._split)
        context = {"context_length": settings.blocks.block_length}
        tokens = asdict(settings.tokens) | {"augment": asdict(settings.augment)} | context
        to_tokens, to_blocks = self._tokens, self._blocks
        if settings.fill_in.share:
            tokens |= {"fill_in": asdict(settings.fill_in)}
            to_tokens, to_blocks = self._tokens_and_passages, self._blocks_of_passages
        blocks = asdict(settings.blocks)
        if settings.blocks.shuffled:
            to_blocks = self._shuffled_blocks
        else:
            del blocks["shuffled"]  # datasets of the time before this setting stay what they are
        self._stage("5_tokens", tokens, to_tokens)
        self._stage("6_blocks", blocks, to_blocks)
        return self.done

    def _stage(
        self, name: str, settings: dict[str, Any], work: Callable[[Path], dict[str, Any]]
    ) -> None:
        before = STAGES[STAGES.index(name) - 1]

        def checked(out: Path) -> dict[str, Any]:
            check_files(self.folder / before, self.done[before])
            start = time.monotonic()
            counts = work(out)
            self.measured[name] = measure_resources(time.monotonic() - start, self.workers)
            return counts

        files = (read_stage(self.folder / name) or {}).get("files")
        self.done[name] = run_stage(
            self.folder / name,
            inputs=self.input_digests(before),
            settings=settings,
            code=code_digest(work),
            work=checked,
            keeps_names=name != "6_blocks" or self.same_tokens,  # its digest covers both stages
        )
        self.same_tokens = name == "5_tokens" and files == self.done[name]["files"]

    def input_digests(self, stage: str) -> list[str]:
        """Returns the digests of a stage's output, as input of the next stage."""
        done = self.done[stage]
        # A split by file hashes full paths, but the digest leaves out their shared top folder.
        names = done.get("top_folders", {}) if self.settings.split.by == "file" else {}
        return [done["digest"], *names.values()]

    def _clean(self, out: Path) -> dict[str, Any]:
        work = partial(clean_rows, settings=self.settings)
        tasks = [(part, work) for part in parts_of_files(self.shards, FILES_A_PART)]
        dropped, sums = Counter(), Counter()
        for file, reasons in map_parts(tasks, out, self.workers, "2_clean"):
            dropped += reasons
            sums += _file_sums(file)
        return _counted(self.done["1_abc"]["rows_out"], dropped, "cleaning") | _rounded(sums)

    def _filter(self, out: Path) -> dict[str, Any]:
        work = partial(filter_rows, settings=self.settings)
        cleaned = sorted((self.folder / "2_clean").glob("*.parquet"))
        tasks = [(part, work) for part in parts_of_files(cleaned)]
        dropped, files = Counter(), []
        for file, reasons in map_parts(tasks, out / "chosen", self.workers, "3_filtered"):
            dropped += reasons
            files += [file] if file.exists() else []
        rows_in = self.done["2_clean"]["rows_out"]
        n_left = _counted(rows_in, dropped, "filtering")["rows_out"]
        kept = np.ones(n_left, bool)
        if self.settings.filter.drop_duplicates:
            kept = first_of_copies(files)
            if n_copies := int((~kept).sum()):
                dropped[DropReason.DUPLICATE] = n_copies
        ids = cluster_tunes(files, kept, self.settings.duplicates)
        write_clustered(files, kept, ids, out)
        sums = sum((_file_sums(file) for file in sorted(out.glob("*.parquet"))), Counter())
        shutil.rmtree(out / "chosen")
        sizes = Counter(ids).values()
        return (
            _counted(rows_in, dropped, "filtering")
            | {
                "n_clusters": len(sizes),
                "n_songs_with_near_duplicates": sum(size for size in sizes if size > 1),
                "largest_cluster": max(sizes),
            }
            | _rounded(sums)
        )

    def _split(self, out: Path) -> dict[str, Any]:
        settings = self.settings.split
        by = "cluster_id" if settings.by == "cluster" else "path"
        sums = {split: Counter() for split in SPLITS}
        writers = {split: TableWriter(out / f"{split}.parquet") for split in SPLITS}
        for file in sorted((self.folder / "3_filtered").glob("*.parquet")):
            table = Part((file,)).read()
            where = np.array([split_of(name, settings) for name in table[by].to_pylist()])
            for split, writer in writers.items():
                rows = table.filter(pa.array(where == split))
                writer.write(rows)
                sums[split] += _sums(rows)
        for split, writer in writers.items():
            writer.close()
            if not sums[split]["n_songs"]:
                raise ValueError(
                    f"the {split} split is empty: {self.done['3_filtered']['rows_out']} songs, of "
                    "which it takes its share by chance; give more music, or raise "
                    "split.validation and split.test"
                )
        n_validation = sums["validation"]["n_songs"]
        if n_validation < MIN_VALIDATION_SONGS:
            logger.warning(
                "warning: %d validation songs, fewer than %d: losses will have wide intervals; "
                "give more music, or raise split.validation",
                *(n_validation, MIN_VALIDATION_SONGS),
            )
        counts = {split: _rounded(sums[split]) for split in SPLITS}
        n_songs = sum(split["n_songs"] for split in counts.values())
        return {"rows_in": n_songs, "rows_out": n_songs, "splits": counts}

    def _tokens(self, out: Path) -> dict[str, Any]:
        songs = {split: self.folder / "4_split" / f"{split}.parquet" for split in SPLITS}
        context = self.settings.blocks.block_length
        n_chars = self.done["4_split"]["splits"]["train"]["n_chars"]
        texts = _texts(songs["train"], TOKENIZER_CHARS / n_chars)
        tokenizer = train_tokenizer(texts, self.settings.tokens, context)
        tokenizer.save_pretrained(out)
        options = {"tokenizer_file": out / "tokenizer.json", "tokens": self.settings.tokens}
        parts = {split: parts_of_file(songs[split]) for split in SPLITS}
        tasks = []
        for split in SPLITS:
            augment = self.settings.augment if split == "train" else AugmentSettings()
            work = partial(encode_rows, augment=augment, **options)
            tasks += [(part, work) for part in parts[split]]
        done = map_parts(tasks, out / "parts", self.workers, "5_tokens")
        counts = {}
        for split in SPLITS:
            ours = itertools.islice(done, len(parts[split]))
            counts[split] = _join_tokens(ours, out / f"{split}.parquet")
        list(done)  # exhaust it, which closes the workers
        shutil.rmtree(out / "parts")
        return {"vocab_size": len(tokenizer), "splits": counts}

    def _tokens_and_passages(self, out: Path) -> dict[str, Any]:
        """Stage 5 with a share of the train songs in fill-in form."""
        counts = self._tokens(out)
        counts["vocab_size"] = add_marks(out)
        train = out / "train.parquet"
        work = partial(
            passage_rows,
            tokenizer_file=out / "tokenizer.json",
            block_length=self.settings.blocks.block_length,
            settings=self.settings.fill_in,
        )
        tasks = [(part, work) for part in parts_of_file(train)]
        done = map_parts(tasks, out / "parts", self.workers, "5_tokens, fill-in")
        joined = _join_tokens(done, out / "joined.parquet")
        (out / "joined.parquet").replace(train)
        shutil.rmtree(out / "parts")
        n_songs = {"n_songs": counts["splits"]["train"]["n_songs"]}  # rows are passages, too
        counts["splits"]["train"] |= joined | n_songs
        return counts

    def _blocks_of_passages(self, out: Path) -> dict[str, Any]:
        """Stage 6 where passages are not to be cut."""
        tokenizer = AutoTokenizer.from_pretrained(self.folder / "5_tokens")
        marks = tokenizer.convert_tokens_to_ids(list(FILL_IN_TOKENS))
        length = self.settings.blocks.block_length
        songs = self._train_ids()
        chunks = heads_passages_rests(songs, marks, tokenizer.eos_token_id, length, out)
        n_blocks = write_blocks(chunks, length, out / "train.npy")
        return {
            "block_length": length,
            "n_blocks": n_blocks,
            "n_tokens": n_blocks * length,
            "vocab_size": self.done["5_tokens"]["vocab_size"],
        }

    def _shuffled_blocks(self, out: Path) -> dict[str, Any]:
        """Stage 6 in random order; passages, if there are any, are not cut."""
        tokenizer = AutoTokenizer.from_pretrained(self.folder / "5_tokens")
        passage = FILL_IN_TOKENS[0] if self.settings.fill_in.share else None
        uncut = passage and tokenizer.convert_tokens_to_ids(passage)
        length = self.settings.blocks.block_length
        chunks = shuffled_songs(self._train_ids(), tokenizer.eos_token_id, length, out, uncut)
        n_blocks = write_blocks(chunks, length, out / "train.npy")
        return {
            "block_length": length,
            "n_blocks": n_blocks,
            "n_tokens": n_blocks * length,
            "vocab_size": self.done["5_tokens"]["vocab_size"],
        }

    def _train_ids(self) -> Iterator[np.ndarray]:
        """The ids of each row of the train split, (n,) uint16."""
        train = parts_of_file(self.folder / "5_tokens" / "train.parquet")
        columns = (part.read(["input_ids"])["input_ids"].combine_chunks() for part in train)
        return (ids.values.to_numpy() for column in columns for ids in column)

    def _blocks(self, out: Path) -> dict[str, Any]:
        train = parts_of_file(self.folder / "5_tokens" / "train.parquet")
        columns = (part.read(["input_ids"])["input_ids"].combine_chunks() for part in train)
        songs = (ids.values.to_numpy() for column in columns for ids in column)
        tokenizer = AutoTokenizer.from_pretrained(self.folder / "5_tokens")
        length, file = self.settings.blocks.block_length, out / "train.npy"
        if separator := self.settings.blocks.separator:
            ids = tokenizer(separator, add_special_tokens=False)["input_ids"]
            chunks = songs_end_to_end(songs, ids)
        else:
            chunks = heads_then_rests(songs, tokenizer.eos_token_id, length, out)
        n_blocks = write_blocks(chunks, length, file)
        return {
            "block_length": length,
            "n_blocks": n_blocks,
            "n_tokens": n_blocks * length,
            "vocab_size": self.done["5_tokens"]["vocab_size"],
        }


# ---------------------------------------------------------------- texts and counts


def _texts(file: Path, share: float) -> Iterator[str]:
    """Yields the tunes of a table, or only the `share` of them with the lowest digests."""
    for part in parts_of_file(file):
        rows = part.read(["digest", "abc"])
        for digest, abc in zip(rows["digest"].to_pylist(), rows["abc"].to_pylist(), strict=True):
            if int(digest[:8], 16) < share * 2**32:
                yield abc


def _join_tokens(parts: Iterator[tuple[Path, Counter]], out: Path) -> dict[str, Any]:
    """Joins the parts of a split into one file; returns its counts for stage.json.

    Raises:
        ValueError: If no song is left.
    """
    counts, sums = Counter(), Counter()
    with closing(TableWriter(out)) as writer:
        for file, more in parts:
            counts.update(more)  # += would drop zeros
            if file.exists():
                rows = Part((file,)).read()
                writer.write(rows)
                sums += _sums(rows)
    if not sums["n_songs"]:
        raise ValueError(
            f"no song of {out.stem} is left after min_tokens and max_tokens; counts: {dict(counts)}"
        )
    return _rounded(sums) | dict(counts)


def _file_sums(file: Path) -> Counter:
    return _sums(Part((file,)).read(list(DENOMINATORS))) if file.exists() else Counter()


def _sums(rows: pa.Table) -> Counter:
    """Returns `n_songs` and the sums of the denominators."""
    sums = {name: pc.sum(rows[name]).as_py() or 0 for name in DENOMINATORS}
    return Counter({"n_songs": len(rows)} | sums)


def _rounded(sums: Counter) -> dict[str, Any]:
    return {name: round(sums[name], 3) for name in ("n_songs", *DENOMINATORS)}


def _counted(rows_in: int, dropped: Counter[str], step: str) -> dict[str, Any]:
    """Returns the row counts for stage.json.

    Raises:
        ValueError: If none is left.
    """
    counts = dict(sorted(dropped.items()))
    if dropped.total() == rows_in:
        raise ValueError(f"no tune is left after {step}; dropped were {counted(counts)}")
    return {"rows_in": rows_in, "rows_out": rows_in - dropped.total(), "dropped": counts}
