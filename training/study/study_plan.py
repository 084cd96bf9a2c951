"""The plan of a study: its cells, each one a call of train.py, with the folder of its run."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import product, starmap
from pathlib import Path
from typing import Any

from scaling.counts import ModelShape, count_parameters, train_flops_per_token
from scaling.families import family_of
from scaling.fit_options import FILE_NAME
from scaling.writing.files import read_json, write_json

from ..budget import plan_run, short_count
from ..config import find_config, format_override, resolve_config
from ..config_checks import ConfigError
from ..data.data_files import locate_data
from ..run.branches import branch_config
from ..run.run_folder import RUNS, RunFolder, choose_run_folder
from .study_file import OF_A_SIZE, learning_rate_by_rule, read_rule, read_study


@dataclass(frozen=True)
class CellBranch:
    """A run that a cell yields in addition to its own.

    Attributes:
        name: Name of the run and its folder.
        n_tokens: D of the run.
        n_tokens_shared: Those of them that the cell's own run has already trained on.
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
        name: Name of the run and its folder.
        config: Size file.
        overrides: Arguments of train.py after the size file.
        n_tokens: D of the run.
        flops_train: C of the run, by formula.
        branches: Branches of the run.
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
        """Tokens to train on, where those shared by runs count once."""
        shared = sum(branch.n_tokens - branch.n_tokens_shared for branch in self.branches)
        return self.n_tokens + shared

    def n_finished(self, folder: Path) -> int:
        """How many of its runs are finished in this folder, that of the study."""
        return sum((folder / name / "record.json").is_file() for name in self.run_names)


Planned = tuple[Cell, RunFolder]


@dataclass(frozen=True)
class Study:
    """A study with the cell and the folder of each run, those with the most FLOPs first.

    `records` is a file whose records count as done, and to which those of new runs are added.

    The order depends only on the study file and the shape of the data, not on what is finished: the
    number of a cell is the same for all tasks of an array job, and in later calls.
    """

    name: str
    runs: list[Planned]
    fit: dict[str, Any]
    records: Path | None = None

    def missing(self) -> list[Planned]:
        """Cells with at least one run that is not finished."""
        return [planned for planned in self.runs if not is_finished(*planned)]

    def run_names(self) -> list[str]:
        """All run folders of the study."""
        return [name for cell, _ in self.runs for name in cell.run_names]


def is_finished(cell: Cell, run: RunFolder) -> bool:
    """Whether all runs of a cell are finished."""
    return cell.n_finished(run.path.parent) == len(cell.run_names)


def plan_study(path: Path, overrides: Iterable[str] = ()) -> Study:
    """Read a study file and find the folder of each of its runs.

    Args:
        path: Study file.
        overrides: `tokens=[...]`, `seeds=[...]` or `name=...` in place of the file's; other keys
            go to all cells, after the study's own.

    Raises:
        ValueError: If the study file is invalid, or two cells would have the same name.
        FileNotFoundError: If a size file or the data are missing.
    """
    path = find_config(path)
    study, cell_overrides = read_study(path, overrides)
    study["name"] = str(study.get("name", path.stem))
    cells = _plan_cells(path, study, cell_overrides)
    runs = sorted(cells, key=lambda planned: -planned[0].flops_train)
    records = path.parent / str(study["records"]) if "records" in study else None
    planned = Study(study["name"], runs, study["fit"], records)
    names = planned.run_names()
    for repeated in [n for n in names if names.count(n) > 1][:1]:
        raise ConfigError(
            f"two cells of {path} are named {repeated}; give one size another name, or remove the "
            "duplicate"
        )
    return planned


def write_plan(study: Study, seconds_estimated: dict[str, Any] | None = None) -> Path:
    """Write plan.json, which lists the folders of the study, and the settings for its fit.

    Args:
        study: The study.
        seconds_estimated: How long it will take; None keeps the estimate of the previous plan.
    """
    path = RUNS / study.name / "plan.json"
    seconds_estimated = seconds_estimated or _seconds_estimated_before(path)
    plan = {
        "study": study.name,
        "runs": study.run_names(),
        "cells": [asdict(cell) for cell, _ in study.runs],
        **({"seconds_estimated": seconds_estimated} if seconds_estimated else {}),
    }
    write_json(path, plan)
    write_fit(path.parent, study.fit)
    return path


