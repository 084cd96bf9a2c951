"""Stage 6 where many songs are shorter than a block: songs in random order, each anywhere in one.

Cut from its beginning (`blocks.heads_then_rests`), only a song longer than a block starts at the
head of one, so a model takes the start of a text for that of a long song, and writes few short
ones. Here a song starts at the head of a block, or behind another, whatever its length, and copies
of a song in other keys do not follow each other.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

SEED = 0
_IDS_AT_ONCE = 2**23


def shuffled_songs(
    songs: Iterable[np.ndarray],
    end_id: int,
    block_length: int,
    folder: Path,
    uncut_id: int | None = None,
) -> Iterator[np.ndarray]:
    """Yields songs in random order; concatenated, they are blocks.

    A song that does not fit goes on in blocks of its own. What is then left of it, less than a
    block, fills gaps, and the last blocks; the next song starts a new block.

    Args:
        songs: Ids of each song, (n,) integers, without special tokens.
        end_id: Id of the token that starts and ends a song, and fills the last gaps.
        block_length: T.
        folder: For temporary files.
        uncut_id: First id of sequences that are never cut, at most T - 2 ids long; None: there are
            none.
    """
    with tempfile.TemporaryFile(dir=folder) as file, tempfile.TemporaryFile(dir=folder) as rests:
        bounds = [0]
        for song in songs:
            ids = np.concatenate([[end_id], song, [end_id]]).astype("<u2")
            bounds.append(bounds[-1] + len(ids))
            file.write(ids.tobytes())
        file.flush()
        every = np.memmap(file, "<u2", "r", shape=(bounds[-1],))
        room, n_taken = block_length, 0  # room in the block that is being filled
        for place in np.random.default_rng(SEED).permutation(len(bounds) - 1):
            song = every[bounds[place] : bounds[place + 1]]
            if song[1] == uncut_id and len(song) > room:
                gap = _read(rests, n_taken, room)
                n_taken += len(gap)
                yield np.concatenate([gap, np.full(room - len(gap), end_id, "<u2")])
                room = block_length
            if len(song) < room:
                yield song
                room -= len(song)
                continue
            cut = room + (len(song) - room) // block_length * block_length
            yield song[:cut]
            rests.write(song[cut:].tobytes())
            room = block_length
        while len(more := _read(rests, n_taken, _IDS_AT_ONCE)):
            n_taken += len(more)
            yield more


def _read(file: IO[bytes], start: int, count: int) -> np.ndarray:
    """Returns up to `count` ids from `start` on, of a file that is still written to."""
    file.flush()
    return np.frombuffer(os.pread(file.fileno(), 2 * count, 2 * start), "<u2")
