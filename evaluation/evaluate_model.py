"""One model -> metrics.json: its samples, how they are judged, and its test loss.

    python -m evaluation.evaluate_model runs/single/gpt_tiny --n 500

Samples are judged by three readers, their statistics are compared with those of real music, and
they are searched for passages of the training music. The sets:

    constrained    within the grammar, from the start token alone
    free           without the grammar, same length limit and random numbers
    study_a        study A's protocol: free, 256 tokens
    real           compared with these three: held-out pieces, cut to the same length
    prompted       within the grammar, from the first bars of held-out pieces that are within it
    prompted_free  the same prompts without the grammar
    reference      compared with these two: the pieces the prompts come from, cut to the same length

A model that was trained to fill in is measured as `arrangements` says, too.

The judges read the export (study A judged the raw model output: fields `raw_...`). Statistics cover
only readable samples: all constrained ones, but only a selection of the free ones. Samples and
verdicts that exist already are reused.
"""

import argparse
import logging
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_prep.storage.explain import explain
from modeling.pipeline_abc_music import AbcMusicPipeline
from scaling.writing.commands import command, use_huge_pages
from scaling.writing.files import write_json

from .arrangements import arrangements
from .judging.judge_table import VALID
from .judging.kept_verdicts import judge_sets
from .loading.finished_run import FinishedRun, split_column
from .loading.models import find_model, load_writer, weights_digest
from .loss.likelihood import likelihood, song_denominators
from .metrics import differences, judged_scores, rate, summarise, validity
from .music.distance import MIN_PIECES, compare_sets
from .music.memorisation import TrainingIndex, memorisation
from .music.music_statistics import describe_tunes
from .samples.grammar_overhead import masked_mass, speed
from .samples.sample_sets import (
    MAX_NEW_TOKENS,
    REAL,
    REFERENCE,
    Rows,
    begun_pieces,
    planned_sets,
    real_sets,
    sample_all,
)
from .samples.sampling import INTERRUPTED

logger = logging.getLogger(__name__)

MOST_MEASURED = 64  # samples
SIDE_BY_SIDE = (1, 8)  # batch sizes (tunes) at which the time overhead is measured
VERSIONS = ("torch", "transformers", "tokenizers", "symusic", "numpy", "scipy")
TEST_LOSSES = (
    *("n_songs", "loss_nats_per_token", "loss_standard_error_nats_per_token"),
    *("bits_per_char", "bits_per_note", "bits_per_bar", "bits_per_second"),
)


def evaluate(
    name: str, n: int, seed: int, folder: Path, n_fill_ins: int | None = None
) -> dict[str, Any]:
    """Samples, judges and measures a model.

    Args:
        name: As `models.find_model` returns it.
        n: Number of constrained samples.
        seed: Seed of the samples.
        folder: Where metrics.json and samples/<set>/{samples,verdicts}.jsonl are written.
        n_fill_ins: Number of fill-ins, if the model can write them; as many as n if None.

    Returns:
        The content of metrics.json.
    """
    write = load_writer(name)
    if not write.has_grammar:
        logger.warning("%s: the tokenizer does not cover the dialect; no grammar", name)
    run = _run_of(name)
    files = run.files if run else None
    begun = begun_pieces(write, files, n)
    planned = planned_sets(n, seed, write.has_grammar)
    samples = sample_all(name, write, begun, planned, folder)
    real = real_sets(write, files, begun, n, folder)
    judged, judges = judge_sets(samples | real, folder / "samples")
    rows_of = {
        kind: describe_tunes([row["abc_voices"] for row in rows if row["abc_voices"]])[0]
        for kind, rows in (samples | real).items()
    }
    index = TrainingIndex(split_column(files.folder, "train")) if real else None
    sets = {}
    for kind, rows in (samples | real).items():
        sets[kind] = _described(rows, judged[kind], rows_of[kind])
        if kind in planned:
            sets[kind]["sampling"] = asdict(planned[kind])
            beside = REFERENCE if kind.startswith("prompted") else REAL
            if beside in real:
                theirs = rows_of[beside]
                sets[kind] |= _beside_real(rows, real[beside], rows_of[kind], theirs, index, seed)
    metrics = {
        "model": name,
        "weights_sha256": weights_digest(name),
        "seed": seed,
        "versions": {package: version(package) for package in VERSIONS},
        "judges": judges,
        "sets": sets,
        "overhead": _overhead(write, rows_of, n, seed) if write.has_grammar else None,
        "test": test_loss(run) if run else None,
        "arrangements": arrangements(
            name, write, run, n if n_fill_ins is None else n_fill_ins, seed, folder
        )
        if run
        else None,
    }
    write_json(folder / "metrics.json", metrics)
    return metrics


