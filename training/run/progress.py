"""Progress of a run: log.jsonl, a progress bar in tokens, and the stop on Ctrl-C."""

import json
import logging
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..budget import RunPlan
from .bar import bar_look
from .checkpoints import keep_branch_points
from .run_folder import RunFolder, is_main_process, write_atomically
from .spikes import JudgedStep

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seconds:
    """Time spent: wall time, and CPU time over all threads of this process.

    If single-threaded jobs share a machine, CPU time is what one would take with its own core.
    """

    wall: float = 0.0
    cpu: float = 0.0

    @classmethod
    def now(cls) -> "Seconds":
        """Both clocks; only differences are meaningful."""
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)


class Stopwatch:
    """Seconds spent training, without validation and saving, including those before a resume."""

    def __init__(self) -> None:
        self._total = Seconds()
        self._zero: Seconds | None = None  # when a clock that never stopped would have started

    @property
    def seconds(self) -> Seconds:
        """The total up to now."""
        return self._total if self._zero is None else Seconds.now() - self._zero

    def start(self, total: Seconds) -> None:
        """Start counting from this total, which was spent before."""
        self._zero = Seconds.now() - total

    def stop(self) -> None:
        """Stop, and keep the total."""
        self._total, self._zero = self.seconds, None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time spent inside."""
        was_running = self._zero is not None
        self.stop()
        yield
        if was_running:
            self.start(self._total)


class RunLog(TrainerCallback):
    """Writes log.jsonl and draws the bar.

    Args:
        path: The log file. Lines after the step that a run resumes from are dropped, since they
            will be written again.
        plan: The run's plan.
        stopwatch: The run's stopwatch.
        show_bar: Whether to draw the bar.
    """

    def __init__(self, path: Path, plan: RunPlan, stopwatch: Stopwatch, show_bar: bool) -> None:
        self.path = path
        self.plan = plan
        self.stopwatch = stopwatch
        self.bar = tqdm(total=plan.n_tokens, disable=not show_bar, **bar_look())
        self.shown: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Truncate the log at the step that the run resumes from."""
        # a branch inherits its trunk's logging, eval and save steps; recompute them for its length
        state.compute_steps(args, state.max_steps)
        if state.is_world_process_zero:
            write_atomically(self.path, "".join(kept_lines(self.path, state.global_step)))
        self.bar.update(state.global_step * self.plan.targets_per_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Advance the bar; also log the last window, unless it is too short for a stable mean."""
        since_last_log = state.global_step % state.logging_steps or state.logging_steps
        is_only_one = state.global_step < state.logging_steps
        if state.global_step == self.plan.max_steps and (
            is_only_one or 2 * since_last_log >= state.logging_steps
        ):
            control.should_log = True
        self.bar.update(self.plan.targets_per_step)

    def on_log(
        self, args: Any, state: TrainerState, control: Any, logs: dict[str, float], **_: Any
    ) -> None:
        """Append a line of training or validation loss."""
        line: dict[str, float] = {
            "step": state.global_step,
            "n_tokens": state.global_step * self.plan.targets_per_step,
        }
        if "loss" in logs:
            line["loss_nats_per_token"] = logs["loss"]
            line["learning_rate"] = logs["learning_rate"]
            self.shown["loss"] = f"{logs['loss']:.3f}"
        elif "validation_loss_nats_per_token" in logs:
            line["validation_loss_nats_per_token"] = logs["validation_loss_nats_per_token"]
            self.shown["validation"] = f"{logs['validation_loss_nats_per_token']:.3f}"
        else:
            return  # the Trainer's summary at the end; record.json has it
        line["seconds"] = round(self.stopwatch.seconds.wall, 3)
        if torch.cuda.is_available():
            line["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
        self.bar.set_postfix(self.shown)
        if state.is_world_process_zero:
            self._append(line)

    def write_skipped(self, skipped: JudgedStep) -> None:
        """Append a line about a skipped step, which changed no weight."""
        if not is_main_process():
            return
        n_tokens = skipped.step * self.plan.targets_per_step
        logger.warning("step %d skipped: %s", skipped.step, skipped.reason)
        self._append({"step": skipped.step, "n_tokens": n_tokens, "skipped": skipped.reason})

    def _append(self, line: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class BranchPoints(TrainerCallback):
    """Requests a checkpoint and a log line where branches leave this run; keeps the checkpoint.

    Args:
        run: The trunk.
        steps: Steps at which branches leave.
    """

    def __init__(self, run: RunFolder, steps: Sequence[int]) -> None:
        self.run = run
        self.steps = steps

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Request both at the end of a step."""
        if state.global_step in self.steps:
            # a branch would not have the losses since the last line
            control.should_log = control.should_save = True

    def on_save(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Move the checkpoint to where save_total_limit does not count it."""
        if state.is_world_process_zero:
            keep_branch_points(self.run, self.steps)


def kept_lines(path: Path, step: int) -> list[str]:
    """Lines of a log up to and including a step; a half-written last line is dropped.

    So is a repeated line: a run that was killed after its last validation writes it twice.
    """
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            is_repeated = bool(kept) and kept[-1] == line + "\n"
            if json.loads(line)["step"] <= step and not is_repeated:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            continue
    return kept


class StopOnSignal(TrainerCallback):
    """On Ctrl-C or SIGTERM, save a checkpoint after the step and stop; on the second, at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.is_wanted = False
        self._before: dict[int, Any] = {}

    @contextmanager
    def listening(self, is_on: bool = True) -> Iterator[None]:
        """Handle the signals during training."""
        # signals reach only the main thread; in others there is nothing to handle
        if is_on and threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._want) for number in self.SIGNALS}
        try:
            yield
        finally:
            self._restore()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask the Trainer to save and stop at the end of a step."""
        if self.is_wanted:
            # the losses since the last line would be lost with the process
            control.should_log = control.should_save = control.should_training_stop = True
            control.should_evaluate = False

    def raise_if_wanted(self) -> None:
        """Stop here if a signal came.

        Raises:
            KeyboardInterrupt: If a signal came.
        """
        if self.is_wanted:
            raise KeyboardInterrupt

    def _want(self, number: int, frame: FrameType | None) -> None:
        self.is_wanted = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
