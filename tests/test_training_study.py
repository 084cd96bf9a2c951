import json

import pytest
import yaml
from training_data import CONFIGS, make_dataset

from training.run_folder import RUNS
from training.study import main, plan_study, short_count

TINY = {
    "model.hidden_size": 16,
    "model.num_hidden_layers": 1,
    "budget.global_batch_tokens": 256,
    "training.per_device_train_batch_size": 8,
    "training.logging_steps": 2,
    "data.dataset": "tiny",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    make_dataset(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_study(sizes, tokens=(2048,), seeds=(1,), **more):
    """A study of tiny cells; its size files are those of the project."""
    for name in ("gpt_tiny", "lstm_tiny", "base"):
        (RUNS.parent / f"{name}.yaml").write_text((CONFIGS / f"{name}.yaml").read_text())
    study = {"name": "trial", "overrides": TINY, "sizes": sizes, "tokens": list(tokens)}
    path = RUNS.parent / "study_trial.yaml"
    path.write_text(yaml.safe_dump({**study, "seeds": list(seeds), **more}))
    return path


def read_plan():
    return json.loads((RUNS / "trial" / "plan.json").read_text())


def test_cells_are_sizes_by_tokens_by_seeds_longest_first(place):
    sizes = [
        {"config": "gpt_tiny", "name": "gpt_d8", "model.hidden_size": 8},
        {"config": "lstm_tiny"},
    ]
    study = plan_study(write_study(sizes, tokens=(2_000_000, 1_500_000), seeds=(1, 2)))
    names = [cell.name for cell, _ in study.runs]
    assert sorted(names) == sorted(
        f"{size}_t{tokens}_s{seed}"
        for size in ("gpt_d8", "lstm_tiny")
        for tokens in ("2M", "1500k")
        for seed in (1, 2)
    )
    flops = [cell.flops_train for cell, _ in study.runs]
    assert flops == sorted(flops, reverse=True)
    assert (
        "model.hidden_size=8"
        in next(c for c, _ in study.runs if c.name == "gpt_d8_t2M_s1").overrides
    )


def test_every_study_of_the_project_has_known_sizes(place):
    for path in CONFIGS.glob("study_*.yaml"):
        for preset, length in (("char", 256), ("demo", 256), ("study_b", 5000)):
            if not (place / "data" / "music21" / preset).exists():
                make_dataset(place / "data", "music21", preset, block_length=length)
        study = plan_study(path, ["data.dataset=music21"])
        assert len(study.runs) >= 9
        assert all(len(cell.name) < 40 for cell, _ in study.runs)


def test_demo_pairs_both_families_by_size(place):
    make_dataset(place / "data", "music21", "demo", block_length=256)
    study = plan_study(CONFIGS / "study_demo.yaml")
    assert len(study.runs) == 10
    flops = [cell.flops_train for cell, _ in study.runs]
    assert max(flops) / min(flops) > 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizs": []}, "unknown key sizs .*did you mean sizes"),
        ({"seeds": []}, "seeds is .* expected a list"),
        ({"tokens": ["2M"]}, "expected whole numbers"),
        ({"sizes": [{"name": "x"}]}, "has no config"),
        ({"sizes": [{"config": "gpt_tny"}]}, "did you mean .*gpt_tiny"),
        ({"sizes": [{"config": "gpt_tiny"}, {"config": "gpt_tiny"}]}, "two cells .* are named"),
        ({"overrides": {**TINY, "model.hiden_size": 2}}, "did you mean model.hidden_size"),
        ({"overrides": {**TINY, "data.dataset": "nowhere"}}, "data/nowhere not found"),
    ],
)
def test_wrong_study_is_one_line(change, message, place, capsys):
    path = write_study(**{"sizes": [{"config": "gpt_tiny"}], **change})
    assert main([str(path)]) == 2
    line = capsys.readouterr().err.strip()
    with pytest.raises(ValueError, match=f"^error: .*{message}"):
        raise ValueError(line)


def test_dry_run_runs_nothing(place, capsys):
    assert main([str(write_study([{"config": "gpt_tiny"}])), "--dry-run", "seeds=[1, 2]"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["gpt_tiny_t2048_s1", "gpt_tiny_t2048_s2"]
    assert not RUNS.exists()


def test_counts_are_short_in_names():
    assert [short_count(n) for n in (2_000_000, 1_500_000, 10**9, 2048)] == [
        "2M",
        "1500k",
        "1B",
        "2048",
    ]


def test_study_runs_what_is_missing_and_survives_a_failed_cell(place, capsys):
    good = {"config": "gpt_tiny", "name": "good"}
    bad = {"config": "lstm_tiny", "name": "bad", "training.learning_rate": 1.0e30}
    path = write_study([good, bad])
    assert main([str(path), "--jobs", "2"]) == 1
    failures = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bad_")]
    assert len(failures) == 1
    assert "lower training.learning_rate" in failures[0]
    assert sorted(read_plan()["runs"]) == ["bad_t2048_s1", "good_t2048_s1"]
    first = (RUNS / "trial" / "good_t2048_s1" / "record.json").stat().st_mtime_ns
    record = json.loads((RUNS / "trial" / "good_t2048_s1" / "record.json").read_text())
    assert (record["study"], record["size"], record["seed"]) == ("trial", "good", 1)

    path = write_study([good, {**bad, "training.learning_rate": 0.01}])
    assert main([str(path), "--jobs", "2"]) == 0
    # the finished cell was not repeated; the changed one got a folder of its own
    assert (RUNS / "trial" / "good_t2048_s1" / "record.json").stat().st_mtime_ns == first
    assert sorted(read_plan()["runs"]) == ["bad_t2048_s1-2", "good_t2048_s1"]
    assert (RUNS / "trial" / "bad_t2048_s1-2" / "record.json").is_file()
    assert main([str(path)]) == 0
    assert "2 of 2 runs of trial finished" in capsys.readouterr().out