def _described(rows: Rows, verdicts: Rows, statistics: Rows) -> dict[str, Any]:
    """The metrics of a set by itself."""
    return {
        "n": len(rows),
        "n_readable": len(statistics),
        "ended": rate([row["ended"] for row in rows]),
        "validity": validity(verdicts),
        "scores": judged_scores(verdicts),
        "statistics": summarise(statistics),
    }


def _beside_real(
    rows: Rows, real: Rows, own: Rows, theirs: Rows, index: TrainingIndex, seed: int
) -> dict[str, Any]:
    """The metrics of samples against real pieces; `own` and `theirs` are their statistics."""
    enough = len(own) >= MIN_PIECES and len(theirs) >= 2 * MIN_PIECES
    texts, control = ([row["abc"] for row in side] for side in (rows, real))
    return {
        "less_real": differences(own, theirs, seed),
        "distance": compare_sets(own, theirs) if enough else None,
        "memorisation": memorisation(texts, control, index),
    }


def _run_of(name: str) -> FinishedRun | None:
    """The run that a model is the checkpoint of (it knows its data); None if there is none."""
    folder = Path(name).parent
    if not (folder / "record.json").is_file():
        logger.warning("%s is not the checkpoint of a run: no real music to compare with", name)
        return None
    return FinishedRun.open(folder)


def _overhead(
    write: AbcMusicPipeline, statistics: dict[str, Rows], n: int, seed: int
) -> dict[str, Any]:
    """The overhead of the grammar, see `grammar_overhead`."""
    return {
        "mass": masked_mass(write, min(n, MOST_MEASURED), MAX_NEW_TOKENS, seed),
        "speed": [speed(write, MAX_NEW_TOKENS, seed, rows) for rows in SIDE_BY_SIDE],
        "constrained_less_free": differences(statistics["constrained"], statistics["free"], seed),
    }


def test_loss(run: FinishedRun) -> dict[str, float | None]:
    """Returns the loss on the test split, computed per song, each token predicted once."""
    in_all_units = likelihood(*run.song_nll_nats("test"), song_denominators(run, "test"))
    return {name: in_all_units[name] for name in TEST_LOSSES}


def in_short(metrics: dict[str, Any], file: Path) -> list[str]:
    """How many samples of each set are valid, for the terminal."""
    found = {kind: own["validity"].get(VALID) for kind, own in metrics["sets"].items()}
    valid = [
        f"{kind.replace('_', ' ')} {rate['successes']:,} of {rate['n']:,}"
        for kind, rate in found.items()
        if rate
    ]
    lines = [f"valid samples: {', '.join(valid)}"] if valid else []
    return [*lines, f"all verdicts and statistics of {metrics['model']} -> {file}"]


@command(ValueError, OSError, say=explain, interrupted=INTERRUPTED)
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="evaluation.evaluate_model", description=__doc__)
    parser.add_argument("model", help="a study (its best run), a finished run, or a model folder")
    parser.add_argument("--n", type=int, default=500, help="number of constrained samples")
    parser.add_argument("--fill-ins", type=int, help="number of fill-ins; by default as --n")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder = Path(options.model)
    metrics = evaluate(find_model(options.model), options.n, options.seed, folder, options.fill_ins)
    print(*in_short(metrics, folder / "metrics.json"), sep="\n")
    return 0


if __name__ == "__main__":
    use_huge_pages()
    sys.exit(main())
