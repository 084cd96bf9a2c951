"""The study of a GPU's minutes, rehearsed on the CPU with models of a few thousand parameters."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time

import pytest
import yaml
from safetensors.torch import load_file
from study_trial import BRANCHED
from training_data import CONFIGS, PROJECT, make_dataset
from warm_processes import WarmChild

from training import bundle
from training.gpu_study.__main__ import main
from training.gpu_study.cells import Costs, part_of_device, seconds_expected
from training.study.kept_records import Records
from training.study.study_plan import plan_study

SIZES = [
    {"config": "gpt_tiny", "name": "gpt_s"},
    {"config": "lstm_tiny", "name": "lstm_s"},
    {"config": "llama_tiny", "name": "llama_s", "model.num_attention_heads": 2},
    {"config": "gpt_tiny", "name": "gpt_m", "model.hidden_size": 32},
]
# what two runs of the same settings need not have in common
OF_A_SESSION = {
    *("train_seconds", "train_cpu_seconds", "train_seconds_spent", "tokens_per_second"),
    *("flops_per_second", "commit", "machine", "model_flops_utilisation"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A bundle and a study beside it; cells start as forks."""
    folder = tmp_path_factory.mktemp("gpu_study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.study.study_runner.start_child", WarmChild)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.chdir(folder)
        write_study(folder)
        yield folder


@pytest.fixture(scope="module")
def whole(place):
    """The folder of a finished call, and what it said."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main(call("whole")) == 0
    return place / "whole", said.getvalue()


def write_study(place):
    folder = make_dataset(place / "data")
    assert bundle.main([str(folder), "tiny.bundle"]) == 0
    overrides = {k: v for k, v in BRANCHED.items() if k != "data.dataset"}
    overrides |= {"training.bf16": True}
    study = {"name": "rehearsal", "overrides": overrides, "sizes": SIZES, "seeds": [1]}
    for name in ("gpt_tiny", "lstm_tiny", "llama_tiny"):
        text = (CONFIGS / f"{name}.yaml").read_text().replace("bases/", f"{CONFIGS}/bases/")
        (place / f"{name}.yaml").write_text(text)
    (place / "study.yaml").write_text(yaml.safe_dump({**study, "tokens": [4096]}))


def call(out, *more, minutes=5):
    return ["tiny.bundle", "--minutes", str(minutes), "--out", out, "--study", "study.yaml", *more]


def records(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {
        row["record"]["name"]: {k: v for k, v in row["record"].items() if k not in OF_A_SESSION}
        for row in rows
    }


def test_rehearsal_checks_trains_and_leaves_few_files(place, whole):
    out, said = whole
    found = records(out / "records.jsonl")
    sizes = [size["name"] for size in SIZES]
    assert set(found) == {f"{size}_t{d}_s1" for size in sizes for d in (2048, 3072, 4096)}
    assert {record["precision"] for record in found.values()} == {"bf16"}
    report = json.loads((out / "report.json").read_text())
    assert [check["check"] for check in report["checks"]] == ["precision", "resume", "greedy"]
    assert all(check["passed"] for check in report["checks"])
    assert {speed["name"] for speed in report["speeds"]} == {f"{size}_t4096_s1" for size in sizes}
    weights = load_file(out / "weights-0.safetensors")
    assert {name.partition("/")[0] for name in weights} == set(report["weights"])
    assert len(list(out.iterdir())) <= 8
    assert not (place / "whole.work").exists()
    assert "4 of 4 cells are missing" in said


def test_call_that_is_killed_is_gone_on_with_to_the_same_records(place, whole):
    command = [sys.executable, "-m", "training.gpu_study", *call("killed", "--no-checks")]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    killed = place / "killed" / "records.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (killed.is_file() and killed.read_text()):
        time.sleep(0.05)
    process.kill()
    process.wait()
    n_before = len(records(killed))
    assert main(call("rest", "--no-checks", "--done", str(killed))) == 0
    assert records(place / "rest" / "records.jsonl") == records(whole[0] / "records.jsonl")
    assert n_before > 0


def test_no_cell_is_begun_that_would_not_end_in_time(place, capsys):
    assert main(call("short", "--no-checks", minutes=0.01)) == 0
    assert records(place / "short" / "records.jsonl") == {}
    (place / "other.jsonl").write_text('{"no": "record"}\n')
    assert main(call("bad", "--done", "other.jsonl")) == 2
    assert "other.jsonl, line 1: not a record of a run" in capsys.readouterr().err


def test_cells_of_other_settings_are_not_done(place, whole):
    assert main(call("none", "--no-checks", "training.seed_=1")) == 2  # an unknown key
    study = plan_study(place / "study.yaml", ["data.root=tiny.bundle", "data.dataset=latest"])
    other = plan_study(
        place / "study.yaml",
        ["data.root=tiny.bundle", "data.dataset=latest", "training.weight_decay=0.2"],
    )
    done = Records(place / "again.jsonl", whole[0] / "records.jsonl")
    assert all(done.hold(*planned) for planned in study.runs)
    assert not any(done.hold(*planned) for planned in other.runs)


def test_expected_seconds_follow_the_peak_and_what_was_seen(place):
    study = plan_study(place / "study.yaml", ["data.root=tiny.bundle", "data.dataset=latest"])
    cell, run = study.runs[0]
    assert seconds_expected(cell, run, Costs("cpu", None)) is None
    known, slower = Costs("gpu", 1e9), Costs("gpu", 1e9, [2.0, 2.0])
    start = seconds_expected(cell, run, Costs("gpu", 1e30))
    ratio = (seconds_expected(cell, run, slower) - start) / (
        seconds_expected(cell, run, known) - start
    )
    assert ratio == pytest.approx(2.0)
    assert part_of_device(cell) < 1
