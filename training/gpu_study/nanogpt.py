"""nanoGPT's own model and step, timed on this machine in the shapes of our Tiny and Small GPT."""

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from scaling.counts import ModelShape, train_flops_per_token

# layers, heads, width: as in configs/gpt_tiny.yaml and gpt_small.yaml
SHAPES = {"gpt_tiny": (4, 4, 128), "gpt_small": (6, 8, 256)}
VOCAB_SIZE, BLOCK_LENGTH, BATCH_SIZE = 64, 256, 64
SECONDS, WARMUP_STEPS = 10.0, 5


def load_nanogpt(checkout: Path) -> ModuleType:
    """The module model.py of a checkout.

    Raises:
        FileNotFoundError: If the checkout has no model.py.
    """
    path = checkout / "model.py"
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; --nanogpt must name a checkout of nanoGPT")
    spec = importlib.util.spec_from_file_location("nanogpt_model", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


def time_nanogpt(checkout: Path, end: float) -> list[dict[str, Any]]:
    """Time the loop of its train.py: bf16 autocast, compiled on a GPU, fused AdamW, clipping.

    Args:
        checkout: A checkout of nanoGPT.
        end: By `time.monotonic`; no size starts after it.

    Raises:
        FileNotFoundError: If the checkout has no model.py.
    """
    nanogpt = load_nanogpt(checkout)
    return [
        _time_size(nanogpt, name, *shape)
        for name, shape in SHAPES.items()
        if time.monotonic() < end
    ]


def _time_size(nanogpt: Any, name: str, layers: int, heads: int, width: int) -> dict[str, Any]:
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    config = nanogpt.GPTConfig(
        block_size=BLOCK_LENGTH,
        vocab_size=VOCAB_SIZE,
        n_layer=layers,
        n_head=heads,
        n_embd=width,
        dropout=0.0,
        bias=False,
    )
    model = nanogpt.GPT(config).to(device)
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), device.type)
    step_model = torch.compile(model) if device.type == "cuda" else model
    shape = (BATCH_SIZE, BLOCK_LENGTH + 1)
    batch = torch.randint(VOCAB_SIZE, shape, device=device)

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            _, loss = step_model(batch[:, :-1].contiguous(), batch[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(WARMUP_STEPS):
        step()
    _wait(device)
    begin, n_steps = time.monotonic(), 0
    while time.monotonic() - begin < SECONDS:
        step()
        n_steps += 1
        _wait(device)
    per_second = n_steps * BATCH_SIZE * BLOCK_LENGTH / (time.monotonic() - begin)
    counted = ModelShape("abc_gpt", width, layers, VOCAB_SIZE, BLOCK_LENGTH)
    flops = per_second * train_flops_per_token(counted)
    return {"name": name, "tokens_per_second": per_second, "flops_per_second": flops}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
