"""What a config may contain: every key and type, checked against the classes that take them.

`model` is compared with the model's config class, `training` with TrainingArguments, the rest with
the tables below. An unknown key is an error, since a config class would silently accept any
keyword.

Fine-tuning has its own keys: `model.pretrained`, which determines the shape, `budget.epochs`, since
its data are given and small, and the optional section lora.
"""

import difflib
import importlib.util
import inspect
import re
import types
import typing
from collections.abc import Iterable
from enum import Enum
from typing import Any, ClassVar, Literal, Union

from scaling.families import family_of

SECTIONS = ("model", "data", "budget", "training", "lora")
# trunk is the run that a branch may start from; written into its saved config
TOP_FIELDS = {"name": str, "study": str, "size": str, "trunk": str}
# data.digest is written into the saved config: it ties the run to the blocks it was trained on
DATA_FIELDS = {
    **{"root": str, "dataset": str, "preset": str, "digest": str},
    **{"validation_every": int, "consecutive_blocks": int},
}
BUDGET_FIELDS = {
    **{"tokens": int, "global_batch_tokens": int},
    **{"decay_share": float, "branches": list},  # for the schedule warmup_stable_decay
    "spike_factor": float,
}
# model.digest is also written there: it ties the run to the weights it started from
PRETRAINED_FIELDS = {"pretrained": str, "digest": str}
EPOCH_FIELDS = {"epochs": float, "sequences_per_step": int, "spike_factor": float}
LORA_FIELDS = {"r": int, "lora_alpha": int, "lora_dropout": float}  # LoraConfig's own names
# Names of folders and models: they may look like numbers, or contain what YAML takes for its own.
NAMES = ("data.root", "data.dataset", "data.preset", "model.pretrained")
REQUIRED = {
    **{"data.dataset": str, "data.preset": str},
    **{"training.learning_rate": float, "training.per_device_train_batch_size": int},
    "training.seed": int,
}
REQUIRED_FROM_SCRATCH = {
    **{"model.model_type": str, "model.hidden_size": int, "model.num_hidden_layers": int},
    **{"budget.tokens": int, "budget.global_batch_tokens": int},
}
REQUIRED_FROM_PRETRAINED = {
    **{"model.pretrained": str},
    **{"budget.epochs": float, "budget.sequences_per_step": int},
}
FINETUNING = "finetune"  # the study of all fine-tuned runs, which are part of no scaling law
RANGES = {
    "data.validation_every": (lambda value: value >= 1, "1 or more"),
    "data.consecutive_blocks": (lambda value: value >= 1, "1 or more"),
    "budget.spike_factor": (lambda value: value > 1, "above 1"),
    "budget.epochs": (lambda value: value > 0, "above 0"),
    "lora.r": (lambda value: value >= 1, "1 or more"),
    "lora.lora_alpha": (lambda value: value >= 1, "1 or more"),
    "lora.lora_dropout": (lambda value: 0 <= value < 1, "0 or more, and below 1"),
}
TRACKER_PACKAGES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}
FROM_TOKENIZER = "comes from the tokenizer of the data preset"
FROM_BUDGET = "follows from the section budget"
FIXED_BY_LOADER = "is fixed: the block loader returns ready batches in the order set by the seed"
SET_BY_US = {
    **{f"model.{key}_token_id": FROM_TOKENIZER for key in ("pad", "bos", "eos")},
    "model.vocab_size": FROM_TOKENIZER,
    "model.use_cache": "is off in training and on in the saved checkpoint",
    "training.data_seed": "is training.seed: one seed sets weights and order",
    "training.output_dir": "follows from name and study",
    "training.gradient_accumulation_steps": FROM_BUDGET,
    "training.num_train_epochs": FROM_BUDGET,
    "training.remove_unused_columns": FIXED_BY_LOADER,
    "training.train_sampling_strategy": FIXED_BY_LOADER,
}

