"""The plan of a run: from its token budget to optimizer steps, decay and branches; made once.

T is the block length. The convention is defined only here: the budget counts tokens read (T per
block), while D, the tokens that a scaling law counts, are the predicted targets (T - 1 per block,
since a block's first token has no context).

With the schedule warmup_stable_decay the learning rate is constant between warmup and decay. A run
of fewer tokens (a branch) therefore takes exactly the steps of a longer one until its own decay
begins.
"""

from dataclasses import dataclass, replace
from typing import Any

WSD = "warmup_stable_decay"
SCHEDULE_KEYS = ("warmup_type", "decay_type", "min_lr_ratio", "num_cycles")
# arguments of transformers' schedule that are set here
FROM_DECAY_SHARE = ("num_decay_steps", "num_stable_steps")


@dataclass(frozen=True)
class RunPlan:
    """The length of a run, and the parts of its schedule that depend on it.

    Attributes:
        max_steps: Optimizer steps.
        sequences_per_step: Blocks in one global batch, over all devices and accumulation steps.
        block_length: T.
        tokens: budget.tokens of its config; None for fine-tuning, whose length is in epochs.
        decay_steps: Final steps, in which the learning rate decays; None if the schedule is not
            warmup_stable_decay.
        branches: Runs of fewer tokens, ordered by the step at which they leave this one.
    """

    max_steps: int
    sequences_per_step: int
    block_length: int
    tokens: int | None = None
    decay_steps: int | None = None
    branches: "tuple[RunPlan, ...]" = ()

    @property
    def n_sequences(self) -> int:
        """Blocks read in the whole run."""
        return self.max_steps * self.sequences_per_step

    @property
    def targets_per_step(self) -> int:
        """Tokens predicted in one step."""
        return self.sequences_per_step * (self.block_length - 1)

    @property
    def n_tokens(self) -> int:
        """D: tokens predicted in the whole run."""
        return self.max_steps * self.targets_per_step

    @property
    def decay_start(self) -> int:
        """The last step before the decay, where a branch leaves its trunk."""
        return self.max_steps - (self.decay_steps or 0)

    @property
    def branch_steps(self) -> list[int]:
        """Steps at which branches leave this run."""
        return [branch.decay_start for branch in self.branches]


def plan_run(config: dict[str, Any], block_length: int, n_blocks: int) -> RunPlan:
    """Turn the sections budget and training into a plan; training.max_steps takes precedence.

    Args:
        config: The run's config.
        block_length: T.
        n_blocks: Number of blocks; only used to count epochs.

    Raises:
        ValueError: If the global batch is not a multiple of the block length, the budget is less
            than one step, the schedule is impossible, or the branches would not share the run's
            first steps.
    """
    if "pretrained" in config["model"]:
        per_step = config["budget"]["sequences_per_step"]
        epochs = max(1, round(config["budget"]["epochs"] * n_blocks / per_step))
        return RunPlan(_given_steps(config) or epochs, per_step, block_length)
    _check_schedule(config)
    trunk = _plan_tokens(config, config["budget"]["tokens"], block_length)
    branches = sorted(
        (_plan_tokens(config, tokens, block_length) for tokens in _branch_tokens(config)),
        key=lambda branch: branch.decay_start,
    )
    steps = [branch.max_steps for branch in branches]
    if len(set(steps)) < len(steps):
        raise ValueError(
            f"budget.branches {config['budget']['branches']} are {steps} steps long; remove the "
            "duplicates"
        )
    return replace(trunk, branches=tuple(branches))


def short_count(count: int) -> str:
    """A token budget as written in names: 2_000_000 is 2M, 1_500_000 is 1500k."""
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count % unit == 0:
            return f"{count // unit}{letter}"
    return str(count)


def accumulation_steps(plan: RunPlan, device_batch: int, world_size: int) -> int:
    """Backward passes per step that keep the global batch regardless of the devices.

    Args:
        plan: The run's plan.
        device_batch: Blocks in one forward pass on one process.
        world_size: Number of processes.

    Raises:
        ValueError: If the global batch cannot be split evenly.
    """
    total, at_once = plan.sequences_per_step, device_batch * world_size
    if total % at_once:
        fitting = [b for b in range(1, device_batch + 1) if total % (b * world_size) == 0]
        advice = f"set it to {fitting[-1]}" if fitting else "use fewer processes or a larger batch"
        raise ValueError(
            f"the global batch of {total} blocks cannot be split into "
            f"training.per_device_train_batch_size {device_batch} on {world_size} process(es); "
            f"{advice}"
        )
    return total // at_once


