"""Experiment trackers: off by default, and a one-line error if their package is missing."""

import importlib.util
import json
import sys

import pytest
from training_data import TINY, make_dataset, train_tiny

from training.run.run_folder import RUNS

SETTINGS = (*TINY, "data.dataset=tiny", "training.logging_steps=4", "training.eval_steps=6")
# stands in for the package, whose files only itself can read
WRITER = """
import json
from pathlib import Path

class SummaryWriter:
    def __init__(self, log_dir):
        Path(log_dir).mkdir(parents=True, exist_ok=True)
        self.file = open(Path(log_dir) / "events.jsonl", "a")
    def add_text(self, *args): pass
    def add_scalar(self, *args): print(json.dumps(args), file=self.file)
    def flush(self): self.file.flush()
    def close(self): self.file.close()
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    make_dataset(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("tracker", ["tensorboard", "trackio", "wandb"])
def test_tracker_that_is_not_installed_is_one_line(tracker, place, capsys):
    if importlib.util.find_spec(tracker):
        pytest.skip(f"{tracker} is installed")
    assert train_tiny(*SETTINGS, f"training.report_to={tracker}") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: training.report_to names {tracker}")
    assert f"pip install {tracker}" in error
    assert error.count("\n") == 1
    assert not (RUNS / "single").exists()


def test_unknown_tracker_is_one_line(place, capsys):
    assert train_tiny(*SETTINGS, "training.report_to=tensorbord") == 2
    error = capsys.readouterr().err
    assert "tensorbord" in error
    assert error.count("\n") == 1


@pytest.mark.skipif(
    bool(importlib.util.find_spec("tensorboard")), reason="the real package would be taken"
)
def test_tracker_gets_losses_and_learning_rates_by_step(place, monkeypatch):
    (place / "packages").mkdir()
    (place / "packages" / "tensorboardX.py").write_text(WRITER)
    monkeypatch.syspath_prepend(place / "packages")
    assert train_tiny(*SETTINGS, "training.report_to=tensorboard") == 0
    monkeypatch.delitem(sys.modules, "tensorboardX")
    (events,) = (RUNS / "single" / "gpt_tiny").rglob("events.jsonl")
    logged = {}
    for name, value, step in map(json.loads, events.read_text().splitlines()):
        logged.setdefault(name, {})[step] = value
    assert list(logged["train/loss"]) == list(logged["train/learning_rate"]) == [4, 8, 12]
    (validation,) = (values for name, values in logged.items() if "validation_loss" in name)
    assert list(validation) == [6, 12]
    log = (RUNS / "single" / "gpt_tiny" / "log.jsonl").read_text().splitlines()
    lines = [line for line in map(json.loads, log) if "validation_loss_nats_per_token" in line]
    assert list(validation.values()) == [line["validation_loss_nats_per_token"] for line in lines]


@pytest.mark.skipif(not importlib.util.find_spec("tensorboard"), reason="needs tensorboard")
def test_files_of_tensorboard_are_left_in_the_run_folder(place):
    assert train_tiny(*SETTINGS, "training.report_to=tensorboard") == 0
    assert list((RUNS / "single" / "gpt_tiny").rglob("events.out.tfevents*"))


def test_tracker_is_no_setting_of_the_run(place, monkeypatch, capsys):
    """A run that goes on with another tracker, or with none, is the same run."""
    assert train_tiny(*SETTINGS, "training.report_to=[]") == 0
    assert train_tiny(*SETTINGS) == 0
    assert "is finished" in capsys.readouterr().out
