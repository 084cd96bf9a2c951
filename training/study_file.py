"""The file of a study: read, overridden from the command line, checked."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .config import ConfigError, nearest, parse_override, read_yaml

STUDY_FIELDS = ("name", "overrides", "sizes", "tokens", "seeds")
PER_CELL = {"budget.tokens": "tokens", "training.seed": "seeds"}


def read_study(path: Path, overrides: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """The checked study file, and the overrides that are for its cells.

    Args:
        path: Study file.
        overrides: `key=value`; a key of the study file replaces what stands there.

    Raises:
        ConfigError: If a key is unknown or has an impossible value.
        FileNotFoundError: If there is no such file.
    """
    study = read_yaml(path)
    cell_overrides, is_for_all_sizes = [], False
    for text in overrides:
        key, value = parse_override(text)
        if key in PER_CELL:
            raise ConfigError(
                f"{text!r} would be the same in all cells; write {PER_CELL[key]}=[...]"
            )
        if key in STUDY_FIELDS:
            study[key] = value
            is_for_all_sizes = is_for_all_sizes or key == "seeds"
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
    if is_for_all_sizes:
        study["sizes"] = [_without_seeds(size) for size in study["sizes"]]
    _check_numbers(path, study)
    return study, cell_overrides


def seeds_of(size: Any, study: dict[str, Any]) -> Any:
    """The seeds of a size: its own, or the study's."""
    return size.get("seeds", study["seeds"]) if isinstance(size, dict) else study["seeds"]


def _check_numbers(path: Path, study: dict[str, Any]) -> None:
    """Hold tokens and seeds, also those of single sizes, against what they should be."""
    seeds = []
    for size in study["sizes"]:
        own = seeds_of(size, study)
        if not isinstance(own, list) or not own:
            raise ConfigError(f"seeds is {own!r} in {path}, expected a list of at least one")
        seeds += own
    for number in (*study["tokens"], *seeds):
        if not isinstance(number, int):
            raise ConfigError(f"tokens and seeds in {path} hold {number!r}, expected whole numbers")


def _without_seeds(size: Any) -> Any:
    return {k: v for k, v in size.items() if k != "seeds"} if isinstance(size, dict) else size
