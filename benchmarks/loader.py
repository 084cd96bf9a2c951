"""Speed of our data loader vs. nanoGPT's `get_batch`: same tokens, same batch size, one thread.

    python benchmarks/loader.py --nanogpt <checkout> [--rounds 7] [--out runs/benchmark_loader.json]

Ours is the path of a training run: the loader that `BudgetTrainer` gives to its loop, opened and
read through one epoch, so the time to shuffle counts. Theirs is the unmodified function `get_batch`
of the checkout's train.py, for as many batches.

Conventions. Speed is targets (tokens with a loss) delivered per CPU second of this process, all
threads. A block of T tokens yields T - 1 targets in ours, since the model shifts the labels, and T
in theirs, which reads one extra token. The tokens are random ids: neither loader looks at them.
Rounds are interleaved, so that changes in machine speed affect both. The ratio of a case is that of
the medians; lowest and highest are over the rounds.

B batch, T block length.
"""

import argparse
import ast
import importlib.util
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training.arguments import training_arguments
from training.budget import RunPlan
from training.config import load_config
from training.data.blocks import BlockOrder, Songs
from training.data.validation import SongEvaluator
from training.run.progress import StopOnSignal, Stopwatch
from training.run.run_folder import RunFolder
from training.run.spikes import SpikeRule
from training.trainer import BudgetTrainer

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "gpt_tiny.yaml"
N_TOKENS = 2**23  # 17 MB: larger than a core's own caches, like a training set
VOCAB_SIZE = 64
ON_CPU = ("training.use_cpu=true", "training.dataloader_pin_memory=false")
# what get_batch needs besides its settings
NANOGPT_IMPORTS = "import os\nimport numpy as np\nimport torch\n\n"


@dataclass(frozen=True)
class Case:
    """One batch shape.

    Attributes:
        block_length: T.
        batch_size: B.
    """

    block_length: int
    batch_size: int

    @property
    def n_batches(self) -> int:
        """Batches in one epoch."""
        return N_TOKENS // self.block_length // self.batch_size


CASES = (Case(256, 8), Case(256, 32), Case(256, 64), Case(1024, 8))


def write_tokens(folder: Path) -> None:
    """Write N_TOKENS random ids as train.npy for us and train.bin, val.bin for nanoGPT."""
    tokens = np.random.default_rng(0).integers(0, VOCAB_SIZE, N_TOKENS, dtype=np.uint16)
    np.save(folder / "train.npy", tokens)
    tokens.tofile(folder / "train.bin")
    tokens[:4096].tofile(folder / "val.bin")


def make_trainer(folder: Path, case: Case) -> BudgetTrainer:
    """The Trainer of a one-epoch run in this shape; its model is never called."""
    settings = [*ON_CPU, f"training.per_device_train_batch_size={case.batch_size}"]
    config = load_config(CONFIG, settings)
    plan = RunPlan(case.n_batches, case.batch_size, case.block_length)
    blocks = np.load(folder / "train.npy", mmap_mode="r").reshape(-1, case.block_length)
    stop = StopOnSignal()
    return BudgetTrainer(
        SongEvaluator(Songs([], {}), 0, case.block_length, case.block_length),
        Stopwatch(),
        stop,
        SpikeRule(None, on_skip=print, on_stop=repr),
        model=torch.nn.Linear(1, 1),
        args=training_arguments(RunFolder(folder / "run", config), plan),
        train_dataset=BlockOrder(blocks, plan, seed=1),
        callbacks=[stop],
    )


def our_speed(folder: Path, case: Case) -> float:
    """Targets per CPU second through the Trainer's loader."""
    trainer = make_trainer(folder, case)
    n_labels = 0
    start = time.process_time()
    for batch in trainer.get_train_dataloader():
        n_labels += batch["labels"].numel()
    seconds = time.process_time() - start
    n_firsts = n_labels // case.block_length  # the first token of a block is not a target
    return (n_labels - n_firsts) / seconds


