"""A study: sizes x token budgets x seeds, each one a run of train.py.

python -m training.study configs/study_demo.yaml [--jobs 2] [--dry-run] [key=value ...]

The study file holds `name`, `sizes` (each with `config`, the stem of a size file, and if wanted
`name`, `seeds` of its own, `learning_rates` to sweep over, and dotted keys), `tokens`, `seeds`,
`overrides` (dotted keys for all cells), and if wanted `learning_rate_rule`, a file that gives the
learning rate by size. With `budget.branches` a cell gives a run for each of its branches as well.
The plan goes to runs/<study>/plan.json.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import starmap
from pathlib import Path
from typing import Any

from scaling.counts import ModelShape, count_parameters, train_flops_per_token

from .branches import branch_config, plan_branches
from .budget import plan_budget, short_count
from .config import (
    ConfigError,
    format_override,
    load_config,
    resolve_config,
)
from .data_files import locate_data
from .run_folder import RUNS, RunFolder, choose_run_folder, write_atomically
from .study_file import (
    OF_A_SIZE,
    learning_rate_by_rule,
    learning_rates_of,
    read_rule,
    read_study,
    seeds_of,
)
from .study_runner import run_cells

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CellBranch:
    """A run that a cell gives beside its own.

    Attributes:
        name: Of the run, and of its folder.
        n_tokens: D of the run.
        n_tokens_shared: Those of them that the cell's own run has trained on already.
        flops_train: C of the run, by formula, as if it were trained alone.
    """

    name: str
    n_tokens: int
    n_tokens_shared: int
    flops_train: float


@dataclass(frozen=True)
class Cell:
    """One call of train.py: a run, and its branches if it has any.

    Attributes:
        name: Of the run, and of its folder.
        config: Size file.
        overrides: What train.py gets behind the size file.
        n_tokens: D of the run.
        flops_train: C of the run, by formula.
        branches: Of the run.
    """

    name: str
    config: str
    overrides: list[str]
    n_tokens: int
    flops_train: float
    branches: list[CellBranch]

    @property
    def run_names(self) -> list[str]:
        """The folders of the cell's runs."""
        return [self.name, *(branch.name for branch in self.branches)]

    @property
    def n_tokens_trained(self) -> int:
        """Tokens to train on, those that runs share counted once."""
        shared = sum(branch.n_tokens - branch.n_tokens_shared for branch in self.branches)
        return self.n_tokens + shared

    def n_finished(self, folder: Path) -> int:
        """How many of its runs are finished, in the folder of the study."""
        return sum((folder / name / "record.json").is_file() for name in self.run_names)


@dataclass(frozen=True)
class SharedSettings:
    """What all cells of a study have in common.

    Attributes:
        path: Study file.
        before: Overrides that come before those of a size.
        last: Overrides that come after them, from the command line.
        rule: Learning rate by family and size, or {}.
    """

    path: Path
    before: list[str]
    last: list[str]
    rule: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Study:
    """A study with the folder and the cell of each run, longest first."""

    name: str
    runs: list[tuple[Cell, RunFolder]]

    def missing(self) -> list[tuple[Cell, RunFolder]]:
        """Cells of which a run is not finished."""
        return [
            (cell, run)
            for cell, run in self.runs
            if cell.n_finished(run.path.parent) < len(cell.run_names)
        ]

    def run_names(self) -> list[str]:
        """All run folders of the study."""
        return [name for cell, _ in self.runs for name in cell.run_names]


def plan_study(path: Path, overrides: Iterable[str] = ()) -> Study:
    """Read a study file and find the folder of each of its runs.

    Args:
        path: Study file.
        overrides: `tokens=[...]`, `seeds=[...]` or `name=...` in place of the file's; other keys
            go to all cells, after the study's own.

    Raises:
        ValueError: If the study file is wrong, or two cells would have one name.
        FileNotFoundError: If a size file or the data are missing.
    """
    study, cell_overrides = read_study(path, overrides)
    name = str(study.get("name", path.stem))
    shared = {"study": name, **(study.get("overrides") or {})}
    before = list(starmap(format_override, shared.items()))
    settings = SharedSettings(path, before, cell_overrides, read_rule(path, study))
    runs = [
        _plan_cell(settings, size, tokens, seed, rate)
        for size in study["sizes"]
        for tokens in study["tokens"]
        for seed in seeds_of(size, study)
        for rate in learning_rates_of(size)
    ]
    runs.sort(key=lambda planned: -planned[0].flops_train)
    planned = Study(name, runs)
    names = planned.run_names()
    for repeated in [n for n in names if names.count(n) > 1][:1]:
        raise ConfigError(
            f"two cells of {path} are named {repeated}; give one size another name, or take out "
            "what is there twice"
        )
    return planned


def write_plan(study: Study) -> Path:
    """Write plan.json: which folders make up the study."""
    plan = {
        "study": study.name,
        "runs": study.run_names(),
        "cells": [asdict(cell) for cell, _ in study.runs],
    }
    path = RUNS / study.name / "plan.json"
    write_atomically(path, json.dumps(plan, indent=1) + "\n")
    return path


