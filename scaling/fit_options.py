"""A study's fit options: the section `fit` of its study file, copied beside runs.csv.

fit:
  objective: squares                              # one of OBJECTIVES
  columns: {train_seconds: train_cpu_seconds}     # our column -> column in runs.csv
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .runs_table import TableError, check_columns
from .writing.files import read_json

OBJECTIVES = ("huber_log", "squares")  # the first is the default
HUBER_DELTA = 1e-3  # where huber_log turns from quadratic to linear, in log loss
FIELDS = ("objective", "columns")
FILE_NAME = "fit.json"


@dataclass(frozen=True)
class Settings:
    """The user's choices. laws: names; bootstrap: number of refits; seed: seed of all draws.

    huber_delta: of the objective huber_log, in log loss.
    """

    laws: tuple[str, ...]
    objective: str
    bootstrap: int
    seed: int
    columns: dict[str, str]
    huber_delta: float = HUBER_DELTA


def check_fit(fit: Any, where: str) -> dict[str, Any]:
    """The section, checked; {} if there is none.

    Args:
        fit: Content of the section.
        where: Name of the file.

    Raises:
        TableError: On an unknown key, objective or column; names the nearest known one.
    """
    fit = fit or {}
    if not isinstance(fit, dict):
        raise TableError(f"fit is {fit!r} in {where}, expected a mapping of {', '.join(FIELDS)}")
    for key in fit:
        if key not in FIELDS:
            raise TableError(f"unknown key fit.{key} in {where}; {_nearest(key, FIELDS)}")
    objective = fit.get("objective", OBJECTIVES[0])
    if objective not in OBJECTIVES:
        nearest = _nearest(str(objective), OBJECTIVES)
        raise TableError(f"fit.objective is {objective!r} in {where}; {nearest}")
    columns = fit.get("columns", {})
    if not isinstance(columns, dict) or not all(isinstance(name, str) for name in columns.values()):
        raise TableError(
            f"fit.columns is {columns!r} in {where}, expected our column: column in runs.csv, "
            "e.g. {train_seconds: train_cpu_seconds}"
        )
    check_columns(columns, f"fit.columns in {where}")
    return fit


def read_fit(folder: Path) -> dict[str, Any]:
    """The fit options of the study in a folder; {} if there is no file.

    Raises:
        TableError: If the file is malformed.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return {}
    try:
        return check_fit(read_json(path), str(path))
    except ValueError as err:
        raise TableError(f"{path} is malformed ({err}); `make study` writes it again") from err


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"expected {' or '.join(known)}"
