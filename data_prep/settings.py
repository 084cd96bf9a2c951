"""The settings of a data preset, configs/data/*.yaml: one section per topic."""

import difflib
import logging
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from .selection.clean import CleanSettings
from .selection.duplicates import DuplicateSettings
from .selection.filter_tunes import FilterSettings
from .selection.split import SplitSettings
from .tokens.augment import AugmentSettings
from .tokens.blocks import BlockSettings
from .tokens.fill_in import FillInSettings
from .tokens.tokenizers import TokenSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSettings:
    """All settings of a data preset, with the sections of configs/data/*.yaml."""

    clean: CleanSettings = field(default_factory=CleanSettings)
    duplicates: DuplicateSettings = field(default_factory=DuplicateSettings)
    filter: FilterSettings = field(default_factory=FilterSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    fill_in: FillInSettings = field(default_factory=FillInSettings)
    tokens: TokenSettings = field(default_factory=TokenSettings)
    blocks: BlockSettings = field(default_factory=BlockSettings)


def load_settings(path: Path) -> DataSettings:
    """Reads a data preset.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: For an unknown key, naming the nearest known one; and for settings that exclude
            each other.
    """
    path = find_preset(path)
    if not path.exists():
        presets = ", ".join(str(p) for p in sorted(path.parent.glob("*.yaml"))) or "none"
        raise FileNotFoundError(f"{path} does not exist; data presets there: {presets}")
    try:
        content = yaml.safe_load(path.read_text("utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    sections = {section.name: section.default_factory for section in fields(DataSettings)}
    _check(content, sections, str(path))
    built = {}
    for name, make in sections.items():
        values = content.get(name) or {}
        _check(values, asdict(make()), f"{path}, section {name}")
        try:
            built[name] = type(make())(**values)
        except ValueError as error:
            raise ValueError(f"{path}, section {name}: {error}") from None
    settings = DataSettings(**built)
    if settings.clean.strip_directives and settings.augment.copies:
        raise ValueError(
            f"{path}: clean.strip_directives and augment.copies; expected only one of them, since "
            "without %%MIDI lines drums cannot be told from pitches and would be transposed"
        )
    if settings.fill_in.share and (settings.clean.strip_directives or settings.blocks.separator):
        raise ValueError(
            f"{path}: fill_in.share needs whole headers and songs that end, expected no "
            "clean.strip_directives and no blocks.separator"
        )
    return settings


def find_preset(path: Path) -> Path:
    """Returns the path itself, or `configs/data/char.yaml` for `configs/data_char.yaml`."""
    now = path.parent / "data" / path.name.removeprefix("data_")
    if path.exists() or not now.exists():
        return path
    logger.warning("%s is now %s", path, now)
    return now


def _check(found: Any, defaults: dict[str, Any], where: str) -> None:
    """Rejects unknown keys and, where the default is a value, types other than the default's."""
    if not isinstance(found, dict):
        raise ValueError(f"{where}: found {found!r}, expected keys {', '.join(defaults)}")
    for key in found:
        if key not in defaults:
            near = difflib.get_close_matches(str(key), defaults, 1, 0) or ["none"]
            raise ValueError(f"{where}: unknown key {key!r}; the nearest known key is {near[0]!r}")
    for key, value in found.items():
        kind = type(defaults[key])
        fits = type(value) is kind or (kind is float and type(value) is int)
        if not fits and not callable(defaults[key]):
            raise ValueError(f"{where}: {key} is {value!r}, expected {kind.__name__}")
