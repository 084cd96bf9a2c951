"""How long a study will take: some timed steps of each size -> seconds per cell -> hours.

The estimate is the number of tokens left in a cell times the seconds per token here, plus the start
of its process. Validation is a forward pass, so it counts as a third of as many training tokens
(`scaling.counts`); checkpoints are left out. The steps are timed as the study will run: with the
same number of parallel processes and threads, each on its own GPU if there are any.

`python -m training.study.timing` is such a process. Its one argument is JSON that maps the name of
each size to the arguments of `train.py`; it writes a line of JSON to stdout for each.
"""

import gc
import heapq
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

from scaling.writing.commands import use_huge_pages

from ..budget import RunPlan, plan_run
from ..config import load_config
from ..data.data_files import DataFiles, locate_data
from ..run.run_folder import RunFolder
from .child_processes import last_line, signals_held, sigterm_as_interrupt, start_child
from .study_hours import counted, duration
from .study_plan import Cell, Planned
from .study_runner import TRAIN, environment, n_tokens_logged

WARMUP_STEPS, TIMED_STEPS = 3, 20
LIMIT_SECONDS = 8.0  # for the steps of one size, in case it is too large for the machine
FORWARD_SHARE = 1 / 3  # of a step: the backward pass costs twice the forward pass


@dataclass(frozen=True)
class Speed:
    """The time of a size on this machine: until its first step is done, and for each token.

    `seconds_per_token_bf16` is what it would take with training.bf16; NaN if that is already set.
    """

    seconds_start: float
    seconds_per_token: float
    seconds_per_token_bf16: float = math.nan


@dataclass(frozen=True)
class Estimate:
    """How long the missing cells will take.

    Attributes:
        cells: With their seconds, None if the size could not be timed; in the order in which to
            start them, those that take longest first.
        jobs: Number of parallel processes.
        seconds: Wall time of all cells that could be timed.
        lines: The table of sizes, as text.
    """

    cells: list[tuple[Planned, float | None]]
    jobs: int
    seconds: float
    lines: list[str]

    @property
    def words(self) -> str:
        """The time as text, and what it does not include."""
        unknown = sum(seconds is None for _, seconds in self.cells)
        more = f" and {counted(unknown, 'cell')} that could not be measured" if unknown else ""
        return f"about {duration(round(self.seconds, 1))} with {counted(self.jobs, 'job')}{more}"

    @property
    def for_plan(self) -> dict[str, Any]:
        """The entry in plan.json."""
        cells = {cell.name: s if s is None else round(s, 1) for (cell, _), s in self.cells}
        return {"study": round(self.seconds, 1), "jobs": self.jobs, "cells": cells}


def estimate(missing: Sequence[Planned], jobs: int, gpus: Sequence[str]) -> Estimate:
    """Time every size that has a cell to run, and add up.

    Raises:
        KeyboardInterrupt: On Ctrl-C, after the timing processes have ended.
    """
    by_size: dict[str, list[Planned]] = {}
    for planned in missing:
        by_size.setdefault(planned[1].config["size"], []).append(planned)
    jobs = min(jobs, len(missing))
    speeds = _time_sizes({name: own[0][0] for name, own in by_size.items()}, jobs, gpus)
    width = max(len("size"), *map(len, by_size))
    lines = [f"{'size':{width}} {'tokens/s':>12} {'in bf16':>8} {'per cell':>14} {'missing':>8}"]
    cells: list[tuple[Planned, float | None]] = []
    for name, own in by_size.items():
        speed = speeds[name]
        if isinstance(speed, str):
            lines.append(f"{name:{width}} not measured: {speed}")
            cells += [(planned, None) for planned in own]
            continue
        seconds = [seconds_left(planned, speed) for planned in own]
        rate, each = 1 / speed.seconds_per_token, duration(mean(seconds))
        gain = speed.seconds_per_token / speed.seconds_per_token_bf16
        gain_text = "is set" if math.isnan(gain) else f"x{gain:.2f}"
        lines.append(f"{name:{width}} {rate:12,.0f} {gain_text:>8} {each:>14} {len(own):8}")
        cells += zip(own, seconds, strict=True)
    # cells of unknown time start first: a cell that fails, fails early
    cells.sort(key=lambda of: -math.inf if of[1] is None else -of[1])
    return Estimate(cells, jobs, simulate((s or 0.0 for _, s in cells), jobs), lines)


