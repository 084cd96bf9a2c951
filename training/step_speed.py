"""How fast each size of a study trains: a few steps with random token ids, on this machine.

A process of its own: it reads the sizes from stdin as one JSON object, `{"folder": ..., "sizes":
{name: {"config": ..., "overrides": [...]}}}`, and writes a line of JSON to stdout for each. The
steps are those of the Trainer with the size's own batch, so its overhead counts as well. T block
length.
"""

import gc
import json
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

WARMUP_STEPS = 3
MEASURED_STEPS = 20
LIMIT_SECONDS = 8.0  # for the steps of one size, so that a size too large for the machine shows it
N_VALIDATION_BATCHES = 4


@dataclass(frozen=True)
class Speed:
    """What one size takes on this machine.

    Attributes:
        seconds_import: What each process loads first, once for all runs of a cell.
        seconds_setup: From the config to the first step, with what only the first steps take.
        seconds_per_step: One optimiser step, accumulation included.
        seconds_per_validation_token: One target of the validation.
        seconds_per_checkpoint: Writing one.
    """

    seconds_import: float
    seconds_setup: float
    seconds_per_step: float
    seconds_per_validation_token: float
    seconds_per_checkpoint: float


def measure(config: dict[str, Any], folder: Path, seconds_import: float) -> Speed:
    """Train a few steps.

    Args:
        config: Of a run; its data need a tokenizer and a stage.json, the music is not read.
        folder: An empty one, on the disk where the run will write.
        seconds_import: What the process took to load.
    """
    # torch and what needs it: main says how long they take to load
    from .arguments import keep_freed_memory, training_arguments
    from .model import build_model
    from .progress import StopOnSignal, Stopwatch
    from .run_folder import RunFolder
    from .spikes import SpikeRule
    from .step_timer import StepTimer, TooSlowError, now
    from .trainer import BudgetTrainer

    keep_freed_memory()
    begin = now()
    data, budget, blocks = _random_data(config)
    run = RunFolder(folder, _as_trial(config))
    args = training_arguments(run, budget)
    timer = StepTimer(WARMUP_STEPS, MEASURED_STEPS, LIMIT_SECONDS)
    trainer = BudgetTrainer(
        _random_evaluator(args.per_device_eval_batch_size, data),
        Stopwatch(),
        StopOnSignal(),
        SpikeRule(config["budget"].get("spike_factor"), lambda step: None, lambda steps: ""),
        model=build_model(run.config, data),
        args=args,
        train_dataset=blocks,
        callbacks=[timer],
    )
    try:
        trainer.train()
        step, checkpoint = timer.seconds_per_step, timer.seconds_per_checkpoint
    except TooSlowError:  # of a step so long, a checkpoint is no notable share
        step, checkpoint = timer.seconds_per_micro_step * args.gradient_accumulation_steps, 0.0
    finally:
        shutil.rmtree(run.checkpoints, ignore_errors=True)
    setup = max(0.0, timer.seconds_until_measured(begin) - timer.n_warmup_steps * step)
    validation = _seconds_per_validation_token(trainer)
    return Speed(seconds_import, setup, step, validation, checkpoint)


def _as_trial(config: dict[str, Any]) -> dict[str, Any]:
    """The config without what its length decides; a rate of 0 keeps random ids from doing harm."""
    training = {
        **config["training"],
        **{"learning_rate": 0.0, "lr_scheduler_type": "constant", "lr_scheduler_kwargs": None},
        **{"warmup_steps": 0, "eval_strategy": "no", "save_strategy": "no"},
    }
    budget = {k: v for k, v in config["budget"].items() if k not in ("decay_share", "branches")}
    return {**config, "training": training, "budget": budget}


def _random_data(config: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Data of the right shape and vocabulary, the budget of the trial, its blocks in order."""
    import numpy as np
    from transformers import AutoTokenizer

    from .blocks import BlockOrder, Songs, TrainingData
    from .budget import Budget, plan_budget
    from .data_files import locate_data

    files = locate_data(config)
    tokenizer = AutoTokenizer.from_pretrained(files.tokens)
    per_step = plan_budget(config, files.block_length).sequences_per_step
    budget = Budget(WARMUP_STEPS + MEASURED_STEPS, per_step, files.block_length)
    shape = (per_step, files.block_length)
    blocks = np.random.default_rng(0).integers(0, files.vocab_size, shape, dtype=np.uint16)
    data = TrainingData(files, blocks, tokenizer, Songs([], {}))
    return data, budget, BlockOrder(blocks, budget, config["training"]["seed"])


def _random_evaluator(batch_size: int, data: Any) -> Any:
    """Songs of a length that fills some batches."""
    from .blocks import Songs
    from .validation import SongEvaluator

    length = data.files.block_length
    song = data.blocks[0, : length - 1].astype("int64")
    songs = Songs([song] * (N_VALIDATION_BATCHES * batch_size), {})
    return SongEvaluator(songs, data.tokenizer.eos_token_id, length, batch_size * length)


def _seconds_per_validation_token(trainer: Any) -> float:
    """One batch to warm up, then the rest as long as there is time."""
    from .step_timer import now

    evaluator = trainer.eval_dataset
    n_batches, n_targets = len(evaluator.batches), int(evaluator.n_targets.sum())
    evaluator.evaluate(trainer.model, rank=0, world_size=n_batches)
    begin, n_done = now(), 0
    while not n_done or (n_done < n_batches and now() - begin < LIMIT_SECONDS / 4):
        evaluator.evaluate(trainer.model, rank=n_done, world_size=n_batches)
        n_done += 1
    return (now() - begin) / (n_done / n_batches * n_targets)


def main() -> int:
    """Measure what stdin asks for; a size that cannot train is a line with its error."""
    begin = time.perf_counter()
    asked = json.load(sys.stdin)
    from transformers.utils import logging as library_logging

    from .config import load_config
    from .trainer import train  # noqa: F401  (what train.py imports before its first step)

    library_logging.set_verbosity_error()
    library_logging.disable_progress_bar()
    seconds_import = time.perf_counter() - begin
    gc.freeze()  # as training does it
    for name, size in asked["sizes"].items():
        try:
            config = load_config(Path(size["config"]), size["overrides"])
            answer = asdict(measure(config, Path(asked["folder"]), seconds_import))
        except (ValueError, OSError, RuntimeError) as err:  # RuntimeError: out of memory as well
            answer = {"error": " ".join(str(err).split()) or repr(err)}
        print(json.dumps({"size": name, **answer}), flush=True)
        gc.collect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
