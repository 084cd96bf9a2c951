import json
import shutil

import pytest
import yaml
from study_trial import (
    BRANCHED,
    TINY,
    copy_configs,
    counted_work,
    data_presets,
    is_validation,
    planned_names,
    read_log,
    read_plan,
    write_study,
)
from training_data import CONFIGS, make_dataset
from warm_processes import WarmChild

from scaling.counts import ModelShape, count_parameters
from scaling.families import FAMILIES
from training.budget import short_count
from training.run.run_folder import RUNS
from training.study.__main__ import main
from training.study.study_plan import plan_study


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory with a data set, where cells start as forks, in no time."""
    monkeypatch.setattr("training.study.study_runner.start_child", WarmChild)
    make_dataset(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def configs(place):
    return copy_configs(place)


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


def test_every_study_of_the_project_has_known_sizes(place, configs):
    for preset, length in data_presets().items():
        make_dataset(place / "data", "music21", preset, block_length=length)
    for path in configs.glob("studies/*.yaml"):
        study = plan_study(path, ["data.dataset=music21"])
        assert len(study.runs) >= 2
        assert all(len(cell.name) < 40 for cell, _ in study.runs)
        # single-thread runs side by side: their time is that of the processor
        base = yaml.safe_load(path.read_text()).get("base")
        on_cpus = {"columns": {"train_seconds": "train_cpu_seconds"}}
        demo = {"objective": "squares"} if study.name == "demo" else {}
        assert study.fit == (on_cpus if base else demo)


def test_fit_follows_the_study_file_as_it_is_now(place, capsys):
    path = write_study([{"config": "gpt_tiny"}], fit={"objective": "squares"})
    assert main([str(path), "--folder"]) == 0
    assert not RUNS.exists()
    (RUNS / "trial").mkdir(parents=True)
    for fit in ({"objective": "squares"}, {}):
        write_study([{"config": "gpt_tiny"}], fit=fit)
        capsys.readouterr()
        assert main([str(path), "--folder"]) == 0
        assert capsys.readouterr().out == f"{RUNS / 'trial'}\n"
        assert json.loads((RUNS / "trial" / "fit.json").read_text()) == fit


def test_demo_pairs_all_families_by_size(place):
    make_dataset(place / "data", "music21", "demo", block_length=256)
    study = plan_study(CONFIGS / "studies/demo.yaml")
    assert len(study.runs) == 5 * len(FAMILIES)
    flops = [cell.flops_train for cell, _ in study.runs]
    assert max(flops) / min(flops) > 50


def test_cpu_study_pairs_both_families_at_four_token_counts(place, configs):
    make_dataset(place / "data", "dev", "study_cpu", block_length=256)
    study = plan_study(configs / "studies/cpu.yaml")
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


def test_rule_for_learning_rates_goes_by_the_model_that_is_trained(place):
    families = {"abc_gpt": {"rule": {"c": 0.0, "g": 0.5}}}
    (place / "rule.json").write_text(json.dumps({"families": families}))
    path = write_study([{"config": "gpt_tiny"}], learning_rate_rule="rule.json")

    def rate(*overrides):
        ((_, run),) = plan_study(path, overrides).runs
        names = ("model_type", "hidden_size", "num_hidden_layers")
        shape = ModelShape(*(run.config["model"][name] for name in names), 64, 32)
        expected = count_parameters(shape).non_embedding ** -0.5
        return run.config["training"]["learning_rate"], expected

    for overrides in ((), ("model.hidden_size=32",), ("model.num_hidden_layers=3",)):
        found, expected = rate(*overrides)
        assert found == pytest.approx(expected, rel=0.01)
    assert rate("training.learning_rate=0.5")[0] == 0.5


def test_cell_with_branches_gives_a_record_a_branch(place, capsys):
    make_dataset(place / "data", preset="trial")  # a preset with a name of its own
    sizes = [{"config": "gpt_tiny", "name": "small", "data.preset": "trial"}]
    path = write_study(sizes, tokens=[4096], overrides=BRANCHED)
    names = ["small_t2048_s1", "small_t3072_s1", "small_t4096_s1"]
    assert main([str(path), "--dry-run"]) == 0
    assert sorted(planned_names(capsys.readouterr().out)) == names
    work = counted_work(plan_study(path).runs[0])
    assert work[0] == 16 + 2 + 3
    assert main([str(path), "--no-estimate"]) == 0
    output = capsys.readouterr()
    assert "3 of 3 runs of trial finished" in output.out
    assert f"{(16 + 2 + 3) * 8 * 31 / 1000:.2f}k/" in output.err  # the bar, in tokens
    assert sorted(read_plan()["runs"]) == names
    records = [json.loads((RUNS / "trial" / n / "record.json").read_text()) for n in names]
    assert {record["trunk_id"] for record in records} == {"small_t4096_s1"}
    planned = plan_study(path).runs[0][0]
    branches = {branch.name: branch for branch in planned.branches}
    logs = {name: read_log(name) for name in names}
    n_validations = sum(is_validation(line) for line in logs[names[2]])
    for branch in branches.values():
        own = [line for line in logs[branch.name] if line["n_tokens"] > branch.n_tokens_shared]
        n_validations += sum(map(is_validation, own))
    assert work[1] == n_validations
    assert {(record["tokenizer"], record["preset"]) for record in records} == {("char", "trial")}
    for record in records[:2]:
        assert record["n_tokens_seen"] == branches[record["name"]].n_tokens
        assert record["flops_train"] == branches[record["name"]].flops_train
    (RUNS / "trial" / names[0] / "record.json").unlink()  # a branch alone is missing
    kept = (RUNS / "trial" / names[2] / "record.json").stat().st_mtime_ns
    assert main([str(path), "--no-estimate"]) == 0
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
        ({"overrides": BRANCHED, "tokens": [3072]}, "branches contains 3,072.*below budget.tokens"),
        ({"overrides": BRANCHED, "tokens": [4096, 8192]}, "two cells .* are named .*_t.*_s1"),
        ({"sizes": [{"config": "gpt_tny"}]}, "did you mean .*gpt_tiny"),
        ({"sizes": [{"config": "gpt_tiny"}, {"config": "gpt_tiny"}]}, "two cells .* are named"),
        ({"overrides": {**TINY, "model.hiden_size": 2}}, "did you mean model.hidden_size"),
        ({"overrides": {**TINY, "data.dataset": "nowhere"}}, "data/nowhere not found"),
        ({"fit": {"objectiv": "squares"}}, "unknown key fit.objectiv .*did you mean objective"),
        ({"fit": {"objective": "square"}}, "fit.objective is 'square' .*did you mean squares"),
        ({"fit": {"columns": {"train_second": "x"}}}, "fit.columns .*nearest is 'train_seconds'"),
        ({"fit": {"columns": ["x"]}}, "expected our column: column in runs.csv"),
        ({"fit": "squares"}, "fit is 'squares' .*expected a mapping"),
        ({"seeds": [-1]}, "seeds .* contain -1, expected .* 0 or more"),
        ({"seeds": [True]}, "seeds .* contain True, expected whole numbers"),
        ({"tokens": [0]}, "tokens .* contain 0, expected .* 1 or more"),
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
    names = planned_names(capsys.readouterr().out)
    assert names == ["gpt_tiny_t2048_s1", "gpt_tiny_t2048_s2"]
    assert not RUNS.exists()


def test_kept_records_count_as_done_where_settings_and_data_are_equal(place, capsys):
    sizes = [
        {"config": "gpt_tiny"},
        {"config": "lstm_tiny", "tokens": [1024], "budget.branches": []},
    ]
    path = write_study(sizes, tokens=[4096], overrides=BRANCHED, records="kept/records.jsonl")
    assert main([str(path), "--no-estimate"]) == 0
    assert "4 of 4 runs of trial finished" in capsys.readouterr().out
    kept = (place / "kept" / "records.jsonl").read_text()
    folders = sorted((RUNS / "trial").glob("*/record.json"))
    records = {folder.parent.name: folder.read_text() for folder in folders}
    assert len(kept.splitlines()) == len(records) == 4
    assert "lstm_tiny_t1024_s1" in records
    shutil.rmtree(RUNS)
    assert main([str(path), "--no-estimate"]) == 0
    assert "4 of 4 runs of trial finished" in capsys.readouterr().out
    assert {folder.parent.name: folder.read_text() for folder in folders} == records
    assert not list(RUNS.glob("*/*/log.jsonl"))  # nothing was trained
    shutil.rmtree(RUNS)
    assert main([str(path), "--dry-run", "training.learning_rate=0.5"]) == 0
    assert not list(RUNS.glob("*/*/record.json"))
    assert (place / "kept" / "records.jsonl").read_text() == kept


def test_counts_are_short_in_names():
    assert [short_count(n) for n in (2_000_000, 1_500_000, 10**9, 2048)] == [
        "2M",
        "1500k",
        "1B",
        "2048",
    ]


def test_one_cell_runs_by_its_number(place, capsys):
    path = str(write_study([{"config": "gpt_tiny"}, {"config": "lstm_tiny"}], seeds=(1, 2)))
    assert main([path, "--count"]) == 0
    assert capsys.readouterr().out == "4\n"
    assert main([path, "--dry-run"]) == 0
    names = planned_names(capsys.readouterr().out)
    assert main([path, "--index", "3"]) == 0
    assert [p.parent.name for p in RUNS.glob("trial/*/record.json")] == [names[3]]
    assert f"cell 3 finished: runs/trial/{names[3]}" in capsys.readouterr().out
    assert read_plan()["runs"] == names
    # a finished cell keeps its number, and is not trained again
    assert main([path, "--index", "3"]) == 0
    assert f"cell 3, runs/trial/{names[3]}, is finished" in capsys.readouterr().out
    assert main([path, "--dry-run"]) == 0
    assert planned_names(capsys.readouterr().out) == names


def test_output_of_another_task_that_trains_the_same_cell_is_kept(place):
    path = write_study([{"config": "gpt_tiny"}])
    ((_, run),) = plan_study(path).runs
    log = run.path / "train.log"
    log.parent.mkdir(parents=True)
    log.write_text("line of another task\n")
    assert main([str(path), "--index", "0"]) == 0
    first, *own = log.read_text().splitlines()
    assert first == "line of another task"
    assert any("validation loss" in line for line in own)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--index", "2"], "--index is 2, but trial has 2 cells; expected 0 to 1"),
        (["--index", "-1"], "--index is -1, but trial has 2 cells; expected 0 to 1"),
        (["--jobs", "0"], "--jobs is 0, expected 1 or more"),
        (["sizes=[]"], "sizes is [] in .*, expected a list"),
        (["budget.tokens=5"], "would be the same in all cells; write tokens="),
        (["no_equals"], "override 'no_equals' has no '='"),
    ],
)
def test_wrong_command_is_one_line(arguments, message, place, capsys):
    path = write_study([{"config": "gpt_tiny"}], seeds=(1, 2))
    assert main([str(path), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    with pytest.raises(ValueError, match=f"^error: .*{message}".replace("[]", r"\[\]")):
        raise ValueError(error)
    assert not RUNS.exists()


def test_study_file_that_is_not_there_is_one_line(place, capsys):
    write_study([{"config": "gpt_tiny"}])
    assert main([str(RUNS.parent / "study_tral.yaml")]) == 2
    assert "did you mean study_trial.yaml?" in capsys.readouterr().err


def test_studies_share_what_stands_in_their_base(place):
    path = write_study([{"config": "gpt_tiny"}], base="base_trial.yaml")
    base = RUNS.parent / "base_trial.yaml"
    base.write_text(yaml.safe_dump({"overrides": {"training.seed": 9, "model.hidden_size": 8}}))
    ((_, run),) = plan_study(path).runs
    assert run.config["model"]["hidden_size"] == 16  # the study's own
    base.write_text(yaml.safe_dump({"overrides": {"training.warmup_steps": 7}}))
    ((_, run),) = plan_study(path).runs
    assert run.config["training"]["warmup_steps"] == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"overrides": {}, "name": "other"},
            "contains name, overrides; expected only overrides and fit",
        ),
        ({"overrides": [1]}, "expected dotted keys with values"),
    ],
)
def test_base_that_is_more_than_overrides_is_one_clear_error(place, content, message):
    path = write_study([{"config": "gpt_tiny"}], base="base_trial.yaml")
    (RUNS.parent / "base_trial.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message):
        plan_study(path)
