"""Branches: one training that gives the models of several token counts.

The order of the blocks is a function of seed and step, so a branch, as `budget` plans it, has
exactly the steps of its trunk up to where its own decay begins. It is an ordinary run, which may
start from the trunk's checkpoint at that step, and comes to the same weights as if it had been
trained alone.
"""

import re
from typing import Any

from ..budget import short_count
from .run_folder import RunFolder, difference


def branch_config(config: dict[str, Any], tokens: int) -> dict[str, Any]:
    """The config of the branch of so many tokens; `trunk` says where it may start."""
    budget = {k: v for k, v in config["budget"].items() if k != "branches"}
    return {
        **config,
        "name": branch_name(config["name"], config["budget"]["tokens"], tokens),
        "trunk": config["name"],
        "budget": {**budget, "tokens": tokens},
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
