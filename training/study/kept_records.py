"""Records of finished runs in one file, a line per run: the record, and the config to repeat it.

A run in such a file with equal settings and data counts as done, wherever the file is.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from scaling.writing.files import read_json, write_atomically, write_json

from ..run.branches import branch_config
from ..run.run_folder import RunFolder, settings_differ
from .study_plan import Cell


class Records:
    """A file of records; an existing one is extended.

    Args:
        path: records.jsonl.
        done: Another one, whose records are read first, or None.

    Raises:
        ValueError: If a file contains a line that is not a record.
    """

    def __init__(self, path: Path, done: Path | None = None) -> None:
        self.path = path
        self.by_name: dict[str, dict[str, Any]] = {}
        for file in filter(None, (done, path if path.is_file() else None)):
            for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
                try:
                    row = json.loads(line)
                    self.by_name[row["record"]["name"]] = row
                    row["config"].keys()  # fails here if there is none
                except (ValueError, KeyError, TypeError) as err:
                    raise ValueError(
                        f"{file}, line {number}: not a record of a run ({err!r}); expected a "
                        "records.jsonl of a study or of training.gpu_study"
                    ) from None

    def hold(self, cell: Cell, run: RunFolder) -> bool:
        """Whether all runs of a cell are in it, with these settings and data."""
        configs = {cell.name: run.config}
        for asked in run.config["budget"].get("branches", []):
            config = branch_config(run.config, asked)
            configs[config["name"]] = config
        return all(
            name in self.by_name and not settings_differ(self.by_name[name]["config"], config)
            for name, config in configs.items()
        )

    def restore(self, cell: Cell, run: RunFolder) -> None:
        """Write the records of a cell where its runs would have left them."""
        for name in cell.run_names:
            folder = RunFolder(run.path.with_name(name), self.by_name[name]["config"])
            if not folder.is_finished:
                folder.path.mkdir(parents=True, exist_ok=True)
                folder.save_config()
                write_json(folder.record, self.by_name[name]["record"])

    def add(self, cell: Cell, run: RunFolder) -> None:
        """Add the records that a cell has written so far."""
        for name in cell.run_names:
            folder = RunFolder(run.path.with_name(name), run.config)
            if folder.is_finished:
                self.by_name[name] = {
                    "record": read_json(folder.record),
                    "config": yaml.safe_load(folder.config_file.read_text("utf-8")),
                }
        self.write()

    def write(self) -> None:
        """Rewrite the file atomically."""
        rows = (json.dumps(row, allow_nan=False) + "\n" for _, row in sorted(self.by_name.items()))
        write_atomically(self.path, "".join(rows))
