"""Fine-tuning: a trained model as the start, whole or with a LoRA adapter.

The shape is that of the checkpoint, and so is the tokenizer: the data must be made with it. A LoRA
run trains small matrices beside the frozen weights; in the end they are saved as an adapter, and
added to the weights, so that the model in checkpoint/ is one like any other.
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
CLEARLY = 0.005  # a share of the loss; less is noise of a small validation split


def find_pretrained(model: str) -> str:
    """What `from_pretrained` takes.

    Args:
        model: Folder of a run, folder of a model, or a name on the Hub.

    Raises:
        FileNotFoundError: If a local path holds no model.
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
    # user/name may be of the Hub, unless there is such a folder as user
    if path.exists() or len(path.parts) != 2 or path.is_absolute() or path.parent.exists():
        found = "holds no finished model" if path.exists() else "does not exist"
        raise FileNotFoundError(
            f"{model} {found}; expected a finished run such as runs/single/gpt_tiny, a folder with "
            "config.json, or user/name on the Hub"
        )
    return model


def weights_digest(model: str) -> str:
    """SHA-256 of a model's weights file, which is fetched if it is on the Hub.

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
    """The model that a config starts from, in full precision; with an adapter if it has `lora`.

    No code that came with the model is run.

    Args:
        config: Of the run.
        files: The data.
        tokenizer: Of the data.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If it is none of this project, or the data were not made for it.
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
    advice = f"make the data with: make finetune MODEL={model_name} MIDI=<folder>"
    if _merges_and_vocabulary(own_tokenizer) != _merges_and_vocabulary(tokenizer):
        raise ValueError(
            f"the data in {files.folder} have another tokenizer than {model_name}; {advice}"
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
    """Freeze a model and put a LoRA adapter on all weights of its layers.

    Args:
        model: Of any family.
        lora: Keys of peft's LoraConfig.

    Returns:
        A PeftModel; at first it gives what the model gave.

    Raises:
        ValueError: If the family cannot have such an adapter.
    """
    from peft import LoraConfig, get_peft_model

    family = family_of(model.config.model_type)
    if family.lora_parameters:
        if lora.get("lora_dropout"):
            raise ValueError(
                f"lora.lora_dropout is {lora['lora_dropout']}, but an {family.label}'s weights are "
                "adapted as weights, where no input can be dropped; set lora.lora_dropout=0"
            )
        layers = range(model.config.num_hidden_layers)
        names = [name.format(layer=i) for i in layers for name in family.lora_parameters]
        targets = {"target_modules": [], "target_parameters": names}
    else:
        # of all linear layers peft leaves out the head, which is the embedding as well
        targets = {"target_modules": list(family.lora_modules) or "all-linear"}
    with warnings.catch_warnings():
        # peft asks transformers by a name that is about to go
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(model, LoraConfig(**targets, **lora, task_type="CAUSAL_LM"))


def merge_adapter(model: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
    """Save the adapter of a model, then add it to the weights; other models stay as they are.

    Args:
        model: As `load_pretrained` returned it, trained.
        folder: Gets the adapter, as PeftModel.from_pretrained takes it.
    """
    if not hasattr(model, "merge_and_unload"):
        return model
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # a model card that nobody has filled in
    return model.merge_and_unload(safe_merge=True)


def overfitting(config: dict[str, Any], validation_log: list[tuple[int, float]]) -> str:
    """Advice where the validation loss was clearly lower before the end; "" where it was not.

    Args:
        config: Of a fine-tuned run.
        validation_log: (step, loss in nats a token), in order.
    """
    best_step, best = min(validation_log, key=lambda entry: entry[1])
    last_step, last = validation_log[-1]
    if last < (1 + CLEARLY) * best:
        return ""
    if not best_step:
        return (
            f"the validation loss was {best:.4f} before, and is {last:.4f} now: the model lost "
            "more than it learned; lower training.learning_rate, or give more music"
        )
    epochs = config["budget"]["epochs"] * best_step / last_step
    return (
        f"the validation loss was lowest at step {best_step} of {last_step}, {best:.4f}: since "
        f"then the model learns these songs by heart; try budget.epochs={epochs:.2g}"
    )


def _merges_and_vocabulary(tokenizer: "PreTrainedTokenizerBase") -> Any:
    return json.loads(tokenizer.backend_tokenizer.to_str())["model"]


def _missing(model: str, error: Exception) -> str:
    return f"{model} is no folder here, and the Hub did not give it: {first_line(error)}"
