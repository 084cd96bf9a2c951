"""Branches: one training run that yields the models of several token counts.

The order of the blocks is a function of seed and step, so a branch, as planned by `budget`, takes
exactly the steps of its trunk until its own decay begins. It is an ordinary run that may start from
the trunk's checkpoint at that step, and it ends with the same weights as if trained alone.
"""

import re
from typing import Any

from ..budget import short_count
from .run_folder import RunFolder, difference


def branch_config(config: dict[str, Any], tokens: int) -> dict[str, Any]:
    """The config of the branch with this many tokens; `trunk` names the run it may start from."""
    budget = {k: v for k, v in config["budget"].items() if k != "branches"}
    return {
        **config,
        "name": branch_name(config["name"], config["budget"]["tokens"], tokens),
        "trunk": config["name"],
        "budget": {**budget, "tokens": tokens},
    }


def branch_name(trunk: str, trunk_tokens: int, tokens: int) -> str:
    """Name of a branch: gpt_t3M_s1 of gpt_t12M_s1, and trial_t3M of trial."""
    own, others = f"_t{short_count(tokens)}", f"_t{short_count(trunk_tokens)}"
    name, n_found = re.subn(rf"{others}(?=[_-]|$)", own, trunk, count=1)
    return name if n_found else trunk + own


def find_trunk(run: RunFolder) -> RunFolder | None:
    """The trunk of a branch, if its folder exists and its run differs only in length.

    Args:
        run: Any run.
    """
    trunk = RunFolder(run.path.with_name(run.config.get("trunk", run.path.name)), run.config)
    if trunk.path == run.path or not trunk.config_file.is_file():
        return None
    differs = difference(trunk.config_file, run.config, may_differ=("budget.tokens",))
    return None if differs else trunk
