"""Speed of a training run vs. nanoGPT's loop: same shape, batch and precision, in alternation.

    python benchmarks/training.py --nanogpt <checkout> [--sizes gpt_tiny ...] [--pairs 12]

Ours is the whole path of a run, `training.trainer.train`: the library's Trainer with our loader,
callbacks, spike rule, clipping, optimizer, schedule and log. Theirs is the loop of nanoGPT's
train.py on a CPU, uncompiled: GPT and `configure_optimizers` of the checkout's model.py and
`get_batch` of its train.py, clipping at 1.0, a cosine schedule, the loss read at each step; in bf16
with the same autocast as the Trainer. A Llama is compared with nanoGPT's GPT of the same layers,
width and heads, which has about the same N.

Conventions. A turn is one optimizer step with the size's own global and per-device batch. In a
pair, our turn and theirs, each after some matrix products, follow each other in one process, so
that changes in machine speed affect both; the first pairs are not counted. Our turn lasts from the
end of one step to the end of the next. A token is a computed position, T per block in both (ours
has T - 1 targets, since the model shifts the labels). Speeds are in wall-clock time; the ratio in
CPU seconds of all threads is also given. A ratio is the median over the pairs, with its 95 %
bootstrap interval.

The share of the peak is FLOPs per second over those of the fastest square torch.mm of the same
pair, in the same precision. FLOPs are "full" in scaling.counts, which is what the attention kernel
computes at this length; "causal_mean" is also given. The tokens are random ids. B batch, T block
length, V vocabulary.
"""

import argparse
import contextlib
import io
import json
import logging
import math
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, get_args
from unittest import mock

import numpy as np
import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import training.trainer
from benchmarks import loader
from scaling.counts import Attention, ModelShape, train_flops_per_token
from scaling.families import family_of
from scaling.reporting.benchmark_tables import training_speed_table
from scaling.reporting.blocks import fill_blocks
from training.budget import RunPlan, accumulation_steps, plan_run
from training.config import load_config
from training.data.blocks import Songs, TrainingData
from training.data.data_files import DataFiles
from training.gpu_study.nanogpt import load_nanogpt
from training.model import model_shape
from training.run.run_folder import RunFolder
from training.trainer import BudgetTrainer

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
VOCAB_SIZE = loader.VOCAB_SIZE
# one machine without its accelerator; nothing but steps
SETTINGS = ("training.eval_strategy='no'", "training.save_strategy='no'", *loader.ON_CPU)
N_WARMUP_PAIRS = 2
N_RESAMPLES = 10_000


@dataclass
class Turns:
    """Durations of the turns of one loop, in seconds.

    Attributes:
        wall: Wall-clock time.
        cpu: CPU time of all threads.
        loading: The part of `wall` spent waiting for batches.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    loading: list[float] = field(default_factory=list)

    def begin(self) -> None:
        """Start the clocks of a turn."""
        self._wall, self._cpu, self._loading = time.perf_counter(), time.process_time(), 0.0

    def end(self) -> None:
        """Stop the clocks of a turn and record them."""
        self.wall.append(time.perf_counter() - self._wall)
        self.cpu.append(time.process_time() - self._cpu)
        self.loading.append(self._loading)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as loading."""
        start = time.perf_counter()
        yield
        self._loading += time.perf_counter() - start

    def counted(self) -> "Turns":
        """The turns after warm-up."""
        return Turns(*(times[N_WARMUP_PAIRS:] for times in (self.wall, self.cpu, self.loading)))


