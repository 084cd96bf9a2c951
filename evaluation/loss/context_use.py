"""Loss by token position: how much of the context does a model use?

    python -m evaluation.loss.context_use runs/cpu/*_t12M_s1/ --out results/context_use.json

l(t) = mean of -ln p(x_t | x_<t) in nats, t = 1, 2, ... positions, over songs of more than P tokens,
so that every t has the same songs. Ways to read a song:

`crops`    from random places after the first eighth, with an empty state or window: t counts the
           tokens of context, independent of the place in the song. T90 and the stop are quoted
           for this way. To compare like with like, each target's loss with the whole song before
           it (`carried`, `stride`) is subtracted, and the song's mean of that is added back.
`reset`    from its start, in independent windows of the training context: as in validation.
`carried`  Families with a state, such as the LSTM: from its start, with the state carried to P.
`stride`   Attention families, such as the GPT: from its start, with windows of the training
           context T moved by T/2. Each gives the loss of its second half (the first window of
           both): T/2 to T tokens of context beyond T.

T90 is the smallest t with l(t) - l_end <= 0.1 (l(1) - l_end), interpolated in ln t. The context is
no longer used from the first bin where the interval of the slope dl/dln t is not below 0; null if
there is none. Bins are half octaves; intervals are percentiles over songs drawn with replacement.
Source: Kaplan et al. 2020, figure 7.
"""

import hashlib
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scaling.families import FAMILIES

from ..loading.finished_run import FinishedRun, interval, song_draws, window_nll
from .position_curve import describe_curve, log_bins, paired_differences, range_means
from .runs_command import runs_command

logger = logging.getLogger(__name__)

MIN_SONGS = 10
BEGINNING = 8  # crops skip the first 1/8 of the positions


@dataclass(frozen=True)
class ContextSettings:
    """What is scored.

    Attributes:
        songs: Maximum number of songs, chosen by their digests and the seed.
        positions: P.
        crops: Random places per song.
        seed: Seed for songs, places and draws.
    """

    songs: int = 200
    positions: int = 2048
    crops: int = 4
    seed: int = 1
    split: str = "validation"

    def __post_init__(self) -> None:
        if self.positions < 8 or self.positions & (self.positions - 1):
            raise ValueError(f"positions is {self.positions}, expected a power of 2 from 8")
        if min(self.songs, self.crops) < 1:
            raise ValueError(f"songs {self.songs}, crops {self.crops}: expected 1 or more")


def choose_songs(run: FinishedRun, settings: ContextSettings) -> tuple[list[str], list[np.ndarray]]:
    """Digests and ids of the songs to score: the same for all runs on the same songs.

    Raises:
        ValueError: If fewer than MIN_SONGS are long enough.
    """
    songs = run.songs(settings.split)
    pairs = zip(run.column(settings.split, "digest"), songs.ids, strict=True)
    long_ones = [(digest, ids) for digest, ids in pairs if len(ids) > settings.positions]
    if len(long_ones) < MIN_SONGS:
        raise ValueError(
            f"{run.files.folder}: {len(long_ones)} of {len(songs.ids)} {settings.split} songs have "
            f"more than {settings.positions} tokens, expected {MIN_SONGS}; lower --positions"
        )
    long_ones.sort(key=lambda song: hashlib.sha256(f"{settings.seed} {song[0]}".encode()).digest())
    chosen = long_ones[: settings.songs]
    return [digest for digest, _ in chosen], [ids for _, ids in chosen]


