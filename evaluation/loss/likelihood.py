"""Loss of finished runs on a split, in every unit, beside what any model has to beat.

    python -m evaluation.loss.likelihood runs/cpu/*_t12M_s1/ --out likelihood.json

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

import gzip
import logging
import lzma
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from training.data.blocks import DENOMINATORS
from training.data.validation import SongLoss

from ..loading.finished_run import FinishedRun, song_draws, split_column
from .context_use import ContextSettings, choose_songs, curves_of, score
from .kneser_ney import KneserNey
from .runs_command import runs_command

logger = logging.getLogger(__name__)

N_TRAIN_TOKENS = 10_000_000  # some 1.5 GB while they are counted
SPLITS = ("validation", "test")
SEED = 1
BITS_PER = {n: f"bits_per_{n.removeprefix('n_').removesuffix('s')}" for n in DENOMINATORS}


def ratio(above: np.ndarray, below: np.ndarray) -> dict[str, float | None]:
    """Sum over sum, with its standard error over songs; (n,) each. None for a single song."""
    loss = SongLoss(above, below)
    return {"value": loss.loss_nats_per_token, "standard_error": loss.standard_error_nats_per_token}


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
    nats, error = ratio(nll_nats, n_targets).values()
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
    for name, measure in BITS_PER.items():
        row[measure], row[f"{measure}_standard_error"] = ratio(bits, denominators[name]).values()
    return row


def sanity_rows(run: FinishedRun, split: str) -> dict[str, Any]:
    """What a model of the data of this run has to beat, in the units of `likelihood`."""
    songs, train = run.songs(split), run.songs("train")
    eos_id, vocab_size = run.eos_id(), run.files.vocab_size
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
    texts = [text.encode() for text in split_column(run.files.folder, split)]
    compressors: dict[str, Callable[[bytes], bytes]] = {
        "gzip": lambda text: gzip.compress(text, 9, mtime=0),
        "xz": lambda text: lzma.compress(text, preset=9 | lzma.PRESET_EXTREME),
    }
    rows: dict[str, Any] = {}
    for name, compress in compressors.items():
        alone = np.array([8.0 * len(compress(text)) for text in texts])
        bits = 8 * len(compress(b"\n".join(texts)))
        together = {BITS_PER[unit]: bits / total.sum() for unit, total in denominators.items()}
        rows[name] = {"alone": _bits(alone, denominators), "together": together}
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
    curves = curves_of(score(run, ids, settings), draws)
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


main = runs_command(
    *("likelihood", __doc__, measure, "likelihood.json"),
    settings=ContextSettings,
    options={
        "split": {"choices": SPLITS, "default": "test"},
        "positions": {"type": int, "default": 1024, "help": "of the loss by position"},
    },
    also=lambda content: f", {len(content['sanity'])} data sets",
)

if __name__ == "__main__":
    sys.exit(main())
