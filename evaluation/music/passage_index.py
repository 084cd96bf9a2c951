"""Which windows of a sequence of symbols occur in a training set, and the longest passage.

The index stores a 64-bit hash and the position of each training window: 12 bytes per window, plus 1
per character (8 per figure); building it takes about 25 bytes per window. Windows are matched by
hash: the chance that a window missing from the training set is counted is (windows in it) / 2^64,
below 1e-11 for 10^8. The longest match is compared symbol by symbol.
"""

from collections.abc import Sequence

import numpy as np

_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def mixed(values: np.ndarray) -> np.ndarray:
    """A mixing bijection of uint64 that destroys order. Source: Steele et al. 2014, splitmix."""
    values = values + _MIX[0]
    values = (values ^ (values >> np.uint64(30))) * _MIX[1]
    values = (values ^ (values >> np.uint64(27))) * _MIX[2]
    return values ^ (values >> np.uint64(31))


def window_hashes(symbols: np.ndarray, window: int) -> np.ndarray:
    """(n - window + 1,) uint64, a hash of each window; symbols: (n,) unsigned.

    Windows of 1, 2, 4, ... are combined pairwise, so 50 takes seven steps instead of fifty.
    """
    n = len(symbols) - window + 1
    if n < 1:
        return np.zeros(0, dtype=np.uint64)
    power, size = mixed(symbols.astype(np.uint64)), 1
    found, found_size = None, 0
    while True:
        if window & size:
            part = power[found_size:][:n]
            found = part if found is None else mixed(found * _MIX[1] + part)
            found_size += size
        if found_size == window:
            return found
        power = mixed(power[:-size] * _MIX[2] + power[size:])
        size *= 2


class PassageIndex:
    """The windows of a training set.

    Args:
        sequences: One per tune or voice, unsigned symbols; no window crosses from one to the next.
        window: Symbols per window.
    """

    def __init__(self, sequences: Sequence[np.ndarray], window: int) -> None:
        self.window = window
        lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        self.symbols = np.concatenate([*sequences, np.zeros(0, np.uint8)])
        if len(self.symbols) >= 2**32:
            raise ValueError(f"{len(self.symbols):,} symbols, expected fewer than 2^32; take fewer")
        self.ends = np.cumsum(lengths)  # after the last symbol of each sequence
        counts = np.maximum(lengths - window + 1, 0)
        hashes = np.empty(counts.sum(), dtype=np.uint64)
        places = np.empty(counts.sum(), dtype=np.uint32)
        filled = 0
        for start, count in zip(self.ends - lengths, counts, strict=True):
            part = slice(filled, filled + count)
            hashes[part] = window_hashes(self.symbols[start : start + count + window - 1], window)
            places[part] = np.arange(start, start + count)
            filled += count
        order = np.argsort(hashes)
        self.hashes = hashes[order]
        del hashes
        self.places = places[order]

    def seen(self, symbols: np.ndarray) -> np.ndarray:
        """(n - window + 1,) whether the training set contains each window of (n,) symbols."""
        wanted = window_hashes(symbols, self.window)
        if not len(self.hashes):
            return np.zeros(len(wanted), dtype=bool)
        place = np.searchsorted(self.hashes, wanted)
        return self.hashes[np.minimum(place, len(self.hashes) - 1)] == wanted

    def longest_match(self, symbols: np.ndarray) -> tuple[int, int]:
        """First symbol and length of the longest passage that occurs in the training set.

        (0, 0) if that is shorter than a window.
        """
        wanted, is_seen = window_hashes(symbols, self.window), self.seen(symbols)
        start, best = 0, 0
        edges = np.flatnonzero(np.diff(np.concatenate([[0], is_seen, [0]])))
        for first, after in zip(edges[::2], edges[1::2], strict=True):
            # the length of a run of seen windows bounds any match in it
            at = first
            while at < after and after - first + self.window - 1 > best:
                low = np.searchsorted(self.hashes, wanted[at], "left")
                high = np.searchsorted(self.hashes, wanted[at], "right")
                left, length = self._extend(symbols, at, self.places[low:high].astype(np.int64))
                if length > best:
                    start, best = at - left, length
                # a longer match contains a window at every step of this size: skip the rest
                at += max(1, best - self.window + 1)
        return int(start), int(best)

    def _extend(self, symbols: np.ndarray, at: int, places: np.ndarray) -> tuple[int, int]:
        """How far the best match around a window extends to its left, and its total length."""
        owner = np.searchsorted(self.ends, places, "right")
        begins = np.concatenate([[0], self.ends])[owner]
        right = self._reach(symbols[at:], places, self.ends[owner] - places, 1)
        left = self._reach(symbols[:at][::-1], places - 1, places - begins, -1)
        best = int(np.argmax(left + right))
        return int(left[best]), int((left + right)[best])

    def _reach(
        self, symbols: np.ndarray, places: np.ndarray, room: np.ndarray, step: int
    ) -> np.ndarray:
        """(n,) equal symbols from each place on, in steps of 1 or -1, at most `room` (n,)."""
        reach = np.zeros(len(places), dtype=np.int64)
        alive = np.arange(len(places))
        for offset, symbol in enumerate(symbols):
            alive = alive[room[alive] > offset]
            alive = alive[self.symbols[places[alive] + step * offset] == symbol]
            if not len(alive):
                break
            reach[alive] = offset + 1
        return reach
