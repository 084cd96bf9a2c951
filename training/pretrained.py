"""Fine-tuning: start from a trained model, with all weights or with a LoRA adapter.

Shape and tokenizer are those of the checkpoint, and the data must be made with that tokenizer. A
LoRA run trains small matrices next to the frozen weights; at the end they are saved as an adapter
and merged into the weights, so the model in checkpoint/ is like any other.
"""

import hashlib
import json
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.families import family_of
from scaling.writing.commands import first_line

from .data.data_files import DataFiles

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WEIGHTS = "model.safetensors"
ALL_LAYERS = {"target_modules": "all-linear"}  # which excludes the head, also the embedding
CLEARLY = 0.005  # share of the loss; less is noise of a small validation split


def find_pretrained(model: str) -> str:
    """The folder or name to pass to `from_pretrained`.

    Args:
        model: Folder of a run, folder of a model, or a name on the Hub.

    Raises:
        FileNotFoundError: If a local path contains no model.
    """
    path = Path(model)
    for folder in (path / "checkpoint", path):
        if (folder / "config.json").is_file():
            for name in (WEIGHTS, "tokenizer.json"):
                if not (folder / name).is_file():
                    raise FileNotFoundError(
                        f"{folder / name} not found, but fine-tuning needs it; give the folder of "
                        "a finished run"
                    )
            return str(folder)
    # user/name may be on the Hub, unless there is a local folder user
    if path.exists() or len(path.parts) != 2 or path.is_absolute() or path.parent.exists():
        found = "holds no finished model" if path.exists() else "does not exist"
        raise FileNotFoundError(
            f"{model} {found}; expected a finished run such as runs/single/gpt_tiny, a folder with "
            "config.json, or user/name on the Hub"
        )
    return model


def weights_digest(model: str) -> str:
    """SHA-256 of a model's weights file, which is downloaded if it is on the Hub.

    Raises:
        FileNotFoundError: If there is no such model.
    """
    from transformers.utils import cached_file  # heavy

    place = find_pretrained(model)
    try:
        path = cached_file(place, WEIGHTS)
    except (OSError, ValueError) as err:
        raise FileNotFoundError(_missing(model, err)) from err
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_pretrained(
    config: dict[str, Any], files: DataFiles, tokenizer: "PreTrainedTokenizerBase"
) -> "PreTrainedModel":
    """The model that a config starts from, in full precision; with an adapter if `lora` is set.

    Code that came with the model is never run.

    Args:
        config: The run's config.
        files: The data.
        tokenizer: That of the data.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If its family is not one of this project, or the data were not made for it.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed

    import modeling  # noqa: F401  (registers our own families)

    model_name = config["model"]["pretrained"]
    place = find_pretrained(model_name)
    try:
        shape = AutoConfig.from_pretrained(place, trust_remote_code=False)
        own_tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError) as err:
        raise FileNotFoundError(_missing(model_name, err)) from err
    try:
        family_of(shape.model_type)
    except ValueError as err:
        raise ValueError(f"{model_name}: {err}") from None
    advice = f"make the data with: make finetune MODEL={model_name} MUSIC=<folder>"
    if _merges_and_vocabulary(own_tokenizer) != _merges_and_vocabulary(tokenizer):
        raise ValueError(
            f"the data in {files.folder} have a different tokenizer than {model_name}; {advice}"
        )
    positions = getattr(shape, "max_position_embeddings", files.block_length)
    if files.block_length > positions:
        raise ValueError(
            f"blocks of {files.block_length:,} tokens in {files.folder}, but {model_name} has a "
            f"context of {positions:,}; {advice}"
        )
    model = AutoModelForCausalLM.from_pretrained(
        place, trust_remote_code=False, dtype=torch.float32
    )
    set_seed(config["training"]["seed"])
    return add_adapter(model, config["lora"]) if "lora" in config else model


def add_adapter(model: "PreTrainedModel", lora: dict[str, Any]) -> "PreTrainedModel":
    """Freeze a model and attach a LoRA adapter to all weights of its layers.

    Args:
        model: Of any family.
        lora: Keys of peft's LoraConfig.

    Returns:
        A PeftModel; before training, its outputs equal those of the model.

    Raises:
        ValueError: If the family does not support such an adapter.
    """
    from peft import LoraConfig, get_peft_model

    targets = model.lora_targets() if hasattr(model, "lora_targets") else ALL_LAYERS
    if targets != ALL_LAYERS and lora.get("lora_dropout"):
        label = family_of(model.config.model_type).label
        raise ValueError(
            f"lora.lora_dropout is {lora['lora_dropout']}, but an {label}'s weights are adapted "
            "directly, so there is no input to drop; set lora.lora_dropout=0"
        )
    with warnings.catch_warnings():
        # peft uses a deprecated name of transformers
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(model, LoraConfig(**targets, **lora, task_type="CAUSAL_LM"))


def merge_adapter(model: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
    """Save the adapter of a model, then merge it into the weights; return other models unchanged.

    Args:
        model: As returned by `load_pretrained`, trained.
        folder: Where to save the adapter, for PeftModel.from_pretrained.
    """
    if not hasattr(model, "merge_and_unload"):
        return model
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # an unfilled model card
    return model.merge_and_unload(safe_merge=True)


def overfitting(config: dict[str, Any], validation_log: list[tuple[int, float]]) -> str:
    """Advice if the validation loss was clearly lower before the end; "" otherwise.

    Args:
        config: Config of a fine-tuned run.
        validation_log: (step, loss in nats per token), in order.
    """
    best_step, best = min(validation_log, key=lambda entry: entry[1])
    last_step, last = validation_log[-1]
    if last < (1 + CLEARLY) * best:
        return ""
    if not best_step:
        return (
            f"the validation loss was {best:.4f} before, and is {last:.4f} now: the model lost "
            "more than it learned; lower training.learning_rate, or use more music"
        )
    epochs = config["budget"]["epochs"] * best_step / last_step
    return (
        f"the validation loss was lowest at step {best_step} of {last_step}, {best:.4f}: since "
        f"then the model memorizes these songs; try budget.epochs={epochs:.2g}"
    )


def _merges_and_vocabulary(tokenizer: "PreTrainedTokenizerBase") -> Any:
    return json.loads(tokenizer.backend_tokenizer.to_str())["model"]


def _missing(model: str, error: Exception) -> str:
    return f"{model} is not a local folder, and loading it from the Hub failed: {first_line(error)}"
