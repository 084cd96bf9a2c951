"""The Trainer with a token budget, loss by song, and checkpoints that survive faults."""

import gc
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainingArguments
from transformers.integrations import TensorBoardCallback

from .arguments import keep_freed_memory, training_arguments
from .budget import RunPlan
from .data.blocks import BlockOrder, TrainingData, order_blocks
from .data.validation import SongEvaluator, SongLoss
from .failure import write_bundle
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
from .run.spikes import JudgedStep, SpikeError, SpikeRule

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """What training came to.

    Attributes:
        plan: Of the run.
        train_loss_nats_per_token: Mean over the last tenth of the steps.
        validation: Loss of the final model.
        validation_log: (step, validation loss in nats a token), in order, of the whole run.
        train_seconds: Without validation and saving, over all sessions; those of a branch include
            its trunk's up to where it left it, as if it had been trained alone.
        trunk_seconds: The part of them that the trunk spent, by the clock.
        n_steps_skipped: Steps whose loss was no number or far too high; they changed no weight.
        n_processes: World size.
        device: Kind of device trained on.
    """

    plan: RunPlan
    train_loss_nats_per_token: float
    validation: SongLoss
    validation_log: list[tuple[int, float]]
    train_seconds: Seconds
    trunk_seconds: float
    n_steps_skipped: int
    n_processes: int
    device: torch.device


class BudgetTrainer(Trainer):
    """Trainer whose evaluation goes song by song and whose checkpoints carry a manifest.

    Args:
        evaluator: Holds the validation split.
        stopwatch: Counts training seconds.
        stop: Says that Ctrl-C came.
        spikes: Which steps are not taken.
        **kwargs: The Trainer's own.

    Attributes:
        trunk_seconds: Training seconds that the trunk of a branch spent.
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
        self.remove_callback(PrinterCallback)  # it would print every log line as a dict
        self.spikes = spikes
        self.add_callback(spikes)
        if self.args.world_size > 1:
            spikes.mean_over_processes = partial(self.accelerator.reduce, reduction="mean")

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One backward pass."""
        loss = super().training_step(*args, **kwargs)
        self.spikes.add_loss(loss)
        return loss

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> torch.Tensor | float:
        norm = super()._get_grad_norm(*args, **kwargs)
        self.spikes.set_gradient_norm(norm)
        return norm

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Loss over the whole validation split, at most once a step."""
        if self.validated_at_step != self.state.global_step:
            with self.stopwatch.paused():
                self.validation = self._validate()
            self.validated_at_step = self.state.global_step
            self.log({"validation_loss_nats_per_token": self.validation.loss_nats_per_token})
        return {"eval_loss": self.validation.loss_nats_per_token}

    def floating_point_ops(self, inputs: dict[str, torch.Tensor]) -> int:
        """Nothing: the Trainer's estimate walks over all parameters; the record has its own."""
        return 0

    def _validate(self) -> SongLoss:
        rank, world_size = self.args.process_index, self.args.world_size
        loss = self.eval_dataset.evaluate(self.model, rank, world_size, self.stop.raise_if_wanted)
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
) -> TrainingResult:
    """Train to the end of the plan, going on from the newest whole checkpoint if there is one.

    Raises:
        KeyboardInterrupt: On Ctrl-C or SIGTERM, after a checkpoint at the end of the step.
        ValueError: If a setting is impossible, or the loss is no longer a number.
        OSError: If the disk is full.
    """
    args = training_arguments(run, plan)
    blocks = order_blocks(data, run.config, plan)
    stopwatch, stop = Stopwatch(), StopOnSignal()
    log = RunLog(run.log, plan, stopwatch, show_bar and args.should_log)
    trainer = BudgetTrainer(
        _make_evaluator(args, data, plan),
        stopwatch,
        stop,
        _make_spike_rule(run, model, blocks, log),
        model=model,
        args=args,
        train_dataset=blocks,
        callbacks=[log, BranchPoints(run, plan.branch_steps), stop],
    )
    _keep_tensorboard_files(trainer, run)
    # the first moves and removes checkpoints; the others find what it leaves
    with args.main_process_first(local=False):
        checkpoint = find_start(run, plan)
    spent = Seconds()
    if checkpoint:
        logger.info("going on from %s", checkpoint)
        args.eval_on_start = False
        times = read_manifest(checkpoint)
        spent = Seconds(times["train_seconds"], times["train_cpu_seconds"])
        is_own = checkpoint.is_relative_to(run.path)
        trainer.trunk_seconds = (
            times.get("trunk_seconds", 0.0) if is_own else times["train_seconds"]
        )
    if args.should_save:
        run.save_config()
    keep_freed_memory()
    gc.freeze()  # the imports leave a million objects: each full collection would walk them, 0.3 s
    try:
        stopwatch.start(spent)
        _train_and_validate(trainer, stop, checkpoint)
    finally:
        log.close()
    return _result(trainer, plan)


