"""One model -> metrics.json: samples, what independent readers say of them, loss on the test split.

python -m evaluation.evaluate_model runs/single/gpt_tiny --n 100
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from tqdm import tqdm

from data_prep.corpus import DIALECT
from data_prep.stages import code_digest
from training.blocks import DENOMINATORS, load_songs
from training.data_files import locate_data
from training.validation import SongEvaluator

from .judges import judge_all
from .likelihood import likelihood
from .metrics import validity
from .sampling import SamplingSettings, find_model, load_model, make_samples

logger = logging.getLogger(__name__)

BATCH_TOKENS = 16_384
TEST_LOSSES = (
    *("n_songs", "loss_nats_per_token", "loss_standard_error_nats_per_token"),
    *("bits_per_char", "bits_per_note", "bits_per_bar", "bits_per_second"),
)


def evaluate(name: str, settings: SamplingSettings, folder: Path) -> dict[str, Any]:
    """Samples, judges and measures a model.

    Args:
        name: As `sampling.find_model` returns it.
        settings: How to sample.
        folder: Gets metrics.json, and samples/ with samples.jsonl and verdicts.jsonl.

    Returns:
        The content of metrics.json.
    """
    rows = make_samples(name, settings, folder / "samples")
    verdicts = _judge_samples(rows, folder / "samples")
    metrics = {
        "model": name,
        "n_samples": len(rows),
        "sampling": asdict(settings),
        "ended": sum(row["ended"] for row in rows) / len(rows),
        "validity": validity(verdicts),
        "test": test_loss(name),
    }
    text = json.dumps(metrics, indent=2) + "\n"
    (folder / "metrics.json").write_text(text, "utf-8")
    return metrics


def _judge_samples(rows: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Judges the export of each sample, or its raw text where there is none; kept on disk."""
    path, key_file = folder / "verdicts.jsonl", folder / "judging.json"
    texts = [row["abc_voices"] or row["abc"] for row in rows]
    code = code_digest(DIALECT)
    here = Path(__file__).parent
    sources = sorted([*here.glob("judge*.py"), here / "sandbox.py", here / "abcjs_judge.js"])
    judges = [hashlib.sha256(source.read_bytes()).hexdigest() for source in sources]
    raw = [row["abc"] for row in rows]
    key = hashlib.sha256(json.dumps([texts, raw, code, judges]).encode()).hexdigest()
    if path.exists() and key_file.exists() and json.loads(key_file.read_text("utf-8")) == key:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    verdicts = judge_all(texts, raw=raw)
    named = [{"sample": row["sample"]} | v for row, v in zip(rows, verdicts, strict=True)]
    path.write_text("".join(json.dumps(verdict) + "\n" for verdict in named), "utf-8")
    key_file.write_text(json.dumps(key) + "\n", "utf-8")
    return named


def test_loss(name: str) -> dict[str, float] | None:
    """Returns the loss on the test split of the data that the model was trained on.

    Song by song, each token predicted once, as the validation loss in training; None for a model
    without a run's folder, which does not say what its data were.
    """
    config_file = Path(name).parent / "config.yaml"
    if not config_file.is_file():
        logger.info("no config.yaml beside %s: the test loss is left out", name)
        return None
    config = yaml.safe_load(config_file.read_text("utf-8"))
    files = locate_data(config)
    if files.digest != config["data"]["digest"]:
        raise ValueError(
            f"{files.folder} has changed since {name} was trained: its test split may hold songs "
            "that the model learned from; make the data as they were, or train again"
        )
    songs = load_songs(files, "test")
    model, tokenizer = load_model(name)
    evaluator = SongEvaluator(songs, tokenizer.eos_token_id, files.block_length, BATCH_TOKENS)
    with tqdm(desc="test loss", total=len(evaluator.batches), unit="batch") as progress:
        loss = evaluator.evaluate(model, on_batch=progress.update)
    counts = pq.read_table(files.tokens / "test.parquet", columns=list(DENOMINATORS))
    denominators = {name: counts[name].to_numpy().astype(float) for name in DENOMINATORS}
    in_all_units = likelihood(loss.nll_nats, loss.n_targets, denominators)
    return {name: in_all_units[name] for name in TEST_LOSSES}


def table(metrics: dict[str, Any]) -> str:
    """Returns the metrics as lines of text."""
    lines = [f"{metrics['model']}: {metrics['n_samples']} samples"]
    for name, rate in metrics["validity"].items():
        low, high = rate["interval_95"]
        lines.append(f"  {name:14} {rate['rate']:6.1%}  [{low:.1%}, {high:.1%}]")
    for name, value in (metrics["test"] or {}).items():
        shown = "-" if value is None else f"{value:,.4g}"  # no standard error of a single song
        lines.append(f"  test {name:36} {shown}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="evaluation.evaluate_model", description=__doc__)
    parser.add_argument("model", help="a study (its best run), a finished run, or a model folder")
    parser.add_argument("--n", type=int, default=100, help="samples")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        settings = SamplingSettings(n=options.n, seed=options.seed)
        metrics = evaluate(find_model(options.model), settings, Path(options.model))
    except (ValueError, OSError) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command starts the evaluation again", file=sys.stderr)
        return 130
    print(table(metrics))
    return 0


if __name__ == "__main__":
    sys.exit(main())
