"""record.json: the one source for the laws; written last, so a run that has it is finished."""

import ast
import hashlib
import json
import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from scaling.counts import (
    ModelShape,
    count_parameters,
    flops_6nd,
    peak_flops,
    train_flops_per_token,
)

from .data.blocks import TrainingData
from .model import count_layer_parameters, save_model
from .pretrained import describe_origin, merge_adapter
from .run.checkpoints import disk_full_in_one_line
from .run.run_folder import RunFolder, write_atomically
from .trainer import TrainingResult

PROJECT = Path(__file__).resolve().parent.parent
VERSIONS_OF = ("torch", "transformers", "accelerate", "tokenizers", "numpy")


def write_record(
    run: RunFolder, model: PreTrainedModel, data: TrainingData, result: TrainingResult
) -> dict[str, Any]:
    """Save the final model, then the record; then remove the checkpoints.

    With `training.save_total_limit=null` none was thinned out, and they stay, to be published as
    revisions.
    """
    n_params_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    with disk_full_in_one_line(run.path):
        model = merge_adapter(model, run.adapter)
        record = make_record(run, model, data, result)
        if "pretrained" in run.config["model"]:
            before = next((loss for step, loss in result.validation_log if step == 0), None)
            origin = describe_origin(run.config, n_params_trained)
            record["finetuned_from"] = {**origin, "loss_nats_per_token": {"validation": before}}
        save_model(model, data, run.checkpoint)
        write_atomically(run.record, json.dumps(record, indent=1, allow_nan=False) + "\n")
    remove_checkpoints(run)
    return record


def remove_checkpoints(run: RunFolder) -> None:
    """Remove those of a finished run, unless all were to be kept."""
    if run.config["training"].get("save_total_limit") is not None:
        shutil.rmtree(run.checkpoints, ignore_errors=True)


def make_record(
    run: RunFolder, model: PreTrainedModel, data: TrainingData, result: TrainingResult
) -> dict[str, Any]:
    """All facts of a run; every field says its unit.

    Tokens, FLOPs and train_seconds of a branch are those of the run trained alone; what it took
    beside its trunk is train_seconds_spent.
    """
    config, plan = run.config, result.plan
    counts = _sizes_and_costs(model, data, result)
    return {
        **{key: config[key] for key in ("name", "study", "size")},
        "model_type": model.config.model_type,
        "tokenizer": _tokenizer_name(data),
        "dataset": config["data"]["dataset"],
        "preset": config["data"]["preset"],
        "seed": config["training"]["seed"],
        "trunk_id": config.get("trunk", config["name"]),
        "num_hidden_layers": model.config.num_hidden_layers,
        "hidden_size": model.config.hidden_size,
        "context_length": plan.block_length,
        **counts,
        "train_seconds": result.train_seconds.wall,
        "train_cpu_seconds": result.train_seconds.cpu,
        "train_seconds_spent": result.train_seconds.wall - result.trunk_seconds,
        "tokens_per_second": plan.n_tokens / result.train_seconds.wall,
        **_utilisation(counts["flops_train"], result),
        "learning_rate": config["training"]["learning_rate"],
        "global_batch_tokens": plan.sequences_per_step * plan.block_length,
        "max_steps": plan.max_steps,
        "n_steps_skipped": result.n_steps_skipped,
        **_losses(data, result),
        "data_digest": data.files.digest,
        "code_digest": code_digest(),
        "commit": _commit(),
        "versions": {name: version(name) for name in VERSIONS_OF}
        | {"python": platform.python_version()},
        "machine": _machine(result),
    }


def code_digest(project: Path = PROJECT) -> str:
    """SHA-256 over the code that train.py imports from this project.

    It is recorded and decides nothing. As `data_prep.storage.code_identity` does, which training
    may not import, it leaves out docstrings, comments, annotations and imports, and does not depend
    on which module a definition stands in.
    """
    files, todo = set(), [project / "train.py"]
    statements = set()
    while todo:
        if (file := todo.pop()) not in files:
            files.add(file)
            tree = ast.parse(file.read_text(encoding="utf-8"))
            todo += _imported_files(tree, file, project)
            statements |= {ast.dump(node) for node in _without_words(tree).body}
    return hashlib.sha256("\n".join(sorted(statements)).encode()).hexdigest()


def _imported_files(tree: ast.Module, file: Path, project: Path) -> list[Path]:
    """Files of this project that a file imports, at its top or in a function."""
    paths = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            paths += [project.joinpath(*alias.name.split(".")) for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            start = file.parents[node.level - 1] if node.level else project
            module = start.joinpath(*(node.module or "").split("."))
            paths += [module, *(module / alias.name for alias in node.names)]
    files = [path.with_suffix(".py") for path in paths] + [path / "__init__.py" for path in paths]
    return [path for path in files if path.is_file()]


def _without_words(tree: ast.Module) -> ast.Module:
    """A file without what says nothing about what is computed; it is changed in place."""
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns"):
                setattr(node, name, None)
            elif isinstance(value, list):
                value[:] = [each for each in value if not _is_silent(each)]
    return tree


def _is_silent(node: object) -> bool:
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_docstring or isinstance(node, ast.Import | ast.ImportFrom)


def _tokenizer_name(data: TrainingData) -> str:
    """As the data preset has it, e.g. char or bpe; the preset has a name of its own."""
    stage = json.loads((data.files.tokens / "stage.json").read_text(encoding="utf-8"))
    return stage["settings"]["tokenizer"]


def _sizes_and_costs(
    model: PreTrainedModel, data: TrainingData, result: TrainingResult
) -> dict[str, Any]:
    """N, D and C. D counts predicted tokens; unique ones are those of the blocks read at all.

    C is that of training all weights; a LoRA run computes few of their gradients and takes less.
    """
    plan = result.plan
    names = ("model_type", "hidden_size", "num_hidden_layers")
    shape = ModelShape(
        **{name: getattr(model.config, name) for name in names},
        vocab_size=data.files.vocab_size,
        # attention looks back over the block, however many positions the model has
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


def _utilisation(flops_train: float, result: TrainingResult) -> dict[str, float | None]:
    """FLOPs a second, and their share of the dense bf16 peak of all devices, where it is known."""
    per_second = flops_train / result.train_seconds.wall
    peak = peak_flops(_device_name(result))
    share = per_second / (peak * result.n_processes) if peak else None
    return {"flops_per_second": per_second, "model_flops_utilisation": share}


def _device_name(result: TrainingResult) -> str:
    on_gpu = result.device.type == "cuda"
    return torch.cuda.get_device_name(result.device) if on_gpu else result.device.type


def _losses(data: TrainingData, result: TrainingResult) -> dict[str, Any]:
    validation = result.validation
    return {
        "loss_nats_per_token": {
            "train": result.train_loss_nats_per_token,
            "validation": validation.loss_nats_per_token,
        },
        "loss_standard_error_nats_per_token": {
            "validation": validation.standard_error_nats_per_token
        },
        "validation": {
            "nll_nats": float(validation.nll_nats.sum()),
            "n_songs": len(validation.nll_nats),
            "n_tokens": int(validation.n_targets.sum()),
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


def _machine(result: TrainingResult) -> dict[str, Any]:
    """What the speed depends on; no host name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": models[0] if models else platform.processor(),
        "n_cpus": os.cpu_count(),
        "n_threads": torch.get_num_threads(),
        "device": _device_name(result),
        "n_processes": result.n_processes,
    }
