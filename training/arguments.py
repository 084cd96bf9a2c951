"""The section training as TrainingArguments, and process-wide performance settings."""

import ctypes
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from transformers import TrainingArguments

from . import muon
from .budget import RunPlan, accumulation_steps
from .run.run_folder import RunFolder

logger = logging.getLogger(__name__)

# parameters of mallopt(3)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MOST_BYTES = 2**30


def training_arguments(run: RunFolder, plan: RunPlan) -> TrainingArguments:
    """The section training as TrainingArguments, completed from plan, loader and machine.

    Raises:
        ValueError: If the Trainer refuses a value, or the global batch does not split evenly.
    """
    has_gpu = torch.accelerator.is_available()
    section, decay = dict(run.config["training"]), {}
    if section.get("optim") == muon.NAME:  # TrainingArguments has no such name
        del section["optim"]
    if has_gpu and section.get("bf16"):
        torch.set_float32_matmul_precision("high")  # validation stays in fp32, may use TF32
    elif section.get("bf16") and not multiplies_bf16(processor()):
        logger.warning(
            "this processor has no instructions for bf16 (AMX or AVX512-BF16): fp32, by "
            "training.bf16=false, is two to three times as fast"
        )
    if section.get("torch_compile"):
        # block by block: compiling a whole large model takes minutes
        os.environ.setdefault("ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION", "true")
    if plan.decay_steps is not None:
        given = section.get("lr_scheduler_kwargs") or {}
        decay["lr_scheduler_kwargs"] = {**given, "num_decay_steps": plan.decay_steps}
    args = TrainingArguments(
        **{
            "use_cpu": not has_gpu,
            "dataloader_pin_memory": has_gpu,
            **({"accelerator_config": {"non_blocking": True}} if has_gpu else {}),
            "logging_nan_inf_filter": False,  # BudgetTrainer does it without a sync per step
            "run_name": run.path.name,  # shown by trackers
            "project": run.path.parent.name,
            **section,
            **decay,
            "output_dir": str(run.checkpoints),
            "max_steps": plan.max_steps,
            "disable_tqdm": True,  # RunLog draws the bar, in tokens
            "remove_unused_columns": False,  # the loader returns ready batches
            "train_sampling_strategy": "sequential",  # BlockOrder has already shuffled
        }
    )
    args.gradient_accumulation_steps = accumulation_steps(
        plan, args.train_batch_size, args.world_size
    )
    return args


def processor() -> Mapping[str, Any]:
    """What torch says of the processor; nothing where this version of torch cannot."""
    return getattr(torch.cpu, "get_capabilities", dict)()


def multiplies_bf16(features: Mapping[str, Any]) -> bool:
    """Whether a processor has instructions for products of bf16; True if it does not say so.

    Args:
        features: As `processor` returns them; those in question are told of x86-64 alone.
    """
    if features.get("architecture") != "x86_64":
        return True
    return bool(features.get("amx_bf16") or features.get("avx512_bf16"))


def keep_freed_memory() -> None:
    """Let glibc keep the buffers that each step frees and the next one allocates again.

    By default, large buffers go back to the system, which returns them page by page. That costs a
    tenth of a step for small models on a CPU. Without glibc this does nothing.
    """
    with suppress(OSError, AttributeError):
        c_library = ctypes.CDLL(None)
        c_library.mallopt(M_MMAP_THRESHOLD, MOST_BYTES)
        c_library.mallopt(M_TRIM_THRESHOLD, 2 * MOST_BYTES - 1)
