"""The file of a study: read, overridden from the command line, checked."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scaling.fit_options import check_fit

from ..config import find_config, parse_override, read_yaml
from ..config_checks import ConfigError, nearest

BASE_FIELDS = ("overrides", "fit")
PER_CELL = {"budget.tokens": "tokens", "training.seed": "seeds"}
NUMBERS = {"tokens": 1, "seeds": 0}  # the minimum of each; a size may have its own
STUDY_FIELDS = ("name", "base", *BASE_FIELDS, "sizes", *NUMBERS, "learning_rate_rule", "records")
OF_A_SIZE = ("config", "name", *NUMBERS, "learning_rates")  # keys that are not dotted


def read_study(path: Path, overrides: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """The checked study file, and the overrides for its cells.

    Args:
        path: Study file.
        overrides: `key=value`; a key of the study file replaces its value there.

    Raises:
        ConfigError: If a key is unknown or has an impossible value.
        FileNotFoundError: If there is no such file.
    """
    study = _on_its_base(path, read_yaml(path))
    replaced, cell_overrides = {}, []
    for text in overrides:
        key, value = parse_override(text)
        if key in PER_CELL:
            raise ConfigError(
                f"{text!r} would be the same in all cells; write {PER_CELL[key]}=[...]"
            )
        if key in STUDY_FIELDS:
            replaced[key] = value
        else:
            cell_overrides.append(text)
    study |= replaced
    for key in study:
        if key not in STUDY_FIELDS:
            raise ConfigError(f"unknown key {key} in {path}; {nearest(key, STUDY_FIELDS)}")
    for key in ("sizes", *NUMBERS):
        _check_list(path, key, study.get(key))
    _check_overrides(path, study)
    study["fit"] = check_fit(study.get("fit"), str(path))
    for size in study["sizes"]:
        if not isinstance(size, dict) or "config" not in size:
            raise ConfigError(f"size {size!r} in {path} has no config; write {{config: gpt_tiny}}")
    numbers = {key: study[key] for key in NUMBERS}
    last = {key: own for key, own in numbers.items() if key in replaced}
    study["sizes"] = [{**numbers, **size, **last} for size in study["sizes"]]
    _check_numbers(path, study)
    return study, cell_overrides


def _on_its_base(path: Path, study: dict[str, Any]) -> dict[str, Any]:
    """The study merged over its base, so that what studies share is written once."""
    if "base" not in study:
        return study
    base_path = find_config(path.parent / str(study["base"]))
    base = read_yaml(base_path)
    if not base.keys() <= set(BASE_FIELDS):
        raise ConfigError(
            f"{base_path}, the base of {path}, contains {', '.join(sorted(base))}; expected only "
            f"{' and '.join(BASE_FIELDS)}"
        )
    for where, content in ((base_path, base), (path, study)):
        _check_overrides(where, content)
    both = {**(base.get("overrides") or {}), **(study.get("overrides") or {})}
    return {**base, **study, "overrides": both}


def _check_overrides(path: Path, study: dict[str, Any]) -> None:
    shared = study.get("overrides") or {}
    if not isinstance(shared, dict):
        raise ConfigError(f"overrides is {shared!r} in {path}, expected dotted keys with values")


def read_rule(path: Path, study: dict[str, Any]) -> dict[str, Any]:
    """The file named by learning_rate_rule, relative to the study file; {} without the key.

    It is written by `scaling.learning_rates`, from a sweep.

    Raises:
        ConfigError: If it is not such a file.
        FileNotFoundError: If it is missing.
    """
    if "learning_rate_rule" not in study:
        return {}
    rule_file = path.parent / str(study["learning_rate_rule"])
    if not rule_file.is_file():
        raise FileNotFoundError(
            f"{rule_file}, the learning_rate_rule of {path}, not found; make it with `make sweep`"
        )
    try:
        families = json.loads(rule_file.read_text(encoding="utf-8"))["families"]
        return {
            name: {k: float(of["rule"][k]) for k in ("c", "g")} for name, of in families.items()
        }
    except (ValueError, KeyError, TypeError) as err:
        raise ConfigError(
            f"{rule_file} contains no learning rate rule ({err!r}); make it with `make sweep`"
        ) from None


def learning_rate_by_rule(rule: dict[str, dict[str, float]], family: str, n_params: int) -> float:
    """The learning rate of one family at one size, to three digits.

    Args:
        rule: From `read_rule`.
        family: A model_type.
        n_params: Non-embedding parameters.

    Raises:
        ConfigError: If the rule has no such family.
    """
    if family not in rule:
        raise ConfigError(
            f"the learning_rate_rule covers {', '.join(sorted(rule))}, not {family}; give its "
            "sizes training.learning_rate"
        )
    return float(f"{math.exp(rule[family]['c']) * n_params ** -rule[family]['g']:.2e}")


def _check_list(path: Path, key: str, found: object) -> None:
    if not isinstance(found, list) or not found:
        raise ConfigError(f"{key} is {found!r} in {path}, expected a list of at least one")


def _check_numbers(path: Path, study: dict[str, Any]) -> None:
    """Check tokens, seeds and learning rates of the sizes."""
    for size in study["sizes"]:
        rates = size.get("learning_rates", [1.0])
        is_list = isinstance(rates, list) and rates
        if not is_list or not all(isinstance(rate, float) and rate > 0 for rate in rates):
            raise ConfigError(
                f"learning_rates is {rates!r} in {path}, expected a list of numbers above 0, "
                "written as 1.0e-3"
            )
        for key, least in NUMBERS.items():
            _check_list(path, key, size[key])
            for number in size[key]:
                # true is 1 in Python
                if not isinstance(number, int) or isinstance(number, bool) or number < least:
                    raise ConfigError(
                        f"{key} in {path} contain {number!r}, expected whole numbers of {least} "
                        "or more"
                    )
