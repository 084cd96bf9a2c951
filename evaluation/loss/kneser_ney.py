"""A 5-gram model of songs as token ids: a baseline that a trained model must beat."""

from collections.abc import Sequence

import numpy as np

ORDER = 5


class KneserNey:
    """Interpolated Kneser-Ney model of ORDER tokens. Source: Chen and Goodman 1999, section 2.7.

    A context is a number: the number of the shorter context (without the oldest token) combined
    with that token. A gram is its context combined with the next token; all are kept sorted.

    Args:
        songs: (S,) ids each; eos_id before and after each song is implied.
        eos_id: Starts and ends a song.
        vocab_size: V.
    """

    def __init__(self, songs: Sequence[np.ndarray], eos_id: int, vocab_size: int) -> None:
        self.eos_id, self.vocab_size = eos_id, vocab_size
        histories, targets = self._histories(songs)
        self.contexts: list[np.ndarray] = []
        context = np.zeros(len(targets), dtype=np.int64)
        last_grams = context * vocab_size + targets
        found = [np.unique(last_grams, return_counts=True)]
        for history in histories:
            joined = context * vocab_size + history
            known, context = np.unique(joined, return_inverse=True)
            self.contexts.append(known)
            all_grams = context * vocab_size + targets
            grams, first, counts = np.unique(all_grams, return_index=True, return_counts=True)
            # a shorter gram counts once for each distinct token that precedes it
            shorter = found[-1][0]
            place = np.searchsorted(shorter, last_grams[first])
            found[-1] = (shorter, np.bincount(place, minlength=len(shorter)))
            found.append((grams, counts))
            last_grams = all_grams
        self.orders = [_Order(grams, counts, vocab_size) for grams, counts in found]

    def _histories(self, songs: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
        """The tokens 1, 2, ... before each target, (n,) int64 each, and the targets, (n,)."""
        before = np.full(ORDER - 1, self.eos_id)
        padded = [np.concatenate([before, song, [self.eos_id]]) for song in songs]
        histories = [
            np.concatenate([song[ORDER - 1 - back : len(song) - back] for song in padded])
            for back in range(1, ORDER)
        ]
        return histories, np.concatenate([song[ORDER - 1 :] for song in padded])

    def song_nll_nats(self, songs: Sequence[np.ndarray]) -> np.ndarray:
        """(n,) negative log-likelihood in nats of each song, its end included."""
        histories, targets = self._histories(songs)
        context = np.zeros(len(targets), dtype=np.int64)
        p = self.orders[0].probability(context, targets, np.full(len(targets), 1 / self.vocab_size))
        for known, history, order in zip(self.contexts, histories, self.orders[1:], strict=True):
            joined = context * self.vocab_size + history
            place = np.minimum(np.searchsorted(known, joined), len(known) - 1)
            # a longer context of an unknown one is unknown too: -1, below all valid numbers
            context = np.where((context >= 0) & (known[place] == joined), place, -1)
            p = order.probability(context, targets, p)
        starts = np.cumsum([0, *(len(song) + 1 for song in songs[:-1])])
        return -np.add.reduceat(np.log(p), starts)


class _Order:
    """Counts of the grams of one length."""

    def __init__(self, grams: np.ndarray, counts: np.ndarray, vocab_size: int) -> None:
        self.grams, self.counts, self.vocab_size = grams, counts, vocab_size
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        # Ney, Essen and Kneser 1994; 0.5 if there are too few counts for an estimate
        self.discount = once / (once + 2 * twice) if once and twice else 0.5
        context = grams // vocab_size
        self.totals = np.bincount(context, weights=counts)
        self.followers = np.bincount(context)

    def probability(
        self, context: np.ndarray, targets: np.ndarray, shorter: np.ndarray
    ) -> np.ndarray:
        """(n,) p of each target; context: (n,), -1 if unknown; shorter: (n,) p of shorter context.

        For an unknown context, p of the shorter context is used.
        """
        gram = context * self.vocab_size + targets
        place = np.minimum(np.searchsorted(self.grams, gram), len(self.grams) - 1)
        count = np.where(self.grams[place] == gram, self.counts[place], 0)
        total, left = self.totals[context], self.discount * self.followers[context]
        p = (np.maximum(count - self.discount, 0) + left * shorter) / total
        return np.where(context >= 0, p, shorter)
