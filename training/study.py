"""A study: sizes x token budgets x seeds, each one a run of train.py.

python -m training.study configs/study_demo.yaml [--jobs 2] [--dry-run] [key=value ...]

The study file holds `name`, `sizes` (each with `config`, the stem of a size file, and if wanted
`name` and dotted keys), `tokens`, `seeds`, and `overrides` (dotted keys for all cells). The plan
goes to runs/<study>/plan.json.
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

from scaling.counts import ModelShape, train_flops_per_token

from .budget import plan_budget
from .config import (
    ConfigError,
    format_override,
    load_config,
    nearest,
    parse_override,
    read_yaml,
    resolve_config,
)
from .data_files import locate_data
from .run_folder import RUNS, RunFolder, choose_run_folder, write_atomically
from .study_runner import run_cells

logger = logging.getLogger(__name__)

STUDY_FIELDS = ("name", "overrides", "sizes", "tokens", "seeds")
PER_CELL = {"budget.tokens": "tokens", "training.seed": "seeds"}


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        name: Of the run, and of its folder.
        config: Size file.
        overrides: What train.py gets behind the size file.
        n_tokens: D of the run.
        flops_train: C of the run, by formula.
    """

    name: str
    config: str
    overrides: list[str]
    n_tokens: int
    flops_train: float


@dataclass(frozen=True)
class Study:
    """A study with the folder and the cell of each run, longest first."""

    name: str
    runs: list[tuple[Cell, RunFolder]]

    def missing(self) -> list[tuple[Cell, RunFolder]]:
        """Runs that are not finished."""
        return [(cell, run) for cell, run in self.runs if not run.is_finished]


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
    study, cell_overrides = _read_study(path, overrides)
    name = str(study.get("name", path.stem))
    shared = {"study": name, **(study.get("overrides") or {})}
    before = list(starmap(format_override, shared.items()))
    runs = [
        _plan_cell(path, size, tokens, seed, before, cell_overrides)
        for size in study["sizes"]
        for tokens in study["tokens"]
        for seed in study["seeds"]
    ]
    names = [run.path.name for _, run in runs]
    for repeated in {n for n in names if names.count(n) > 1}:
        raise ConfigError(f"two cells of {path} are named {repeated}; give one size another name")
    runs.sort(key=lambda planned: -planned[0].flops_train)
    return Study(name, runs)


def write_plan(study: Study) -> Path:
    """Write plan.json: which folders make up the study."""
    plan = {
        "study": study.name,
        "runs": [cell.name for cell, _ in study.runs],
        "cells": [asdict(cell) for cell, _ in study.runs],
    }
    path = RUNS / study.name / "plan.json"
    write_atomically(path, json.dumps(plan, indent=1) + "\n")
    return path


def short_count(count: int) -> str:
    """A token budget as it stands in names: 2_000_000 is 2M, 1_500_000 is 1500k."""
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count % unit == 0:
            return f"{count // unit}{letter}"
    return str(count)


def _read_study(path: Path, overrides: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """The checked study file, and the overrides that are for its cells."""
    study = read_yaml(path)
    cell_overrides = []
    for text in overrides:
        key, value = parse_override(text)
        if key in PER_CELL:
            raise ConfigError(
                f"{text!r} would be the same in all cells; write {PER_CELL[key]}=[...]"
            )
        if key in STUDY_FIELDS:
            study[key] = value
        else:
            cell_overrides.append(text)
    for key in study:
        if key not in STUDY_FIELDS:
            raise ConfigError(f"unknown key {key} in {path}; {nearest(key, STUDY_FIELDS)}")
    for key in ("sizes", "tokens", "seeds"):
        if not isinstance(study.get(key), list) or not study[key]:
            found = repr(study.get(key))
            raise ConfigError(f"{key} is {found} in {path}, expected a list of at least one")
    shared = study.get("overrides") or {}
    if not isinstance(shared, dict):
        raise ConfigError(f"overrides is {shared!r} in {path}, expected dotted keys with values")
    for number in (*study["tokens"], *study["seeds"]):
        if not isinstance(number, int):
            raise ConfigError(f"tokens and seeds in {path} hold {number!r}, expected whole numbers")
    return study, cell_overrides


def _plan_cell(
    path: Path, size: dict[str, Any], tokens: int, seed: int, before: list[str], last: list[str]
) -> tuple[Cell, RunFolder]:
    """The cell of one size, budget and seed; `before` and `last` stand around its own overrides."""
    if not isinstance(size, dict) or "config" not in size:
        raise ConfigError(f"size {size!r} in {path} has no config; write {{config: gpt_tiny}}")
    config_path = path.parent / f"{size['config']}.yaml"
    size_name = str(size.get("name", size["config"]))
    own = {k: v for k, v in size.items() if k not in ("config", "name")}
    own |= {"size": size_name, "budget.tokens": tokens, "training.seed": seed}
    overrides = [*before, *starmap(format_override, own.items()), *last]
    overrides.append("training.disable_tqdm=true")
    wanted_name = f"name={size_name}_t{short_count(tokens)}_s{seed}"
    config = resolve_config(config_path, [*overrides, wanted_name])
    data = locate_data(config)
    run = choose_run_folder(config, data)
    n_tokens = plan_budget(config, data.block_length).n_tokens
    shape = ModelShape(
        **{k: config["model"][k] for k in ("model_type", "hidden_size", "num_hidden_layers")},
        vocab_size=data.vocab_size,
        max_position_embeddings=data.block_length,
    )
    flops = float(train_flops_per_token(shape) * n_tokens)
    overrides.append(f"name={run.path.name}")
    return Cell(run.path.name, str(config_path), overrides, n_tokens, flops), run


def _default_jobs() -> int:
    """One run a core on a CPU; one at a time where there is a GPU, which a single run fills."""
    if Path("/dev/nvidia0").exists():
        return 1
    # a container may grant fewer cores than the machine has; only Linux says so
    granted = getattr(os, "sched_getaffinity", None)
    return len(granted(0)) if granted else os.cpu_count() or 1


def _print_plan(study: Study) -> None:
    for cell, run in study.runs:
        state = "finished" if run.is_finished else "missing"
        print(f"{cell.name:32} {cell.n_tokens:>14,} tokens  {cell.flops_train:9.2e} FLOPs  {state}")


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
    done = sum(cell.n_tokens for cell, run in study.runs if run.is_finished)
    failures = run_cells(missing, jobs, done_tokens=done) if missing else []
    finished = len(study.runs) - len(study.missing())
    print(f"{finished} of {len(study.runs)} runs of {study.name} finished; plan in {plan}")
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
            content, _ = _read_study(arguments.study, arguments.overrides)
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