class NanoGPTLoop:
    """nanoGPT's model, optimizer and loader in a loop like that of its train.py.

    Args:
        nanogpt: The checkout's model.py.
        get_batch: The function of the checkout's train.py.
        config: Config of our run.
        block_length: T.
    """

    def __init__(
        self,
        nanogpt: ModuleType,
        get_batch: Callable[[str], tuple[torch.Tensor, torch.Tensor]],
        config: dict[str, Any],
        block_length: int,
    ) -> None:
        shape, settings = config["model"], config["training"]
        plan = plan_tokens(config, block_length)
        gpt_config = nanogpt.GPTConfig(
            block_size=block_length,
            vocab_size=VOCAB_SIZE,
            n_layer=shape["num_hidden_layers"],
            n_head=shape["num_attention_heads"],
            n_embd=shape["hidden_size"],
            dropout=shape.get("dropout", 0.0),
            bias=False,
        )
        self.in_precision = partial(
            torch.autocast, "cpu", dtype=torch.bfloat16, enabled=bool(settings.get("bf16"))
        )
        betas = (settings["adam_beta1"], settings["adam_beta2"])
        self.learning_rate, self.max_steps = settings["learning_rate"], plan.max_steps
        with contextlib.redirect_stdout(io.StringIO()):
            self.model = nanogpt.GPT(gpt_config).train()
            self.optimizer = self.model.configure_optimizers(
                settings["weight_decay"], self.learning_rate, betas, "cpu"
            )
        self.n_micro_steps = accumulation_steps(plan, settings["per_device_train_batch_size"], 1)
        self.max_grad_norm = settings["max_grad_norm"]
        self.get_batch, self.batch, self.n_steps = get_batch, get_batch("train"), 0

    def step(self, turns: Turns) -> None:
        """One optimizer step, timed."""
        turns.begin()
        share = 0.55 + 0.45 * math.cos(math.pi * self.n_steps / self.max_steps)  # down to a tenth
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * share
        for _ in range(self.n_micro_steps):
            with self.in_precision():
                _, loss = self.model(*self.batch)
            with turns.waiting():
                self.batch = self.get_batch("train")
            (loss / self.n_micro_steps).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        loss.item()
        self.n_steps += 1
        turns.end()


class Alternation(TrainerCallback):
    """Runs the other loop and the matrix products at the end of each of our steps.

    Attributes:
        peak: FLOPs per second of the fastest matrix product, for each pair.
    """

    def __init__(self, peer: NanoGPTLoop, matrices: list[torch.Tensor]) -> None:
        self.peer, self.ours, self.theirs = peer, Turns(), Turns()
        self.matrices = matrices
        self.peak: list[float] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start our first turn."""
        self.ours.begin()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """End our turn, run the others', and start our next one."""
        self.ours.end()
        # before each turn, since they leave the caches full of their data
        peaks = [self._peak()]
        self.peer.step(self.theirs)
        peaks.append(self._peak())
        self.peak.append(max(peaks))
        self.ours.begin()

    def _peak(self) -> float:
        return max(matmul_flops_per_second(matrix) for matrix in self.matrices)


