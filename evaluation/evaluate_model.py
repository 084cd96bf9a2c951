"""One model -> metrics.json: what it writes, what others say of that, and its test loss.

    python -m evaluation.evaluate_model runs/single/gpt_tiny --n 500

Samples are judged by three readers, compared with real music in their statistics, and searched for
passages of the training music. The sets, each beside `real`, held-out pieces cut as long:

    constrained    within the grammar, from nothing but the start token
    free           of the same length and the same random numbers, without the grammar
    study_a        by study A's protocol: free, 256 tokens
    prompted       within the grammar, from the first bars of held-out pieces that are within it
    prompted_free  the same prompts without the grammar

Judged is the export (study A judged what the model wrote: fields `raw_...`). Statistics are of
samples that can be read: all that the grammar lets through, and of free ones a selection. What was
sampled and judged before is not done again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from data_prep.corpus import DIALECT
from data_prep.stages import code_digest
from modeling.pipeline_abc_music import AbcMusicPipeline
from training.data_files import DataFiles

from .distance import MIN_PIECES, compare_sets
from .finished_run import FinishedRun
from .grammar_price import differences, illegal_mass, speed
from .held_out import cut_as_samples, prompts, test_tunes
from .judge_process import find_abc2midi, find_abcjs
from .judges import judge_texts
from .likelihood import likelihood, song_denominators
from .memorisation import TrainingIndex, memorisation, train_texts
from .metrics import judged_scores, rate, summarise, validity
from .music_statistics import describe_tunes
from .sampling import (
    SamplingSettings,
    find_model,
    load_writer,
    make_samples,
    weights_digest,
    write_tunes,
)

logger = logging.getLogger(__name__)

MAX_NEW_TOKENS, STUDY_A_TOKENS = 512, 256
MOST_FREE, MOST_PROMPTED, MOST_PRICED = 500, 200, 64
SIDE_BY_SIDE = (1, 8)  # tunes, where the price in time is measured
N_WRITTEN = 8  # tunes of a set that are files
VERSIONS = ("torch", "transformers", "tokenizers", "symusic", "numpy", "scipy")
TEST_LOSSES = (
    *("n_songs", "loss_nats_per_token", "loss_standard_error_nats_per_token"),
    *("bits_per_char", "bits_per_note", "bits_per_bar", "bits_per_second"),
)

Rows = list[dict[str, Any]]


def planned_sets(n: int, seed: int, has_grammar: bool) -> dict[str, SamplingSettings]:
    """What to sample, by the name of the set.

    Args:
        n: Constrained samples; of the others as many, but not more than their own most.
        seed: Of all sets.
        has_grammar: Whether the model's tokenizer can write within the grammar.
    """
    whole = SamplingSettings(n=n, seed=seed, max_new_tokens=MAX_NEW_TOKENS)
    free = {"n": min(n, MOST_FREE), "grammar": False}
    prompted = {"n": min(n, MOST_PROMPTED)}
    changed = {
        "constrained": {},
        "free": free,
        "study_a": free | {"max_new_tokens": STUDY_A_TOKENS},
        "prompted": prompted,
        "prompted_free": prompted | {"grammar": False},
    }
    sets = {name: SamplingSettings(**asdict(whole) | own) for name, own in changed.items()}
    return {name: own for name, own in sets.items() if has_grammar or not own.grammar}


def evaluate(name: str, n: int, seed: int, folder: Path) -> dict[str, Any]:
    """Samples, judges and measures a model.

    Args:
        name: As `sampling.find_model` returns it.
        n: Constrained samples.
        seed: Of the samples.
        folder: Gets metrics.json, and samples/<set>/ with samples.jsonl and verdicts.jsonl.

    Returns:
        The content of metrics.json.
    """
    write = load_writer(name)
    if not write.has_grammar:
        logger.warning("%s: its tokenizer cannot write all of the dialect; no grammar", name)
    run = _run_of(name)
    files = run.files if run else None
    samples = _sample_all(name, write, files, planned_sets(n, seed, write.has_grammar), folder)
    real = _real_pieces(write, files, n, folder)
    index = TrainingIndex.of(train_texts(files.folder)) if real else None
    all_rows = samples | ({"real": real} if real else {})
    judged, judges = judge_sets(all_rows, folder / "samples")
    sets, statistics = {}, {}
    for kind, rows in all_rows.items():
        exports = [row["abc_voices"] for row in rows if row["abc_voices"]]
        statistics[kind], _ = describe_tunes(exports)
        sets[kind] = {
            "n": len(rows),
            "n_readable": len(exports),
            "ended": rate([row["ended"] for row in rows]),
            "validity": validity(judged[kind]),
            "scores": judged_scores(judged[kind]),
            "statistics": summarise(statistics[kind]),
        }
        if kind in samples:
            settings = json.loads((folder / "samples" / kind / "sampling.json").read_text("utf-8"))
            names = asdict(SamplingSettings())
            sets[kind]["sampling"] = {name: settings[name] for name in names}
    for kind, rows in samples.items() if real else ():
        own, theirs = statistics[kind], statistics["real"]
        sets[kind]["less_real"] = differences(own, theirs, seed)
        enough = len(own) >= MIN_PIECES and len(theirs) >= 2 * MIN_PIECES
        sets[kind]["distance"] = compare_sets(own, theirs) if enough else None
        control = [row["abc"] for row in real]
        sets[kind]["memorisation"] = memorisation([row["abc"] for row in rows], control, index)
    metrics = {
        "model": name,
        "weights_sha256": weights_digest(name),
        "seed": seed,
        "versions": {package: version(package) for package in VERSIONS},
        "judges": judges,
        "sets": sets,
        "price": _price(write, statistics, n, seed) if write.has_grammar else None,
        "test": test_loss(run) if run else None,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", "utf-8")
    return metrics


def _run_of(name: str) -> FinishedRun | None:
    """The run whose checkpoint a model is, which knows its data; None where there is none."""
    folder = Path(name).parent
    if not (folder / "record.json").is_file():
        logger.warning("%s is no checkpoint of a run: nothing to compare with is known", name)
        return None
    return FinishedRun.open(folder)


def _sample_all(
    name: str,
    write: AbcMusicPipeline,
    files: DataFiles | None,
    sets: dict[str, SamplingSettings],
    folder: Path,
) -> dict[str, Rows]:
    samples = {}
    for kind, settings in sets.items():
        wishes: Sequence[str] = [""]
        if kind.startswith("prompted"):
            wishes = _prompts(write, files, settings)
            if not wishes:
                logger.warning("no held-out pieces to begin with: %s is left out", kind)
                continue
        place = folder / "samples" / kind
        samples[kind] = make_samples(name, settings, place, wishes, write)
        write_tunes(samples[kind][:N_WRITTEN], place)
    return samples


def _prompts(
    write: AbcMusicPipeline, files: DataFiles | None, settings: SamplingSettings
) -> list[str]:
    if files is None or not write.has_grammar:
        return []
    found = prompts(test_tunes(files), write.grammar, settings.max_new_tokens)
    return list(islice(found, settings.n))


def _real_pieces(
    write: AbcMusicPipeline, files: DataFiles | None, n: int, folder: Path
) -> Rows | None:
    """Held-out pieces as long as the samples, in samples/real; None where there are none."""
    if files is None:
        return None
    tunes = test_tunes(files)[: max(n, 2 * MIN_PIECES)]
    rows = cut_as_samples(tunes, write.tokenizer, MAX_NEW_TOKENS)
    if not rows:
        logger.warning("%s has no pieces in the layout bars: nothing to compare", files.folder)
        return None
    place = folder / "samples" / "real"
    place.mkdir(parents=True, exist_ok=True)
    (place / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return rows


def judge_sets(
    sets: dict[str, Rows], folder: Path
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """Judges the export of each sample, or its raw text where there is none; kept on disk.

    Args:
        sets: Rows by the name of their set.
        folder: With a folder for each set, which gets verdicts.jsonl.

    Returns:
        Verdicts by set; and of the readers `versions` and which are `missing`.
    """
    keys = {kind: _judging_key(rows) for kind, rows in sets.items()}
    files = {
        kind: (folder / kind / "verdicts.jsonl", folder / kind / "judging.json") for kind in sets
    }
    new = {}
    for kind, (verdicts_file, about_file) in files.items():
        about = json.loads(about_file.read_text("utf-8")) if about_file.exists() else {}
        if about.get("key") != keys[kind] or not verdicts_file.exists():
            new[kind] = sets[kind]
    if new:
        rows = [row for kind in new for row in new[kind]]
        texts = [row["abc_voices"] or row["abc"] for row in rows]
        verdicts, about = judge_texts(texts, [row["abc"] for row in rows])
        judges = {name: about[name] for name in ("versions", "missing")}
        for name, reason in about["missing"].items():
            logger.warning("%s does not judge: %s", name, reason)
        place = iter(verdicts)
        for kind, own in new.items():
            lines = (json.dumps({"sample": row["sample"]} | next(place)) + "\n" for row in own)
            files[kind][0].write_text("".join(lines), "utf-8")
            files[kind][1].write_text(json.dumps({"key": keys[kind], "judges": judges}) + "\n")
    judged = {
        kind: [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for kind, (path, _) in files.items()
    }
    return judged, json.loads(next(iter(files.values()))[1].read_text("utf-8"))["judges"]


def _judging_key(rows: Rows) -> str:
    """What verdicts depend on: texts, code, and which readers are there."""
    here = Path(__file__).parent
    sources = sorted([*here.glob("judge*.py"), here / "sandbox.py", here / "abcjs_judge.js"])
    judges = [hashlib.sha256(source.read_bytes()).hexdigest() for source in sources]
    judges += [str(bool(find())) for find in (find_abc2midi, find_abcjs)]
    texts = [(row["abc_voices"], row["abc"]) for row in rows]
    content = json.dumps([texts, code_digest(DIALECT), judges])
    return hashlib.sha256(content.encode()).hexdigest()


def _price(
    write: AbcMusicPipeline, statistics: dict[str, Rows], n: int, seed: int
) -> dict[str, Any]:
    """What the grammar costs, see `grammar_price`."""
    model = (write.model, write.tokenizer, write.grammar)
    return {
        "mass": illegal_mass(*model, min(n, MOST_PRICED), MAX_NEW_TOKENS, seed),
        "speed": [speed(*model, MAX_NEW_TOKENS, seed, rows) for rows in SIDE_BY_SIDE],
        "constrained_less_free": differences(statistics["constrained"], statistics["free"], seed),
    }


def test_loss(run: FinishedRun) -> dict[str, float | None]:
    """Returns the loss on the test split, song by song, each token predicted once."""
    in_all_units = likelihood(*run.song_nll_nats("test"), song_denominators(run, "test"))
    return {name: in_all_units[name] for name in TEST_LOSSES}


def table(metrics: dict[str, Any]) -> str:
    """Returns the metrics as lines of text."""
    kinds = list(metrics["sets"])
    names = list(dict.fromkeys(n for kind in kinds for n in metrics["sets"][kind]["validity"]))
    lines = [metrics["model"], " ".join([f"{'':28}", *(f"{kind:>14}" for kind in kinds)])]
    sizes = (f"{metrics['sets'][kind]['n']:14,}" for kind in kinds)
    lines.append(" ".join([f"{'tunes':28}", *sizes]))
    for name in names:
        said = (metrics["sets"][kind]["validity"].get(name) for kind in kinds)
        cells = (f"{'-' if r is None else format(r['rate'], '.1%'):>14}" for r in said)
        lines.append(" ".join([f"{name:28}", *cells]))
    for name, value in (metrics["test"] or {}).items():
        shown = "-" if value is None else f"{value:,.4g}"  # no standard error of a single song
        lines.append(f"test {name:40} {shown}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="evaluation.evaluate_model", description=__doc__)
    parser.add_argument("model", help="a study (its best run), a finished run, or a model folder")
    parser.add_argument("--n", type=int, default=500, help="constrained samples")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        metrics = evaluate(find_model(options.model), options.n, options.seed, Path(options.model))
    except (ValueError, OSError) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on with what is missing", file=sys.stderr)
        return 130
    print(table(metrics))
    return 0


if __name__ == "__main__":
    sys.exit(main())
