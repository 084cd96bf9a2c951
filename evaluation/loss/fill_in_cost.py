"""What training to fill in costs on plain text: runs with and without it, on the same songs.

    python -m evaluation.loss.fill_in_cost runs/fill_in/*_t12M_s1/ --out results/fill_in_cost.json

Runs are paired by family and seed: one on a dataset with the tokens of the fill-in form, one
without. `cost` is the loss of the first minus that of the second, in nats per character of the test
songs that both datasets have, each token predicted once, in windows of the runs' context.
Intervals: percentiles over songs drawn with replacement, the same draws on both sides.
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..loading.finished_run import FinishedRun, interval, song_draws
from ..loading.models import find_model, load_tokenizer
from .fill_in_loss import can_fill_in
from .runs_command import runs_command

SEED = 1
SPLIT = "test"


def measure(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """The content of the file: one row per family and seed.

    Raises:
        ValueError: If a family has not exactly one run of each kind with a seed.
    """
    pairs: dict[tuple[str, int], dict[bool, list[FinishedRun]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for run in runs:
        fills_in = can_fill_in(load_tokenizer(find_model(str(run.folder))))
        pairs[run.facts["arch"], run.facts["seed"]][fills_in].append(run)
    rows = []
    for (family, seed), found in pairs.items():
        if [len(found[fills_in]) for fills_in in (True, False)] != [1, 1]:
            raise ValueError(
                f"{family}, seed {seed}: {len(found[True])} runs trained to fill in, "
                f"{len(found[False])} others; expected one of each"
            )
        rows.append(_compared(found[True][0], found[False][0]))
    return {"split": SPLIT, "seed": SEED, "runs": rows}


def _compared(run: FinishedRun, plain: FinishedRun) -> dict[str, Any]:
    ours, theirs = (dict(zip(*_by_song(each), strict=True)) for each in (run, plain))
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        raise ValueError(f"{run.folder} and {plain.folder} have no {SPLIT} song in common")
    n_chars = np.array([ours[digest][1] for digest in shared])
    nll = {"fill_in": ours, "plain": theirs}
    nll = {kind: np.array([own[digest][0] for digest in shared]) for kind, own in nll.items()}
    draws = song_draws(len(shared), SEED)
    drawn = {kind: (draws @ own) / (draws @ n_chars) for kind, own in nll.items()}
    loss = {kind: float(own.sum() / n_chars.sum()) for kind, own in nll.items()}
    return run.facts | {
        "plain_run": plain.facts["run"],
        "n_songs": len(shared),
        "nats_per_char": loss,
        "cost": {
            "mean": loss["fill_in"] - loss["plain"],
            "interval_95": interval(drawn["fill_in"] - drawn["plain"]),
        },
    }


def _by_song(run: FinishedRun) -> tuple[list[str], list[tuple[float, float]]]:
    """Digests of the songs; for each its loss in nats and its number of characters."""
    nll, _ = run.song_nll_nats(SPLIT)
    n_chars = run.column(SPLIT, "n_chars")
    return run.column(SPLIT, "digest"), list(zip(nll.tolist(), n_chars, strict=True))


main = runs_command("fill_in_cost", __doc__, measure, "results/fill_in_cost.json")

if __name__ == "__main__":
    sys.exit(main())