Flat = dict[str, Any]  # "training.seed" -> value; lists and nested mappings stay values
Origins = dict[str, str]  # "training.seed" -> the file or override that set it


class ConfigError(ValueError):
    """An invalid config; the message gives what was found, where, and what to do."""


def nearest(key: str, known: Iterable[str]) -> str:
    """Advice on an unknown key: the nearest known key, or the keys of its section."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if not close:  # the right name in the wrong section
        by_name = {name.rpartition(".")[2]: name for name in known}
        alike = difflib.get_close_matches(key.rpartition(".")[2], by_name, n=1)
        close = [by_name[name] for name in alike]
    section = key.partition(".")[0]
    options = sorted(k for k in known if k.partition(".")[0] == section) or sorted(known)
    return f"did you mean {close[0]}?" if close else f"known keys: {', '.join(options[:12])}"


def _known_fields(flat: Flat, origins: Origins) -> dict[str, Any]:
    """Dotted key -> type hint, for all keys that are valid for this model type."""
    from transformers import TrainingArguments  # heavy: only where keys are checked

    import modeling  # noqa: F401  (registers our own families)

    if "model.pretrained" in flat:
        sections = {"model": PRETRAINED_FIELDS, "budget": EPOCH_FIELDS, "lora": LORA_FIELDS}
    else:
        sections = {"model": _model_fields(flat, origins), "budget": BUDGET_FIELDS}
        sections["data"] = {**DATA_FIELDS, "unique_tokens": int}  # read only so many tokens
    training = typing.get_type_hints(TrainingArguments)
    sections = {"data": DATA_FIELDS, **sections, "training": training}
    dotted = {f"{section}.{k}": hint for section, of in sections.items() for k, hint in of.items()}
    return {**TOP_FIELDS, **{k: hint for k, hint in dotted.items() if k not in SET_BY_US}}


def _model_fields(flat: Flat, origins: Origins) -> dict[str, Any]:
    """The keys of the model's config class."""
    from transformers import CONFIG_MAPPING

    try:
        family = family_of(flat["model.model_type"])
    except ValueError as err:
        raise ConfigError(f"{origins['model.model_type']}: model.{err}") from None
    config_class = CONFIG_MAPPING[family.model_type]
    own = inspect.get_annotations(config_class, eval_str=True)
    # a class with other names, such as GPT-2's n_embd, also takes the usual ones
    own |= {name: own[theirs] for name, theirs in config_class.attribute_map.items()}
    own["dropout"] = own[family.dropout_keys[0]] if family.dropout_keys else float
    fields = {k: hint for k, hint in own.items() if typing.get_origin(hint) is not ClassVar}
    return {"model_type": str, **fields}


def check_required(flat: Flat, origins: Origins) -> None:
    """Check that what every run needs is present and of the right type."""
    is_finetuning = "model.pretrained" in flat
    if is_finetuning:
        _check_finetuning(flat, origins)
    more = REQUIRED_FROM_PRETRAINED if is_finetuning else REQUIRED_FROM_SCRATCH
    required = more | REQUIRED
    for key, hint in required.items():
        if key not in flat:
            others = flat.keys() - required.keys()
            if near := difflib.get_close_matches(key, others, n=1, cutoff=0.8):
                found = f"unknown key {near[0]} in {origins[near[0]]}"
                raise ConfigError(f"{found}; did you mean {key}?")
            origin = origins["size"]
            raise ConfigError(f"{key} is missing in {origin}; add it, or name a base that has it")
        if not _fits(flat[key], hint):
            raise ConfigError(_type_message(key, flat[key], hint, origins[key]))
        if hint is int and flat[key] < 1 and key != "training.seed":
            raise ConfigError(f"{key} is {flat[key]} in {origins[key]}, expected 1 or more")
    for key in [key for key in ("name", "study", "trunk") if key in flat]:
        value = flat[key]  # they become folder names
        if not isinstance(value, str) or not re.fullmatch(r"\w[\w.+-]*", value):
            raise ConfigError(f"{key} is {value!r}, expected a folder name; choose another one")