def _given_steps(config: dict[str, Any]) -> int:
    """The key training.max_steps, or 0 if it is not given."""
    return max(0, config["training"].get("max_steps", 0))


def _plan_tokens(config: dict[str, Any], tokens: int, block_length: int) -> RunPlan:
    """The plan of this config's run, or of its branch with this many tokens."""
    budget = config["budget"]
    batch, share = budget["global_batch_tokens"], budget.get("decay_share")
    if batch % block_length:
        raise ValueError(
            f"budget.global_batch_tokens is {batch:,}, expected a multiple of the block length "
            f"{block_length:,}; set it to {max(1, batch // block_length) * block_length}"
        )
    steps = _given_steps(config) or tokens // batch
    if steps < 1:
        raise ValueError(
            f"budget.tokens is {tokens:,}, less than one step of {batch:,}; raise it to {batch}"
        )
    decay_steps = None if share is None else max(1, round(share * steps))
    plan = RunPlan(steps, batch // block_length, block_length, tokens, decay_steps)
    if decay_steps is not None:
        warmup = config["training"].get("warmup_steps", 0)
        warmup = warmup if warmup >= 1 else warmup * steps
        if plan.decay_start < warmup:
            key = "budget.tokens" if tokens == budget["tokens"] else f"budget.branches: {tokens:,}"
            raise ValueError(
                f"{key} gives {steps} steps, with the decay beginning after {plan.decay_start}, "
                f"before the {warmup:g} warmup steps are over; raise the token count, or lower "
                "training.warmup_steps"
            )
    return plan


def _check_schedule(config: dict[str, Any]) -> None:
    """Check the keys of the decay against the schedule."""
    budget, training = config["budget"], config["training"]
    asked = [key for key in ("branches", "decay_share") if key in budget]
    if training.get("lr_scheduler_type") != WSD:
        if not asked:
            return
        raise ValueError(
            f"budget.{asked[0]} needs training.lr_scheduler_type={WSD}, found "
            f"{training.get('lr_scheduler_type')!r}: the steps of any other schedule depend on the "
            "length of the run"
        )
    share = budget.get("decay_share")
    if share is None or not 0 < share < 1:
        found = "not given" if share is None else share
        raise ValueError(
            f"budget.decay_share is {found}, but {WSD} needs the share of the steps in which the "
            "learning rate falls, above 0 and below 1; e.g. budget.decay_share=0.2"
        )
    for key in training.get("lr_scheduler_kwargs") or {}:
        where = f"{key} in training.lr_scheduler_kwargs"
        if key in FROM_DECAY_SHARE:
            raise ValueError(f"{where} follows from budget.decay_share; remove it")
        if key not in SCHEDULE_KEYS:
            raise ValueError(
                f"{where} is not an argument of {WSD}; remove it, or set "
                "training.lr_scheduler_kwargs={decay_type: 1-sqrt}"
            )


def _branch_tokens(config: dict[str, Any]) -> list[int]:
    """The key budget.branches, checked."""
    budget, training = config["budget"], config["training"]
    branches = budget.get("branches", [])
    if not branches:
        return []
    for tokens in branches:
        if isinstance(tokens, bool) or not isinstance(tokens, int):
            raise ValueError(f"budget.branches contains {tokens!r}, expected token counts")
        if not 0 < tokens < budget["tokens"]:
            raise ValueError(
                f"budget.branches contains {tokens:,}, expected above 0 and below budget.tokens, "
                f"{budget['tokens']:,}"
            )
    if _given_steps(config):
        raise ValueError(
            "training.max_steps would set the length of all branches; set budget.tokens instead"
        )
    if 0 < training.get("warmup_steps", 0) < 1:
        raise ValueError(
            f"training.warmup_steps is {training['warmup_steps']}, a share of the run, so a branch "
            "would warm up faster than its trunk; set a number of steps"
        )
    return branches
