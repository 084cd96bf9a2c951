"""Sampling overhead of the grammar: the same model with and without it, in one run.

    python benchmarks/grammar.py runs/single/gpt_tiny ... [--batch-sizes 1 8] [--out FILE]

Each round draws, from the same seed, free texts and whole tunes of at most `--tokens` tokens, at
temperature 1 without top-k, on one thread; rounds are interleaved, and the first pair warms up the
automaton's states. Time is CPU time of this process per step (one token for each row). The cost is
the share of a constrained step's time that a free step does not need. The table also gives the
share of tokens that the grammar replaced, an estimate of the illegal probability mass.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evaluation.loading.models import find_model, load_writer
from evaluation.samples.grammar_overhead import speed


def measure(name: str, batch_sizes: list[int], rounds: int, n_new: int) -> dict[str, Any]:
    """Milliseconds per step, free and constrained, and the effect of the grammar."""
    write = load_writer(find_model(name))
    batches = [speed(write, n_new, seed=0, rows=rows, rounds=rounds) for rows in batch_sizes]
    return {"model": name, "vocab_size": len(write.tokenizer), "batches": batches}


def main() -> int:
    """Print a table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="runs/<study>/<run>, or a name on the Hub")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_grammar.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print(f"{'model':32} {'rows':>4} {'free ms':>8} {'ours ms':>8} {'cost':>6} {'replaced':>9}")
    for name in options.models:
        rows.append(measure(name, options.batch_sizes, options.rounds, options.tokens))
        for batch in rows[-1]["batches"]:
            times = batch["milliseconds_a_step"]
            print(
                f"{name[-32:]:32} {batch['rows']:4} {times['free']:8.3f} "
                f"{times['constrained']:8.3f} {batch['cost_share']:6.1%} "
                f"{batch['resampled_share']:9.2%}"
            )
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    content = {"tokens": options.tokens, "rounds": options.rounds, "versions": versions}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content | {"models": rows}, indent=1) + "\n", "utf-8")
    print(f"-> {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