def _check_finetuning(flat: Flat, origins: Origins) -> None:
    """Check what only fine-tuning can get wrong."""
    if not flat["model.pretrained"]:
        raise ConfigError(
            "model.pretrained is not given; name the model to fine-tune, e.g. "
            "model.pretrained=runs/single/gpt_tiny"
        )
    for key in flat:
        if key.startswith("model.") and key.removeprefix("model.") not in PRETRAINED_FIELDS:
            found, shape = f"{key} in {origins[key]}", "the shape comes from model.pretrained"
            raise ConfigError(f"{found}: {shape}; remove it")
    if flat["study"] != FINETUNING:
        raise ConfigError(
            f"study is {flat['study']!r} in {origins['study']}, but fine-tuned runs are part of no "
            f"scaling law; expected {FINETUNING}"
        )
    if any(key.startswith("lora.") for key in flat) and not importlib.util.find_spec("peft"):
        raise ConfigError(
            "LoRA needs the package peft, which is not installed; install the project's extra "
            "[peft], or fine-tune all weights (omit LORA=1)"
        )


def check_all(flat: Flat, origins: Origins) -> None:
    """Check every key and type against the classes that will take them."""
    for key in flat:
        if key.startswith("lora.") and "model.pretrained" not in flat:
            raise ConfigError(
                f"{key} in {origins[key]}, but LoRA needs model.pretrained; remove it"
            )
        if key in SET_BY_US:
            raise ConfigError(f"{key} {SET_BY_US[key]}; remove it from {origins[key]}")
    for key, (is_right, expected) in RANGES.items():
        value = flat.get(key)
        if isinstance(value, int | float) and not is_right(value):
            raise ConfigError(f"{key} is {value} in {origins[key]}, expected {expected}")
    wanted = flat.get("training.report_to")
    for name in [wanted] if isinstance(wanted, str) else wanted or []:
        packages = TRACKER_PACKAGES.get(name)
        if packages and not any(map(importlib.util.find_spec, packages)):
            raise ConfigError(
                f"training.report_to names {name} in {origins['training.report_to']}, but the "
                f"package is not installed; pip install {name}, or remove it"
            )
    known = _known_fields(flat, origins)
    for key, value in flat.items():
        if key not in known:
            raise ConfigError(f"unknown key {key} in {origins[key]}; {nearest(key, known)}")
        if not _fits(value, known[key]):
            raise ConfigError(_type_message(key, value, known[key], origins[key]))


def _fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value matches a type hint."""
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if origin is Literal:
        return value in typing.get_args(hint)
    if hint is Any:
        return True
    if isinstance(value, bool):  # bool is an int in Python; 1 for true is still an error
        return hint is bool
    if hint is float:
        return isinstance(value, int | float)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return value in [member.value for member in hint]
    return isinstance(value, origin or hint)


def _type_message(key: str, value: Any, hint: Any, origin: str) -> str:
    expected = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
    message = f"{key} is {value!r} ({type(value).__name__}) in {origin}, expected {expected}"
    if isinstance(value, str) and (_fits(0.5, hint) or _fits(1, hint)):
        try:
            number = float(value)
        except ValueError:
            return message
        written = (
            re.sub(r"e([+-])0", r"e\1", f"{number:.1e}") if _fits(0.5, hint) else f"{number:_.0f}"
        )
        return f"{message}; YAML reads {value} as text, write {written}"
    if isinstance(value, bool) and _fits("no", hint):
        return f"{message}; YAML reads a bare yes or no as {value}, write it in quotes"
    if isinstance(value, int | float) and hint is str:
        return f"{message}; YAML reads it as a number, write it in quotes"
    if isinstance(value, float) and value.is_integer() and _fits(1, hint):
        return f"{message}; write {int(value):_}"
    return message
