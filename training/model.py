"""Build the model that a run starts from, and save the trained one as a folder."""

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, set_seed

import modeling
from scaling.families import family_of

from .data.blocks import TrainingData
from .pretrained import load_pretrained


def build_model(config: dict[str, Any], data: TrainingData) -> PreTrainedModel:
    """Initialize the model of a config, or load the one to fine-tune; one seed, one model.

    Raises:
        ValueError: If the blocks are longer than the model's positions, or the shape is impossible;
            if the model to fine-tune does not fit the data.
        FileNotFoundError: If the model to fine-tune is missing.
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
    """The section model as keywords of its config class, with the context set by the blocks.

    Raises:
        ValueError: If the blocks are longer than the positions.
    """
    family = family_of(config["model"]["model_type"])
    shape = family.config_keys(config["model"])
    if family.context == "attention":
        positions = shape.setdefault("max_position_embeddings", block_length)
        if block_length > positions:
            raise ValueError(
                f"blocks of {block_length:,} tokens, but model.max_position_embeddings is "
                f"{positions:,}; raise it, or make blocks with block_length <= {positions}"
            )
    return shape


def count_layer_parameters(model: PreTrainedModel) -> tuple[int, int]:
    """Number of weights in matrices and in vectors, without embeddings, positions and head."""
    tables = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    left_out = {id(weights) for table in tables for weights in table.parameters()}
    left_out |= {id(weights) for weights in model.get_output_embeddings().parameters()}
    layers = [weights for weights in model.parameters() if id(weights) not in left_out]
    in_matrices = sum(weights.numel() for weights in layers if weights.ndim > 1)
    return in_matrices, sum(weights.numel() for weights in layers) - in_matrices


def plan_layer_parameters(config: dict[str, Any]) -> tuple[int, int]:
    """`count_layer_parameters` of a config; on the meta device, so a large model costs nothing."""
    with torch.device("meta"):
        shape = model_shape(config, block_length=1)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape))
    return count_layer_parameters(model)


def save_model(model: PreTrainedModel, data: TrainingData, folder: Path) -> None:
    """Write model, tokenizer and the code they need; the folder appears whole or not at all."""
    temporary = folder.with_name(f".{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    # the Trainer switches it off, and it would stay off in config.json
    model.config.use_cache = True
    # The pipeline saves model and tokenizer along with its own code.
    modeling.AbcMusicPipeline(model, data.tokenizer, device=model.device).save_pretrained(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
