"""How long a study will take: measured speeds of its sizes -> seconds a cell -> hours by the clock.

The speeds are measured as the study will run: as many processes at once, with as many threads, each
on its own GPU where there are some.
"""

import heapq
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import pyarrow.parquet as pq

from .branches import plan_branches
from .budget import plan_budget
from .child_processes import signals_held, sigterm_as_interrupt, start_child
from .data_files import DataFiles, locate_data
from .run_folder import RUNS
from .study_plan import Cell, Planned
from .study_runner import TRAIN, environment, n_tokens_logged

# what TrainingArguments does where a config says nothing
DEFAULT_EVAL_STRATEGY, DEFAULT_SAVE_STEPS = "no", 500


@dataclass(frozen=True)
class CellTime:
    """What is left of a cell, in seconds; None where its size could not be measured."""

    planned: Planned
    seconds: float | None


@dataclass(frozen=True)
class Estimate:
    """How long what is missing will take.

    Attributes:
        cells: In the order in which they shall start: those that take longest first.
        jobs: Processes at once.
        seconds: By the clock, of all cells that could be measured.
        lines: The table of sizes, in words.
    """

    cells: list[CellTime]
    jobs: int
    seconds: float
    lines: list[str]

    @property
    def planned(self) -> list[Planned]:
        """The cells in this order."""
        return [cell.planned for cell in self.cells]

    @property
    def words(self) -> str:
        """The time in words, and what is not in it."""
        unknown = sum(cell.seconds is None for cell in self.cells)
        more = f" and {counted(unknown, 'cell')} that could not be measured" if unknown else ""
        jobs = counted(min(self.jobs, len(self.cells)), "job")
        return f"about {duration(self.for_plan['study'])} with {jobs}{more}"

    @property
    def for_plan(self) -> dict[str, Any]:
        """The entry in plan.json."""
        cells = {of.planned[0].name: of.seconds and round(of.seconds, 1) for of in self.cells}
        return {"study": round(self.seconds, 1), "jobs": self.jobs, "cells": cells}


def estimate(missing: Sequence[Planned], jobs: int, gpus: Sequence[str]) -> Estimate:
    """Measure every size that has a cell to run, and add up.

    Raises:
        KeyboardInterrupt: On Ctrl-C, after the measuring processes have ended.
    """
    by_size: dict[str, list[Planned]] = {}
    for planned in missing:
        by_size.setdefault(planned[1].config["size"], []).append(planned)
    jobs = min(jobs, len(missing))
    speeds = _measure({name: cells[0] for name, cells in by_size.items()}, jobs, gpus)
    times = []
    for name, cells in by_size.items():
        known = "error" not in speeds[name]
        times += [CellTime(c, seconds_left(c, speeds[name]) if known else None) for c in cells]
    # what is not known starts first: a cell that fails, fails early
    times.sort(key=lambda time: -math.inf if time.seconds is None else -time.seconds)
    seconds = simulate((time.seconds or 0.0 for time in times), jobs)
    return Estimate(times, jobs, seconds, _table(by_size, speeds, times))


def seconds_left(planned: Planned, speed: dict[str, float]) -> float:
    """What a cell still takes: the whole of it, by the share of its tokens that no log has yet.

    Args:
        planned: The cell.
        speed: Fields of `step_speed.Speed`.
    """
    cell, run = planned
    data = locate_data(run.config)
    n_steps, n_validations, n_checkpoints = _work(run.config, data)
    whole = (
        n_steps * speed["seconds_per_step"]
        + n_validations * _validation_tokens(data) * speed["seconds_per_validation_token"]
        + n_checkpoints * speed["seconds_per_checkpoint"]
    )
    left = 1 - min(1.0, n_tokens_logged(cell, run) / cell.n_tokens_trained)
    n_runs_left = len(cell.run_names) - cell.n_finished(run.path.parent)
    return speed["seconds_import"] + n_runs_left * speed["seconds_setup"] + left * whole


def simulate(seconds: Iterable[float], jobs: int) -> float:
    """When the last of the cells ends, if each starts, in this order, as soon as a job is free."""
    free_at = [0.0] * jobs
    for cell in seconds:
        heapq.heapreplace(free_at, free_at[0] + cell)
    return max(free_at)


def duration(seconds: float) -> str:
    """A time as it is said: 50 s, 2 min 50 s, 12 min, 1 h 50 min, 3 days 4 h."""
    minutes, rest = divmod(round(seconds), 60)
    if seconds < 600:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days:,} days {hours} h"