def _result(trainer: BudgetTrainer, plan: RunPlan) -> TrainingResult:
    return TrainingResult(
        plan=plan,
        train_loss_nats_per_token=mean_loss_at_end(trainer.state.log_history, plan.max_steps),
        validation=trainer.validation,
        validation_log=[
            (entry["step"], entry["validation_loss_nats_per_token"])
            for entry in trainer.state.log_history
            if "validation_loss_nats_per_token" in entry
        ],
        train_seconds=trainer.stopwatch.seconds,
        trunk_seconds=trainer.trunk_seconds,
        n_steps_skipped=trainer.spikes.n_skipped,
        n_processes=trainer.args.world_size,
        device=trainer.args.device,
    )


def find_start(run: RunFolder, plan: RunPlan) -> Path | None:
    """The checkpoint to go on from: the run's own, or that of the trunk it is a branch of.

    All of the trunk's up to where the decay of this run begins are checkpoints of this run as well.
    """
    if is_main_process():  # it may have been ended between saving and moving
        keep_branch_points(run, plan.branch_steps)
    own = newest_checkpoint(run.checkpoints, run.branch_points)
    trunk = find_trunk(run) if plan.decay_steps else None
    if own or not trunk:
        return own
    checkpoint = newest_checkpoint(trunk.branch_points, up_to_step=plan.decay_start)
    if checkpoint and is_main_process():
        write_atomically(run.log, "".join(kept_lines(trunk.log, step_of(checkpoint))))
    return checkpoint


def _keep_tensorboard_files(trainer: BudgetTrainer, run: RunFolder) -> None:
    """Put them where they outlive the checkpoints, unless TENSORBOARD_LOGGING_DIR says where."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(run.path / "tensorboard")


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


def _make_evaluator(args: TrainingArguments, data: TrainingData, plan: RunPlan) -> SongEvaluator:
    batch_tokens = args.per_device_eval_batch_size * plan.block_length
    eos_id = data.tokenizer.eos_token_id
    return SongEvaluator(data.validation, eos_id, plan.block_length, batch_tokens)


def check_finite(model: PreTrainedModel, step: int) -> None:
    """Hold weights against what they must be to be saved.

    Raises:
        SpikeError: If one is no number.
    """
    for name, weights in model.named_parameters():
        if not weights.isfinite().all():
            raise SpikeError(
                f"{name} is not finite after step {step}, and is not saved; lower "
                "training.learning_rate"
            )


def _make_spike_rule(
    run: RunFolder, model: PreTrainedModel, blocks: BlockOrder, log: RunLog
) -> SpikeRule:
    def write_skipped(step: JudgedStep) -> None:
        if is_main_process():
            log.write_skipped(step)

    def stop(steps: list[JudgedStep]) -> str:
        if is_main_process():
            write_bundle(run, model, blocks, steps)
        return f"`python -m training.failure {run.path / 'failure'}`"

    return SpikeRule(run.config["budget"].get("spike_factor"), write_skipped, stop)


def _train_and_validate(
    trainer: BudgetTrainer, stop: StopOnSignal, checkpoint: Path | None
) -> None:
    # processes that stop at different steps would wait for each other: several of them just stop
    with stop.listening(is_on=trainer.args.world_size == 1):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        trainer.stopwatch.stop()
        if stop.is_wanted:
            raise KeyboardInterrupt(f"stopped after step {trainer.state.global_step}")
        check_finite(trainer.model, trainer.state.global_step)
        trainer.evaluate()


def _ready_batch(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return batch
