"""The Trainer with a token budget, per-song loss, and fault-tolerant checkpoints."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PrinterCallback, Trainer
from transformers.integrations import TensorBoardCallback
from transformers.trainer_utils import TrainOutput

from .arguments import keep_freed_memory, training_arguments
from .budget import RunPlan
from .cpu_operations import quick_operations
from .data.blocks import TrainingData, order_blocks
from .data.validation import SongEvaluator, SongLoss
from .failure import write_bundle
from .muon import optimizer_of
from .run.branches import find_trunk
from .run.checkpoints import (
    disk_full_in_one_line,
    keep_branch_points,
    newest_checkpoint,
    read_manifest,
    remove_partial,
    step_of,
    write_manifest,
)
from .run.progress import BranchPoints, RunLog, Seconds, StopOnSignal, Stopwatch, kept_lines
from .run.run_folder import RunFolder, is_main_process, write_atomically
from .run.spikes import SpikeError, SpikeRule

logger = logging.getLogger(__name__)


class BudgetTrainer(Trainer):
    """Trainer that evaluates song by song and whose checkpoints have a manifest.

    Args:
        evaluator: Contains the validation split.
        stopwatch: Counts training seconds.
        stop: Reports that Ctrl-C came.
        spikes: Decides which steps are skipped.
        **kwargs: The Trainer's own.

    Attributes:
        stopwatch: Seconds without validation and saving, including those before a resume; those of
            a branch include its trunk's up to the branch point, as if it had been trained alone.
        trunk_seconds: The part of them that the trunk spent, in wall time.
        spikes: Counts skipped steps, whose loss was not finite or far too high.
        validation: The last loss over the validation split; at the end, that of the final model.
    """

    def __init__(
        self,
        evaluator: SongEvaluator,
        stopwatch: Stopwatch,
        stop: StopOnSignal,
        spikes: SpikeRule,
        **kwargs: Any,
    ) -> None:
        super().__init__(eval_dataset=evaluator, data_collator=_ready_batch, **kwargs)
        self.stopwatch = stopwatch
        self.stop = stop
        self.trunk_seconds = 0.0
        self.validation: SongLoss | None = None
        self.validated_at_step = -1
        self.last_finite_loss = torch.zeros((), device=self.args.device)
        self.remove_callback(PrinterCallback)  # it would print every log line as a dict
        self.spikes = spikes
        self.add_callback(spikes)
        if self.args.world_size > 1:
            spikes.mean_over_processes = partial(self.accelerator.reduce, reduction="mean")

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Take all steps, with operations that are faster on a CPU."""
        with quick_operations(self.model, self.args.torch_compile):
            return super().train(*args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One backward pass."""
        loss = super().training_step(*args, **kwargs)
        self.spikes.losses.append(loss)
        # for the log; the library's own filter of non-finite losses waits for the device
        self.last_finite_loss = torch.where(loss.isfinite(), loss, self.last_finite_loss)
        return self.last_finite_loss

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> torch.Tensor | float:
        self.spikes.gradient_norm = super()._get_grad_norm(*args, **kwargs)
        return self.spikes.gradient_norm

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Loss over the whole validation split, at most once a step."""
        if self.validated_at_step != self.state.global_step:
            with self.stopwatch.paused():
                self.validation = self._validate()
            self.validated_at_step = self.state.global_step
            self.log({"validation_loss_nats_per_token": self.validation.loss_nats_per_token})
        return {"eval_loss": self.validation.loss_nats_per_token}

    @property
    def validation_log(self) -> list[tuple[int, float]]:
        """(step, validation loss in nats per token), in order, of the whole run."""
        name = "validation_loss_nats_per_token"
        return [(of["step"], of[name]) for of in self.state.log_history if name in of]

    def floating_point_ops(self, inputs: dict[str, torch.Tensor]) -> int:
        """Return 0: the Trainer's estimate walks over all parameters; the record has its own."""
        return 0

    def _validate(self) -> SongLoss:
        rank, world_size = self.args.process_index, self.args.world_size
        with as_saved(self.model):
            loss = self.eval_dataset.evaluate(
                self.model, rank, world_size, self.stop.raise_if_wanted
            )
        if world_size == 1:
            return loss
        shares = torch.from_numpy(loss.nll_nats).to(self.args.device)
        return SongLoss(self.accelerator.reduce(shares, "sum").cpu().numpy(), loss.n_targets)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        checkpoint = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with self.stopwatch.paused(), disk_full_in_one_line(checkpoint):
            try:
                check_finite(self.model, self.state.global_step)
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()  # each process writes its own random state
                if self.args.should_save:
                    write_manifest(
                        checkpoint,
                        train_seconds=self.stopwatch.seconds.wall,
                        train_cpu_seconds=self.stopwatch.seconds.cpu,
                        trunk_seconds=self.trunk_seconds,
                    )
            except Exception:
                remove_partial(checkpoint)
                raise


def train(
    run: RunFolder, plan: RunPlan, model: PreTrainedModel, data: TrainingData, show_bar: bool = True
) -> BudgetTrainer:
    """Train to the end of the plan, resuming from the newest intact checkpoint if there is one.

    Raises:
        KeyboardInterrupt: On Ctrl-C or SIGTERM, after a checkpoint at the end of the step.
        ValueError: If a setting is impossible, or the loss is no longer finite.
        OSError: If the disk is full.
    """
    trainer, log = _make_trainer(run, plan, model, data, show_bar)
    args, stopwatch, stop = trainer.args, trainer.stopwatch, trainer.stop
    # the main process moves and removes checkpoints; the others see the result
    with args.main_process_first(local=False):
        checkpoint = find_start(run, plan)
    spent = Seconds()
    if checkpoint:
        logger.info("resuming from %s", checkpoint)
        args.eval_on_start = False
        times = read_manifest(checkpoint)
        spent = Seconds(times["train_seconds"], times["train_cpu_seconds"])
        of_trunk = "trunk_seconds" if checkpoint.is_relative_to(run.path) else "train_seconds"
        trainer.trunk_seconds = times.get(of_trunk, 0.0)
    if args.should_save:
        run.save_config()
    keep_freed_memory()
    gc.freeze()  # the imports leave a million objects: each full collection would walk them, 0.3 s
    # several processes would stop at different steps and wait for each other: they just stop
    with log.bar, stop.listening(is_on=args.world_size == 1):
        stopwatch.start(spent)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        stopwatch.stop()
        if stop.is_wanted:
            raise KeyboardInterrupt(f"stopped after step {trainer.state.global_step}")
        check_finite(model, trainer.state.global_step)
        trainer.evaluate()
    return trainer


def find_start(run: RunFolder, plan: RunPlan) -> Path | None:
    """The checkpoint to resume from: the run's own, or that of its trunk if it is a branch.

    The trunk's checkpoints until the decay of this run begins are checkpoints of this run as well.
    """
    if is_main_process():  # it may have been killed between saving and moving
        keep_branch_points(run, plan.branch_steps)
    own = newest_checkpoint(run.checkpoints, run.branch_points)
    trunk = find_trunk(run) if plan.decay_steps else None
    if own or not trunk:
        return own
    checkpoint = newest_checkpoint(trunk.branch_points, up_to_step=plan.decay_start)
    if checkpoint and is_main_process():
        write_atomically(run.log, "".join(kept_lines(trunk.log, step_of(checkpoint))))
    return checkpoint


def _make_trainer(
    run: RunFolder, plan: RunPlan, model: PreTrainedModel, data: TrainingData, show_bar: bool
) -> tuple[BudgetTrainer, RunLog]:
    args = training_arguments(run, plan)
    blocks = order_blocks(data, run.config, plan)
    stopwatch, stop = Stopwatch(), StopOnSignal()
    log = RunLog(run.log, plan, stopwatch, show_bar and args.should_log)
    batch_tokens = args.per_device_eval_batch_size * plan.block_length
    eos_id, every = data.tokenizer.eos_token_id, run.config["data"].get("validation_every", 1)
    write_failure = partial(write_bundle, run, model, blocks)
    trainer = BudgetTrainer(
        SongEvaluator(data.validation, eos_id, plan.block_length, batch_tokens, every),
        stopwatch,
        stop,
        SpikeRule(run.config["budget"].get("spike_factor"), log.write_skipped, write_failure),
        model=model,
        args=args,
        train_dataset=blocks,
        callbacks=[log, BranchPoints(run, plan.branch_steps), stop],
        **optimizer_of(args, run.config["training"].get("optim")),
    )
    # keep its files outside the checkpoints, unless TENSORBOARD_LOGGING_DIR sets the folder
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(run.path / "tensorboard")
    return trainer, log


@contextmanager
def as_saved(model: PreTrainedModel) -> Iterator[None]:
    """Let a model compute in the precision of its weights, as it will when it is loaded.

    For training in bf16, accelerate wraps the `forward` of the model itself in an autocast.
    """
    autocast = model.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if autocast is not None:
            model.forward = autocast


def mean_loss_at_end(log_history: list[dict[str, float]], max_steps: int) -> float:
    """Mean training loss over the windows that end in the last tenth, or over the last window."""
    windows = [entry for entry in log_history if "loss" in entry]
    starts = [0, *(entry["step"] for entry in windows)]
    pairs = [
        (entry["loss"], entry["step"] - start)
        for entry, start in zip(windows, starts, strict=False)
        if entry["step"] > 0.9 * max_steps or entry is windows[-1]
    ]
    return sum(loss * n_steps for loss, n_steps in pairs) / sum(n_steps for _, n_steps in pairs)


def check_finite(model: PreTrainedModel, step: int) -> None:
    """Check that all weights are finite, before they are saved.

    Raises:
        SpikeError: If one is not.
    """
    for name, weights in model.named_parameters():
        if not weights.isfinite().all():
            raise SpikeError(
                f"{name} is not finite after step {step}, and is not saved; lower "
                "training.learning_rate"
            )


def _ready_batch(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return batch