def write_fit(folder: Path, fit: dict[str, Any]) -> None:
    """Write the section `fit` of a study file to the study's folder, where the fit reads it."""
    write_json(folder / FILE_NAME, fit, indent=None)


def _seconds_estimated_before(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path).get("seconds_estimated")
    except (OSError, ValueError, AttributeError):
        return None  # no plan yet, or a damaged one, which is rewritten


def _plan_cells(path: Path, study: dict[str, Any], last: list[str]) -> Iterator[Planned]:
    """A cell for each size, budget and seed, and for each learning rate if they are swept.

    Args:
        path: Study file.
        study: Its checked content.
        last: Overrides that come after those of a size, from the command line.
    """
    rule = read_rule(path, study)
    shared = {"study": study["name"], **(study.get("overrides") or {})}
    for size in study["sizes"]:
        config_path = size_file(path, str(size["config"]))
        size_name = str(size.get("name", size["config"]))
        keys = {k: v for k, v in size.items() if k not in OF_A_SIZE}
        rates = size.get("learning_rates", [None])
        for tokens, seed, rate in product(size["tokens"], size["seeds"], rates):
            name = f"{size_name}_t{short_count(tokens)}_s{seed}"
            own = keys | {"size": size_name, "budget.tokens": tokens, "training.seed": seed}
            if rate is not None:
                own["training.learning_rate"] = rate
                name += f"_lr{rate:.1e}"
            overrides = list(starmap(format_override, [*shared.items(), *own.items()]))
            if rule and "training.learning_rate" not in own:
                config = resolve_config(config_path, [*overrides, *last])
                # the rule uses the parameter count without vocabulary and positions
                shape = _shape(config, vocab_size=1, block_length=1)
                n_params = count_parameters(shape).non_embedding
                ruled = learning_rate_by_rule(rule, config["model"]["model_type"], n_params)
                overrides.append(format_override("training.learning_rate", ruled))
            yield _plan_cell(config_path, name, [*overrides, *last, "training.disable_tqdm=true"])


def _plan_cell(config_path: Path, name: str, overrides: list[str]) -> Planned:
    """The cell of this name, or of the next free one."""
    config = resolve_config(config_path, [*overrides, f"name={name}"])
    data = locate_data(config)
    run = choose_run_folder(config, data)
    plan = plan_run(config, data.block_length, data.n_blocks)
    shape = _shape(config, data.vocab_size, data.block_length)
    flops_per_token = train_flops_per_token(shape)
    branches = []
    for branch in plan.branches:
        name = choose_run_folder(branch_config(run.config, branch.tokens), data).path.name
        n_shared = branch.decay_start * branch.targets_per_step
        flops = float(flops_per_token * branch.n_tokens)
        branches.append(CellBranch(name, branch.n_tokens, n_shared, flops))
    overrides = [*overrides, f"name={run.path.name}"]
    flops = float(flops_per_token * plan.n_tokens)
    return Cell(run.path.name, str(config_path), overrides, plan.n_tokens, flops, branches), run


def size_file(study: Path, name: str) -> Path:
    """The size file that a study names: next to it, or in the folder above that of the studies."""
    beside, above = study.parent / f"{name}.yaml", study.parent.parent / f"{name}.yaml"
    return above if above.is_file() and not beside.is_file() else beside


def _shape(config: dict[str, Any], vocab_size: int, block_length: int) -> ModelShape:
    family, layer_parameters = family_of(config["model"]["model_type"]), None
    model = family.config_keys(config["model"])
    if family.layer_parameters is None:
        from ..model import plan_layer_parameters  # heavy: only where there is no formula

        layer_parameters = plan_layer_parameters(config)
    return ModelShape(
        **{k: model[k] for k in ("model_type", "hidden_size", "num_hidden_layers")},
        vocab_size=vocab_size,
        max_position_embeddings=block_length,
        intermediate_size=model.get("intermediate_size"),
        layer_parameters=layer_parameters,
    )