def nanogpt_speed(get_batch: Callable[[str], tuple[torch.Tensor, torch.Tensor]], n: int) -> float:
    """Targets per CPU second of `n` calls of get_batch."""
    start = time.process_time()
    for _ in range(n):
        _, targets = get_batch("train")
    return n * targets.numel() / (time.process_time() - start)


def load_get_batch(checkout: Path, folder: Path, case: Case) -> Callable[[str], Any]:
    """The function get_batch of a checkout, with the globals it would have in its train.py.

    Raises:
        FileNotFoundError: If the checkout has no train.py.
        ValueError: If train.py has no function get_batch.
    """
    script = checkout / "train.py"
    if not script.is_file():
        raise FileNotFoundError(f"{script} not found; set --nanogpt to a checkout of nanoGPT")
    text = script.read_text(encoding="utf-8")
    functions = [n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)]
    source = [ast.get_source_segment(text, f) for f in functions if f.name == "get_batch"]
    if not source:
        raise ValueError(
            f"{script} has the functions {[f.name for f in functions]}, expected get_batch among "
            "them; set --nanogpt to a checkout of nanoGPT"
        )
    path = folder / "nanogpt_get_batch.py"
    path.write_text(NANOGPT_IMPORTS + source[0] + "\n", encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.data_dir, module.device, module.device_type = str(folder), "cpu", "cpu"
    module.block_size, module.batch_size = case.block_length, case.batch_size
    return module.get_batch


def measure(case: Case, checkout: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Speeds of one case over interleaved rounds, after one uncounted warm-up round."""
    get_batch = load_get_batch(checkout, folder, case)
    pairs = [
        (our_speed(folder, case), nanogpt_speed(get_batch, case.n_batches))
        for _ in range(rounds + 1)
    ][1:]
    ours, theirs = zip(*pairs, strict=True)
    ratios = [a / b for a, b in pairs]
    return {
        "block_length": case.block_length,
        "batch_size": case.batch_size,
        "batches_a_round": case.n_batches,
        "targets_per_cpu_second": {
            "ours": {"median": statistics.median(ours), "best": max(ours)},
            "nanogpt": {"median": statistics.median(theirs), "best": max(theirs)},
        },
        "speed_ratio_to_nanogpt": {
            "of_medians": statistics.median(ours) / statistics.median(theirs),
            "of_bests": max(ours) / max(theirs),
            "lowest": min(ratios),
            "highest": max(ratios),
        },
    }


def print_table(cases: list[dict[str, Any]]) -> None:
    """Print one line per case; speeds in millions of targets per CPU second."""
    print(f"{'':12} {'ours, M/s':>16} {'nanoGPT, M/s':>16} {'ratio':>16} {'over the rounds':>16}")
    print(f"{'':12} " + " ".join(f"{'median (best)':>16}" for _ in range(3)))
    for case in cases:
        speeds, ratio = case["targets_per_cpu_second"], case["speed_ratio_to_nanogpt"]
        columns = [
            f"{speeds[name]['median'] / 1e6:.1f} ({speeds[name]['best'] / 1e6:.1f})"
            for name in ("ours", "nanogpt")
        ]
        columns.append(f"{ratio['of_medians']:.2f} ({ratio['of_bests']:.2f})")
        columns.append(f"{ratio['lowest']:.2f}-{ratio['highest']:.2f}")
        name = f"T{case['block_length']} B{case['batch_size']}"
        print(f"{name:12} " + " ".join(f"{column:>16}" for column in columns))


def main() -> None:
    """Print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout of nanoGPT")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_loader.json"))
    options = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tokens(folder)
        cases = [measure(case, options.nanogpt, folder, options.rounds) for case in CASES]
    result = {"tokens": N_TOKENS, "rounds": options.rounds, "cases": cases}
    result["versions"] = {"torch": torch.__version__, "numpy": np.__version__}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print_table(cases)
    print(f"-> {options.out}")


if __name__ == "__main__":
    main()
