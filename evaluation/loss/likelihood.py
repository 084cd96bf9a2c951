"""Loss of finished runs on a split, in every unit, along with baselines any model must beat.

    python -m evaluation.loss.likelihood runs/cpu/*_t12M_s1/ --out likelihood.json

Conventions: a song of S tokens has S + 1 targets, the last one its end; each is predicted once, in
windows of the run's own context, as in validation. Bits are -log2 p summed over all targets,
divided by the characters, notes, bars or seconds that are stored with the split. These come from
the music, so they are comparable across tokenizers (a single segmentation is scored: an upper
bound). V: vocabulary size. Standard errors are those of ratios over songs, the independent units.

Sanity rows, once per dataset:
`uniform`      ln V.
`unigram`      counts of the train split, with one added to each token.
`five_gram`    interpolated Kneser-Ney with one discount per order, on the train split; if that has
               more than N_TRAIN_TOKENS tokens, on a random sample of its songs, stated in the row.
`gzip`, `xz`   the text as files, at the highest level: `alone`, one file per song, and `together`,
               all songs of the split in one file, where songs benefit from each other.
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

N_TRAIN_TOKENS = 10_000_000  # takes about 1.5 GB while counting
SPLITS = ("validation", "test")
SEED = 1
BITS_PER = {n: f"bits_per_{n.removeprefix('n_').removesuffix('s')}" for n in DENOMINATORS}


def ratio(above: np.ndarray, below: np.ndarray) -> dict[str, float | None]:
    """Ratio of sums, (n,) each, with its standard error over songs, None for a single song."""
    loss = SongLoss(above, below)
    return {"value": loss.loss_nats_per_token, "standard_error": loss.standard_error_nats_per_token}


def likelihood(
    nll_nats: np.ndarray, n_targets: np.ndarray, denominators: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The loss on a split in every unit; the single definition of these units.

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
        # first-order approximation: d exp(l) = exp(l) dl
        "perplexity_standard_error": None if error is None else math.exp(nats) * error,
    }
    return row | _bits(nll_nats / math.log(2), denominators)


def _bits(bits: np.ndarray, denominators: dict[str, np.ndarray]) -> dict[str, float | None]:
    row = {}
    for name, measure in BITS_PER.items():
        row[measure], row[f"{measure}_standard_error"] = ratio(bits, denominators[name]).values()
    return row


def sanity_rows(run: FinishedRun, split: str) -> dict[str, Any]:
    """Baselines that a model on this run's data must beat, in the units of `likelihood`."""
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
    """Random songs with at most `most` tokens in total, but at least one song; all if they fit."""
    order = np.random.default_rng(SEED).permutation(len(songs))
    ends = np.cumsum([len(songs[number]) for number in order])
    n = max(1, int(np.searchsorted(ends, most, "right")))
    return [songs[number] for number in sorted(order[:n])]


def compressor_rows(
    run: FinishedRun, split: str, denominators: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Bits per character, note, ... of gzip and xz on the text of a split."""
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
    """Loss by token position as in `context_use`; None if too few songs are long enough."""
    try:
        _, ids = choose_songs(run, settings)
    except ValueError as error:
        logger.warning("%s: no loss by position: %s", run.folder, error)
        return None
    draws = song_draws(len(ids), settings.seed) / len(ids)
    curves = curves_of(score(run, ids, settings), draws)
    return {"n_songs": len(ids), "positions": settings.positions, "ways": curves}


def measure(runs: Sequence[FinishedRun], settings: ContextSettings) -> dict[str, Any]:
    """The content of the file."""
    rows, sanity = [], {}
    for run in runs:
        nll, n_targets = run.song_nll_nats(settings.split)
        row = likelihood(nll, n_targets, song_denominators(run, settings.split))
        row["by_position"] = by_position(run, settings)
        rows.append(run.facts | {"data": str(run.files.folder)} | row)
        if str(run.files.folder) not in sanity:
            sanity[str(run.files.folder)] = sanity_rows(run, settings.split)
        logger.info(
            "%s: %.4f nats per token, %.4f bits per character",
            *(run.facts["run"], row["loss_nats_per_token"], row["bits_per_char"]),
        )
    return {"split": settings.split, "runs": rows, "sanity": sanity}


main = runs_command(
    *("likelihood", __doc__, measure, "likelihood.json"),
    settings=ContextSettings,
    options={
        "split": {"choices": SPLITS, "default": "test"},
        "positions": {"type": int, "default": 1024, "help": "for loss by position"},
    },
    also=lambda content: f", {len(content['sanity'])} datasets",
)

if __name__ == "__main__":
    sys.exit(main())
