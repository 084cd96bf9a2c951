import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from study_trial import BRANCHED, counted_work, read_plan, write_study
from training_data import PROJECT, make_dataset
from warm_processes import WarmChild

from training.data.data_files import locate_data
from training.run.run_folder import RUNS
from training.study import __main__ as study_command
from training.study.__main__ import main
from training.study.study_hours import RENTED, duration
from training.study.study_plan import plan_study
from training.study.timing import Speed, seconds_left, simulate


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory with a data set, where cells start as forks, in no time."""
    monkeypatch.setattr("training.study.study_runner.start_child", WarmChild)
    make_dataset(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_study_says_how_long_it_takes_survives_failed_cells_and_runs_what_is_missing(
    place, capsys, monkeypatch
):
    """One study for all of this, since those that measure import torch, which takes seconds."""
    estimates = []
    measure = study_command.estimate
    monkeypatch.setattr(
        study_command, "estimate", lambda *given: estimates.append(measure(*given)) or estimates[-1]
    )
    good = {"config": "gpt_tiny", "name": "good", "seeds": [1, 2]}
    hot = {"config": "lstm_tiny", "name": "hot"}
    bad = {"config": "gpt_tiny", "name": "bad", "model.num_attention_heads": 3}
    path = write_study([good, {**hot, "training.learning_rate": 1.0e30}, bad])
    assert main([str(path), "--jobs", "2"]) == 1
    output = capsys.readouterr()
    failures = sorted(line for line in output.err.splitlines() if " failed (" in line)
    assert [line.split("_")[0] for line in failures] == ["bad", "hot"]
    assert "heads" in failures[0]
    assert "lower training.learning_rate" in failures[1]
    lines = output.out.splitlines()
    assert "2 of 4 runs of trial finished" in lines[-2]
    names = ["bad_t2048_s1", "good_t2048_s1", "good_t2048_s2", "hot_t2048_s1"]
    assert sorted(read_plan()["runs"]) == names
    record = read_record("good_t2048_s1")
    assert (record["study"], record["size"], record["seed"]) == ("trial", "good", 1)

    assert lines[0].startswith("measuring the speed of 3 sizes")
    assert lines[1].startswith("bad ")  # of the table, which a dry run prints, what went wrong
    table = {line.split()[0]: line for line in estimates[0].lines}
    assert "not measured: " in table["bad"]
    assert "heads" in table["bad"]
    rate, missing = (table["good"].split()[i].replace(",", "") for i in (1, -1))
    assert int(rate) > 1000
    assert missing == "2"
    seconds = read_plan()["seconds_estimated"]
    assert seconds["jobs"] == 2
    assert seconds["cells"]["bad_t2048_s1"] is None
    # the longest in one job, the two others in the other
    longest, *others = sorted(filter(None, seconds["cells"].values()), reverse=True)
    assert len(others) == 2
    assert seconds["study"] == pytest.approx(max(longest, sum(others)), abs=1.0)
    assert 1 < seconds["study"] < 300
    assert f"about {duration(seconds['study'])} with 2 jobs and 1 cell that could not" in lines[-3]
    assert lines[-1].startswith("took ")

    # the finished cells are not repeated; the changed one gets a folder of its own
    path = write_study([good, {**hot, "training.learning_rate": 0.01}])
    first = time_of_record("good_t2048_s1")
    assert main([str(path), "--jobs", "2", "--no-estimate"]) == 0
    assert time_of_record("good_t2048_s1") == first
    assert sorted(read_plan()["runs"]) == ["good_t2048_s1", "good_t2048_s2", "hot_t2048_s1-2"]
    assert time_of_record("hot_t2048_s1-2") > first
    capsys.readouterr()
    # what is not measured anew stays in the plan; nothing is measured if all is finished
    assert main([str(path)]) == 0
    output = capsys.readouterr().out
    assert "3 of 3 runs of trial finished" in output
    assert "measuring" not in output
    assert read_plan()["seconds_estimated"] == seconds


def read_record(name):
    return json.loads((RUNS / "trial" / name / "record.json").read_text())


def time_of_record(name):
    return (RUNS / "trial" / name / "record.json").stat().st_mtime_ns


def test_stop_while_measuring_leaves_nothing_behind(place):
    path = write_study([{"config": "gpt_tiny"}])
    command = [sys.executable, "-m", "training.study", str(path), "--dry-run", "--estimate"]
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "TMPDIR": str(place)}
    there = set(place.iterdir())
    study = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    child = wait_for_child(study, "training.study.timing")
    study.send_signal(signal.SIGTERM)
    assert "repeat the command to run what is missing" in study.communicate(timeout=300)[1]
    assert study.returncode == 130
    assert not is_alive(child)
    assert set(place.iterdir()) == there


def wait_for_child(parent, module):
    """The id of a child that runs this module: not one between fork and exec, nor another."""
    while parent.poll() is None:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        for pid in children:
            with suppress(OSError):
                if module in Path("/proc", pid, "cmdline").read_text().split("\0"):
                    return pid
        time.sleep(0.02)
    raise AssertionError(f"it ended without such a child: {parent.communicate()[1]}")


def is_alive(pid):
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_cells_start_when_a_job_is_free():
    assert simulate([5, 4, 3, 3, 3], jobs=2) == 10  # 5 + 3 beside 4 + 3 + 3
    assert simulate([5, 4, 3, 3, 3], jobs=8) == 5
    assert simulate([], jobs=2) == 0
    spoken = [duration(s) for s in (49.6, 170, 660, 6600, 360_000)]
    assert spoken == ["50 s", "2 min 50 s", "11 min", "1 h 50 min", "4 days 4 h"]


def test_time_left_of_a_cell_is_that_of_the_steps_to_come(place):
    planned = plan_study(write_study([{"config": "gpt_tiny"}], tokens=[256_000])).runs[0]
    songs = pq.read_table(locate_data(planned[1].config).tokens / "validation.parquet")
    n_targets = sum(len(ids) + 1 for ids in songs["input_ids"].to_pylist())
    n_steps, n_validations = counted_work(planned)
    assert n_steps == 1000
    whole = 1000 + n_validations * n_targets / 3 / (8 * 31)
    assert seconds_left(planned, Speed(5.0, 0.1 / (8 * 31))) == pytest.approx(5 + 0.1 * whole)
    planned[1].path.mkdir(parents=True)
    planned[1].log.write_text(json.dumps({"n_tokens": 750 * 8 * 31}) + "\n")
    assert seconds_left(planned, Speed(5.0, 0.1 / (8 * 31))) == pytest.approx(5 + 0.1 * whole / 4)


def test_hours_follow_from_flops_and_peak(place, capsys):
    sizes = [{"config": "gpt_tiny", "model.hidden_size": 768, "model.num_hidden_layers": 12}]
    overrides = {**BRANCHED, "budget.branches": [10**9]}
    path = write_study(sizes, tokens=[2 * 10**9], overrides=overrides)
    assert main([str(path), "--dry-run"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    cell = plan_study(path).runs[0][0]
    assert lines[1][:2] == ["0", cell.name]
    for column, gpu in ((5, "a100"), (6, "h100")):
        hours = cell.flops_train / (0.25 * RENTED[gpu]) / 3600
        assert float(lines[1][column]) == pytest.approx(hours, abs=0.01)
        # of the branch, its decay: a quarter of half the tokens
        assert float(lines[2][column]) == pytest.approx(hours / 8, abs=0.01)
        total = lines[3][-2:][column - 5]
        assert float(total) == pytest.approx(hours * 9 / 8, abs=0.02)
    assert "25%" in lines[1]
