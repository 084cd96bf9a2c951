"""A study of tiny cells in an empty working directory, for the tests of studies."""

import json
import shutil

import yaml
from training_data import CONFIGS

from scaling.families import FAMILIES
from training.budget import plan_run
from training.data.data_files import locate_data
from training.run.run_folder import RUNS
from training.study.timing import count_validations

TINY = {
    "model.hidden_size": 16,
    "model.num_hidden_layers": 1,
    "budget.global_batch_tokens": 256,
    "training.per_device_train_batch_size": 8,
    "training.logging_steps": 2,
    "data.dataset": "tiny",
}
BRANCHED = {
    **TINY,
    "training.lr_scheduler_type": "warmup_stable_decay",
    "training.lr_scheduler_kwargs": {"decay_type": "1-sqrt"},
    "training.warmup_steps": 2,
    "budget.decay_share": 0.25,
    "budget.branches": [2048, 3072],
}


def data_presets():
    """Block length by name, for the presets that create their own data."""
    presets = {}
    for path in sorted(CONFIGS.glob("data/*.yaml")):
        blocks = yaml.safe_load(path.read_text()).get("blocks", {})
        if "block_length" in blocks:
            presets[path.stem] = blocks["block_length"]
    return presets


def copy_configs(place):
    """Copy the project's configs; the learning-rate rules, which take hours to sweep, are fake."""
    configs = shutil.copytree(CONFIGS, place / "configs")
    names = [family.model_type for family in FAMILIES.values()]
    families = {name: {"rule": {"c": -4.0, "g": 0.1}} for name in names}
    for study in configs.glob("studies/*.yaml"):
        if rule := yaml.safe_load(study.read_text()).get("learning_rate_rule"):
            file = study.parent / rule
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps({"families": families}))
    return configs


def write_study(sizes, tokens=(2048,), seeds=(1,), **more):
    """Write a study of tiny cells; its size files are those of the project."""
    (RUNS.parent / "bases").mkdir(exist_ok=True)
    for name in ("gpt_tiny", "lstm_tiny", "bases/base"):
        (RUNS.parent / f"{name}.yaml").write_text((CONFIGS / f"{name}.yaml").read_text())
    study = {"name": "trial", "overrides": TINY, "sizes": sizes, "tokens": list(tokens)}
    path = RUNS.parent / "study_trial.yaml"
    path.write_text(yaml.safe_dump({**study, "seeds": list(seeds), **more}))
    return path


def planned_names(output):
    """Names of the runs in a dry run's output."""
    lines = [line.split() for line in output.splitlines()]
    return [words[1] for words in lines if words[0].isdigit()]


def read_plan():
    return json.loads((RUNS / "trial" / "plan.json").read_text())


def read_log(name):
    return [json.loads(line) for line in (RUNS / "trial" / name / "log.jsonl").open()]


def is_validation(line):
    return "validation_loss_nats_per_token" in line


def counted_work(planned):
    """Steps and validations of a cell."""
    cell, run = planned
    data = locate_data(run.config)
    plan = plan_run(run.config, data.block_length, data.n_blocks)
    return cell.n_tokens_trained / plan.targets_per_step, count_validations(run.config, plan)
