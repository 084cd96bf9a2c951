"""Stage 6: ids -> blocks of fixed length.

The songs of the train split stand one after another, each followed by the end token, and are cut
into blocks; a block may begin and end inside a song. Validation and test are not cut here: their
loss is taken song by song.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class BlockSettings:
    """Tokens a block: the context length of the models."""

    block_length: int = 256


def write_blocks(
    songs: Iterable[Sequence[int]], end_id: int, settings: BlockSettings, path: Path
) -> int:
    """Writes `path` (.npy, uint16, (blocks, block_length), to be memory-mapped).

    Args:
        songs: Ids of each song, without special tokens, in the order in which they are laid.
        end_id: Id of the end-of-song token.
        settings: The block length.
        path: Where to.

    Returns:
        The number of blocks. What is left at the end, less than a block, is dropped.

    Raises:
        ValueError: If there is not even one block.
    """
    length = settings.block_length
    parts, carry, n_blocks = [], np.empty(0, np.uint16), 0
    for song in songs:
        carry = np.concatenate([carry, np.asarray([*song, end_id], np.uint16)])
        whole = len(carry) // length
        if whole:
            parts.append(carry[: whole * length])
            carry = carry[whole * length :]
            n_blocks += whole
    if not n_blocks:
        raise ValueError(
            f"the train split has {len(carry):,} tokens, less than one block of {length}; "
            "give more music or a smaller blocks.block_length"
        )
    np.save(path, np.concatenate(parts).reshape(n_blocks, length))
    return n_blocks
