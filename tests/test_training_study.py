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


PRESETS = (("char", 256), ("demo", 256), ("study_cpu", 256), ("study_b", 5000))
BRANCHED = {
    **TINY,
    "training.lr_scheduler_type": "warmup_stable_decay",
    "training.lr_scheduler_kwargs": {"decay_type": "1-sqrt"},
    "training.warmup_steps": 2,
    "budget.decay_share": 0.25,
    "budget.branches": [2048, 3072],
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
        for preset, length in PRESETS:
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


def test_cpu_study_pairs_both_families_at_four_token_counts(place):
    make_dataset(place / "data", "dev", "study_cpu", block_length=256)
    study = plan_study(CONFIGS / "study_cpu.yaml")
    assert len(study.runs) == 2 * (3 * 3 + 3 * 2)
    names = study.run_names()
    assert len(set(names)) == 4 * len(study.runs)
    for tokens in ("12M", "6M", "3M", "1500k"):
        assert f"gpt_l1_d16_t{tokens}_s3" in names
        assert f"lstm_l2_d221_t{tokens}_s2" in names
    assert "gpt_l4_d128_t12M_s3" not in names
    widest = next(cell for cell, _ in study.runs if cell.name == "gpt_l4_d128_t12M_s1")
    assert widest.n_tokens > 15 * 0.99 * 787_584
    assert widest.n_tokens_trained == pytest.approx(14.1e6, rel=0.01)


def test_seeds_of_the_command_line_hold_for_all_sizes(place):
    sizes = [{"config": "gpt_tiny", "seeds": [1, 2, 3]}, {"config": "lstm_tiny"}]
    path = write_study(sizes)
    seeds = [cell.name[-1] for cell, _ in plan_study(path).runs if cell.name.startswith("gpt")]
    assert sorted(seeds) == ["1", "2", "3"]
    names = sorted(cell.name for cell, _ in plan_study(path, ["seeds=[4]"]).runs)
    assert names == ["gpt_tiny_t2048_s4", "lstm_tiny_t2048_s4"]


def test_cell_with_branches_gives_a_record_a_branch(place, capsys):
    sizes = [{"config": "gpt_tiny", "name": "small"}]
    path = write_study(sizes, tokens=[4096], overrides=BRANCHED)
    names = ["small_t2048_s1", "small_t3072_s1", "small_t4096_s1"]
    assert main([str(path), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines) == names
    assert main([str(path)]) == 0
    output = capsys.readouterr()
    assert "3 of 3 runs of trial finished" in output.out
    assert f"{(16 + 2 + 3) * 8 * 31 / 1000:.2f}k/" in output.err  # the bar, in tokens
    assert sorted(read_plan()["runs"]) == names
    records = [json.loads((RUNS / "trial" / n / "record.json").read_text()) for n in names]
    assert {record["trunk_id"] for record in records} == {"small_t4096_s1"}
    planned = plan_study(path).runs[0][0]
    branches = {branch.name: branch for branch in planned.branches}
    for record in records[:2]:
        assert record["n_tokens_seen"] == branches[record["name"]].n_tokens
        assert record["flops_train"] == branches[record["name"]].flops_train
    (RUNS / "trial" / names[0] / "record.json").unlink()  # a branch alone is missing
    kept = (RUNS / "trial" / names[2] / "record.json").stat().st_mtime_ns
    assert main([str(path)]) == 0
    assert "3 of 3 runs of trial finished" in capsys.readouterr().out
    assert (RUNS / "trial" / names[2] / "record.json").stat().st_mtime_ns == kept
    again = json.loads((RUNS / "trial" / names[0] / "record.json").read_text())
    assert again["validation"] == records[0]["validation"]
    assert again["trunk_id"] == "small_t4096_s1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizs": []}, "unknown key sizs .*did you mean sizes"),
        ({"seeds": []}, "seeds is .* expected a list"),
        ({"tokens": ["2M"]}, "expected whole numbers"),
        ({"sizes": [{"name": "x"}]}, "has no config"),
        ({"sizes": [{"config": "gpt_tiny", "seeds": 2}]}, "seeds is 2 .* expected a list"),
        ({"sizes": [{"config": "gpt_tiny", "seeds": ["a"]}]}, "expected whole numbers"),
        ({"overrides": BRANCHED, "tokens": [3072]}, "branches holds 3,072.*below budget.tokens"),
        ({"overrides": BRANCHED, "tokens": [4096, 8192]}, "two cells .* are named .*_t.*_s1"),
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
