"""What a call leaves: records as JSON lines, each with its config, and weights in few files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from scaling.writing.files import write_atomically

from ..run.branches import branch_config
from ..run.run_folder import RunFolder, settings_differ
from ..study.study_plan import Cell

MOST_BYTES = 15_000_000  # of a file
MOST_WEIGHT_FILES = 6  # beside records and report


class Records:
    """The file of records, those of earlier calls first.

    Args:
        path: records.jsonl; one that is there is gone on with.
        done: Of an earlier call, or None.

    Raises:
        ValueError: If a file holds a line that is no record.
    """

    def __init__(self, path: Path, done: Path | None) -> None:
        self.path = path
        self.by_name: dict[str, dict[str, Any]] = {}
        for file in filter(None, (done, path if path.is_file() else None)):
            for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
                try:
                    row = json.loads(line)
                    self.by_name[row["record"]["name"]] = row
                    row["config"].keys()  # of a record without one, told here
                except (ValueError, KeyError, TypeError) as err:
                    raise ValueError(
                        f"{file}, line {number}: no record of a run ({err!r}); expected a "
                        "records.jsonl of training.gpu_study"
                    ) from None
        self._write()

    def hold(self, cell: Cell, run: RunFolder) -> bool:
        """Whether all runs of a cell are there, of these settings and data."""
        configs = {cell.name: run.config}
        for asked in run.config["budget"].get("branches", []):
            config = branch_config(run.config, asked)
            configs[config["name"]] = config
        return all(
            name in self.by_name and not settings_differ(self.by_name[name]["config"], config)
            for name, config in configs.items()
        )

    def add(self, cell: Cell, run: RunFolder) -> None:
        """Takes the records that a cell has written so far."""
        for name in cell.run_names:
            folder = run.path.with_name(name)
            if (folder / "record.json").is_file():
                self.by_name[name] = {
                    "record": json.loads((folder / "record.json").read_text("utf-8")),
                    "config": yaml.safe_load((folder / "config.yaml").read_text("utf-8")),
                }
        self._write()

    def _write(self) -> None:
        rows = (json.dumps(row, allow_nan=False) + "\n" for row in self.by_name.values())
        write_atomically(self.path, "".join(rows))


def write_weights(runs: Sequence[RunFolder], out: Path) -> list[str]:
    """Writes the weights of finished runs in bf16, small ones first, as far as there is room.

    Returns:
        The names of the runs whose weights are there. A tensor is named `<run>/<tensor>`.
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
