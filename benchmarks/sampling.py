"""Speed of `model.generate` vs. nanoGPT's generate: same shapes, same sampling, one thread.

    python benchmarks/sampling.py --nanogpt <checkout> [--rounds 5] [--results results]

Ours is the public path with its defaults, `model.generate(prompt, do_sample=True, top_k=20,
temperature=0.8, max_new_tokens=...)`, for the shapes of gpt_tiny.yaml, lstm_tiny.yaml and
llama_tiny.yaml in configs/, the stock Llama with `custom_generate=sample_llama`. It is compared
with the library's own loop over the same model, and with `generate` of the checkout's model.py, a
GPT of the same shape without biases, with the same top_k and temperature. LSTM and Llama are
compared with that GPT too: nanoGPT has neither.

Conventions. Weights are random: samplers do not depend on them. A prompt is one token per row, no
row ends early, and the context is never exceeded. A time is milliseconds of CPU time of this
process (one thread) per step, where a step generates one token for each row; it includes the call
itself. Rounds are interleaved, so that changes in machine speed affect all. A ratio is that of the
best rounds; lowest and highest are over the rounds. Beside it stands the time that no program can
be below: the bytes that a step must read, all weights once and the keys and values of the tokens
before, over the speed at which one thread sums as many bytes.
"""

import argparse
import contextlib
import io
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedModel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import modeling  # noqa: F401 - registers our own families with the Auto classes
from modeling.decoding_abc_llama import sample_llama
from scaling.families import FAMILIES
from scaling.reporting.blocks import fill_blocks
from training.config import load_config
from training.gpu_study.nanogpt import load_nanogpt

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
VOCAB_SIZE, TOP_K, TEMPERATURE = 64, 20, 0.8
READS = 200  # of the bytes of a step, of which the fastest counts


@dataclass(frozen=True)
class Case:
    """What is generated.

    Attributes:
        context: Maximum sequence length of the GPTs, in tokens.
        batch_size: Rows per batch.
        n_new: New tokens per row.
        families: Which of ours are measured.
    """

    context: int
    batch_size: int
    n_new: int
    families: tuple[str, ...]


CASES = (
    Case(256, 1, 255, ("gpt", "lstm", "llama")),
    Case(256, 32, 255, ("gpt", "lstm", "llama")),
    Case(1024, 1, 1000, ("gpt", "llama")),
)


def tiny_shape(family: str) -> dict[str, Any]:
    """The `model` section of the family's Tiny config."""
    return load_config(CONFIGS / f"{family}_tiny.yaml", [])["model"]


def our_model(family: str, context: int) -> PreTrainedModel:
    """The Tiny model of a family."""
    shape = {**FAMILIES[family].config_keys(tiny_shape(family)), "vocab_size": VOCAB_SIZE}
    shape["eos_token_id"] = None  # no row ends early
    if FAMILIES[family].context == "attention":
        shape["max_position_embeddings"] = context
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape)).eval()


