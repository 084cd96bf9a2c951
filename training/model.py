"""The model that a run starts from, and the trained one as a folder."""

import shutil
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, set_seed

import modeling

from .blocks import TrainingData
from .pretrained import load_pretrained


def build_model(config: dict[str, Any], data: TrainingData) -> PreTrainedModel:
    """Initialise the model of a config, or load the one to fine-tune; one seed, one model.

    Raises:
        ValueError: If the blocks are longer than the model's positions, or the shape is impossible;
            if the model to fine-tune does not fit the data.
        FileNotFoundError: If the model to fine-tune is not there.
    """
    if "pretrained" in config["model"]:
        return load_pretrained(config, data.files, data.tokenizer)
    shape = model_shape(config, data.files.block_length)
    tokenizer = data.tokenizer
    special_ids = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")
    }
    set_seed(config["training"]["seed"])
    model_config = AutoConfig.for_model(**shape, vocab_size=len(tokenizer), **special_ids)
    return AutoModelForCausalLM.from_config(model_config)


def model_shape(config: dict[str, Any], block_length: int) -> dict[str, Any]:
    """The section model, with the GPT's positions filled in from the blocks.

    Raises:
        ValueError: If the blocks are longer than the positions.
    """
    shape = dict(config["model"])
    if shape["model_type"] == "abc_gpt":
        positions = shape.setdefault("max_position_embeddings", block_length)
        if block_length > positions:
            raise ValueError(
                f"blocks of {block_length:,} tokens, but model.max_position_embeddings is "
                f"{positions:,}; raise it, or make blocks with block_length <= {positions}"
            )
    return shape


def save_model(model: PreTrainedModel, data: TrainingData, folder: Path) -> None:
    """Write model, tokenizer and the code they need; the folder appears whole or not at all."""
    temporary = folder.with_name(f".{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    model.config.use_cache = (
        True  # the Trainer switches it off, and it would stay off in config.json
    )
    # The pipeline saves model and tokenizer, and beside them its own code.
    modeling.AbcMusicPipeline(model, data.tokenizer, device=model.device).save_pretrained(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
