"""Branches: one training that gives the models of several token counts.

With the schedule warmup_stable_decay the learning rate is constant between warmup and decay, and
the order of the blocks is a function of seed and step. So a run of fewer tokens has exactly the
steps of a longer one, its trunk, up to where its own decay begins. A branch is such a run: an
ordinary one, which may start from the trunk's checkpoint at that step, and comes to the same
weights as if it had been trained alone.
"""

import re
from dataclasses import dataclass
from typing import Any

from .budget import run_length, short_count
from .run_folder import RunFolder, difference

WSD = "warmup_stable_decay"
SCHEDULE_KEYS = ("warmup_type", "decay_type", "min_lr_ratio", "num_cycles")
# arguments of transformers' schedule that are decided here
FROM_DECAY_SHARE = ("num_decay_steps", "num_stable_steps")


@dataclass(frozen=True)
class Branch:
    """A run of fewer tokens than its trunk.

    Attributes:
        tokens: Its budget.tokens.
        max_steps: Its length.
        start_step: Where its decay begins, and it leaves the trunk.
    """

    tokens: int
    max_steps: int
    start_step: int


def plan_branches(config: dict[str, Any]) -> list[Branch]:
    """Check the schedule of a config; returns its branches, those that start first first.

    Raises:
        ValueError: If the schedule is impossible, or the branches would not be the trunk's first
            steps.
    """
    budget, training = config["budget"], config["training"]
    is_wsd = training.get("lr_scheduler_type") == WSD
    asked = [key for key in ("branches", "decay_share") if key in budget]
    if asked and not is_wsd:
        raise ValueError(
            f"budget.{asked[0]} needs training.lr_scheduler_type={WSD}, found "
            f"{training.get('lr_scheduler_type')!r}: the steps of any other schedule depend on the "
            "length of the run"
        )
    if not is_wsd or "pretrained" in config["model"]:
        return []
    _check_decay(config)
    branches = sorted(
        (_plan_branch(config, tokens) for tokens in _branch_tokens(config)),
        key=lambda branch: branch.start_step,
    )
    steps = [branch.max_steps for branch in branches]
    if len(set(steps)) < len(steps):
        raise ValueError(
            f"budget.branches {budget['branches']} are {steps} steps long; take out what is there "
            "twice"
        )
    return branches


def scheduler_arguments(config: dict[str, Any], max_steps: int) -> dict[str, Any]:
    """The key lr_scheduler_kwargs with the decay steps, for the configs that have a decay share."""
    if "decay_share" not in config["budget"]:
        return {}
    given = config["training"].get("lr_scheduler_kwargs") or {}
    steps = decay_steps(config, max_steps)
    return {"lr_scheduler_kwargs": {**given, "num_decay_steps": steps}}


def decay_steps(config: dict[str, Any], max_steps: int) -> int:
    """Steps at the end of a run in which the learning rate falls."""
    return max(1, round(config["budget"]["decay_share"] * max_steps))


def branch_config(config: dict[str, Any], branch: Branch) -> dict[str, Any]:
    """The config of the run that a branch is; `trunk` says where it may start."""
    budget = {k: v for k, v in config["budget"].items() if k != "branches"}
    return {
        **config,
        "name": branch_name(config["name"], config["budget"]["tokens"], branch.tokens),
        "trunk": config["name"],
        "budget": {**budget, "tokens": branch.tokens},
    }


def branch_name(trunk: str, trunk_tokens: int, tokens: int) -> str:
    """Name of a branch: gpt_t12M_s1 has gpt_t3M_s1, and trial has trial_t3M."""
    own, others = f"_t{short_count(tokens)}", f"_t{short_count(trunk_tokens)}"
    name, n_found = re.subn(rf"{others}(?=[_-]|$)", own, trunk, count=1)
    return name if n_found else trunk + own


def find_trunk(run: RunFolder) -> RunFolder | None:
    """The trunk of a branch, if its folder is there and holds a run that differs in length alone.

    Args:
        run: Any run.
    """
    trunk = RunFolder(run.path.with_name(run.config.get("trunk", run.path.name)), run.config)
    if trunk.path == run.path or not trunk.config_file.is_file():
        return None
    differs = difference(trunk.config_file, run.config, may_differ=("budget.tokens",))
    return None if differs else trunk


def _check_decay(config: dict[str, Any]) -> None:
    share = config["budget"].get("decay_share")
    if share is None or not 0 < share < 1:
        found = "not given" if share is None else share
        raise ValueError(
            f"budget.decay_share is {found}, but {WSD} needs the share of the steps in which the "
            "learning rate falls, above 0 and below 1; e.g. budget.decay_share=0.2"
        )
    given = config["training"].get("lr_scheduler_kwargs") or {}
    for key in given:
        if key not in (*FROM_DECAY_SHARE, *SCHEDULE_KEYS):
            raise ValueError(
                f"{key} in training.lr_scheduler_kwargs is none of {WSD}'s; take it out, or give "
                "training.lr_scheduler_kwargs={decay_type: 1-sqrt}"
            )
    for key in FROM_DECAY_SHARE:
        if key in given:
            raise ValueError(
                f"{key} in training.lr_scheduler_kwargs follows from budget.decay_share; take it "
                "out"
            )
    _check_warmup(config, run_length(config), "budget.tokens")


def _check_warmup(config: dict[str, Any], max_steps: int, key: str) -> None:
    """The decay has to begin after the warmup; a share of warmup leaves room if the decay does."""
    warmup = config["training"].get("warmup_steps", 0)
    warmup = warmup if warmup >= 1 else warmup * max_steps
    start = max_steps - decay_steps(config, max_steps)
    if start < warmup:
        raise ValueError(
            f"{key} gives {max_steps} steps, of which the decay begins after {start}, before "
            f"the {warmup:g} steps of warmup are over; give more tokens, or lower "
            "training.warmup_steps"
        )


def _branch_tokens(config: dict[str, Any]) -> list[int]:
    """The key budget.branches, checked."""
    budget, training = config["budget"], config["training"]
    branches = budget.get("branches", [])
    if not branches:
        return []
    for tokens in branches:
        if isinstance(tokens, bool) or not isinstance(tokens, int):
            raise ValueError(f"budget.branches holds {tokens!r}, expected numbers of tokens")
        if not 0 < tokens < budget["tokens"]:
            raise ValueError(
                f"budget.branches holds {tokens:,}, expected above 0 and below budget.tokens, "
                f"{budget['tokens']:,}"
            )
    if training.get("max_steps", -1) >= 1:
        raise ValueError(
            "training.max_steps would be the length of all branches; give budget.tokens instead"
        )
    if 0 < training.get("warmup_steps", 0) < 1:
        raise ValueError(
            f"training.warmup_steps is {training['warmup_steps']}, a share of the run, so a branch "
            "would warm up faster than its trunk; give a number of steps"
        )
    return branches


def _plan_branch(config: dict[str, Any], tokens: int) -> Branch:
    alone = {**config, "budget": {**config["budget"], "tokens": tokens}}
    max_steps = run_length(alone)
    _check_warmup(config, max_steps, f"budget.branches: {tokens:,}")
    return Branch(tokens, max_steps, max_steps - decay_steps(config, max_steps))