def nanogpt_model(nanogpt: ModuleType, context: int) -> torch.nn.Module:
    """The nanoGPT model in the shape of our Tiny GPT."""
    shape = tiny_shape("gpt")
    config = nanogpt.GPTConfig(
        block_size=context,
        vocab_size=VOCAB_SIZE,
        n_layer=shape["num_hidden_layers"],
        n_head=shape["num_attention_heads"],
        n_embd=shape["hidden_size"],
        dropout=0.0,
        bias=False,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        return nanogpt.GPT(config).eval()


def samplers(nanogpt: ModuleType, case: Case) -> dict[str, Callable[[], torch.Tensor]]:
    """What is measured, by name."""
    prompt = torch.ones(case.batch_size, 1, dtype=torch.long)
    theirs = nanogpt_model(nanogpt, case.context)
    settings = {"do_sample": True, "top_k": TOP_K, "temperature": TEMPERATURE}
    settings |= {"max_new_tokens": case.n_new, "attention_mask": torch.ones_like(prompt)}
    calls = {"nanogpt": lambda: theirs.generate(prompt, case.n_new, TEMPERATURE, TOP_K)}
    for family in case.families:
        model = our_model(family, case.context)
        library = {**settings, "custom_generate": GenerationMixin._sample}
        own = settings | ({"custom_generate": sample_llama} if family == "llama" else {})
        calls[family] = lambda m=model, s=own: m.generate(prompt, **s)
        calls[f"{family}_library"] = lambda m=model, s=library: m.generate(prompt, **s)
    return calls


def bytes_a_step(model: PreTrainedModel, case: Case) -> int:
    """The bytes that a step must read, with half of the new tokens in the cache.

    Of the table of learned positions a step reads one row, which does not count.
    """
    weights = sum(
        each.numel() * each.element_size()
        for name, each in model.named_parameters()
        if "embed_positions" not in name
    )
    if FAMILIES[model.config.model_type.removeprefix("abc_")].context != "attention":
        return weights
    shape = model.config
    a_token = 2 * shape.num_hidden_layers * shape.hidden_size * model.dtype.itemsize
    return weights + a_token * case.n_new // 2 * case.batch_size


def bound_milliseconds(n_bytes: int) -> float:
    """CPU time in which one thread sums as many bytes of float32."""
    values = torch.ones(n_bytes // 4)
    times = []
    for _ in range(READS):
        start = time.process_time()
        values.sum()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def measure(nanogpt: ModuleType, case: Case, rounds: int) -> dict[str, Any]:
    """Times and ratios of one case, after one short uncounted call of each."""
    calls = samplers(nanogpt, case)
    for call in samplers(nanogpt, Case(8, 1, 4, case.families)).values():
        call()
    milliseconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            tokens = call()
            milliseconds[name].append(1000 * (time.process_time() - start) / case.n_new)
            assert tokens.shape == (case.batch_size, 1 + case.n_new)
    theirs = milliseconds["nanogpt"]
    ratios = {}
    for family in case.families:
        pairs = [b / a for a, b in zip(milliseconds[family], theirs, strict=True)]
        best = min(theirs) / min(milliseconds[family])
        ratios[family] = {"of_bests": best, "lowest": min(pairs), "highest": max(pairs)}
    sizes = {name: bytes_a_step(our_model(name, case.context), case) for name in case.families}
    return {
        **asdict(case),
        "bytes_a_step": sizes,
        "bound_milliseconds": {name: bound_milliseconds(size) for name, size in sizes.items()},
        "cpu_milliseconds_a_step": milliseconds,
        "speed_ratio_to_nanogpt": ratios,
    }


def print_case(case: dict[str, Any]) -> None:
    """Print one line for each of our families."""
    best = {name: min(times) for name, times in case["cpu_milliseconds_a_step"].items()}
    for family, ratio in case["speed_ratio_to_nanogpt"].items():
        name = f"{family} ctx {case['context']} B{case['batch_size']}"
        times = (best[family], best[f"{family}_library"], best["nanogpt"])
        columns = " ".join(f"{value:>12.3f}" for value in times)
        rounds = f"{ratio['lowest']:.1f}-{ratio['highest']:.1f}"
        print(f"{name:20} {columns} {ratio['of_bests']:>8.1f} {rounds:>12}", flush=True)


def main() -> None:
    """Print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout of nanoGPT")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_sampling.json"))
    parser.add_argument("--results", type=Path, help="write sampling.json there; update tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    nanogpt = load_nanogpt(options.nanogpt)
    print("CPU ms per step, best round; ratio: nanoGPT over ours")
    titles = " ".join(f"{title:>12}" for title in ("ours", "library loop", "nanoGPT"))
    print(f"{'':20} {titles} {'ratio':>8} {'rounds':>12}")
    cases = []
    for case in CASES:
        cases.append(measure(nanogpt, case, options.rounds))
        print_case(cases[-1])
    result = {"rounds": options.rounds, "top_k": TOP_K, "temperature": TEMPERATURE, "cases": cases}
    result["versions"] = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"-> {options.out}")
    if options.results:
        shutil.copy(options.out, options.results / "sampling.json")
        fill_blocks(options.results, ["sampling"])


if __name__ == "__main__":
    main()
