"""The folder of a run, `runs/<study>/<run>/`: which one, is it finished, who writes there now.

A run is known by its settings and by the digest of its data, not by its code, which record.json
says. The same ones go on in the same folder; other ones get the next free `<name>-2`, `<name>-3`,
... A run with record.json is finished.
"""

import fcntl
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from scaling.writing.files import write_atomically

from ..data.data_files import DataFiles
from ..pretrained import weights_digest

RUNS = Path("runs")
LOCK_WAIT_SECONDS = 15.0  # a process that was told to stop still writes its checkpoint
# What may differ between two configs of one run: it changes no weight. The data are known by their
# digest, wherever they lie.
NOT_SETTINGS = ("name", "trunk", "budget.branches", "training.report_to", "data.root")


class RunFolder:
    """A run's files, and the resolved config that belongs to them.

    Attributes:
        path: `runs/<study>/<run>`.
        config: Resolved config, as saved.
        reason: Why the run does not have the name it was given, or "".
    """

    def __init__(self, path: Path, config: dict[str, Any], reason: str = "") -> None:
        self.path = path
        self.config = config
        self.reason = reason
        self.config_file = path / "config.yaml"
        self.log = path / "log.jsonl"
        self.checkpoint = path / "checkpoint"
        self.adapter = path / "adapter"
        self.checkpoints = path / "checkpoints"
        self.branch_points = path / "branch_points"
        self.record = path / "record.json"

    @property
    def is_finished(self) -> bool:
        """Whether the record is there; it is written last."""
        return self.record.is_file()

    def save_config(self) -> None:
        """Write config.yaml, which alone repeats the run."""
        write_atomically(self.config_file, yaml.safe_dump(self.config, sort_keys=False, width=100))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of this folder.

        Raises:
            BlockingIOError: If another process keeps training here.
        """
        if not is_main_process():  # the main one holds the folder for all of them
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        with (self.path / ".lock").open("w") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise BlockingIOError(
                            f"another process trains in {self.path}; wait for it, or give name=..."
                        ) from None
                    time.sleep(0.2)
            yield


def choose_run_folder(config: dict[str, Any], data: DataFiles) -> RunFolder:
    """The folder of this config and data: a free one, or the one that holds exactly this run.

    Two processes of one run find the same one, since a folder with an equal config counts as free.

    Raises:
        FileNotFoundError: If the model to fine-tune is not there.
    """
    config = {**config, "data": {**config["data"], "dataset": data.dataset}}
    if "pretrained" in config["model"]:
        digest = weights_digest(config["model"]["pretrained"])
        config["model"] = {**config["model"], "digest": digest}
    # a bar on the screen is no setting of the run
    config["training"] = {k: v for k, v in config["training"].items() if k != "disable_tqdm"}
    # by their present digest, or as the run or its trunk has known the same data
    digests = sorted(data.digests, key=lambda digest: digest != config["data"].get("digest"))
    configs = [{**config, "data": {**config["data"], "digest": digest}} for digest in digests]
    wanted, reason = config["name"], ""
    for number in itertools.count(1):
        name = wanted if number == 1 else f"{wanted}-{number}"
        path = RUNS / config["study"] / name
        found = [difference(path / "config.yaml", each) for each in configs]
        if None in found:
            same = {**configs[found.index(None)], "name": name}
            return RunFolder(path, same, reason and f"{reason}; this run is {path}")
        reason = reason or f"{path} holds a run with other settings ({found[0]})"
    raise AssertionError("unreachable")


def is_main_process() -> bool:
    """Whether this is the process that writes, also before torch has set up the others."""
    return os.environ.get("RANK", "0") == "0"


def difference(
    config_file: Path, config: dict[str, Any], may_differ: tuple[str, ...] = ()
) -> str | None:
    """First setting in which a saved config differs, in words; None if there is none.

    Args:
        config_file: Of a run; where there is no such file, nothing differs.
        config: To hold against it.
        may_differ: Dotted keys that are left out.
    """
    if not config_file.is_file():
        return None
    try:
        saved = yaml.safe_load(config_file.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        saved = None
    if not isinstance(saved, dict):
        return "its config.yaml is damaged"
    return settings_differ(saved, config, may_differ)


def settings_differ(
    saved: dict[str, Any], config: dict[str, Any], may_differ: tuple[str, ...] = ()
) -> str | None:
    """First setting in which two configs differ, in words; None if there is none."""
    there, here = _settings(saved), _settings(config)
    for key in sorted((there.keys() | here.keys()) - set(may_differ)):
        if there.get(key) != here.get(key):
            if key == "data.digest":
                return "the data have changed"
            if key == "model.digest":
                return "the weights of the model to fine-tune have changed"
            return f"{key} {there.get(key, 'not set')}, now {here.get(key, 'not set')}"
    return None


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            settings.update({f"{key}.{name}": item for name, item in value.items()})
        else:
            settings[key] = value
    return {key: value for key, value in settings.items() if key not in NOT_SETTINGS}