def counted(count: int, what: str) -> str:
    """1 cell, 2 cells."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _measure(
    sizes: dict[str, Planned], jobs: int, gpus: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """By size the fields of `step_speed.Speed`, means over the processes; or the error."""
    RUNS.mkdir(exist_ok=True)
    processes: list[subprocess.Popen[str]] = []
    with ExitStack() as stack:
        stack.enter_context(sigterm_as_interrupt())
        # where the runs will write their checkpoints: writing is measured as well
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=RUNS, prefix=".speed_")))
        stack.callback(_end, processes)
        for slot, share in enumerate(_shares(list(sizes), jobs, is_own_device=bool(gpus))):
            asked = {name: sizes[name][0] for name in share}
            _start(processes, folder / str(slot), asked, environment(slot, gpus))
        answers = [json.loads(line) for process in processes for line in process.stdout]
        errors = [_last_line(path) for path in sorted(folder.glob("*/errors"))]
    died = next(filter(None, errors), "the process that measured it ended without a word")
    speeds: dict[str, dict[str, Any]] = {}
    for name in sizes:
        own = [answer for answer in answers if answer["size"] == name] or [{"error": died}]
        wrong = [answer for answer in own if "error" in answer]
        fields = own[0].keys() - {"size"}
        speeds[name] = wrong[0] if wrong else {f: mean(a[f] for a in own) for f in fields}
    return speeds


def _shares(names: list[str], jobs: int, is_own_device: bool) -> list[list[str]]:
    """Which sizes each process measures, in which order.

    Processes on one CPU slow each other down, so all of them measure all sizes, each from another
    one on: like the cells of the study, they have other sizes beside them.
    """
    if is_own_device:
        return [names[slot::jobs] for slot in range(min(jobs, len(names)))]
    starts = (slot * len(names) // jobs for slot in range(jobs))
    return [names[start:] + names[:start] for start in starts]


def _start(
    processes: list[subprocess.Popen[str]],
    folder: Path,
    sizes: dict[str, Cell],
    env: dict[str, str],
) -> None:
    folder.mkdir()
    asked = {name: {"config": c.config, "overrides": c.overrides} for name, c in sizes.items()}
    # this project's code, also if another copy of it is installed
    path = os.pathsep.join(filter(None, [str(TRAIN.parent), os.environ.get("PYTHONPATH")]))
    with (folder / "errors").open("w") as errors, signals_held():
        process = start_child(
            [sys.executable, "-m", "training.step_speed"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**env, "PYTHONPATH": path},
        )
        processes.append(process)
    with suppress(BrokenPipeError), process.stdin:  # one that dies at once says why
        json.dump({"folder": str(folder), "sizes": asked}, process.stdin)


def _end(processes: list[subprocess.Popen[str]]) -> None:
    """Whatever happened, none is left."""
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _work(config: dict[str, Any], data: DataFiles) -> tuple[int, int, int]:
    """Steps, validations and checkpoints of a cell with its branches."""
    training, length = config["training"], plan_budget(config, data.block_length).max_steps
    branches = plan_branches(config)
    steps = validations = 0
    # the model at the end of each run is written as well
    checkpoints = 1 + 2 * len(branches)
    for start, end in [(0, length), *((b.start_step, b.max_steps) for b in branches)]:
        steps += end - start
        every = _every(training.get("save_steps", DEFAULT_SAVE_STEPS), end)
        checkpoints += math.ceil(end / every) - start // every
        validations += 1
        if training.get("eval_strategy", DEFAULT_EVAL_STRATEGY) == "steps":
            every = _every(training.get("eval_steps", training.get("logging_steps", 500)), end)
            validations += (end - 1) // every - start // every
    return steps, validations, checkpoints


def _every(steps: float, length: int) -> int:
    """As the Trainer reads it: a share of the run, or steps."""
    return math.ceil(steps * length) if steps < 1 else int(steps)


@cache
def _validation_tokens(data: DataFiles) -> int:
    """Targets of the validation split, counted without reading it: each song has one more."""
    footer = pq.read_metadata(data.tokens / "validation.parquet")
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    ids = sum(c.num_values for c in columns if c.path_in_schema.split(".")[0] == "input_ids")
    return ids + footer.num_rows


def _table(
    by_size: dict[str, list[Planned]], speeds: dict[str, dict[str, Any]], times: list[CellTime]
) -> list[str]:
    """Tokens a second, seconds a cell and cells missing of each size."""
    width = max(len("size"), *map(len, by_size))
    lines = [f"{'size':{width}} {'tokens/s':>12} {'a cell':>14} {'missing':>8}"]
    for name, cells in by_size.items():
        if "error" in speeds[name]:
            lines.append(f"{name:{width}} not measured: {speeds[name]['error']}")
            continue
        config = cells[0][1].config
        per_step = plan_budget(config, locate_data(config).block_length).targets_per_step
        rate = per_step / speeds[name]["seconds_per_step"]
        own = {id(cell) for cell in cells}
        seconds = mean(time.seconds for time in times if id(time.planned) in own)
        lines.append(f"{name:{width}} {rate:12,.0f} {duration(seconds):>14} {len(cells):8}")
    return lines
