"""How much validation loss benefits from songs with other arrangements in the train split.

    python -m evaluation.loss.leakage runs/cpu_leakage/*_t*/ --out results/leakage.json

For runs on data that was split by file: the loss on all validation songs, on those whose duplicate
cluster is in the train split too, and on the rest. The gap is the loss on the rest minus that on
all. Songs with copies may be inherently easier or harder, even for a model too small to memorize
any: the smallest size shows that part of the gap. Intervals: percentiles over duplicate clusters
drawn with replacement, the same draws on both sides of a difference.
"""

import logging
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..loading.finished_run import FinishedRun, interval, song_draws, split_column
from .runs_command import runs_command

logger = logging.getLogger(__name__)

SEED = 1
SPLIT = "validation"


def measure(run: FinishedRun) -> dict[str, Any]:
    """Losses of one run in nats per token: all songs, those with copies in train, the rest.

    Raises:
        ValueError: If none or all of the validation clusters are in the train split too.
    """
    folder = run.files.folder
    columns = (split_column(folder, SPLIT, name) for name in ("digest", "cluster_id"))
    cluster_of = dict(zip(*columns, strict=True))
    cluster = [cluster_of[digest] for digest in run.column(SPLIT, "digest")]
    in_train = set(split_column(folder, "train", "cluster_id"))
    nll, targets = run.song_nll_nats(SPLIT)
    names, place = np.unique(cluster, return_inverse=True)
    nll, targets = (np.bincount(place, weights=values) for values in (nll, targets))
    has_copy = np.array([name in in_train for name in names])  # (clusters,)
    if not 0 < has_copy.sum() < len(names):
        raise ValueError(
            f"{run.folder}: {has_copy.sum()} of {len(names)} validation clusters are in train too; "
            "expected some but not all: use data split by file, as in study_cpu_by_file"
        )
    draws = song_draws(len(names), SEED)  # (B, clusters)
    groups = {"all": np.ones(len(names)), "copied": has_copy, "clean": ~has_copy}
    losses, drawn = {}, {}
    for group, member in groups.items():
        losses[group] = float((nll * member).sum() / (targets * member).sum())
        drawn[group] = (draws @ (nll * member)) / (draws @ (targets * member))
    n_copied = sum(name in in_train for name in cluster)
    gaps = {
        f"clean_less_{group}": {
            "gap": losses["clean"] - losses[group],
            "interval_95": interval(drawn["clean"] - drawn[group]),
        }
        for group in ("all", "copied")
    }
    logger.info("%s: %.4f %s", run.facts["run"], *gaps["clean_less_all"].values())
    return run.facts | {
        "n_songs": {"all": len(cluster), "copied": n_copied, "clean": len(cluster) - n_copied},
        "loss_nats_per_token": {
            group: {"loss": losses[group], "interval_95": interval(drawn[group])}
            for group in groups
        },
        "gap_nats_per_token": gaps,
    }


def measure_all(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """The content of the file."""
    return {"split": SPLIT, "seed": SEED, "runs": [measure(run) for run in runs]}


main = runs_command("leakage", __doc__, measure_all, "leakage.json")

if __name__ == "__main__":
    sys.exit(main())
