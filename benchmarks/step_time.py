"""Time of a decoding step over size, context and batch, with a law of it for each family.

    python benchmarks/step_time.py [--study configs/studies/ladder_sweep.yaml] [--rounds 3]
        [--out results/step_time.json]

A step generates one token for each row, after t tokens that were read before. It is timed on the
public path, `model.generate` (the stock Llama with `custom_generate=sample_llama`), with one
thread: a call that generates STEPS tokens minus one that generates a single token, so that reading
the prompt does not count. The shapes are those of a study and of three larger size files. Weights
are random: the time does not depend on them.

The law: seconds = a L + b N + c B N + d B L C t, with L layers, C width, N non-embedding
parameters, B rows. Its terms are calls of operations, weights read, multiplications of the weights,
and attention over the context (none in an LSTM). Fitted to relative errors, no term below zero.
Times are CPU time of this process, the best of the rounds.
"""

import argparse
import itertools
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import modeling  # noqa: F401 - registers our own families with the Auto classes
from modeling.decoding_abc_llama import sample_llama
from scaling.counts import ModelShape, count_parameters
from scaling.families import FAMILIES, Family, family_of
from training.config import format_override, load_config
from training.study.study_file import OF_A_SIZE, read_study

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
LARGER = [CONFIGS / f"{family}_medium.yaml" for family in ("gpt", "lstm", "llama")]
VOCAB_SIZE = 96
STEPS = 32
# largest context -> tokens read before, and batches; the prompt is read again in each call
CASES = {256: ((16, 96, 208), (1, 8, 32)), 1024: ((480, 960), (1, 8))}


@dataclass(frozen=True)
class Size:
    """A shape to time."""

    family: Family
    name: str
    model: dict[str, Any]

    @property
    def n_params(self) -> int:
        """Non-embedding parameters."""
        keys = {"vocab_size": VOCAB_SIZE, "max_position_embeddings": 1, **self.model}
        known = {key: keys[key] for key in ModelShape.__dataclass_fields__ if key in keys}
        return count_parameters(ModelShape(**known)).non_embedding


def sizes_of(study: Path) -> list[Size]:
    """The shapes of a study and of the larger size files."""
    content, _ = read_study(study, [])
    asked = [(CONFIGS / f"{size['config']}.yaml", size) for size in content["sizes"]]
    sizes = []
    for path, size in [*asked, *((path, {}) for path in LARGER)]:
        dotted = {key: value for key, value in size.items() if key not in OF_A_SIZE}
        changes = [format_override(key, value) for key, value in dotted.items()]
        model = load_config(path, changes)["model"]
        family = family_of(model["model_type"])
        sizes.append(Size(family, size.get("name", path.stem), family.config_keys(model)))
    return sizes


def build(size: Size, context: int) -> PreTrainedModel:
    """A model of random weights."""
    keys = {**size.model, "vocab_size": VOCAB_SIZE, "eos_token_id": None}
    if size.family.context == "attention":
        keys["max_position_embeddings"] = context
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**keys)).eval()


def step_seconds(model: PreTrainedModel, rows: int, read: int, rounds: int) -> float:
    """Seconds of a step after `read` tokens, the best of the rounds."""
    prompt = torch.ones(rows, read, dtype=torch.long)
    settings = {"do_sample": True, "top_k": 20, "attention_mask": torch.ones_like(prompt)}
    if model.config.model_type == "llama":
        settings["custom_generate"] = sample_llama

    def seconds(n_new: int) -> float:
        start = time.process_time()
        model.generate(prompt, max_new_tokens=n_new, **settings)
        return time.process_time() - start

    seconds(2)
    many, one = (min(seconds(n) for _ in range(rounds)) for n in (STEPS + 1, 1))
    return max(many - one, 0.0) / STEPS


def measure(size: Size, rounds: int) -> list[dict[str, Any]]:
    """One row per context and batch."""
    rows = []
    for context, (reads, batches) in CASES.items():
        model = build(size, context)
        for batch, read in itertools.product(batches, reads):
            rows.append(
                {
                    "family": size.family.name,
                    "size": size.name,
                    "n_params": size.n_params,
                    "layers": size.model["num_hidden_layers"],
                    "width": size.model["hidden_size"],
                    "context": context,
                    "batch": batch,
                    "tokens_before": read + STEPS // 2,
                    "step_seconds": step_seconds(model, batch, read, rounds),
                }
            )
    return rows


def fit_law(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Coefficients of the law of one family, and how far it misses the measured times."""
    n, layers, width, batch, before, measured = (
        np.array([row[key] for row in rows], dtype=float)
        for key in ("n_params", "layers", "width", "batch", "tokens_before", "step_seconds")
    )
    attends = FAMILIES[rows[0]["family"]].context == "attention"
    terms = {"per_layer": layers, "per_weight": n, "per_weight_and_row": batch * n}
    if attends:
        terms["per_key_and_row"] = batch * layers * width * before
    columns = np.stack([values / measured for values in terms.values()], axis=1)
    scale = columns.max(axis=0)
    found, _ = nnls(columns / scale, np.ones(len(rows)))
    missed = np.abs(columns / scale @ found - 1)
    return {
        "seconds": dict(zip(terms, (found / scale).tolist(), strict=True)),
        "relative_error": {"median": float(np.median(missed)), "largest": float(missed.max())},
    }


def main() -> None:
    """Measure all sizes, fit the laws, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", type=Path, default=CONFIGS / "studies" / "ladder_sweep.yaml")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/step_time.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for size in sizes_of(options.study):
        rows += measure(size, options.rounds)
        best = min(row["step_seconds"] for row in rows if row["size"] == size.name)
        print(
            f"{size.name:16} {size.n_params:>12,} parameters, from {1000 * best:.3f} ms", flush=True
        )
    laws = {
        name: fit_law([row for row in rows if row["family"] == name])
        for name in dict.fromkeys(row["family"] for row in rows)
    }
    for name, law in laws.items():
        error = law["relative_error"]
        print(f"{name}: {law['seconds']}, misses by {error['median']:.0%} in the median")
    result = {
        "threads": 1,
        "steps": STEPS,
        "rounds": options.rounds,
        "torch": torch.__version__,
        "laws": laws,
        "rows": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"-> {options.out}")


if __name__ == "__main__":
    main()
