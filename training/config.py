"""One YAML and `key=value` overrides -> the resolved config of a run.

A size file names its `base:` (one level only). Sections are model, data, budget and training, and
lora for fine-tuning; name, study and size are top-level keys. `resolve_config` merges and needs no
torch; `load_config` also checks all keys and types (`config_checks`).
"""

import difflib
import json
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from .config_checks import (
    FINETUNING,
    NAMES,
    SECTIONS,
    TOP_FIELDS,
    ConfigError,
    Flat,
    Origins,
    check_all,
    check_required,
)

logger = logging.getLogger(__name__)

_QUOTES = ("'", '"')
# prefix of an old file name in configs/ -> the file's folder now; size files have none
FOLDERS = {"study": "studies", "base": "bases"}


def load_config(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Resolve and check the config of one run.

    Args:
        path: Size file, or the config.yaml of an earlier run.
        overrides: `section.key=value` or `name=...`, `study=...`, `size=...`; values are YAML.

    Raises:
        ConfigError: On an unknown, missing or wrongly typed key; names it, its file and the nearest
            known key.
        FileNotFoundError: If the file or its base is missing.
    """
    flat, origins = _merge(path, overrides)
    check_all(flat, origins)
    return _nest(flat)


def resolve_config(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Merge like `load_config` but check only the required keys; fast, as it needs no torch."""
    return _nest(_merge(path, overrides)[0])


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        FileNotFoundError: If the file is missing; names the YAML files next to it.
        ConfigError: If the file is not valid YAML or not a mapping.
    """
    if not path.is_file():
        siblings = sorted(p.stem for p in path.parent.glob("*.yaml"))
        close = difflib.get_close_matches(path.stem, siblings, n=1)
        there = ", ".join(siblings[:30])
        advice = f"; {path.parent} contains {there}" if there else ""
        advice = f"; did you mean {path.parent / close[0]}.yaml?" if close else advice
        raise FileNotFoundError(f"config {path} not found{advice}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(err).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} is of type {type(content).__name__}, expected a mapping of sections"
        )
    return content


def find_config(path: Path) -> Path:
    """The path itself, or the new path of a file that has moved into a folder of `configs/`.

    `configs/study_demo.yaml` is now `configs/studies/demo.yaml`, and `configs/base.yaml` a base.
    """
    for kind, folder in FOLDERS.items():
        now = path.parent / folder / path.name.removeprefix(f"{kind}_")
        if path.name.startswith(kind) and not path.is_file() and now.is_file():
            logger.warning("%s is now %s", path, now)
            return now
    return path


def parse_override(text: str) -> tuple[str, Any]:
    """Split `training.seed=2` into the key and its value read as YAML.

    Names of folders and models are taken as they are unless they are in quotes: 2020 is text.

    Raises:
        ConfigError: If there is no `=`, or the value is not valid YAML.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"override {text!r} has no '='; write key=value, e.g. training.seed=2")
    if key in NAMES and value and value[0] not in _QUOTES:
        return key, value
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"override {text!r}: the value is not valid YAML; quote it") from None


def format_override(key: str, value: Any) -> str:
    """Write an override that `parse_override` reads back as the same value."""
    if key in NAMES and isinstance(value, str):
        is_plain = value and value[0] not in _QUOTES
        return f"{key}={value if is_plain else json.dumps(value)}"
    return f"{key}=" + yaml.safe_dump(value, default_flow_style=True, width=10**6).split("\n")[0]


def _merge(path: Path, overrides: Iterable[str]) -> tuple[Flat, Origins]:
    """Merge base, size file and overrides, where later values win; check the required keys.

    An override with the value null takes a key of the budget away.
    """
    path = find_config(path)
    size_file = read_yaml(path)
    layers = [(str(path), size_file)]
    if "base" in size_file:
        base_path = find_config(path.parent / str(size_file.pop("base")))
        base = read_yaml(base_path)
        if "base" in base:
            raise ConfigError(
                f"{base_path} is the base of {path} and names its own base; expected one level only"
            )
        layers.insert(0, (str(base_path), base))
    # the size file counts as the origin of these top-level defaults
    flat: Flat = {"name": path.stem, "study": "single", "size": path.stem, "data.root": "data"}
    origins: Origins = dict.fromkeys(flat, str(path))
    for origin, content in layers:
        for key, value in _flatten(content, origin).items():
            flat[key], origins[key] = value, origin
    for text in overrides:
        key, value = parse_override(text)
        if value is None and key.startswith("budget."):  # as if the base did not have it
            flat.pop(key, None)
            continue
        flat[key], origins[key] = value, f"override {text!r}"
    if "model.pretrained" in flat:
        for key, value in _names_of_finetuning(flat).items():
            if origins[key] == str(path) and key not in size_file:
                flat[key] = value
    check_required(flat, origins)
    return flat, origins


def _names_of_finetuning(flat: Flat) -> dict[str, str]:
    """The study, and a name that tells which model is fine-tuned on which dataset."""
    model = re.sub(r"/checkpoint/?$", "", str(flat["model.pretrained"])).rstrip("/")
    words = [model.rpartition("/")[2], str(flat.get("data.dataset"))]
    words += ["lora"] if any(key.startswith("lora.") for key in flat) else []
    name = re.sub(r"[^\w.+-]+", "_", "_".join(words)).lstrip(".+-")
    return {"study": FINETUNING, "name": name or FINETUNING}


def _flatten(content: Mapping[str, Any], origin: str) -> Flat:
    flat: Flat = {}
    for key, value in content.items():
        if key not in SECTIONS:
            flat[str(key)] = value
        elif isinstance(value, Mapping):
            flat.update({f"{key}.{name}": item for name, item in value.items()})
        elif value is not None:
            raise ConfigError(f"section {key} in {origin} is {value!r}, expected a mapping of keys")
    return flat


def _nest(flat: Flat) -> dict[str, Any]:
    nested: dict[str, Any] = {key: flat[key] for key in TOP_FIELDS if key in flat}
    for section in SECTIONS:
        start = f"{section}."
        nested[section] = {k.removeprefix(start): v for k, v in flat.items() if k.startswith(start)}
    if not nested["lora"]:
        del nested["lora"]
    return nested