def _plan_cell(
    shared: SharedSettings, size: dict[str, Any], tokens: int, seed: int, rate: float | None
) -> tuple[Cell, RunFolder]:
    """The cell of one size, budget and seed, and of one learning rate where they are swept."""
    config_path = shared.path.parent / f"{size['config']}.yaml"
    size_name = str(size.get("name", size["config"]))
    own = {k: v for k, v in size.items() if k not in OF_A_SIZE}
    own |= {"size": size_name, "budget.tokens": tokens, "training.seed": seed}
    name = f"{size_name}_t{short_count(tokens)}_s{seed}"
    if rate is not None:
        own["training.learning_rate"] = rate
        name += f"_lr{rate:.1e}"
    elif shared.rule and "training.learning_rate" not in own:
        own["training.learning_rate"] = _ruled_rate(shared, config_path, own)
    overrides = [*shared.before, *starmap(format_override, own.items()), *shared.last]
    overrides.append("training.disable_tqdm=true")
    wanted_name = f"name={name}"
    config = resolve_config(config_path, [*overrides, wanted_name])
    data = locate_data(config)
    run = choose_run_folder(config, data)
    budget = plan_budget(config, data.block_length)
    n_tokens, targets_per_step = budget.n_tokens, budget.targets_per_step
    shape = _shape(config, data.vocab_size, data.block_length)
    flops_per_token = train_flops_per_token(shape)
    overrides.append(f"name={run.path.name}")
    branches = []
    for branch in plan_branches(config):
        name = choose_run_folder(branch_config(run.config, branch), data).path.name
        n, shared = (s * targets_per_step for s in (branch.max_steps, branch.start_step))
        branches.append(CellBranch(name, n, shared, float(flops_per_token * n)))
    flops = float(flops_per_token * n_tokens)
    return Cell(run.path.name, str(config_path), overrides, n_tokens, flops, branches), run


def _ruled_rate(shared: SharedSettings, config_path: Path, own: dict[str, Any]) -> float:
    """The learning rate that the rule gives a size."""
    config = resolve_config(config_path, [*shared.before, *starmap(format_override, own.items())])
    # neither the vocabulary nor the positions count among the parameters that the rule goes by
    n_params = count_parameters(_shape(config, vocab_size=1, block_length=1)).non_embedding
    return learning_rate_by_rule(shared.rule, config["model"]["model_type"], n_params)


def _shape(config: dict[str, Any], vocab_size: int, block_length: int) -> ModelShape:
    return ModelShape(
        **{k: config["model"][k] for k in ("model_type", "hidden_size", "num_hidden_layers")},
        vocab_size=vocab_size,
        max_position_embeddings=block_length,
    )


def _default_jobs() -> int:
    """One run a core on a CPU; one at a time where there is a GPU, which a single run fills."""
    if Path("/dev/nvidia0").exists():
        return 1
    # a container may grant fewer cores than the machine has; only Linux says so
    granted = getattr(os, "sched_getaffinity", None)
    return len(granted(0)) if granted else os.cpu_count() or 1


def _print_plan(study: Study) -> None:
    for cell, folder in study.runs:
        for run in (cell, *cell.branches):
            is_finished = (folder.path.with_name(run.name) / "record.json").is_file()
            state = "finished" if is_finished else "missing"
            print(
                f"{run.name:32} {run.n_tokens:>14,} tokens  {run.flops_train:9.2e} FLOPs  {state}"
            )


def run_study(study: Study, jobs: int) -> list[str]:
    """Run what is missing; returns one line for each run that failed."""
    for _, run in study.runs:
        if run.reason:
            logger.warning(run.reason)
    missing = study.missing()
    for cell, _ in missing:
        load_config(
            Path(cell.config), cell.overrides
        )  # one wrong key would fail every cell, one by one
    plan = write_plan(study)
    total, waiting = (
        sum(cell.n_tokens_trained for cell, _ in cells) for cells in (study.runs, missing)
    )
    failures = run_cells(missing, jobs, done_tokens=total - waiting) if missing else []
    finished = sum(cell.n_finished(run.path.parent) for cell, run in study.runs)
    n_runs = len(study.run_names())
    print(f"{finished} of {n_runs} runs of {study.name} finished; plan in {plan}")
    return failures


def main(argv: list[str] | None = None) -> int:
    """Command line of a study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="study file, e.g. configs/study_demo.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for all cells")
    parser.add_argument("--jobs", type=int, default=_default_jobs(), help="runs at once")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and run nothing")
    parser.add_argument("--folder", action="store_true", help="print the study's folder only")
    arguments = parser.parse_intermixed_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if arguments.folder:
            content, _ = read_study(arguments.study, arguments.overrides)
            print(RUNS / str(content.get("name", arguments.study.stem)))
            return 0
        study = plan_study(arguments.study, arguments.overrides)
        if arguments.dry_run:
            _print_plan(study)
            return 0
        failures = run_study(study, max(1, arguments.jobs))
    except (ValueError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; repeating the command goes on with what is missing", file=sys.stderr)
        return 130
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
