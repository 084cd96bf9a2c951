"""Stage 5 for fine-tuning: the tokenizer and context length of a trained model.

A model reads only its own tokens. So a preset says `tokens: {tokenizer: model}`, and the model is
given on the command line; its tokenizer and context length replace the settings.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .dialect.notation import FILL_IN_TOKENS
from .settings import DataSettings
from .storage.explain import explain
from .storage.stages import sha256_of
from .tokens.tokenizers import OF_MODEL, SPECIAL_TOKENS

PIPELINE = "abc-music"  # named by the config.json of every model of this project
LONGEST_CONTEXT = 2**20  # a tokenizer without a context length reports 10^30
_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")


def take_from_model(settings: DataSettings, model: str | None) -> DataSettings:
    """Fills in the tokenizer and block length of a preset that leaves them to a model.

    Passages to fill in are left out where the model has no tokens for them.

    Args:
        settings: The data preset.
        model: Folder of a run, folder of a model, or a name on the Hub; None for none.

    Returns:
        The settings; of the model they record the digest of its tokenizer.json, and no path.

    Raises:
        FileNotFoundError: If there is no such model, or one of its files is missing.
        ValueError: If the preset needs a model and none is given, or the other way round; or if the
            model is not from this project.
    """
    wanted = settings.tokens.tokenizer == OF_MODEL
    if wanted and not model:
        raise ValueError(
            "the preset uses the tokenizer of a model, but no model is given; add --model <folder "
            "or Hub name>, or use a preset with its own tokenizer, e.g. configs/data/char.yaml"
        )
    if not model:
        return settings
    if not wanted:
        found = settings.tokens.tokenizer
        raise ValueError(
            f"--model {model}, but the preset makes its own tokenizer ({found}); expected "
            "tokens: {tokenizer: model} in it, as in configs/data/finetune.yaml"
        )
    folder = _model_folder(model)
    content = {name: _read(folder / name) for name in _FILES}
    if PIPELINE not in (content["config.json"].get("custom_pipelines") or {}):
        model_type = content["config.json"].get("model_type")
        raise ValueError(
            f"{model} is a model of type {model_type!r} that is not from this project: its "
            f"config.json does not name the pipeline {PIPELINE}; use a model that train.py wrote"
        )
    added = {token["content"] for token in content["tokenizer.json"].get("added_tokens", [])}
    added |= content["tokenizer.json"].get("model", {}).get("vocab", {}).keys()
    if missing := [token for token in SPECIAL_TOKENS if token not in added]:
        raise ValueError(
            f"the tokenizer of {model} has no {', '.join(missing)}; expected one of this project"
        )
    positions = content["config.json"].get("max_position_embeddings")
    context = positions or content["tokenizer_config.json"].get("model_max_length") or 0
    if not 2 <= context <= LONGEST_CONTEXT:
        raise ValueError(
            f"{model} has no context length: max_position_embeddings {positions}, "
            f"model_max_length {context}; set model_max_length in its tokenizer_config.json"
        )
    digest = sha256_of(folder / "tokenizer.json")
    knows_marks = added.issuperset(FILL_IN_TOKENS)
    return replace(
        settings,
        fill_in=settings.fill_in if knows_marks else replace(settings.fill_in, share=0.0),
        tokens=replace(settings.tokens, tokenizer_sha256=digest, folder=folder),
        blocks=replace(settings.blocks, block_length=int(context)),
    )


def unknown_tokens(splits: Iterable[dict[str, Any]]) -> str:
    """Returns a warning with the share of unknown tokens; "" if there are none.

    Args:
        splits: Counts per split, from the stage.json of 5_tokens.
    """
    counts = list(splits)
    unknown, total = (sum(split[name] for split in counts) for name in ("n_unknown", "n_tokens"))
    if not unknown:
        return ""
    return (
        f"warning: {unknown:,} of {total:,} tokens ({unknown / total:.2%}) are characters that the "
        "tokenizer does not have; the model reads and learns <unk> in their place"
    )


def _model_folder(model: str) -> Path:
    """Returns the folder with the small files of a model, downloaded if it is on the Hub."""
    path = Path(model)
    for folder in (path / "checkpoint", path):
        if (folder / "config.json").is_file():
            return folder
    # user/name may be on the Hub, unless a folder `user` exists
    if path.exists() or len(path.parts) != 2 or path.is_absolute() or path.parent.exists():
        found = "contains no finished model" if path.exists() else "does not exist"
        raise FileNotFoundError(
            f"{model} {found}; expected a finished run such as runs/single/gpt_tiny, a folder with "
            "config.json, or user/name on the Hub"
        )
    import huggingface_hub  # here, because it is slow to import and not needed for a folder
    from huggingface_hub.errors import HTTPError

    try:
        return Path(huggingface_hub.snapshot_download(model, allow_patterns=list(_FILES)))
    except (HTTPError, ValueError, RuntimeError, OSError) as error:
        raise FileNotFoundError(
            f"{model} is not a local folder, and the Hub request failed: {explain(error)}"
        ) from error


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{file} not found: model and tokenizer must share a folder; save the tokenizer there"
        ) from None
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}") from None
