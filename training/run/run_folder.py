"""The folder of a run, `runs/<study>/<run>/`: which one, whether it is finished, who writes to it.

A run is identified by its settings and the digest of its data, not by its code, which record.json
records. The same run resumes in the same folder; a different one gets the next free `<name>-2`,
`<name>-3`, ... A run with record.json is finished.
"""

import fcntl
import itertools
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml

from scaling.writing.files import write_atomically

from ..data.data_files import DataFiles
from ..pretrained import weights_digest

RUNS = Path("runs")
LOCK_WAIT_SECONDS = 15.0  # a process that was told to stop still writes its checkpoint
# What may differ between two configs of one run, since it changes no weight. The data are
# identified by their digest, wherever they are.
NOT_SETTINGS = ("name", "trunk", "budget.branches", "training.report_to", "data.root")


class RunFolder:
    """A run's files and its resolved config.

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
        """Whether the record exists; it is written last."""
        return self.record.is_file()

    def save_config(self) -> None:
        """Write config.yaml, which alone is enough to repeat the run."""
        write_atomically(self.config_file, yaml.safe_dump(self.config, sort_keys=False, width=100))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of this folder.

        Raises:
            BlockingIOError: If another process keeps training here.
            ValueError: If a run with other settings has taken the folder since it was chosen.
            OSError: If its file system has no locks.
        """
        if not is_main_process():  # the main one locks the folder for all of them
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("a+", encoding="utf-8") as lock:
            self._wait_for(lock)
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {platform.node()}")
            lock.flush()
            if found := difference(self.config_file, self.config):
                raise ValueError(
                    f"a run with other settings ({found}) that started at the same time has taken "
                    f"{self.path}; repeat the command, which then takes the next free name"
                )
            yield

    def _wait_for(self, lock: IO[str]) -> None:
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    lock.seek(0)
                    raise BlockingIOError(
                        f"another process trains in {self.path} ({lock.read() or 'unnamed'}); wait "
                        "for it, or set name=..."
                    ) from None
            except OSError as error:
                raise OSError(
                    f"{self.path}: its file system has no file locks ({error.strerror}); mount it "
                    "with locks, or train on another one"
                ) from error
            time.sleep(0.2)


def choose_run_folder(config: dict[str, Any], data: DataFiles) -> RunFolder:
    """The folder of this config and data: a free one, or the one that contains exactly this run.

    Two processes of one run get the same one, since a folder with an equal config counts as free.

    Raises:
        FileNotFoundError: If the model to fine-tune is missing.
    """
    config = {**config, "data": {**config["data"], "dataset": data.dataset}}
    if "pretrained" in config["model"]:
        digest = weights_digest(config["model"]["pretrained"])
        config["model"] = {**config["model"], "digest": digest}
    # the progress bar is not a setting of the run
    config["training"] = {k: v for k, v in config["training"].items() if k != "disable_tqdm"}
    # first the digest by which the run or its trunk knows the data, then the current and former
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
    """Whether this is the process that writes; works even before torch has set up the others."""
    return os.environ.get("RANK", "0") == "0"


def difference(
    config_file: Path, config: dict[str, Any], may_differ: tuple[str, ...] = ()
) -> str | None:
    """First setting in which a saved config differs, as text; None if there is none.

    Args:
        config_file: config.yaml of a run; if it is missing, nothing differs.
        config: The config to compare with it.
        may_differ: Dotted keys to ignore.
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
    """First setting in which two configs differ, as text; None if there is none."""
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
