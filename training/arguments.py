"""The section training as TrainingArguments, and what the machine needs to be told."""

import ctypes
import os
from contextlib import suppress

import torch
from transformers import TrainingArguments

from .budget import RunPlan, accumulation_steps
from .run.run_folder import RunFolder

# of mallopt(3)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MOST_BYTES = 2**30


def training_arguments(run: RunFolder, plan: RunPlan) -> TrainingArguments:
    """The section training as TrainingArguments, with what follows from plan, loader and machine.

    Raises:
        ValueError: If the Trainer refuses a value, or the global batch does not split evenly.
    """
    has_gpu = torch.accelerator.is_available()
    section, decay = run.config["training"], {}
    if has_gpu and section.get("bf16"):
        torch.set_float32_matmul_precision("high")  # what is left in fp32, validation, may be TF32
    if section.get("torch_compile"):
        # block by block: that of a whole large model takes minutes
        os.environ.setdefault("ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION", "true")
    if plan.decay_steps is not None:
        given = section.get("lr_scheduler_kwargs") or {}
        decay["lr_scheduler_kwargs"] = {**given, "num_decay_steps": plan.decay_steps}
    args = TrainingArguments(
        **{
            "use_cpu": not has_gpu,
            "dataloader_pin_memory": has_gpu,
            **({"accelerator_config": {"non_blocking": True}} if has_gpu else {}),
            "logging_nan_inf_filter": False,  # BudgetTrainer does it, without a wait a step
            "run_name": run.path.name,  # what trackers show
            "project": run.path.parent.name,
            **section,
            **decay,
            "output_dir": str(run.checkpoints),
            "max_steps": plan.max_steps,
            "disable_tqdm": True,  # RunLog draws the bar, in tokens
            "remove_unused_columns": False,  # the loader gives ready batches
            "train_sampling_strategy": "sequential",  # BlockOrder has shuffled already
        }
    )
    args.gradient_accumulation_steps = accumulation_steps(
        plan, args.train_batch_size, args.world_size
    )
    return args


def keep_freed_memory() -> None:
    """Let glibc keep the buffers that each step frees and the next asks for again.

    It would give the large ones back to the system, which hands them out again page by page: a
    tenth of a step of small models on a CPU. Elsewhere this does nothing.
    """
    with suppress(OSError, AttributeError):
        c_library = ctypes.CDLL(None)
        c_library.mallopt(M_MMAP_THRESHOLD, MOST_BYTES)
        c_library.mallopt(M_TRIM_THRESHOLD, 2 * MOST_BYTES - 1)
