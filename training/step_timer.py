"""Times the steps of a trial."""

import time
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class TooSlowError(Exception):
    """One backward pass takes longer than the whole trial may."""


def now() -> float:
    """Seconds, after all that the accelerator was told to do is done."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


class StepTimer(TrainerCallback):
    """Ends the trial when enough steps are measured, and has it write a checkpoint.

    Args:
        warmup_steps: Not measured; fewer where they take longer than the limit.
        measured_steps: Steps to measure; fewer likewise, but at least one.
        limit_seconds: For either.

    Attributes:
        n_warmup_steps: Steps that were not measured.
    """

    def __init__(self, warmup_steps: int, measured_steps: int, limit_seconds: float) -> None:
        self.warmup_steps = warmup_steps
        self.measured_steps = measured_steps
        self.limit_seconds = limit_seconds
        self.n_warmup_steps = 0
        self.n_measured = 0
        self.seconds_per_checkpoint = 0.0
        self.seconds_per_micro_step = 0.0
        self._begin = self._measured_since = self._end = self._micro_end = 0.0

    @property
    def seconds_per_step(self) -> float:
        """Mean over the measured steps."""
        return (self._end - self._measured_since) / self.n_measured

    def seconds_until_measured(self, begin: float) -> float:
        """From a time of `now` to the first measured step; for a trial cut short, to its first."""
        return (self._measured_since or self._begin) - begin

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock at the first step."""
        self._begin = self._begin or now()

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Break off a step that would take minutes.

        Raises:
            TooSlowError: If a backward pass took longer than the limit; not the first one, in which
                a model may be compiled.
        """
        if self._measured_since:
            return  # in measured steps nothing waits for the accelerator
        before, self._micro_end = self._micro_end, now()
        self.seconds_per_micro_step = self._micro_end - before
        if before and self.seconds_per_micro_step > self.limit_seconds:
            raise TooSlowError

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Go from warming up to measuring, and from there to the end."""
        if not self._measured_since:
            self.n_warmup_steps += 1
            if self.n_warmup_steps == self.warmup_steps or now() - self._begin > self.limit_seconds:
                self._measured_since = now()
            return
        self.n_measured += 1
        is_late = time.perf_counter() - self._measured_since > self.limit_seconds
        if self.n_measured == self.measured_steps or is_late:
            self._end = now()
            control.should_save = control.should_training_stop = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """The checkpoint is written."""
        self.seconds_per_checkpoint = now() - self._end
