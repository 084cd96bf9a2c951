"""Write the weights of finished runs to few files."""

from collections.abc import Sequence
from pathlib import Path

from ..run.run_folder import RunFolder

MOST_BYTES = 15_000_000  # per file
MOST_WEIGHT_FILES = 6  # in addition to records and report


def write_weights(runs: Sequence[RunFolder], out: Path) -> list[str]:
    """Write the weights of finished runs in bf16, in this order, as long as there is room.

    Returns:
        The names of the runs that were written. A tensor is named `<run>/<tensor>`.
    """
    import torch
    from safetensors.torch import load_file, save_file

    written, room, shard, n_files = [], MOST_BYTES, {}, 0
    for run in runs:
        file = run.checkpoint / "model.safetensors"
        if not run.is_finished or not file.is_file():
            continue
        weights = {
            f"{run.path.name}/{name}": tensor.to(torch.bfloat16)
            for name, tensor in load_file(file).items()
        }
        size = sum(tensor.nbytes for tensor in weights.values()) + 200 * len(weights)
        if size > MOST_BYTES:
            continue
        if size > room:
            save_file(shard, out / f"weights-{n_files}.safetensors")
            shard, room, n_files = {}, MOST_BYTES, n_files + 1
            if n_files == MOST_WEIGHT_FILES:
                break
        shard |= weights
        room -= size
        written.append(run.path.name)
    if shard and n_files < MOST_WEIGHT_FILES:
        save_file(shard, out / f"weights-{n_files}.safetensors")
    return written
