"""Check that this machine computes what a CPU does, before minutes are spent on it."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config import load_config
from ..config_checks import ConfigError
from ..run.run_folder import RUNS
from ..study.gpus import find_gpus
from ..study.study_plan import Planned
from ..study.study_runner import TRAIN, environment

# Relative tolerances of the loss: bf16 against fp32, and compiled against eager mode, both in bf16.
BF16_TOLERANCE, COMPILE_TOLERANCE = 0.01, 0.005
N_BLOCKS, N_GREEDY = 16, 64
STEPS, SAVED_AT = 8, 4
NAME = "check_resume"


def run_checks(planned: Planned, bundle: Path, until: float) -> list[dict[str, Any]]:
    """Run the checks on one cell's model, as long as there is time.

    Args:
        planned: The cell.
        bundle: Its data.
        until: By `time.monotonic`; no check starts after it.

    Returns:
        One row per check: `check`, `passed` (None: there was no time), `found` as text, `seconds`.
    """
    cell, _ = planned
    words = [*cell.overrides, "budget.branches=[]", f"data.root={bundle}"]
    rows = []
    checks: tuple[Callable[[str, list[str]], tuple[bool, str]], ...]
    checks = (check_precision, check_resume, check_greedy)
    for check in checks:
        begin = time.monotonic()
        name = check.__name__.removeprefix("check_")
        if begin > until:
            rows.append({"check": name, "passed": None, "found": "no time", "seconds": 0.0})
            continue
        try:
            passed, found = check(cell.config, words)
        except (RuntimeError, ValueError, OSError, subprocess.SubprocessError) as err:
            if isinstance(err, ConfigError):
                raise
            passed, found = False, " ".join(str(err).split())[-300:]
        seconds = round(time.monotonic() - begin, 1)
        rows.append({"check": name, "passed": passed, "found": found, "seconds": seconds})
        print(
            f"check {name}: {'passed' if passed else 'FAILED'}, {found} ({seconds} s)", flush=True
        )
    return rows


def check_precision(config: str, words: list[str]) -> tuple[bool, str]:
    """Whether bf16, compiled or not, gives the loss of fp32."""
    import torch

    from ..data.blocks import load_blocks
    from ..model import build_model

    resolved = load_config(Path(config), words)
    data = load_blocks(resolved)
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    model = build_model(resolved, data).to(device)
    ids = torch.from_numpy(data.blocks[:N_BLOCKS].astype("int64")).to(device)
    losses = {"fp32": _loss(model, ids, torch.float32), "bf16": _loss(model, ids, torch.bfloat16)}
    passed = abs(losses["bf16"] / losses["fp32"] - 1) <= BF16_TOLERANCE
    if device.type == "cuda" and resolved["training"].get("torch_compile"):
        from accelerate.utils import compile_regions

        losses["compiled"] = _loss(compile_regions(model), ids, torch.bfloat16)
        passed &= abs(losses["compiled"] / losses["bf16"] - 1) <= COMPILE_TOLERANCE
    return passed, ", ".join(f"{name} {loss:.5f}" for name, loss in losses.items())


def _loss(model: Any, ids: Any, dtype: Any) -> float:
    import torch

    enabled = dtype != torch.float32
    with torch.no_grad(), torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=enabled):
        return float(model(input_ids=ids, labels=ids, use_cache=False).loss)


def check_resume(config: str, words: list[str]) -> tuple[bool, str]:
    """Whether a resumed run has the same weights as an uninterrupted one."""
    steps = [f"training.max_steps={STEPS}", f"training.save_steps={SAVED_AT}"]
    steps += ["training.save_total_limit=null", "training.warmup_steps=1"]
    steps += ["training.torch_compile=false", "training.logging_steps=1", "training.seed=3"]
    command = [sys.executable, str(TRAIN), config, *words, *steps, "study=checks", f"name={NAME}"]
    run = RUNS / "checks" / NAME
    shutil.rmtree(run, ignore_errors=True)
    weights = []
    for _ in range(2):
        subprocess.run(
            command, env=environment(0, find_gpus()[:1]), check=True, capture_output=True, text=True
        )
        weights.append((run / "checkpoint" / "model.safetensors").read_bytes())
        (run / "record.json").unlink()  # as if killed after the first checkpoint
        shutil.rmtree(run / "checkpoints" / f"checkpoint-{STEPS}", ignore_errors=True)
    same = weights[0] == weights[1]
    found = "the same" if same else "different"
    return same, f"{found} weights after {STEPS} steps, resumed from {SAVED_AT}"


def check_greedy(config: str, words: list[str]) -> tuple[bool, str]:
    """Whether greedy tokens in fp32 match those on the CPU."""
    import torch
    from transformers import AutoModelForCausalLM

    import modeling  # noqa: F401  (registers our own families)

    folder = RUNS / "checks" / NAME / "checkpoint"
    model = AutoModelForCausalLM.from_pretrained(folder)
    start = torch.tensor([[model.config.bos_token_id]])
    options = {"max_new_tokens": N_GREEDY, "do_sample": False, "eos_token_id": None}
    expected = model.generate(start, attention_mask=torch.ones_like(start), **options)
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    model, start = model.to(device), start.to(device)
    found = model.generate(start, attention_mask=torch.ones_like(start), **options).cpu()
    n_same = int((found == expected).long().cumprod(1).sum()) - 1
    return n_same == N_GREEDY, f"{n_same} of {N_GREEDY} tokens on {device.type} as on the CPU"
