"""Does a lower loss mean better music? Samples of finished runs, measured beside their loss.

    python -m evaluation.loss_and_music runs/ladder/gpt_* --n 200 --out results/loss_and_music.json

Each run writes tunes from the start token alone, at temperature 1, within the grammar and without
it. Measured are: the distance of the tunes within the grammar to held-out pieces, above that of
such pieces to each other (`distance.compare_sets`, frechet); the share of free tunes that all
readers accept; the probability that the grammar masks per step; and the share of passages that
also occur in the training music, above that of held-out pieces (`memorisation`). `rank_correlation`
is Spearman's between the loss and each measure, over the runs of a family and over all.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from data_prep.storage.explain import explain
from scaling.writing.commands import command
from scaling.writing.files import write_json

from .judging.judge_table import VALID
from .judging.kept_verdicts import judge_sets
from .loading.finished_run import FinishedRun, open_runs, split_column
from .loading.models import find_model, load_writer
from .metrics import validity
from .music.distance import compare_sets
from .music.memorisation import TrainingIndex, memorisation
from .music.music_statistics import describe_tunes
from .samples.grammar_overhead import masked_mass
from .samples.sample_sets import MAX_NEW_TOKENS, REAL, planned_sets, real_sets, sample_all
from .samples.sampling import INTERRUPTED

MOST_MEASURED = 64  # samples of the masked probability
PASSAGES = "share_text_window_50"
MEASURES = ("distance", "valid_without_grammar", "masked_probability", "memorised")
LEAST_RUNS = 4  # for a rank correlation
LOSS = "validation_loss_nats_per_token"
logger = logging.getLogger(__name__)


def measure(run: FinishedRun, n: int, seed: int, index: TrainingIndex) -> dict[str, Any]:
    """The row of one run: its facts, and each of MEASURES as value and interval_95.

    A value is None if it could not be measured: the share of valid tunes if a reader is not
    installed, which is logged; the distance if too few tunes have the statistics.

    Args:
        run: A run whose tokenizer covers the dialect.
        n: Number of tunes within the grammar, and of free ones.
        seed: Seed of the samples.
        index: Its training music.

    Raises:
        ValueError: If the tokenizer does not cover the dialect.
    """
    name = find_model(str(run.folder))
    write = load_writer(name)
    if not write.has_grammar:
        raise ValueError(f"{run.folder}: its tokenizer cannot write within the grammar")
    planned = planned_sets(n, seed, has_grammar=True)
    samples = sample_all(
        name, write, [], {kind: planned[kind] for kind in ("constrained", "free")}, run.folder
    )
    real = real_sets(write, run.files, [], n, run.folder)[REAL]
    judged, _ = judge_sets({"free": samples["free"]}, run.folder / "samples")
    own, theirs = (
        describe_tunes([row["abc_voices"] for row in rows if row["abc_voices"]])[0]
        for rows in (samples["constrained"], real)
    )
    apart = compare_sets(own, theirs)["frechet"]["frechet_distance"] or {}
    apart = apart.get("difference", {"mean": None, "splits_95": None})
    valid = validity(judged["free"]).get(VALID, {"rate": None, "interval_95": None})
    mass = masked_mass(write, min(n, MOST_MEASURED), MAX_NEW_TOKENS, seed)["masked_mass_per_step"]
    texts, control = ([row["abc"] for row in rows] for rows in (samples["constrained"], real))
    copied = memorisation(texts, control, index)["difference"][PASSAGES]
    found = (
        (apart["mean"], apart["splits_95"]),
        (valid["rate"], valid["interval_95"]),
        (mass["mean"], mass["interval_95"]),
        (copied["difference"], copied["interval_95"]),
    )
    return run.facts | {
        name: {"value": value, "interval_95": ends}
        for name, (value, ends) in zip(MEASURES, found, strict=True)
    }


def rank_correlations(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Spearman's rank correlation of the loss with each measure, by family and over "all"."""
    groups = {"all": list(rows)}
    for row in rows:
        groups.setdefault(row["arch"], []).append(row)
    return {
        group: {"n": len(own)} | {name: _correlation(own, name) for name in MEASURES}
        for group, own in groups.items()
        if len(own) >= LEAST_RUNS
    }


def _correlation(rows: Sequence[dict[str, Any]], name: str) -> float | None:
    values = [row[name]["value"] for row in rows]
    if None in values or len(set(values)) == 1:
        return None
    return float(spearmanr([row[LOSS] for row in rows], values).statistic)


@command(ValueError, OSError, say=explain, interrupted=INTERRUPTED)
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="evaluation.loss_and_music",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=Path, nargs="+", help="finished runs of one dataset")
    parser.add_argument("--n", type=int, default=200, help="tunes of each kind and run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/loss_and_music.json"))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    runs = open_runs(options.runs)
    folders = {run.files.folder for run in runs}
    if len(folders) > 1:
        raise ValueError(f"runs of {len(folders)} datasets, expected one: {sorted(folders)}")
    index = TrainingIndex(split_column(folders.pop(), "train"))
    rows = []
    for run in runs:
        rows.append(measure(run, options.n, options.seed, index))
        values = {name: rows[-1][name]["value"] for name in MEASURES}
        found = ", ".join(f"{name} {v:.4f}" for name, v in values.items() if v is not None)
        logger.info("%s: loss %.4f, %s", run.folder.name, rows[-1][LOSS], found)
    content = {
        "settings": {"n": options.n, "seed": options.seed, "max_new_tokens": MAX_NEW_TOKENS},
        "rank_correlation": rank_correlations(rows),
        "runs": rows,
    }
    write_json(options.out, content)
    print(f"{len(rows)} runs -> {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
