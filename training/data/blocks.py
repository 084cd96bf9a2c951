"""Blocks and songs of a tokenized dataset; B batch, T block length.

The order of the blocks is a pure function of (seed, step): one permutation per epoch, drawn from
the seed and the epoch number. So a run that was interrupted, or that runs on other devices, reads
the same blocks at the same step.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..budget import RunPlan
from .bundles import read_songs, songs_file
from .data_files import DataFiles, check_files, locate_data

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

# Muennighoff et al. 2023: repeated tokens are nearly as good as new ones up to about four epochs
EPOCHS_WORTH_A_WARNING = 4
LENGTHS = ("tokens", "epochs")  # keys of section budget that set the length, not the batch size
DENOMINATORS = ("n_chars", "n_notes", "n_bars", "n_seconds")


@dataclass(frozen=True)
class Songs:
    """A split, song by song.

    Attributes:
        ids: One int64 array per song, without special tokens.
        totals: Sums over the split of n_chars, n_notes, n_bars and n_seconds.
    """

    ids: list[np.ndarray]
    totals: dict[str, float]


@dataclass(frozen=True)
class TrainingData:
    """Everything that a run reads.

    Attributes:
        files: Where it is.
        blocks: uint16 (n_blocks, T), memory-mapped; with data.unique_tokens, the sampled subset.
        tokenizer: That of the data preset.
        validation: The whole validation split.
    """

    files: DataFiles
    blocks: np.ndarray
    tokenizer: "PreTrainedTokenizerBase"
    validation: Songs


class BlockOrder:
    """The training set of one run, in the order it is read; `__getitems__` returns a ready batch.

    Args:
        blocks: uint16 (n_blocks, T).
        plan: Gives the number of sequences that the run reads.
        seed: Seed of the order.
        consecutive: So many blocks that follow each other in the file are read in a row, as a
            longer context would read them.
    """

    def __init__(self, blocks: np.ndarray, plan: RunPlan, seed: int, consecutive: int = 1) -> None:
        # as a plain array: slicing a memmap constructs another memmap, which takes longer than
        # copying a small batch; the file stays mapped
        self.blocks = blocks.view(np.ndarray)
        self.n_sequences = plan.n_sequences
        self.n_sequences_per_step = plan.sequences_per_step
        self.seed = seed
        self.consecutive = consecutive
        self._permutations: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.n_sequences

    def __getitems__(self, positions: Sequence[int]) -> dict[str, torch.Tensor]:
        """Input ids and labels, both (B, T) int64 and identical: the model shifts the labels."""
        batch = self.blocks.take(self.rows(positions), axis=0).astype(np.int64)  # (B, T)
        input_ids = torch.from_numpy(batch)
        return {"input_ids": input_ids, "labels": input_ids}

    def rows(self, positions: Sequence[int]) -> np.ndarray:
        """(B,) rows of `blocks` at these positions of the run, which may be in any order."""
        n_blocks = len(self.blocks)
        first, last = min(positions) // n_blocks, max(positions) // n_blocks
        places = np.asarray(positions) - first * n_blocks
        if first == last:  # all but one batch per epoch
            return self._permutation(first)[places]
        orders = [self._permutation(epoch) for epoch in range(first, last + 1)]
        return np.concatenate(orders)[places]

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._permutations:
            n_groups, n_left = divmod(len(self.blocks), self.consecutive)
            groups = np.random.default_rng([self.seed, epoch]).permutation(n_groups)
            order = (groups[:, None] * self.consecutive + np.arange(self.consecutive)).ravel()
            order = np.concatenate([order, np.arange(len(order), len(order) + n_left)])
            # a batch that is read in order spans at most two epochs
            kept = {e: p for e, p in self._permutations.items() if e == epoch - 1}
            self._permutations = {**kept, epoch: order.astype(np.uint32)}
        return self._permutations[epoch]


def load_blocks(config: dict[str, Any]) -> TrainingData:
    """Open the data that a config names.

    Raises:
        FileNotFoundError: If they are missing.
        ValueError: If blocks, stage file and tokenizer do not match, a file is damaged, there are
            no validation songs, or there are fewer tokens than data.unique_tokens.
    """
    from transformers import AutoTokenizer  # heavy

    files = locate_data(config)
    blocks = np.load(files.train_blocks, mmap_mode="r")
    expected = (files.n_blocks, files.block_length)
    if blocks.dtype != np.uint16 or blocks.shape != expected:
        raise ValueError(
            f"{files.train_blocks} contains {blocks.dtype} {blocks.shape}, expected uint16 "
            f"{expected} by its stage.json; remove {files.train_blocks.parent} and run `make data`"
        )
    check_files(files)
    tokenizer = AutoTokenizer.from_pretrained(files.tokens, local_files_only=True)
    if len(tokenizer) != files.vocab_size:
        raise ValueError(
            f"the blocks in {files.folder} have a vocabulary of {files.vocab_size}, the tokenizer "
            f"has {len(tokenizer)}; remove {files.train_blocks.parent} and run `make data`"
        )
    if limit := config["data"].get("unique_tokens"):
        blocks = _some(blocks, limit, files)
    return TrainingData(files, blocks, tokenizer, load_songs(files, "validation"))


def _some(blocks: np.ndarray, n_tokens: int, files: DataFiles) -> np.ndarray:
    """A random subset of the blocks with at most so many tokens, the same for all seeds."""
    n_wanted = n_tokens // files.block_length
    if not 0 < n_wanted <= len(blocks):
        raise ValueError(
            f"data.unique_tokens is {n_tokens:,}, but {files.folder} has {blocks.size:,} tokens in "
            f"blocks of {files.block_length:,}; give a number between these two"
        )
    return blocks[np.sort(np.random.default_rng(0).permutation(len(blocks))[:n_wanted])]


def load_songs(files: DataFiles, split: str) -> Songs:
    """Read one split of 5_tokens.

    Raises:
        FileNotFoundError: If the split is missing.
        ValueError: If it contains no songs.
    """
    path = songs_file(files.tokens, split)
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; run `make data`")
    if path.suffix == ".npz":
        return Songs(*read_songs(path))
    import pyarrow.parquet as pq  # not installed where training reads a bundle

    table = pq.read_table(path, columns=["input_ids", *DENOMINATORS])
    if not table.num_rows:
        raise ValueError(f"{path} contains no songs; use a larger dataset")
    ids = [np.asarray(song.values, dtype=np.int64) for song in table["input_ids"]]
    totals = {name: sum(table[name].to_pylist()) for name in DENOMINATORS}
    return Songs(ids, totals)


def order_blocks(data: TrainingData, config: dict[str, Any], plan: RunPlan) -> BlockOrder:
    """The blocks in the order of this run.

    Raises:
        ValueError: If there are fewer blocks than one step needs.
    """
    n_blocks = len(data.blocks)
    if n_blocks < plan.sequences_per_step:
        raise ValueError(
            f"{n_blocks} blocks of {plan.block_length} tokens in {data.files.folder}, but one "
            f"step needs {plan.sequences_per_step}; use more data, or lower "
            + " or ".join(f"budget.{key}" for key in config["budget"] if key not in LENGTHS)
        )
    epochs = plan.n_sequences / n_blocks
    if epochs > EPOCHS_WORTH_A_WARNING:
        logger.warning(
            "the data are read %.1f times: expect a higher loss than with new data", epochs
        )
    consecutive = config["data"].get("consecutive_blocks", 1)
    return BlockOrder(data.blocks, plan, config["training"]["seed"], consecutive)
