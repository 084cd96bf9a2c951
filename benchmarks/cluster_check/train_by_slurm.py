"""A small study as an array job of Slurm, with one task killed and requeued."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from .checks import Checks
from .collection import differences
from .commands import PROJECT, environment, run, wait_until
from .slurm_host import Slurm

sys.path.insert(0, str(PROJECT / "tests" / "helpers"))

from training_data import CONFIGS, make_dataset

COMMAND = """\
sbatch --array=0-$(($(python -m training.study $STUDY --count)-1)) --cpus-per-task=1 --requeue \\
  --wrap="python -m training.study $STUDY --index \\$SLURM_ARRAY_TASK_ID\""""
STUDY = {
    "name": "cluster",
    "sizes": [{"config": f"{family}_tiny", "name": family} for family in ("gpt", "lstm", "llama")],
    "tokens": [98_304],
    "seeds": [1],
    "overrides": {
        "data.dataset": "tiny",
        "data.preset": "char",
        "model.num_hidden_layers": 2,
        "model.hidden_size": 32,
        "budget.global_batch_tokens": 256,
        "training.per_device_train_batch_size": 8,
        "training.save_steps": 50,
    },
}
# of record.json: what depends on the speed of the machine
NOT_COMPARED = (
    *("train_seconds", "train_cpu_seconds", "train_seconds_spent"),
    *("tokens_per_second", "flops_per_second", "model_flops_utilisation"),
)
Results = dict[str, dict[str, Any]]


def check(place: Path, slurm: Slurm, checks: Checks) -> None:
    """Trains the study by one process and on Slurm, and kills the first task after a checkpoint.

    Raises:
        CheckError: If a command fails, or what must happen does not.
    """
    alone, array = place / "alone", place / "array"
    for folder in (alone, array):
        study = make_study(folder)
    command = [sys.executable, "-m", "training.study", study, "--jobs", "1", "--no-estimate"]
    run(command, environment(), alone)
    submitted = run(["bash", "-c", COMMAND], {**slurm.env, "STUDY": study}, array)
    victim = f"{submitted.split()[-1]}_0"
    run_name = json.loads((alone / "runs/cluster/plan.json").read_text("utf-8"))["runs"][0]
    folder = array / "runs" / "cluster" / run_name
    wait_until(lambda: list(folder.glob("checkpoints/checkpoint-*/manifest.json")), "a checkpoint")
    slurm.kill_and_requeue(victim)
    slurm.wait_for_all()
    n_restarts, log = slurm.n_restarts(victim), (folder / "train.log").read_text("utf-8")
    resumed = [line for line in log.splitlines() if line.startswith("resuming from")]
    what = "training task killed and requeued by Slurm"
    found = f"task {victim}, {n_restarts} restart, {'; '.join(resumed) or 'not resumed'}"
    checks.tell(n_restarts == 1 and len(resumed) == 1, what, found)
    compare(results(alone), results(array), checks)


def make_study(folder: Path) -> str:
    """Writes a dataset, the size files and a study; returns the path of the study."""
    make_dataset(folder / "data", n_songs=1200)
    (folder / "configs" / "bases").mkdir(parents=True)
    for size in (*(str(size["config"]) for size in STUDY["sizes"]), "bases/base"):
        text = (CONFIGS / f"{size}.yaml").read_text("utf-8")
        (folder / "configs" / f"{size}.yaml").write_text(text, encoding="utf-8")
    study = "configs/cluster.yaml"
    (folder / study).write_text(yaml.safe_dump(STUDY, sort_keys=False), encoding="utf-8")
    return study


def results(folder: Path) -> Results:
    """Returns what is compared -> run -> SHA-256 of the final weights, or record."""
    weights, records = {}, {}
    for path in sorted(folder.glob("runs/cluster/*/record.json")):
        final = (path.parent / "checkpoint" / "model.safetensors").read_bytes()
        record = json.loads(path.read_text("utf-8"))
        weights[path.parent.name] = hashlib.sha256(final).hexdigest()
        records[path.parent.name] = {k: v for k, v in record.items() if k not in NOT_COMPARED}
    return {"weights": weights, "records": records}


def compare(alone: Results, array: Results, checks: Checks) -> None:
    """Checks weights and records of an array job against those of one process."""
    for what, expected in alone.items():
        other = differences(expected, array[what])
        found = f"{len(array[what])} runs, {len(other)} other than those of one process"
        checks.tell(bool(expected) and not other, f"{what} of the array job", found)