class AlternatingTrainer(BudgetTrainer):
    """The Trainer of a run, with an alternation and a timer around its loader."""

    def __init__(self, alternation: Alternation, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.turns = alternation.ours
        self.add_callback(alternation)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The batches of one step."""
        with self.turns.waiting():
            return super().get_batch_samples(*args, **kwargs)


def matmul_flops_per_second(matrix: torch.Tensor, repeats: int = 2) -> float:
    """FLOPs per second of multiplying a square matrix by itself."""
    start = time.perf_counter()
    for _ in range(repeats):
        torch.mm(matrix, matrix)
    return repeats * 2 * len(matrix) ** 3 / (time.perf_counter() - start)


def measure(
    nanogpt: Path,
    config: dict[str, Any],
    folder: Path,
    block_length: int = 256,
    matrix_sizes: tuple[int, ...] = (1024, 1536, 2048),
) -> dict[str, Any]:
    """Speeds of one size with torch's current threads; one pair per step of the config."""
    if not (folder / "train.bin").is_file():
        loader.write_tokens(folder)
    n_blocks = loader.N_TOKENS // block_length
    files = DataFiles(folder, "random", block_length, n_blocks, VOCAB_SIZE, "")
    blocks = np.load(folder / "train.npy", mmap_mode="r").reshape(n_blocks, block_length)
    songs = Songs([np.zeros(1, dtype=np.int64)], {})
    data = TrainingData(files, blocks, SimpleNamespace(eos_token_id=0), songs)
    case = loader.Case(block_length, config["training"]["per_device_train_batch_size"])
    get_batch = loader.load_get_batch(nanogpt, folder, case)
    peer = NanoGPTLoop(load_nanogpt(nanogpt), get_batch, config, block_length)
    dtype = torch.bfloat16 if config["training"].get("bf16") else torch.float32
    alternation = Alternation(peer, [torch.randn(n, n).to(dtype) for n in matrix_sizes])
    with (
        tempfile.TemporaryDirectory(dir=folder) as run,
        mock.patch.object(
            training.trainer, "BudgetTrainer", partial(AlternatingTrainer, alternation)
        ),
    ):
        shape = AutoConfig.for_model(**model_shape(config, block_length), vocab_size=VOCAB_SIZE)
        model = AutoModelForCausalLM.from_config(shape)
        plan = plan_tokens(config, block_length)
        training.trainer.train(RunFolder(Path(run), config), plan, model, data, show_bar=False)
    return summary(config, block_length, alternation)


def plan_tokens(config: dict[str, Any], block_length: int) -> RunPlan:
    """The plan of a run whose length is in tokens, regardless of the number of blocks."""
    return plan_run(config, block_length, n_blocks=0)


def summary(config: dict[str, Any], block_length: int, pairs: Alternation) -> dict[str, Any]:
    """Medians, ratios and shares of one size."""
    shape = {k: config["model"][k] for k in ("model_type", "hidden_size", "num_hidden_layers")}
    rest = {"vocab_size": VOCAB_SIZE, "max_position_embeddings": block_length}
    keys = family_of(shape["model_type"]).config_keys(config["model"])
    dimensions = {
        "ours": ModelShape(**shape, **rest, intermediate_size=keys.get("intermediate_size")),
        "nanogpt": ModelShape(**{**shape, "model_type": "abc_gpt"}, **rest),
    }
    tokens = plan_tokens(config, block_length).sequences_per_step * block_length
    loops = {"ours": pairs.ours.counted(), "nanogpt": pairs.theirs.counted()}
    peak = pairs.peak[N_WARMUP_PAIRS:]
    shares = {
        convention: {
            name: statistics.median(
                tokens * train_flops_per_token(dimensions[name], convention) / seconds / flops
                for seconds, flops in zip(turns.wall, peak, strict=True)
            )
            for name, turns in loops.items()
        }
        for convention in get_args(Attention)
    }
    return {
        **shape,
        "precision": "bf16" if config["training"].get("bf16") else "fp32",
        "block_length": block_length,
        "tokens_a_step": tokens,
        "per_device_batch": config["training"]["per_device_train_batch_size"],
        "n_threads": torch.get_num_threads(),
        "pairs": len(peak),
        "tokens_per_second": {n: tokens / statistics.median(t.wall) for n, t in loops.items()},
        "speed_ratio_to_nanogpt": ratio(loops["ours"].wall, loops["nanogpt"].wall),
        "cpu_speed_ratio_to_nanogpt": ratio(loops["ours"].cpu, loops["nanogpt"].cpu),
        "matmul_gflops_per_second": statistics.median(peak) / 1e9,
        "share_of_matmul_peak": shares,
        "loading_share_of_time": {n: sum(t.loading) / sum(t.wall) for n, t in loops.items()},
        "seconds": {name: asdict(turns) for name, turns in loops.items()},
    }


def ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Median over pairs of theirs / ours, with a 95 % bootstrap interval over the pairs."""
    ratios = np.array(theirs) / np.array(ours)
    draws = np.random.default_rng(0).choice(ratios, (N_RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    return {"median": float(np.median(ratios)), "low": float(low), "high": float(high)}


def main() -> None:
    """Print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout of nanoGPT")
    sizes = ["gpt_tiny", "gpt_small", "llama_tiny", "llama_small"]
    parser.add_argument("--sizes", nargs="+", default=sizes)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_training.json"))
    parser.add_argument("--results", type=Path, help="write training_speed.json; update tables")
    options = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    steps = f"training.max_steps={options.pairs + N_WARMUP_PAIRS}"
    threads = sorted({torch.get_num_threads(), 1}, reverse=True)
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for size, bf16, n_threads in product(options.sizes, ("false", "true"), threads):
            settings = [*SETTINGS, steps, f"training.bf16={bf16}"]
            config = load_config(CONFIGS / f"{size}.yaml", settings)
            torch.set_num_threads(n_threads)
            cases.append({"size": size, **measure(options.nanogpt, config, Path(folder))})
            table = training_speed_table({"cases": cases[-1:]})
            print("\n".join(table[bool(cases[1:]) * 2 :]), flush=True)
    versions = {"python": sys.version.split()[0], "torch": torch.__version__}
    versions["transformers"] = transformers.__version__
    result = {"vocab_size": VOCAB_SIZE, "cases": cases, "versions": versions}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"-> {options.out}")
    if options.results:
        shutil.copy(options.out, options.results / "training_speed.json")
        fill_blocks(options.results, ["training_speed"])


if __name__ == "__main__":
    main()
