"""Speed of our training path beside a bare PyTorch loop: same model, same batches, one thread.

    python benchmarks/training.py configs/gpt_tiny.yaml [data.preset=demo model.hidden_size=16 ...]

What the Trainer adds to a step (callbacks, logging, scheduler) is all that differs. Rounds are
interleaved, so that a machine that changes its speed does so for both; speeds are per CPU second.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training.blocks import TrainingData, load_blocks, order_blocks
from training.budget import plan_budget
from training.config import load_config
from training.model import build_model
from training.progress import RunLog, StopOnSignal, Stopwatch
from training.run_folder import choose_run_folder
from training.trainer import BudgetTrainer, training_arguments
from training.validation import SongEvaluator

QUIET = ["training.save_strategy='no'", "training.eval_strategy='no'"]


def trainer_seconds(config: dict[str, Any], data: TrainingData) -> float:
    """CPU seconds of a run through the Trainer."""
    with tempfile.TemporaryDirectory() as folder:
        run = choose_run_folder(config, data.files, Path(folder))
        run.path.mkdir(parents=True)
        budget = plan_budget(config, data.files.block_length)
        watch, stop = Stopwatch(), StopOnSignal()
        evaluator = SongEvaluator(data.validation, data.tokenizer.eos_token_id, 256, 8192)
        trainer = BudgetTrainer(
            evaluator,
            watch,
            stop,
            model=build_model(config, data),
            args=training_arguments(run, budget),
            train_dataset=order_blocks(data, config, budget),
            callbacks=[RunLog(run.log, budget, watch, show_bar=False), stop],
        )
        start = time.process_time()
        trainer.train()
        return time.process_time() - start


def bare_seconds(config: dict[str, Any], data: TrainingData) -> float:
    """CPU seconds of the plainest loop that takes the same steps."""
    budget = plan_budget(config, data.files.block_length)
    blocks = order_blocks(data, config, budget)
    model = build_model(config, data).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, fused=True)
    n = budget.sequences_per_step
    start = time.process_time()
    for step in range(budget.max_steps):
        batch = blocks.__getitems__(range(step * n, step * n + n))
        model(**batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.process_time() - start


def main() -> None:
    """Print the ratio of the speeds and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_training.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps = f"training.max_steps={options.steps}"
    config = load_config(options.config, [*QUIET, steps, *options.overrides])
    data = load_blocks(config)
    budget = plan_budget(config, data.files.block_length)
    pairs = [
        (trainer_seconds(config, data), bare_seconds(config, data)) for _ in range(options.rounds)
    ]
    ratios = sorted(bare / ours for ours, bare in pairs)
    ours = statistics.median(pair[0] for pair in pairs) / budget.max_steps
    bare = statistics.median(pair[1] for pair in pairs) / budget.max_steps
    result = {
        "config": config,
        "steps": budget.max_steps,
        "speed_ratio_to_bare_loop": {
            "median": statistics.median(ratios),
            "lowest": ratios[0],
            "highest": ratios[-1],
        },
        "milliseconds_a_step": {"trainer": 1000 * ours, "bare_loop": 1000 * bare},
        "tokens_per_cpu_second": {
            "trainer": budget.targets_per_step / ours,
            "bare_loop": budget.targets_per_step / bare,
        },
        "torch": torch.__version__,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    speeds = result["tokens_per_cpu_second"]
    print(f"{'':10} {'tokens/s':>10} {'ms a step':>10}")
    for name in ("trainer", "bare_loop"):
        print(f"{name:10} {speeds[name]:10,.0f} {result['milliseconds_a_step'][name]:10.2f}")
    print(f"speed, bare loop = 1: {result['speed_ratio_to_bare_loop']}")
    print(f"-> {options.out}")


if __name__ == "__main__":
    main()
