from itertools import pairwise

import pytest
from study_trial import write_study
from training_data import make_dataset

from training.run.run_folder import RUNS
from training.study.__main__ import main
from training.study.gpus import find_gpus

STUB = """
# the first run ends after another one, whose name is in the environment
import os, pathlib, sys, time
given = dict(text.split("=", 1) for text in sys.argv[2:])
begin = time.monotonic()
study = pathlib.Path("runs", given["study"])
folder = study / given["name"]
while folder.name.endswith("_s1") and not (study / os.environ["AFTER"] / "seen").exists():
    time.sleep(0.05)
(folder / "record.json").write_text("{}")
(folder / "seen").write_text(f"{os.environ.get('CUDA_VISIBLE_DEVICES')} {begin} {time.monotonic()}")
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    make_dataset(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def listed(place, monkeypatch):
    """A machine whose nvidia-smi lists what the test says, with a train.py that only waits."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(place / "bin"))
    monkeypatch.setattr("training.study.gpus.DEVICES", place / "dev")
    (place / "bin").mkdir()
    (place / "stub.py").write_text(STUB)
    monkeypatch.setattr("training.study.study_runner.TRAIN", place / "stub.py")

    def write(text, code=0):
        tool = place / "bin" / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\necho '{text}'\nexit {code}\n")
        tool.chmod(0o755)

    return write


def seen(name):
    gpu, begin, end = (RUNS / "trial" / name / "seen").read_text().split()
    return gpu, float(begin), float(end)


def test_each_gpu_has_one_run_at_a_time_and_the_free_one_gets_the_next(listed, monkeypatch):
    monkeypatch.setenv("AFTER", "gpt_tiny_t2048_s3")
    listed("GPU 0: H100 (UUID: GPU-a)\nGPU 1: H100 (UUID: GPU-b)")
    path = write_study([{"config": "gpt_tiny"}], seeds=(1, 2, 3, 4))
    assert main([str(path), "--no-estimate"]) == 0
    runs = {seed: seen(f"gpt_tiny_t2048_s{seed}") for seed in (1, 2, 3, 4)}
    assert [runs[seed][0] for seed in (1, 2, 3)] == ["GPU-a", "GPU-b", "GPU-b"]
    for gpu in ("GPU-a", "GPU-b"):
        times = sorted(run[1:] for run in runs.values() if run[0] == gpu)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(times))
    assert runs[2][1] < runs[1][2]  # side by side


def test_more_jobs_than_gpus_share_them(listed, monkeypatch):
    monkeypatch.setenv("AFTER", "gpt_tiny_t2048_s2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    path = write_study([{"config": "gpt_tiny"}], seeds=(1, 2))
    assert main([str(path), "--no-estimate", "--jobs", "2"]) == 0
    first, second = (seen(f"gpt_tiny_t2048_s{seed}") for seed in (1, 2))
    assert first[0] == second[0] == "3"
    assert second[1] < first[2]


@pytest.mark.parametrize(
    ("outer", "gpus"), [("3,5", ["3", "5"]), ("1, GPU-c", ["1", "GPU-c"]), ("0,-1,2", ["0"])]
)
def test_gpus_of_the_environment_are_respected(outer, gpus, listed, monkeypatch):
    listed("GPU 0: H100 (UUID: GPU-a)")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", outer)
    assert find_gpus() == gpus


@pytest.mark.parametrize("outer", ["", "-1"])
def test_gpus_that_the_environment_hides_are_not_found(outer, listed, monkeypatch):
    listed("GPU 0: H100 (UUID: GPU-a)")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", outer)
    assert find_gpus() == []


def test_gpus_are_found_with_and_without_nvidia_smi(listed, place):
    assert find_gpus() == []
    (place / "dev").mkdir()
    for name in ("nvidiactl", "nvidia-uvm", "nvidia10", "nvidia2"):
        (place / "dev" / name).touch()
    assert find_gpus() == ["2", "10"]
    listed(
        "GPU 0: A100 (UUID: GPU-a)\n  MIG 3g.20gb Device 0: (UUID: MIG-b)\n"
        "  MIG 3g.20gb Device 1: (UUID: MIG-c)\nGPU 1: A100 (UUID: GPU-d)"
    )
    assert find_gpus() == ["MIG-b", "MIG-c", "GPU-d"]
    listed("NVIDIA-SMI has failed because it could not communicate with the driver", code=9)
    assert find_gpus() == ["2", "10"]
