"""A step whose loss is not finite or far too high is skipped; three in a row end the run.

The limit is `budget.spike_factor` times the median loss of the last steps that were not skipped (of
an even number, the lower of the middle two). The state of the rule is in each checkpoint, so a
resumed run skips the same steps.

Each step is judged on the device of its loss. On an accelerator the fused optimizer reads the
verdict there, and no step waits for it: verdicts are read back with the next log line. Otherwise
they are read at once.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

N_REMEMBERED = 50
N_IN_A_ROW = 3


def answers_later(loss: torch.Tensor) -> bool:
    """Whether reading a number makes this process wait for a device."""
    return loss.device.type != "cpu"


class SpikeError(ValueError):
    """Training cannot continue; gives the reason, and the bundle that reproduces it."""


@dataclass(frozen=True)
class JudgedStep:
    """A step before its update.

    Attributes:
        step: Number of the step, from 1.
        loss_nats_per_token: Loss of the step's batch; possibly not finite.
        gradient_norm: Before clipping; possibly not finite.
        limit_nats_per_token: What the loss was compared with; None without a limit.
    """

    step: int
    loss_nats_per_token: float
    gradient_norm: float
    limit_nats_per_token: float | None

    @property
    def is_bad(self) -> bool:
        """Whether it must be skipped."""
        loss, limit = self.loss_nats_per_token, self.limit_nats_per_token
        is_number = math.isfinite(loss) and math.isfinite(self.gradient_norm)
        return not is_number or (limit is not None and loss > limit)

    @property
    def reason(self) -> str:
        """What is bad, as text."""
        if not math.isfinite(self.loss_nats_per_token):
            return f"loss {self.loss_nats_per_token}"
        if not math.isfinite(self.gradient_norm):
            return f"gradient norm {self.gradient_norm}"
        return f"loss {self.loss_nats_per_token:.4g}, limit {self.limit_nats_per_token:.4g}"


class SpikeRule(TrainerCallback, ExportableState):
    """Judges each step between backward pass and update.

    Args:
        factor: The limit over the median loss, above 1; None skips only what is not finite.
        on_skip: Called with each skipped step, to log it.
        on_stop: Called with the last N_IN_A_ROW; writes the bundle and returns its folder.

    Attributes:
        n_skipped: Steps skipped in the whole run.
        losses: Losses of the backward passes of this step; their sum is its mean loss.
        gradient_norm: Gradient norm of this step, before clipping.
        mean_over_processes: Averages a loss over all processes; set by the Trainer.
    """

    def __init__(
        self,
        factor: float | None,
        on_skip: Callable[[JudgedStep], None],
        on_stop: Callable[[list[JudgedStep]], Path],
    ) -> None:
        self.factor = factor
        self.on_skip = on_skip
        self.on_stop = on_stop
        self.n_skipped = 0
        self.mean_over_processes: Callable[[torch.Tensor], torch.Tensor] = lambda loss: loss
        self._taken: deque[float] = deque(maxlen=N_REMEMBERED)
        self._in_a_row: list[JudgedStep] = []
        # the same two, on the device
        self._on_device: tuple[torch.Tensor, torch.Tensor] | None = None
        self._unread: list[tuple[int, torch.Tensor]] = []  # step; its loss, norm and limit
        self.losses: list[torch.Tensor] = []
        self.gradient_norm: torch.Tensor | float = 0.0

    def state(self) -> dict[str, Any]:
        """The state that a checkpoint keeps."""
        self._read()
        in_a_row = [vars(step) for step in self._in_a_row]
        kept = {"n_skipped": self.n_skipped, "taken": list(self._taken), "in_a_row": in_a_row}
        return {"args": {}, "attributes": kept}

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Restore the state from the checkpoint."""
        kept = state.stateful_callbacks[type(self).__name__]["attributes"]
        self.n_skipped = kept["n_skipped"]
        self._taken.extend(kept["taken"])
        self._in_a_row = [JudgedStep(**step) for step in kept["in_a_row"]]

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: Any, **others: Any
    ) -> None:
        """Skip the update of a bad step.

        Raises:
            SpikeError: At the third in a row, or when it is read.
        """
        loss = self.mean_over_processes(torch.stack(self.losses).sum())
        norm = torch.as_tensor(self.gradient_norm, device=loss.device, dtype=loss.dtype)
        self.losses.clear()
        is_bad = self._judge(state.global_step + 1, loss, norm)
        optimizer = getattr(others["optimizer"], "optimizer", others["optimizer"])
        if answers_later(loss) and optimizer.defaults.get("fused"):
            optimizer.found_inf = is_bad  # as a gradient scaler reports an overflow
        elif self._read():
            # an optimizer skips weights that have no gradient
            others["model"].zero_grad(set_to_none=True)

    def on_log(self, *_: Any, **__: Any) -> None:
        """Read the verdicts since the last line."""
        self._read()

    on_train_end = on_log

    def _judge(self, step: int, loss: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
        """1.0 if a step must be skipped, else 0.0, without a device sync; after three, all must."""
        if self._on_device is None:
            recent = torch.full((N_REMEMBERED,), math.nan)
            recent[N_REMEMBERED - len(self._taken) :] = torch.tensor(list(self._taken))
            n_bad = torch.tensor(float(len(self._in_a_row)))
            self._on_device = recent.to(loss), n_bad.to(loss)
        recent, n_bad = self._on_device
        # no loss is above a limit that is NaN
        limit = (math.nan if self.factor is None else self.factor) * recent.nanmedian()
        is_bad = ~(loss.isfinite() & norm.isfinite()) | (loss > limit)
        is_over = n_bad >= N_IN_A_ROW
        n_bad = torch.where(is_bad | is_over, n_bad + 1, 0)
        is_bad |= is_over
        recent = torch.where(is_bad, recent, torch.cat((recent[1:], loss[None])))
        self._on_device = recent, n_bad
        self._unread.append((step, torch.stack((loss, norm, limit))))
        return is_bad.to(torch.float32)

    def _read(self) -> bool:
        """Record the verdicts; return whether the last step was bad. On a device this waits for it.

        Raises:
            SpikeError: If three in a row were bad.
        """
        if not self._unread:
            return False
        steps, facts = zip(*self._unread, strict=True)
        self._unread.clear()
        for number, (loss, norm, limit) in zip(steps, torch.stack(facts).tolist(), strict=True):
            step = JudgedStep(number, loss, norm, None if math.isnan(limit) else limit)
            if not step.is_bad:
                self._taken.append(loss)
                self._in_a_row.clear()
                continue
            self.n_skipped += 1
            self._in_a_row.append(step)
            self.on_skip(step)
            if len(self._in_a_row) == N_IN_A_ROW:
                raise SpikeError(
                    f"{N_IN_A_ROW} steps in a row, up to step {step.step}, had to be skipped ("
                    f"{step.reason}); lower training.learning_rate; `python -m training.failure "
                    f"{self.on_stop(self._in_a_row)}` reproduces them"
                )
        return step.is_bad