def score(run: FinishedRun, ids: list[np.ndarray], settings: ContextSettings) -> dict[str, Any]:
    """Way to read -> (songs, positions) float64, loss in nats; for crops, the mean over places."""
    model, eos_id = run.load()
    n_positions, context = settings.positions, run.facts["context_length"]
    sequence = np.array([[eos_id, *song[:n_positions]] for song in ids])  # (n, P + 1)
    crop_length = n_positions // 2
    way = FAMILIES[run.facts["arch"]].way
    if way == "stride":
        crop_length = min(crop_length, context)
        full = _windows_nll(model, sequence, context, context // 2)
    else:
        full = _windows_nll(model, sequence, n_positions, n_positions)
    ways = {way: full, "reset": _windows_nll(model, sequence, context, context)}
    ways["crops"] = _crops_nll(model, sequence, full, crop_length, settings)
    return {name: way.astype(float) for name, way in ways.items()}


def _crops_nll(
    model: Any, sequence: np.ndarray, full: np.ndarray, length: int, settings: ContextSettings
) -> np.ndarray:
    """(n, length): mean over crops, at the level of `full`, (n, P); sequence: (n, P + 1)."""
    n, n_positions = full.shape
    rng = np.random.default_rng(settings.seed)
    # drawn for the longest crop, so that runs of any context are cropped at the same places,
    # and not in the header or the first bars, which differ from the rest of a song
    first, last = n_positions // BEGINNING, n_positions // 2
    starts = rng.integers(first, last + 1, (n, settings.crops))  # (n, crops)
    places = starts[:, :, None] + np.arange(length + 1)  # (n, crops, length + 1)
    cuts = np.take_along_axis(sequence[:, None, :], places, axis=2).reshape(-1, length + 1)
    nll = window_nll(model, cuts[:, :-1], cuts[:, 1:]).reshape(n, settings.crops, length)
    same_targets = np.take_along_axis(full[:, None, :], places[:, :, :-1], axis=2)
    return (nll - same_targets).mean(1) + full[:, first:].mean(1, keepdims=True)


def _windows_nll(model: Any, sequence: np.ndarray, context: int, step: int) -> np.ndarray:
    """(n, P): windows of T moved by `step`, each contributing only the new positions.

    sequence: (n, P + 1).
    """
    sides = sequence[:, :-1], sequence[:, 1:]  # inputs and targets
    overlap, parts = context - step, []
    for start in range(0, max(1, sequence.shape[1] - 1 - overlap), step):
        nll = window_nll(model, *(side[:, start : start + context] for side in sides))
        parts.append(nll[:, overlap if start else 0 :])
    return np.concatenate(parts, axis=1)


def curves_of(ways: dict[str, np.ndarray], draws: np.ndarray) -> dict[str, Any]:
    """Way to read -> its curve, from the output of `score`. draws: (B, songs), rows sum to 1."""
    return {way: describe_curve(nll, log_bins(nll.shape[1]), draws) for way, nll in ways.items()}


def measure(runs: Sequence[FinishedRun], settings: ContextSettings) -> dict[str, Any]:
    """The file's content: a curve per run and way, means over ranges, paired differences.

    Raises:
        ValueError: If the songs are too short, or the runs have different songs.
    """
    rows, means_of, digests = [], {}, None
    for run in runs:
        start = time.monotonic()
        names, ids = choose_songs(run, settings)
        digests = digests or names
        if names != digests:
            raise ValueError(
                f"{run.folder} has different {settings.split} songs from {runs[0].folder}; compare "
                "runs on presets that differ only in the context"
            )
        ways = score(run, ids, settings)
        draws = song_draws(len(ids), settings.seed) / len(ids)  # (B, n)
        row = run.facts | {"ways": curves_of(ways, draws)}
        means = {name: range_means(nll) for name, nll in ways.items()}
        row["ranges"] = [
            {"way": name, "from": low, "to": high, "loss": float(loss.mean())}
            | {"interval_95": interval(draws @ loss)}
            for name, of in means.items()
            for (low, high), loss in of.items()
        ]
        rows.append(row)
        means_of[row["run"], row["context_length"]] = means
        crops = row["ways"]["crops"]
        logger.info(
            "%s: %.0f s, T90 %s, stops at %s",
            *(row["run"], time.monotonic() - start, crops["t90"]["value"], crops["stops_at"]),
        )
    return {
        "settings": asdict(settings) | {"n_songs": len(digests or [])},
        "runs": rows,
        "context_differences": paired_differences(rows, means_of, draws),
    }


OPTIONS = ("songs", "positions", "crops", "seed")
main = runs_command(
    *("context_use", __doc__, measure, "context_use.json"),
    settings=ContextSettings,
    options={name: {"type": int, "default": getattr(ContextSettings, name)} for name in OPTIONS},
    also=lambda content: f", {content['settings']['n_songs']} songs",
    indent=None,
)

if __name__ == "__main__":
    sys.exit(main())