def seconds_left(planned: Planned, speed: Speed) -> float:
    """What a cell still takes, by the share of its tokens that is not in a log yet."""
    cell, run = planned
    data = locate_data(run.config)
    plan = plan_run(run.config, data.block_length, data.n_blocks)
    every = run.config["data"].get("validation_every", 1)
    n_validated = count_validations(run.config, plan) * _validation_tokens(data) // every
    n_tokens = cell.n_tokens_trained + FORWARD_SHARE * n_validated
    left = 1 - min(1.0, n_tokens_logged(cell, run) / cell.n_tokens_trained)
    return speed.seconds_start + left * n_tokens * speed.seconds_per_token


def count_validations(config: dict[str, Any], plan: RunPlan) -> int:
    """Number of validations of a cell, including its branches."""
    training = {"logging_steps": 500} | config["training"]  # the default of TrainingArguments
    every = training.get("eval_steps", training["logging_steps"])
    parts = [(0, plan.max_steps), *((b.decay_start, b.max_steps) for b in plan.branches)]
    count = len(parts)
    if training.get("eval_strategy") == "steps":
        for start, end in parts:
            # as the Trainer reads it: below 1, a share of the run
            between = math.ceil(every * end) if every < 1 else int(every)
            count += (end - 1) // between - start // between
    return count


def simulate(seconds: Iterable[float], jobs: int) -> float:
    """When the last of the cells ends, if each starts, in this order, as soon as a job is free."""
    free_at = [0.0] * jobs
    for cell in seconds:
        heapq.heapreplace(free_at, free_at[0] + cell)
    return max(free_at)


def _time_sizes(sizes: dict[str, Cell], jobs: int, gpus: Sequence[str]) -> dict[str, Speed | str]:
    """The speed of each size, mean over the processes; or the reason there is none."""
    processes: list[subprocess.Popen[str]] = []
    # this project's code, even if another copy of it is installed
    path = os.pathsep.join(filter(None, [str(TRAIN.parent), os.environ.get("PYTHONPATH")]))
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    pipes |= {"text": True, "errors": "replace"}
    with sigterm_as_interrupt():
        try:
            for slot, share in enumerate(_shares(list(sizes), jobs, is_own_device=bool(gpus))):
                words = {name: [sizes[name].config, *sizes[name].overrides] for name in share}
                command = [sys.executable, "-m", "training.study.timing", json.dumps(words)]
                env = {**environment(slot, gpus), "PYTHONPATH": path}
                with signals_held():
                    processes.append(start_child(command, env=env, **pipes))
            outputs = [process.communicate() for process in processes]
        finally:  # whatever happened, leave no process behind
            for process in processes:
                with process:
                    process.kill()
    answers = [json.loads(line) for output, _ in outputs for line in output.splitlines()]
    last_lines = filter(None, (last_line(errors) for _, errors in outputs))
    died = next(last_lines, "the process that measured it exited with no output")
    speeds: dict[str, Speed | str] = {}
    for name in sizes:
        own = [answer for of, answer in answers if of == name] or [died]
        failed = [answer for answer in own if isinstance(answer, str)]
        speeds[name] = failed[0] if failed else Speed(*map(mean, zip(*own, strict=True)))
    return speeds


