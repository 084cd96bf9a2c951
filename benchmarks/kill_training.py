"""Kill campaign for training: `kill -9` at any time, repeat the command, get the same weights.

    python benchmarks/kill_training.py [--kills 20] [--seed 1] [--families gpt lstm llama gpt_bf16]
        [--out runs/kill_training.json]

A trunk with two branches is trained on a small dataset, once undisturbed and then with repeated
kills, each time in a new process. Every other kill comes at a random time after the process began
to train. The rest come inside a save: the process stops before, halfway through or after a random
operation that writes, moves or removes files, reports it, and sleeps until it is killed. If a
process finishes before its kill, the runs are compared with the undisturbed ones, and the next
round starts from scratch.

Exit status 1 if a weight, a validation loss or a step of the log differs.
"""

import argparse
import hashlib
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from multiprocessing.context import BaseContext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training_kills import MODES, SIZES, Session, Task, log_times

# SHA-256 of the final weights, validation loss, and (step, validation loss or None) of the log
Result = tuple[str, float, list[tuple[int, float | None]]]


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        family: gpt, lstm, llama, or gpt_bf16.
        number: Number of the kill, from 1.
        in_save: Whether it came inside a save.
        where: The operation, or the seconds after the process began to train.
        log_end: Run and step of the last line in any log at that time.
    """

    family: str
    number: int
    in_save: bool
    where: str
    log_end: str


@dataclass
class Outcome:
    """The results for one family.

    Attributes:
        clean: Run -> SHA-256 of the weights, validation loss and log, undisturbed.
        kills: All kills, in order.
        n_rounds: How often the runs finished and were compared.
        differences: One line each; empty if there are none.
        leftovers: Files of finished runs that an undisturbed run does not leave behind.
    """

    clean: dict[str, Result]
    kills: list[Kill] = field(default_factory=list)
    n_rounds: int = 0
    differences: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)


def log_end(place: Path) -> str:
    """Run and step of the most recently written log line."""
    times = log_times(place)
    if not times:
        return "nothing logged"
    newest = max(times, key=lambda log: times[log])
    lines = newest.read_text(encoding="utf-8").splitlines()
    step = json.loads(lines[-1])["step"] if lines else 0
    return f"{newest.parent.name} {step}"


def results(place: Path) -> dict[str, Result]:
    """The result of each finished run."""
    found = {}
    for record in sorted(place.glob("runs/single/*/record.json")):
        run = record.parent
        weights = (run / "checkpoint" / "model.safetensors").read_bytes()
        loss = json.loads(record.read_text(encoding="utf-8"))["loss_nats_per_token"]["validation"]
        lines = map(json.loads, (run / "log.jsonl").read_text(encoding="utf-8").splitlines())
        log = [(line["step"], line.get("validation_loss_nats_per_token")) for line in lines]
        # a run killed after its last step validates again, and logs that twice
        log = list(dict.fromkeys(log))
        found[run.name] = (hashlib.sha256(weights).hexdigest(), loss, log)
    return found


def file_names(place: Path) -> set[str]:
    """The names of all files of the runs."""
    runs = place / "runs" / "single"
    return {path.relative_to(runs).as_posix() for path in runs.rglob("*")}


def run_campaign(
    task: Task,
    n_kills: int,
    seed: int,
    context: BaseContext,
    tell: Callable[[Kill], None] = lambda kill: None,
) -> Outcome:
    """Kill one family `n_kills` times; the last round is allowed to finish.

    Args:
        task: What to train.
        n_kills: Number of kills; every other one inside a save.
        seed: Random seed.
        context: See `Session`.
        tell: Called with each kill.
    """
    chance = random.Random(f"{seed} {task.family}")
    task.make_data()
    clean = task.folder / f"{task.family}_clean"
    n_operations, train_seconds = _run_undisturbed(task, clean, context)
    outcome = Outcome(results(clean))
    place = task.folder / f"{task.family}_killed"
    while len(outcome.kills) < n_kills:
        in_save = len(outcome.kills) % 2 == 1
        if in_save:
            # counted from the start of each process, which gets through at most half of a run
            stop_at = chance.randint(1, max(2, n_operations // 2)), chance.choice(MODES)
            where = Session(task.arguments(), place, context, stop_at).kill_in_save()
        else:
            seconds = chance.uniform(0.0, train_seconds / 2)
            was_killed = Session(task.arguments(), place, context).kill_after(seconds)
            where = f"{seconds:.2f} s after the start" if was_killed else None
        if where:
            number = len(outcome.kills) + 1
            outcome.kills.append(Kill(task.family, number, in_save, where, log_end(place)))
            tell(outcome.kills[-1])
        else:
            _compare(outcome, place, file_names(clean))
    Session(task.arguments(), place, context).finish()
    _compare(outcome, place, file_names(clean))
    return outcome


def _run_undisturbed(task: Task, place: Path, context: BaseContext) -> tuple[int, float]:
    """Returns the number of save operations, and the seconds from the first sign to the end."""
    session = Session(task.arguments(), place, context)
    session.wait_for_first_sign()
    started = time.monotonic()
    return session.finish(), time.monotonic() - started


def _compare(outcome: Outcome, place: Path, clean_files: set[str]) -> None:
    """Compare a finished round with the undisturbed runs, and delete it."""
    outcome.n_rounds += 1
    found = results(place)
    for name in sorted(outcome.clean.keys() | found.keys()):
        if found.get(name) != outcome.clean.get(name):
            outcome.differences.append(
                f"round {outcome.n_rounds}, {name}: {found.get(name)}, undisturbed "
                f"{outcome.clean.get(name)}"
            )
    outcome.leftovers += sorted(file_names(place) - clean_files)
    shutil.rmtree(place)


def parse_options() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="per family")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--families", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--steps", type=int, default=480, help="of the trunk: a multiple of 24")
    parser.add_argument("--out", type=Path, default=Path("runs/kill_training.json"))
    return parser.parse_args()


def tell(kill: Kill) -> None:
    """Print a line about a kill."""
    print(
        f"{kill.family:5} kill {kill.number:3}  {kill.where:55} log at {kill.log_end}", flush=True
    )


def main() -> None:
    """Run the campaign; print a line per kill and a summary."""
    options = parse_options()
    outcomes: dict[str, Outcome] = {}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for family in options.families:
            task = Task(family, options.steps, Path(folder))
            context = multiprocessing.get_context("spawn")
            outcomes[family] = run_campaign(task, options.kills, options.seed, context, tell)
    for family, outcome in outcomes.items():
        n_in_save = sum(kill.in_save for kill in outcome.kills)
        print(
            f"{family}: {len(outcome.kills)} kills, {n_in_save} inside a save; "
            f"{outcome.n_rounds} rounds of {len(outcome.clean)} runs compared, "
            f"{len(outcome.differences)} differences"
        )
        for line in outcome.differences:
            print(f"  {line}")
        for name in sorted(set(outcome.leftovers)):
            print(f"  left over: {name}")
    seconds = round(time.monotonic() - started, 1)
    content = {"seed": options.seed, "seconds": seconds, "steps": options.steps}
    content["families"] = {family: asdict(outcome) for family, outcome in outcomes.items()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"-> {options.out}")
    sys.exit(any(outcome.differences for outcome in outcomes.values()))


if __name__ == "__main__":
    main()
