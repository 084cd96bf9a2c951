"""Loss of finished runs on a split, in every unit, beside what any model has to beat.

    python -m evaluation.likelihood runs/cpu/*_t12M_s1/ --out likelihood.json

Conventions: a song of S tokens has S + 1 targets, the last one its end; each is predicted once, in
windows of the run's own context, as validation does. Bits are -log2 p summed over all targets, over
the characters, notes, bars and seconds that are stored with the split: these come from the music,
so they compare tokenizers (of one way of cutting the text: an upper bound). V vocabulary. Standard
errors are of ratios over songs, the independent draws.

Sanity rows, once per data set:
`uniform`      ln V.
`unigram`      counts of the train split, one added to each token.
`five_gram`    interpolated Kneser-Ney, one discount an order, of the train split; of a random
               sample of its songs where it has more than N_TRAIN_TOKENS tokens, as the row says.
`gzip`, `xz`   the text as files, at the highest level: `alone`, each song a file of its own, and
               `together`, all songs of the split in one file, where a song profits from the others.
"""

from __future__ import annotations

import argparse
import gzip
import logging
import lzma
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaling.files import write_json
from training.blocks import DENOMINATORS
from training.validation import SongLoss

from .context_use import ContextSettings, choose_songs, score
from .finished_run import FinishedRun, open_runs, song_draws, split_tunes
from .position_curve import describe_curve, log_bins

logger = logging.getLogger(__name__)

ORDER = 5
N_TRAIN_TOKENS = 10_000_000  # some 1.5 GB while they are counted
SPLITS = ("validation", "test")
SEED = 1


def ratio(above: np.ndarray, below: np.ndarray) -> dict[str, float | None]:
    """Sum over sum, with its standard error over songs; (n,) each. None for a single song."""
    loss = SongLoss(above, below)
    return {
        "value": loss.loss_nats_per_token,
        "standard_error": loss.standard_error_nats_per_token,
    }


