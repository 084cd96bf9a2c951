"""From the token budget to optimiser steps; T is the block length.

One place for the convention: the budget counts tokens that are read (T a block), while D, the
tokens that a scaling law counts, are the targets predicted (T - 1 a block, since a block's first
token has nothing before it).
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Budget:
    """How long a run is.

    Attributes:
        max_steps: Optimiser steps.
        sequences_per_step: Blocks in one global batch, over all devices and accumulation steps.
        block_length: T.
    """

    max_steps: int
    sequences_per_step: int
    block_length: int

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


def plan_budget(config: dict[str, Any], block_length: int) -> Budget:
    """Turn the sections budget and training into steps; a given training.max_steps wins.

    Raises:
        ValueError: If the global batch is no multiple of the block length, or the budget is below
            one step.
    """
    batch = config["budget"]["global_batch_tokens"]
    if batch % block_length:
        raise ValueError(
            f"budget.global_batch_tokens is {batch:,}, expected a multiple of the block length "
            f"{block_length:,}; set it to {max(1, batch // block_length) * block_length}"
        )
    return Budget(run_length(config), batch // block_length, block_length)


def run_length(config: dict[str, Any]) -> int:
    """Steps of a run that is not a fine-tuning; a given training.max_steps wins.

    Raises:
        ValueError: If the budget is below one step.
    """
    tokens, batch = config["budget"]["tokens"], config["budget"]["global_batch_tokens"]
    max_steps = config["training"].get("max_steps", -1)
    if max_steps < 1:
        max_steps = tokens // batch
    if max_steps < 1:
        raise ValueError(
            f"budget.tokens is {tokens:,}, less than one step of {batch:,}; raise it to {batch}"
        )
    return max_steps


def short_count(count: int) -> str:
    """A token budget as it stands in names: 2_000_000 is 2M, 1_500_000 is 1500k."""
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count % unit == 0:
            return f"{count // unit}{letter}"
    return str(count)


def plan_epochs(config: dict[str, Any], block_length: int, n_blocks: int) -> Budget:
    """Turn the epochs of a fine-tuning into steps; a given training.max_steps wins."""
    per_step = config["budget"]["sequences_per_step"]
    max_steps = config["training"].get("max_steps", -1)
    if max_steps < 1:
        max_steps = max(1, round(config["budget"]["epochs"] * n_blocks / per_step))
    return Budget(max_steps, per_step, block_length)


def accumulation_steps(budget: Budget, device_batch: int, world_size: int) -> int:
    """Backward passes a step that keep the global batch whatever the devices.

    Args:
        budget: The run's budget.
        device_batch: Blocks in one forward pass on one process.
        world_size: Number of processes.

    Raises:
        ValueError: If the global batch cannot be split evenly.
    """
    total, at_once = budget.sequences_per_step, device_batch * world_size
    if total % at_once:
        fitting = [b for b in range(1, device_batch + 1) if total % (b * world_size) == 0]
        advice = f"set it to {fitting[-1]}" if fitting else "use fewer processes or a larger batch"
        raise ValueError(
            f"the global batch of {total} blocks cannot be split into "
            f"training.per_device_train_batch_size {device_batch} on {world_size} process(es); "
            f"{advice}"
        )
    return total // at_once
