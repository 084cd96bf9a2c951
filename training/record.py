"""record.json: the only source for the laws; written last, so a run that has it is finished."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, TrainingArguments

from scaling.counts import (
    ModelShape,
    count_parameters,
    flops_6nd,
    peak_flops,
    train_flops_per_token,
)

from .budget import RunPlan
from .data.blocks import TrainingData
from .model import count_layer_parameters, save_model
from .pretrained import merge_adapter
from .run.checkpoints import disk_full_in_one_line
from .run.run_folder import RunFolder, write_atomically
from .trainer import BudgetTrainer, mean_loss_at_end

PROJECT = Path(__file__).resolve().parent.parent
VERSIONS_OF = ("torch", "transformers", "accelerate", "tokenizers", "numpy")


def write_record(run: RunFolder, plan: RunPlan, data: TrainingData, trained: BudgetTrainer) -> None:
    """Save the final model, then the record; then remove the checkpoints.

    With `training.save_total_limit=null` all of them exist and are kept, to be published as
    revisions.
    """
    weights = trained.model.parameters()
    n_params_trained = sum(each.numel() for each in weights if each.requires_grad)
    with disk_full_in_one_line(run.path):
        trained.model = merge_adapter(trained.model, run.adapter)
        record = make_record(run, plan, data, trained)
        if "pretrained" in run.config["model"]:
            before = next((loss for step, loss in trained.validation_log if step == 0), None)
            start, lora = run.config["model"], run.config.get("lora")
            record["finetuned_from"] = {
                "pretrained": start["pretrained"],
                "weights_sha256": start["digest"],
                "lora": lora and {**lora, "peft_version": version("peft")},
                "n_params_trained": n_params_trained,
                "loss_nats_per_token": {"validation": before},
            }
        save_model(trained.model, data, run.checkpoint)
        write_atomically(run.record, json.dumps(record, indent=1, allow_nan=False) + "\n")
    remove_checkpoints(run)


def remove_checkpoints(run: RunFolder) -> None:
    """Remove the checkpoints of a finished run, unless all were to be kept."""
    if run.config["training"].get("save_total_limit") is not None:
        shutil.rmtree(run.checkpoints, ignore_errors=True)


def make_record(
    run: RunFolder, plan: RunPlan, data: TrainingData, trained: BudgetTrainer
) -> dict[str, Any]:
    """All facts of a run; field names include the unit.

    Tokens, FLOPs and train_seconds of a branch are those of the run trained alone; the time it took
    in addition to its trunk is train_seconds_spent.
    """
    config, model, seconds = run.config, trained.model, trained.stopwatch.seconds
    counts = _sizes_and_costs(plan, data, model)
    stage = json.loads((data.files.tokens / "stage.json").read_text(encoding="utf-8"))
    return {
        **{key: config[key] for key in ("name", "study", "size")},
        "model_type": model.config.model_type,
        # as in the data preset, e.g. char or bpe; the preset's own name is separate
        "tokenizer": stage["settings"]["tokenizer"],
        "dataset": config["data"]["dataset"],
        "preset": config["data"]["preset"],
        "seed": config["training"]["seed"],
        "trunk_id": config.get("trunk", config["name"]),
        "num_hidden_layers": model.config.num_hidden_layers,
        "hidden_size": model.config.hidden_size,
        "context_length": plan.block_length,
        **counts,
        "train_seconds": seconds.wall,
        "train_cpu_seconds": seconds.cpu,
        "train_seconds_spent": seconds.wall - trained.trunk_seconds,
        "tokens_per_second": plan.n_tokens / seconds.wall,
        **_utilisation(counts["flops_train"] / seconds.wall, trained.args),
        "precision": precision_of(trained.args),
        "optim": config["training"]["optim"],
        "learning_rate": config["training"]["learning_rate"],
        "global_batch_tokens": plan.sequences_per_step * plan.block_length,
        "max_steps": plan.max_steps,
        "n_steps_skipped": trained.spikes.n_skipped,
        **_losses(plan, data, trained),
        "data_digest": data.files.digest,
        "code_digest": code_digest(),
        "commit": _commit(),
        "versions": {name: version(name) for name in VERSIONS_OF}
        | {"python": platform.python_version()},
        "machine": _machine(trained.args),
    }


def code_digest(project: Path = PROJECT) -> str:
    """SHA-256 over the files of this project that train.py imports, wherever they are.

    It is only recorded; nothing depends on it.
    """
    finder = ModuleFinder(path=[str(project)])
    finder.run_script(str(project / "train.py"))
    files = [module.__file__ for module in finder.modules.values() if module.__file__]
    return hashlib.sha256(b"".join(sorted(Path(file).read_bytes() for file in files))).hexdigest()


def _sizes_and_costs(plan: RunPlan, data: TrainingData, model: PreTrainedModel) -> dict[str, Any]:
    """N, D and C. D counts predicted tokens; unique ones are those of the distinct blocks read.

    C is that of training all weights; a LoRA run computes fewer gradients and takes less.
    """
    names = ("model_type", "hidden_size", "num_hidden_layers")
    shape = ModelShape(
        **{name: getattr(model.config, name) for name in names},
        vocab_size=data.files.vocab_size,
        # attention spans the block, however many positions the model has
        max_position_embeddings=plan.block_length,
        layer_parameters=count_layer_parameters(model),
    )
    n_params_non_embedding = count_parameters(shape).non_embedding
    unique_sequences = min(plan.n_sequences, len(data.blocks))
    return {
        "n_params_total": model.num_parameters(),
        "n_params_non_embedding": n_params_non_embedding,
        "n_tokens_seen": plan.n_tokens,
        "n_tokens_unique": unique_sequences * (plan.block_length - 1),
        "epochs": plan.n_sequences / len(data.blocks),
        "flops_train": float(train_flops_per_token(shape) * plan.n_tokens),
        "flops_6nd": float(flops_6nd(n_params_non_embedding, plan.n_tokens)),
    }


def _utilisation(per_second: float, args: TrainingArguments) -> dict[str, float | None]:
    """FLOPs per second, and their share of the dense bf16 peak of all devices, if known."""
    peak = peak_flops(_device_name(args.device))
    share = per_second / (peak * args.world_size) if peak else None
    return {"flops_per_second": per_second, "model_flops_utilisation": share}


def precision_of(args: TrainingArguments) -> str:
    """Precision of matrix products, by its short name; weights and validation are in fp32."""
    return "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _losses(plan: RunPlan, data: TrainingData, trained: BudgetTrainer) -> dict[str, Any]:
    validation = trained.validation
    train_loss = mean_loss_at_end(trained.state.log_history, plan.max_steps)
    error = validation.standard_error_nats_per_token
    n_tokens = sum(len(ids) + 1 for ids in data.validation.ids)
    return {
        "loss_nats_per_token": {"train": train_loss, "validation": validation.loss_nats_per_token},
        "loss_standard_error_nats_per_token": {"validation": error},
        # of the whole split; if only part of it was read, as if the rest had the same loss
        "validation": {
            "nll_nats": validation.loss_nats_per_token * n_tokens,
            "n_songs": validation.n_songs,
            "n_tokens": n_tokens,
            "n_tokens_read": int(validation.n_targets.sum()),
            **data.validation.totals,
        },
    }


def _commit() -> str | None:
    """Commit of the sources, "-dirty" if they have changed since; None outside a repository."""
    try:
        words = {"cwd": PROJECT, "capture_output": True, "text": True, "check": True}
        commit = subprocess.run(["git", "rev-parse", "HEAD"], **words).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain"], **words).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}-dirty" if changed else commit


def _machine(args: TrainingArguments) -> dict[str, Any]:
    """What the speed depends on; no host name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": models[0] if models else platform.processor(),
        "n_cpus": os.cpu_count(),
        "n_threads": torch.get_num_threads(),
        "device": _device_name(args.device),
        "n_processes": args.world_size,
    }