def likelihood(
    nll_nats: np.ndarray, n_targets: np.ndarray, denominators: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The loss of a split in every unit; the one place that says what they are.

    Args:
        nll_nats: (n,) negative log-likelihood of each song.
        n_targets: (n,) tokens of each song and its end.
        denominators: n_chars, n_notes, n_bars and n_seconds of each song, (n,) each.

    Returns:
        `loss_nats_per_token`, `perplexity`, and bits per character, note, bar (of any voice) and
        second, each with a standard error.
    """
    loss = ratio(nll_nats, n_targets)
    nats, error = loss["value"], loss["standard_error"]
    row: dict[str, Any] = {
        "n_songs": len(nll_nats),
        "loss_nats_per_token": nats,
        "loss_standard_error_nats_per_token": error,
        "perplexity": math.exp(nats),
        # of the first order: d exp(l) = exp(l) dl
        "perplexity_standard_error": None if error is None else math.exp(nats) * error,
    }
    return row | _bits(nll_nats / math.log(2), denominators)


def _bits(bits: np.ndarray, denominators: dict[str, np.ndarray]) -> dict[str, float | None]:
    row = {}
    for name in DENOMINATORS:
        unit = name.removeprefix("n_").removesuffix("s")
        found = ratio(bits, denominators[name])
        row[f"bits_per_{unit}"] = found["value"]
        row[f"bits_per_{unit}_standard_error"] = found["standard_error"]
    return row


class KneserNey:
    """Interpolated Kneser-Ney model of ORDER tokens. Source: Chen and Goodman 1999, section 2.7.

    A context is a number: that of the shorter context without its oldest token, joined with that
    token. A gram is its context joined with the token after it; all are kept sorted.

    Args:
        songs: (S,) ids each, which begin after and end in eos_id.
        eos_id: Opens and ends a song.
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
            joined = self._join(context, history)
            known, context = np.unique(joined, return_inverse=True)
            self.contexts.append(known)
            all_grams = context * vocab_size + targets
            grams, first, counts = np.unique(all_grams, return_index=True, return_counts=True)
            # a shorter gram counts once for each token that stands before it
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

    def _join(self, context: np.ndarray, token: np.ndarray) -> np.ndarray:
        return context * self.vocab_size + token

    def song_nll_nats(self, songs: Sequence[np.ndarray]) -> np.ndarray:
        """(n,) negative log-likelihood of each song with its end."""
        histories, targets = self._histories(songs)
        context = np.zeros(len(targets), dtype=np.int64)
        p = self.orders[0].probability(context, targets, np.full(len(targets), 1 / self.vocab_size))
        for known, history, order in zip(self.contexts, histories, self.orders[1:], strict=True):
            joined = self._join(context, history)
            place = np.minimum(np.searchsorted(known, joined), len(known) - 1)
            # what follows an unknown context is unknown: -1 stays below all numbers
            context = np.where((context >= 0) & (known[place] == joined), place, -1)
            p = order.probability(context, targets, p)
        starts = np.cumsum([0, *(len(song) + 1 for song in songs[:-1])])
        return -np.add.reduceat(np.log(p), starts)


class _Order:
    """Counts of the grams of one length."""

    def __init__(self, grams: np.ndarray, counts: np.ndarray, vocab_size: int) -> None:
        self.grams, self.counts, self.vocab_size = grams, counts, vocab_size
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        # Ney, Essen and Kneser 1994; half where the counts are too few to say
        self.discount = once / (once + 2 * twice) if once and twice else 0.5
        context = grams // vocab_size
        self.totals = np.bincount(context, weights=counts)
        self.followers = np.bincount(context)

    def probability(
        self, context: np.ndarray, targets: np.ndarray, shorter: np.ndarray
    ) -> np.ndarray:
        """(n,) p of each target; context: (n,), -1 if unknown; shorter: (n,) p without its oldest.

        An unknown context leaves the shorter one's.
        """
        gram = context * self.vocab_size + targets
        place = np.minimum(np.searchsorted(self.grams, gram), len(self.grams) - 1)
        count = np.where(self.grams[place] == gram, self.counts[place], 0)
        total, left = self.totals[context], self.discount * self.followers[context]
        p = (np.maximum(count - self.discount, 0) + left * shorter) / total
        return np.where(context >= 0, p, shorter)


def sanity_rows(run: FinishedRun, split: str) -> dict[str, Any]:
    """What a model of the data of this run has to beat, in the units of `likelihood`."""
    songs, train = run.songs(split), run.songs("train")
    eos_id, vocab_size = run.load()[1], run.files.vocab_size
    denominators = song_denominators(run, split)
    n_targets = np.array([len(ids) + 1 for ids in songs.ids])
    sampled = _sample(train.ids, N_TRAIN_TOKENS)
    counts = np.ones(vocab_size)
    for ids in train.ids:
        counts += np.bincount(ids, minlength=vocab_size)
    counts[eos_id] += len(train.ids)
    surprise = -np.log(counts / counts.sum())
    unigram = np.array([surprise[ids].sum() + surprise[eos_id] for ids in songs.ids])
    five_gram = KneserNey(sampled, eos_id, vocab_size).song_nll_nats(songs.ids)
    rows: dict[str, Any] = {
        "uniform": likelihood(n_targets * math.log(vocab_size), n_targets, denominators),
        "unigram": likelihood(unigram, n_targets, denominators),
        "five_gram": likelihood(five_gram, n_targets, denominators),
    }
    rows["five_gram"] |= {
        "n_train_songs": len(sampled),
        "n_train_tokens": sum(map(len, sampled)),
        "of_train_songs": len(train.ids),
    }
    return rows | compressor_rows(run, split, denominators)


def _sample(songs: list[np.ndarray], most: int) -> list[np.ndarray]:
    """Random songs of `most` tokens together, at least one; all, if they are that few."""
    order = np.random.default_rng(SEED).permutation(len(songs))
    ends = np.cumsum([len(songs[number]) for number in order])
    n = max(1, int(np.searchsorted(ends, most, "right")))
    return [songs[number] for number in sorted(order[:n])]


def compressor_rows(
    run: FinishedRun, split: str, denominators: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Bits a character, note, ... of gzip and xz on the text of a split."""
    texts = [text.encode() for text in split_tunes(run.files.folder, split)]
    compressors: dict[str, Callable[[bytes], bytes]] = {
        "gzip": lambda text: gzip.compress(text, 9, mtime=0),
        "xz": lambda text: lzma.compress(text, preset=9 | lzma.PRESET_EXTREME),
    }
    rows: dict[str, Any] = {}
    for name, compress in compressors.items():
        alone = np.array([8.0 * len(compress(text)) for text in texts])
        together = 8 * len(compress(b"\n".join(texts)))
        rows[name] = {
            "alone": _bits(alone, denominators),
            "together": {
                f"bits_per_{unit.removeprefix('n_').removesuffix('s')}": together / total.sum()
                for unit, total in denominators.items()
            },
        }
    return rows


def song_denominators(run: FinishedRun, split: str) -> dict[str, np.ndarray]:
    """n_chars, n_notes, n_bars and n_seconds of each song, (n,) float64 each."""
    return {name: np.array(run.column(split, name), dtype=float) for name in DENOMINATORS}


def by_position(run: FinishedRun, settings: ContextSettings) -> dict[str, Any] | None:
    """Loss by token position as `context_use` reads it; None if songs are too short."""
    try:
        _, ids = choose_songs(run, settings)
    except ValueError as error:
        logger.warning("%s: no loss by position: %s", run.folder, error)
        return None
    draws = song_draws(len(ids), settings.seed) / len(ids)
    ways = score(run, ids, settings)
    curves = {way: describe_curve(nll, log_bins(nll.shape[1]), draws) for way, nll in ways.items()}
    return {"n_songs": len(ids), "positions": settings.positions, "ways": curves}


def measure(runs: Sequence[FinishedRun], settings: ContextSettings) -> dict[str, Any]:
    """All that the file holds."""
    rows, sanity = [], {}
    for run in runs:
        nll, n_targets = run.song_nll_nats(settings.split)
        row = likelihood(nll, n_targets, song_denominators(run, settings.split))
        row["by_position"] = by_position(run, settings)
        rows.append(run.facts | {"data": str(run.files.folder)} | row)
        if str(run.files.folder) not in sanity:
            sanity[str(run.files.folder)] = sanity_rows(run, settings.split)
        logger.info(
            "%s: %.4f nats a token, %.4f bits a character",
            *(run.facts["run"], row["loss_nats_per_token"], row["bits_per_char"]),
        )
    return {"split": settings.split, "runs": rows, "sanity": sanity}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="evaluation.likelihood",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=Path, nargs="+", help="finished runs")
    parser.add_argument("--out", type=Path, default=Path("likelihood.json"))
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--positions", type=int, default=1024, help="of the loss by position")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        settings = ContextSettings(split=options.split, positions=options.positions)
        content = measure(open_runs(options.runs), settings)
        write_json(options.out, content)
    except (ValueError, OSError) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    print(f"{len(content['runs'])} runs, {len(content['sanity'])} data sets -> {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
