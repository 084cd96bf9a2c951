"""The overhead of sampling within the grammar: probability mass, deterministic steps, music, time.

Masked mass is the probability that the model assigns, in one step of a constrained sample, to
tokens that the grammar does not allow there: its mean, and its distribution over steps. Where it is
zero, the grammar changes nothing. A step is deterministic if exactly one token is legal.
"""

import math
import statistics
import time
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor, set_seed

from modeling.grammar_abc_decoding import TuneLogitsProcessor
from modeling.pipeline_abc_music import AbcMusicPipeline
from modeling.writing_abc import sampler_of

from ..metrics import mean_interval

PERCENTILES = (50, 95, 99)
ROWS = 8
ROUNDS = 3


class MassRecorder(LogitsProcessor):
    """A TuneLogitsProcessor that records what it masks.

    Args:
        inner: The processor that does the masking.
        end_id: The end token; a row's steps after it do not count.
        rows: B, texts that are written in parallel, each from its start token.

    Attributes:
        mass: Probability masked in each step, for each row.
        n_forced: Number of steps with exactly one legal token, for each row.
    """

    def __init__(self, inner: TuneLogitsProcessor, end_id: int, rows: int) -> None:
        self.inner, self.end_id = inner, end_id
        self.mass: list[list[float]] = [[] for _ in range(rows)]
        self.n_forced = [0] * rows

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        """Returns scores (B, V), -inf at illegal tokens; `input_ids` (B, T)."""
        masked = self.inner(input_ids, scores)
        legal = masked > -math.inf  # (B, V)
        illegal = scores.softmax(-1).masked_fill(legal, 0.0).sum(-1).tolist()
        for row, ids in enumerate(input_ids[:, 1:]):
            if not (ids == self.end_id).any():
                self.mass[row].append(illegal[row])
                self.n_forced[row] += int(legal[row].sum()) == 1
        return masked


def generate(
    write: AbcMusicPipeline, rows: int, n_new: int, seed: int, processor: LogitsProcessor | None
) -> torch.Tensor:
    """Tokens of texts from the start token, at temperature 1 without top-k: (B, T)."""
    model, tokenizer = write.model, write.tokenizer
    prompt = torch.full((rows, 1), tokenizer.bos_token_id, device=model.device)
    set_seed(seed)
    return model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        custom_generate=sampler_of(model.config.model_type),
        do_sample=True,
        top_k=0,
        max_new_tokens=n_new,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        logits_processor=[processor] if processor else None,
    )


def masked_mass(write: AbcMusicPipeline, n: int, n_new: int, seed: int) -> dict[str, Any]:
    """Masked probability mass per step and share of deterministic steps in n constrained samples.

    Intervals are over samples, percentiles over all steps.
    """
    rows: list[list[float]] = []
    n_forced: list[int] = []
    for first in range(0, n, ROWS):
        count = min(ROWS, n - first)
        inner = TuneLogitsProcessor(write.grammar, n_new)
        recorder = MassRecorder(inner, write.tokenizer.eos_token_id, count)
        generate(write, count, n_new, seed + first, recorder)
        rows += recorder.mass
        n_forced += recorder.n_forced
    steps = np.concatenate([np.array(row) for row in rows])
    return {
        "n_samples": n,
        "n_steps": len(steps),
        "masked_mass_per_step": mean_interval([float(np.mean(row)) for row in rows], seed),
        "masked_mass_percentiles": {f"p{p}": float(np.percentile(steps, p)) for p in PERCENTILES},
        "deterministic_share": mean_interval(
            [count / len(row) for count, row in zip(n_forced, rows, strict=True)], seed
        ),
    }


def speed(
    write: AbcMusicPipeline, n_new: int, seed: int, rows: int = ROWS, rounds: int = ROUNDS
) -> dict[str, Any]:
    """CPU milliseconds per step (one token for each row), free and constrained, interleaved.

    The first round warms up the automaton's states and is not counted. `cost_share` is the share of
    a constrained step's time that a free step does not need, negative where reading forced runs
    at once saves more than the grammar takes; `forced_share` is the share of tokens in such runs,
    `resampled_share` that of the model's draws that the grammar replaced.
    """
    times: dict[str, list[float]] = {"free": [], "constrained": []}
    n_steps = n_forced = n_replaced = 0
    for number in range(rounds + 1):
        processor = TuneLogitsProcessor(write.grammar, n_new)
        for name, used in (("free", None), ("constrained", processor)):
            start = time.process_time()
            out = generate(write, rows, n_new, seed + number, used)
            times[name].append((time.process_time() - start) / (out.shape[1] - 1))
        n_steps += processor.counts.n_steps
        n_forced += processor.counts.n_forced
        n_replaced += processor.counts.n_replaced
    medians = {name: 1000 * statistics.median(seconds[1:]) for name, seconds in times.items()}
    return {
        "rows": rows,
        "milliseconds_a_step": medians,
        "cost_share": 1 - medians["free"] / medians["constrained"],
        "forced_share": n_forced / n_steps,
        "resampled_share": n_replaced / (n_steps - n_forced),
        "n_tokens": n_steps,
    }