def _shares(names: list[str], jobs: int, is_own_device: bool) -> list[list[str]]:
    """Which sizes each process times, and in which order.

    Processes on one CPU slow each other down, so all of them time all sizes, each starting with a
    different one: as in the study, other sizes run at the same time.
    """
    if is_own_device:
        return [names[slot::jobs] for slot in range(min(jobs, len(names)))]
    starts = (slot * len(names) // jobs for slot in range(jobs))
    return [names[start:] + names[:start] for start in starts]


@cache
def _validation_tokens(data: DataFiles) -> int:
    """Targets of the validation split: each song has one more than its tokens, for its end."""
    from ..data.blocks import load_songs  # takes seconds to import

    songs = load_songs(data, "validation").ids
    return sum(map(len, songs)) + len(songs)


def time_steps(config: dict[str, Any], begin: float) -> Speed:
    """Train some steps on the data of a config, with a learning rate of 0, and write nothing.

    Args:
        config: Of a run.
        begin: When its process would have started, by `time.perf_counter`.
    """
    # takes seconds to import, which a study need not wait for
    import torch
    from transformers import TrainerCallback

    from ..arguments import keep_freed_memory, training_arguments
    from ..data.blocks import load_blocks, order_blocks
    from ..model import build_model
    from ..run.progress import StopOnSignal, Stopwatch
    from ..run.spikes import SpikeRule
    from ..trainer import BudgetTrainer

    class PassClock(TrainerCallback):
        """Records when each backward pass is done, the last of a step including its update."""

        def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            ends.append(time.perf_counter())
            # the first pass may compile the model
            if len(ends) > 1 and ends[-1] - ends[0] > LIMIT_SECONDS:
                control.should_training_stop = True

        on_step_end = on_substep_end

    ends: list[float] = []
    keep_freed_memory()
    data = load_blocks(config)
    plan = plan_run(config, data.files.block_length, data.files.n_blocks)
    plan = replace(plan, max_steps=WARMUP_STEPS + TIMED_STEPS, decay_steps=None)
    trial = _as_trial(config)
    args = training_arguments(RunFolder(Path("unused"), trial), plan)
    rule = SpikeRule(None, lambda step: None, lambda steps: "")
    trainer = BudgetTrainer(
        *(None, Stopwatch(), StopOnSignal(), rule),
        model=build_model(trial, data),
        args=args,
        train_dataset=order_blocks(data, trial, plan),
        callbacks=[PassClock()],
    )
    trainer.train()
    passes = args.gradient_accumulation_steps
    warmup = min(WARMUP_STEPS * passes, len(ends) // 2) - 1
    per_pass = (ends[-1] - ends[warmup]) / (len(ends) - 1 - warmup)
    return Speed(ends[0] - begin, passes * per_pass / plan.targets_per_step)


def _as_trial(config: dict[str, Any]) -> dict[str, Any]:
    """The config without what depends on its length, and without what it writes."""
    training = {
        **config["training"],
        **{"learning_rate": 0.0, "lr_scheduler_type": "constant", "lr_scheduler_kwargs": None},
        **{"warmup_steps": 0, "report_to": "none"},
        **{f"{what}_strategy": "no" for what in ("eval", "save", "logging")},
    }
    return {**config, "training": training}


def _in_bf16(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "training": {**config["training"], "bf16": True}}


def main() -> int:
    """Time each size of the argument; the answer for one that cannot train is its error."""
    begin = time.perf_counter()
    from transformers.utils import logging as library_logging

    from ..trainer import train  # noqa: F401  (what train.py imports before its first step)

    library_logging.set_verbosity_error()
    library_logging.disable_progress_bar()
    seconds_import = time.perf_counter() - begin
    gc.freeze()  # as in training
    for name, (config, *overrides) in json.loads(sys.argv[1]).items():
        try:
            resolved = load_config(Path(config), overrides)
            speed = time_steps(resolved, time.perf_counter() - seconds_import)
            if not resolved["training"].get("bf16"):
                quicker = time_steps(_in_bf16(resolved), time.perf_counter())
                speed = replace(speed, seconds_per_token_bf16=quicker.seconds_per_token)
            answer = astuple(speed)
        except (ValueError, OSError, RuntimeError) as err:  # RuntimeError: also out of memory
            answer = " ".join(str(err).split()) or repr(err)
        print(json.dumps([name, answer]), flush=True)
        gc.collect()
    return 0


if __name__ == "__main__":
    use_huge_pages()  # as train.py does
    sys.exit(main())
