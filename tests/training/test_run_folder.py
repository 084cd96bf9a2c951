import errno
import os

import pytest
from training_data import TINY, make_dataset, train_tiny

from training.run.run_folder import RUNS, RunFolder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory with a data set."""
    make_dataset(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("training.run.run_folder.LOCK_WAIT_SECONDS", 0.0)
    return tmp_path


def folder(**settings):
    return RunFolder(RUNS / "single" / "run", {"name": "run", **settings})


def test_folder_in_use_is_left_alone_and_its_process_is_named(place, capsys):
    with RunFolder(RUNS / "single" / "gpt_tiny", {}).locked():
        assert train_tiny(*TINY, "data.dataset=tiny") == 2
    error = capsys.readouterr().err
    assert "another process trains in runs/single/gpt_tiny (process " in error
    assert f"process {os.getpid()} on " in error
    assert not (RUNS / "single" / "gpt_tiny" / "config.yaml").exists()


def test_run_that_finds_its_folder_taken_by_other_settings_trains_nothing_there(place):
    """Both chose the folder when it was empty, and the first has finished since."""
    first, second = folder(seed=1), folder(seed=2)
    with first.locked():
        first.save_config()
    message = r"a run with other settings \(seed 1, now 2\) .* has taken runs/single/run; repeat"
    with pytest.raises(ValueError, match=message), second.locked():
        pass
    with folder(seed=1).locked():
        pass


def test_file_system_without_locks_is_named(place, monkeypatch):
    def flock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    message = r"runs/single/run: its file system has no file locks \(No locks available\)"
    with pytest.raises(OSError, match=message), folder().locked():
        pass
