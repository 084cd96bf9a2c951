"""Every preset trains: a few steps on the CPU, with all of its settings but the shape."""

import json
from pathlib import Path

import pytest
import yaml
from study_trial import copy_configs, data_presets
from training_data import CONFIGS, make_dataset, train_tiny

from training.config import resolve_config
from training.run.run_folder import RUNS
from training.study.study_plan import is_finished, plan_study

SIZES = sorted(
    path.stem for path in CONFIGS.glob("*.yaml") if "model_type" in path.read_text("utf-8")
)
STUDIES = sorted(path.stem for path in CONFIGS.glob("studies/*.yaml"))
BLOCKS_PER_STEP = 8
SHRUNK = (
    *("data.dataset=tiny", "training.disable_tqdm=true", "training.warmup_steps=0"),
    *("model.hidden_size=48", "model.num_hidden_layers=1"),  # 48: each preset keeps its heads
    *(
        f"budget.global_batch_tokens={BLOCKS_PER_STEP * 32}",
        "training.per_device_eval_batch_size=8",
    ),
    f"training.per_device_train_batch_size={BLOCKS_PER_STEP}",
    "training.torch_compile=false",  # compiling takes longer than all of these runs together
)


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """A working directory with one small data set under the name of each data preset."""
    place = tmp_path_factory.mktemp("presets")
    copy_configs(place)
    for preset in data_presets():
        make_dataset(place / "data", preset=preset)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        yield


def model_type_of(size):
    return yaml.safe_load((CONFIGS / f"{size}.yaml").read_text())["model"]["model_type"]


def read_record(study, name):
    return json.loads((RUNS / study / name / "record.json").read_text())


@pytest.mark.parametrize("size", SIZES)
def test_two_steps_of_every_size_end_in_a_record(size):
    assert train_tiny(*SHRUNK, "training.max_steps=2", config=size) == 0
    record = read_record("single", size)
    assert record["n_tokens_seen"] == 2 * BLOCKS_PER_STEP * 31
    assert record["model_type"] == model_type_of(size)
    saved = yaml.safe_load((RUNS / "single" / size / "config.yaml").read_text())
    wanted = resolve_config(CONFIGS / f"{size}.yaml", [])["training"]
    assert saved["training"].get("bf16") == wanted.get("bf16")


def families_in(study):
    """Model types of a study's size files."""
    sizes = yaml.safe_load((CONFIGS / "studies" / f"{study}.yaml").read_text())["sizes"]
    return sorted({model_type_of(size["config"]) for size in sizes})


@pytest.mark.parametrize(
    ("study", "family"), [(study, family) for study in STUDIES for family in families_in(study)]
)
def test_cell_of_every_study_ends_in_records_of_all_its_runs(study, family):
    path = Path("configs", "studies", f"{study}.yaml")
    is_branched = "budget.branches" in path.read_text()
    # two steps; where there are branches, three, and a branch of two
    length = ("tokens=[768]", "budget.branches=[512]") if is_branched else ("tokens=[512]",)
    if "data.unique_tokens" in path.read_text():  # fewer than these data have
        length = (*length, "data.unique_tokens=1000")
    runs = plan_study(path, [*SHRUNK, *length]).runs
    cell, run = next((c, r) for c, r in runs if r.config["model"]["model_type"] == family)
    assert train_tiny(*cell.overrides, config=Path(cell.config)) == 0
    assert is_finished(cell, run)
    assert len(cell.run_names) == 1 + is_branched
    last = read_record(run.config["study"], cell.run_names[-1])
    assert last["n_tokens_seen"] == 2 * BLOCKS_PER_STEP * 31


def test_presets_in_bf16_are_among_them():
    in_bf16 = [path for path in CONFIGS.rglob("*.yaml") if "bf16: true" in path.read_text()]
    assert {CONFIGS / "bases/best.yaml", CONFIGS / "studies/gpu.yaml"} <= set(in_bf16)
    assert resolve_config(CONFIGS / "gpt_best.yaml", [])["training"]["bf16"] is True


@pytest.mark.parametrize(("unit", "is_told"), [("amx_bf16", False), ("avx512_f", True)])
def test_bf16_where_the_processor_lacks_it_is_told(unit, is_told, monkeypatch, caplog):
    features = {"architecture": "x86_64", unit: True}
    monkeypatch.setattr("training.arguments.processor", lambda: features)
    assert train_tiny(*SHRUNK, f"name={unit}", "training.max_steps=1", "training.bf16=true") == 0
    assert ("no instructions for bf16" in caplog.text) == is_told
