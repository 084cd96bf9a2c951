import hashlib
import json

import pytest
import yaml
from training_data import TINY, make_dataset, train_tiny

from training.run.branches import branch_name
from training.run.checkpoints import newest_checkpoint
from training.run.progress import BranchPoints, RunLog
from training.run.run_folder import RUNS

STEP = 256  # tokens
WSD = (
    *(text for text in TINY if not text.startswith("training.max_steps")),
    *("data.dataset=tiny", "training.lr_scheduler_type=warmup_stable_decay"),
    *("training.lr_scheduler_kwargs={decay_type: 1-sqrt}", "budget.decay_share=0.25"),
    *("training.warmup_steps=2", f"budget.tokens={16 * STEP}", "training.save_steps=5"),
    "training.logging_steps=5",
)
BRANCHES = f"budget.branches=[{12 * STEP}, {8 * STEP}]"  # they leave after steps 9 and 6
TRUNK, LONG, SHORT = "gpt_tiny", "gpt_tiny_t3072", "gpt_tiny_t2048"


@pytest.fixture
def place(tmp_path, monkeypatch):
    make_dataset(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(name):
    file = RUNS / "single" / name / "checkpoint" / "model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def read_record(name):
    return json.loads((RUNS / "single" / name / "record.json").read_text())


def log_steps(name):
    lines = (RUNS / "single" / name / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def train_alone(n_steps, *overrides, name="alone", config="gpt_tiny"):
    budget = f"budget.tokens={n_steps * STEP}"
    assert train_tiny(*WSD, *overrides, budget, f"name={name}", config=config) == 0
    return weights(name)


def fail_at(monkeypatch, budget_steps, step):
    """Break off the run of that many steps at the end of a step, once."""
    original, is_done = RunLog.on_step_end, []

    def on_step_end(self, args, state, control, **kwargs):
        original(self, args, state, control, **kwargs)
        if (state.max_steps, state.global_step) == (budget_steps, step) and not is_done:
            is_done.append(True)
            raise RuntimeError("power cut")

    monkeypatch.setattr(RunLog, "on_step_end", on_step_end)


@pytest.mark.parametrize("config", ["gpt_tiny", "lstm_tiny"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_branch_equals_the_same_run_trained_alone(config, dropout, place):
    settings = (f"model.dropout={dropout}", "name=trunk")
    layers = "model.num_hidden_layers=2"  # an LSTM drops between its layers
    assert train_tiny(*WSD, *settings, layers, BRANCHES, config=config) == 0
    for n_steps, name in ((16, "trunk"), (12, "trunk_t3072"), (8, "trunk_t2048")):
        alone = train_alone(n_steps, *settings, layers, name=f"alone_{n_steps}", config=config)
        assert weights(name) == alone
        branch, same = read_record(name), read_record(f"alone_{n_steps}")
        assert branch["trunk_id"] == "trunk"
        assert same["trunk_id"] == f"alone_{n_steps}"
        for key in ("n_tokens_seen", "flops_train", "max_steps", "epochs", "validation"):
            assert branch[key] == same[key]
        assert branch["train_seconds_spent"] <= branch["train_seconds"]
    assert len({weights(name) for name in ("trunk", "trunk_t3072", "trunk_t2048")}) == 3


def test_branches_are_runs_with_log_and_config_of_their_own(place, capsys):
    assert train_tiny(*WSD, BRANCHES) == 0
    steps = log_steps(LONG)
    assert steps == sorted(steps)
    assert {5, 6, 9, 10} <= set(steps)
    for name, n_steps in ((TRUNK, 16), (LONG, 12), (SHORT, 8)):
        saved = yaml.safe_load((RUNS / "single" / name / "config.yaml").read_text())
        assert saved["budget"]["tokens"] == n_steps * STEP
        assert saved.get("trunk", TRUNK) == TRUNK
        left = {path.name for path in (RUNS / "single" / name).iterdir()} - {".lock"}
        assert left == {"checkpoint", "config.yaml", "log.jsonl", "record.json"}
    seconds = read_record(LONG)["train_seconds"], read_record(LONG)["train_seconds_spent"]
    assert 0 < seconds[1] < seconds[0]
    times = {name: (RUNS / "single" / name / "record.json").stat() for name in (TRUNK, LONG)}
    capsys.readouterr()
    assert train_tiny(*WSD, BRANCHES) == 0
    assert train_tiny(config=RUNS / "single" / SHORT / "config.yaml") == 0
    assert capsys.readouterr().out.count("is finished") == 4
    for name, before in times.items():
        after = (RUNS / "single" / name / "record.json").stat()
        assert after.st_mtime_ns == before.st_mtime_ns


def test_learning_rate_is_constant_until_the_decay_and_then_falls(place):
    assert train_tiny(*WSD, BRANCHES, "training.logging_steps=1", "training.save_steps=1") == 0
    lines = (RUNS / "single" / LONG / "log.jsonl").read_text().splitlines()
    rates = {
        line["step"]: line["learning_rate"]
        for line in map(json.loads, lines)
        if "learning_rate" in line
    }
    peak = max(rates.values())
    assert [rates[step] for step in range(3, 11)] == [peak] * 8
    assert peak > rates[11] > rates[12] > 0


@pytest.mark.parametrize("config", ["gpt_tiny", "lstm_tiny"])
@pytest.mark.parametrize(
    ("n_steps", "step"),
    [(16, 8), (16, 14), (12, 10), (12, 11)],
    ids=["trunk", "its end", "branch", "its last step"],
)
def test_killed_trunk_or_branch_comes_to_the_same_weights(
    n_steps, step, config, place, monkeypatch
):
    settings = (*WSD, BRANCHES, "model.dropout=0.1", "training.save_steps=2")
    assert train_tiny(*settings, "name=whole", config=config) == 0
    fail_at(monkeypatch, n_steps, step)
    with pytest.raises(RuntimeError, match="power cut"):
        train_tiny(*settings, "name=broken", config=config)
    assert train_tiny(*settings, "name=broken", config=config) == 0
    for suffix in ("", "_t3072", "_t2048"):
        assert weights(f"broken{suffix}") == weights(f"whole{suffix}")
    assert not (RUNS / "single/broken/branch_points").exists()


@pytest.mark.parametrize("way", ["before it is moved", "damaged"])
def test_trunk_goes_on_from_its_own_branch_points(way, place, monkeypatch, caplog):
    settings = (*WSD, BRANCHES, "training.save_steps=100")
    if way == "before it is moved":
        monkeypatch.setattr(BranchPoints, "on_save", lambda *args, **kwargs: None)
    fail_at(monkeypatch, 16, 8)
    with pytest.raises(RuntimeError, match="power cut"):
        train_tiny(*settings)
    monkeypatch.undo()
    monkeypatch.chdir(place)
    if way == "damaged":
        (RUNS / "single" / TRUNK / "branch_points/checkpoint-6/optimizer.pt").write_bytes(b"")
    caplog.set_level("INFO")
    assert train_tiny(*settings) == 0
    starts = [line for line in caplog.messages if line.startswith("resuming from")]
    trunk_start = ["checkpoint-6"] if way == "before it is moved" else []
    assert [line.rpartition("/")[2] for line in starts] == [
        *trunk_start,
        *("checkpoint-6", "checkpoint-9"),
    ]
    for n_steps, name in ((16, TRUNK), (12, LONG), (8, SHORT)):
        assert weights(name) == train_alone(n_steps, name=f"alone_{n_steps}")


@pytest.mark.parametrize("damage", ["newest", "all", "gone"])
def test_branch_without_its_branch_point_is_still_the_same(damage, place, monkeypatch, caplog):
    alone = train_alone(12)
    fail_at(monkeypatch, 12, 10)
    with pytest.raises(RuntimeError, match="power cut"):
        train_tiny(*WSD, BRANCHES)
    points = RUNS / "single" / TRUNK / "branch_points"
    assert sorted(path.name for path in points.iterdir()) == ["checkpoint-6", "checkpoint-9"]
    for path in RUNS.glob(f"single/{LONG}/checkpoints/*/manifest.json"):
        path.unlink()
    for checkpoint in [points / "checkpoint-9"] if damage == "newest" else list(points.iterdir()):
        victim = checkpoint / "optimizer.pt"
        victim.unlink() if damage == "gone" else victim.write_bytes(b"")
    caplog.set_level("INFO")
    caplog.clear()
    assert train_tiny(*WSD, BRANCHES) == 0
    starts = [line for line in caplog.messages if line.startswith("resuming from")]
    assert [line.endswith("checkpoint-6") for line in starts] == (
        [True] if damage == "newest" else []
    )
    assert weights(LONG) == alone
    steps = log_steps(LONG)
    assert steps == sorted(steps)


def test_branch_does_not_start_from_another_run_that_has_the_name_of_its_trunk(place, monkeypatch):
    fail_at(monkeypatch, 12, 10)
    with pytest.raises(RuntimeError, match="power cut"):
        train_tiny(*WSD, BRANCHES)
    settings = (*WSD, "training.seed=2", f"trunk={TRUNK}")
    alone = train_alone(12, "training.seed=2")
    assert train_tiny(*settings, f"budget.tokens={12 * STEP}", "name=other") == 0
    assert weights("other") == alone


def test_points_of_branches_are_no_part_of_the_limit_on_checkpoints(place, monkeypatch):
    settings = (*WSD, BRANCHES, "training.save_steps=1", "training.save_total_limit=1")
    fail_at(monkeypatch, 16, 14)
    with pytest.raises(RuntimeError, match="power cut"):
        train_tiny(*settings)
    folder = RUNS / "single" / TRUNK
    kept = sorted(path.name for path in (folder / "branch_points").iterdir())
    assert kept == ["checkpoint-6", "checkpoint-9"]
    assert newest_checkpoint(folder / "checkpoints", folder / "branch_points").name.endswith("13")
    earlier = newest_checkpoint(folder / "checkpoints", folder / "branch_points", up_to_step=8)
    assert earlier.name == "checkpoint-6"


def test_more_branches_of_a_finished_trunk_leave_it_alone(place, capsys):
    assert train_tiny(*WSD) == 0
    before = weights(TRUNK)
    assert train_tiny(*WSD, BRANCHES) == 0
    assert weights(TRUNK) == before
    assert weights(SHORT) == train_alone(8)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            f"budget.branches=[{16 * STEP}]",
            "contains 4,096, expected above 0 and below budget.tokens",
        ),
        (f"budget.branches=[{2 * STEP}]", "512 gives 2 steps.*after 1, before the 2 warmup steps"),
        ("budget.branches=[100]", "less than one step"),
        ("budget.branches=[2M]", "'2M', expected token counts"),
        ("budget.branches=[2048, 2050]", "steps long; remove"),
        ("training.lr_scheduler_type=cosine", "budget.branches needs .*warmup_stable_decay"),
        ("training.warmup_steps=0.02", "a share of the run.*set a number of steps"),
        ("training.max_steps=12", "length of all branches"),
        ("budget.decay_share=1.5", "decay_share is 1.5.*above 0 and below 1"),
        ("training.lr_scheduler_kwargs={num_decay_steps: 3}", "follows from budget.decay_share"),
        ("budget.branches=3", "expected list"),
    ],
)
def test_impossible_branches_are_one_line(override, message, place, capsys):
    assert train_tiny(*WSD, BRANCHES, override) == 2
    line = capsys.readouterr().err.strip()
    with pytest.raises(ValueError, match=f"^error: .*{message}.*$"):
        raise ValueError(line)
    assert "\n" not in line
    assert not RUNS.exists()


def test_schedule_without_its_share_is_refused(place, capsys):
    assert train_tiny(*(text for text in WSD if "decay_share" not in text)) == 2
    assert "budget.decay_share is not given" in capsys.readouterr().err


def test_names_of_branches_are_those_of_the_cells_of_a_study():
    assert branch_name("gpt_l1_d16_t12M_s1", 12_000_000, 1_500_000) == "gpt_l1_d16_t1500k_s1"
    assert branch_name("gpt_t12M_s1-2", 12_000_000, 3_000_000) == "gpt_t3M_s1-2"
    assert branch_name("gpt_tiny", 12_000_000, 3_000_000) == "gpt_tiny_t3M"
