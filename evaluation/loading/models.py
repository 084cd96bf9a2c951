"""Finds trained models, and loads them for scoring, sampling or publishing."""

from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

import modeling  # noqa: F401  registers its families with the Auto classes
from data_prep.storage.stages import sha256_of
from modeling.pipeline_abc_music import AbcMusicPipeline
from scaling.writing.files import read_csv


def find_model(model: str) -> str:
    """Returns a model name or path for `from_pretrained`.

    Args:
        model: A study's folder (then its run with the lowest validation loss), a run's folder, a
            model folder, or the name of a model on the Hub.

    Raises:
        FileNotFoundError: If a local path contains no finished model.
    """
    folder = Path(model)
    if (folder / "runs.csv").is_file():
        best = min(read_csv(folder / "runs.csv"), key=lambda row: float(row["loss"]))
        folder = folder / best["run"]
    if (folder / "checkpoint").is_dir():
        folder = folder / "checkpoint"
    if (folder / "config.json").is_file():
        return str(folder)
    is_ours = folder.parts[:1] in (("runs",), ("pretrained",))  # and no user of the Hub
    if folder.exists() or is_ours or len(folder.parts) > 2:
        found = "holds no model" if folder.exists() else "does not exist"
        raise FileNotFoundError(
            f"{folder} {found}; expected a finished run such as runs/single/gpt_tiny, a folder "
            "with config.json, or a name on the Hub; train with: make train CONFIG=..."
        )
    return model


def load_model(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads model and tokenizer without running any code that came with them."""
    model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=False)
    if torch.accelerator.is_available():
        model = model.to(torch.accelerator.current_accelerator())
    return model.eval(), load_tokenizer(name)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Loads a model's tokenizer, without the model."""
    return AutoTokenizer.from_pretrained(name, trust_remote_code=False)


def load_writer(name: str) -> AbcMusicPipeline:
    """Loads a model as the pipeline that writes tunes."""
    model, tokenizer = load_model(name)
    return AbcMusicPipeline(model=model, tokenizer=tokenizer, device=model.device)


def weights_digest(name: str) -> str | None:
    """SHA-256 of a local model's weights; None for a model on the Hub."""
    weights = Path(name) / "model.safetensors"
    return sha256_of(weights) if weights.exists() else None
