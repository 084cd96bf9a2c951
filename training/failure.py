"""The bundle of a failed run: weights, batches and settings of its last steps.

    python -m training.failure runs/<study>/<run>/failure

recomputes the losses and gradients of these steps and reports whether they are bad again.
"""

import argparse
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml
from transformers import AutoModelForCausalLM, PreTrainedModel

import modeling  # noqa: F401  (registers our own families)
from scaling.writing.commands import command
from scaling.writing.files import read_json, write_atomically, write_json

from .data.blocks import BlockOrder
from .run.run_folder import RunFolder, is_main_process
from .run.spikes import JudgedStep

DEVICE_BATCH = 8  # blocks per pass; more would need the memory of the machine that failed


def write_bundle(
    run: RunFolder, model: PreTrainedModel, blocks: BlockOrder, steps: Sequence[JudgedStep]
) -> Path:
    """Write the folder `failure` of a run, if this is the main process.

    Skipped steps changed no weight, so the model is still the one that they started from.

    Args:
        run: The failed run.
        model: Its current model.
        blocks: Its blocks.
        steps: The skipped steps, in order.
    """
    folder = run.path / "failure"
    if not is_main_process():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    per_step = blocks.n_sequences_per_step
    rows = [blocks.rows(range((s.step - 1) * per_step, s.step * per_step)).tolist() for s in steps]
    np.save(folder / "batches.npy", blocks.blocks[np.array(rows)])  # (n_steps, B, T)
    write_atomically(folder / "config.yaml", yaml.safe_dump(run.config, sort_keys=False))
    facts = {
        "seed": run.config["training"]["seed"],
        "data_digest": run.config["data"]["digest"],
        "steps": [
            # JSON has no infinity
            {k: v if v is None or math.isfinite(v) else str(v) for k, v in vars(step).items()}
            | {"reason": step.reason, "blocks": blocks_of_step}
            for step, blocks_of_step in zip(steps, rows, strict=True)
        ],
    }
    write_json(folder / "failure.json", facts)
    return folder


def replay(folder: Path) -> list[tuple[JudgedStep, JudgedStep]]:
    """Each step as recorded and as recomputed now, in single precision.

    Raises:
        ValueError: If the folder is not a bundle.
    """
    try:
        facts = read_json(folder / "failure.json")
        batches = np.load(folder / "batches.npy")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        steps = []
        for step in facts["steps"]:
            loss, norm = float(step["loss_nats_per_token"]), float(step["gradient_norm"])
            steps.append(JudgedStep(step["step"], loss, norm, step["limit_nats_per_token"]))
    except (OSError, KeyError, ValueError) as err:
        raise ValueError(
            f"{folder} is not the bundle of a failed run ({err}); expected its folder `failure`"
        ) from None
    model.train()
    return [(step, _again(model, step, batch)) for step, batch in zip(steps, batches, strict=True)]


def _again(model: PreTrainedModel, step: JudgedStep, batch: np.ndarray) -> JudgedStep:
    model.zero_grad()
    input_ids = torch.from_numpy(batch.astype(np.int64))  # (B, T)
    total = 0.0
    for part in input_ids.split(DEVICE_BATCH):
        loss = model(input_ids=part, labels=part, use_cache=False).loss * len(part) / len(input_ids)
        loss.backward()
        total += float(loss.detach())
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
    return JudgedStep(step.step, total, float(norm), step.limit_nats_per_token)


@command(ValueError)
def main(argv: list[str] | None = None) -> int:
    """Compare a bundle with its replay on this machine; return 0 if it fails here too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="runs/<study>/<run>/failure")
    pairs = replay(parser.parse_args(argv).folder)
    for before, now in pairs:
        print(f"step {before.step}")
        for name, step in (("then", before), ("now", now)):
            loss, norm = step.loss_nats_per_token, step.gradient_norm
            print(f"  {name:4}  loss {loss:.6g} nats per token, gradient norm {norm:.6g}")
    if all(now.is_bad for _, now in pairs):
        print("reproduced")
        return 0
    print("not reproduced: the cause is the machine, its precision, or random dropout")
    return 1


if __name__ == "__main__":
    sys.exit(main())
