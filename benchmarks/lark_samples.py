"""Tunes that a model writes within `grammar.lark`, in `generate` of transformers with llguidance.

    python benchmarks/lark_samples.py --model runs/single/gpt_tiny [--samples 300] [--out FILE]

Tunes that end are read by our parser and judged by the three readers of `evaluation.judging`. The
grammar does not hold all rules: `tunes_that_break` counts the tunes that break each of those in
`NOT_COVERED`. Exit status 1 if a tune is not valid, and breaks none of them.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import llguidance
import torch
from tqdm import tqdm
from transformers import set_seed

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evaluation.judging.judges import judge_texts
from evaluation.loading.models import find_model, load_writer
from evaluation.samples.lark_gaps import UNEXPLAINED, gaps_of
from evaluation.samples.lark_sampling import LarkLogitsProcessor
from modeling.export_abc import export_tune
from modeling.lark_abc import lark_grammar
from modeling.pipeline_abc_music import AbcMusicPipeline


def write_within(
    write: AbcMusicPipeline, grammar: str, n: int, n_new: int, rows: int
) -> tuple[list[str], int]:
    """Samples tunes within the grammar; returns those that ended, and how many did not."""
    tokenizer, ended, n_open = write.tokenizer, [], 0
    for first in tqdm(range(0, n, rows), "samples", leave=False):
        prompt = torch.full((min(rows, n - first), 1), tokenizer.bos_token_id)
        out = write.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=True,
            top_k=0,
            max_new_tokens=n_new,
            logits_processor=[LarkLogitsProcessor(tokenizer, grammar)],
        )
        for ids in out[:, 1:].tolist():
            if tokenizer.eos_token_id in ids:
                ended.append(tokenizer.decode(ids[: ids.index(tokenizer.eos_token_id)]))
            else:
                n_open += 1
    return ended, n_open


def judged(texts: list[str]) -> dict[str, Any]:
    """Returns how many tunes are valid, and the rules that the others break."""
    verdicts, about = judge_texts([export_tune(text) for text in texts])
    broken: Counter[str] = Counter()
    n_invalid, unexplained = 0, []
    for text, verdict in zip(texts, verdicts, strict=True):
        gaps = gaps_of(text)
        if not (verdict["valid3"] or gaps):
            # a reader that is too slow on a busy machine says nothing about the tune
            ((verdict,), _) = judge_texts([export_tune(text)])
        if UNEXPLAINED in gaps or not (verdict["valid3"] or gaps):
            failed = sorted(name for name, value in verdict.items() if value is False)
            about_it = {"failed": failed, "messages": verdict["messages"]}
            unexplained.append({"abc": text} | about_it)
        n_invalid += not verdict["valid3"]
        broken.update(gaps)
    return {
        "ended": len(texts),
        "valid3": len(texts) - n_invalid,
        "read_by_our_parser": sum(verdict["own_reader"] for verdict in verdicts),
        "tunes_that_break": dict(broken.most_common()),
        "unexplained": unexplained,
        "readers": about["versions"],
        "missing_readers": about["missing"],
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the counts and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a run with the tokenizer char")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=1_000, help="of a sample, at most")
    parser.add_argument("--rows", type=int, default=50, help="written at once")
    parser.add_argument("--out", type=Path, default=Path("results/lark_samples.json"))
    options = parser.parse_args(arguments)
    set_seed(0)
    write = load_writer(find_model(options.model))
    grammar = lark_grammar(write.tokenizer.eos_token_id)
    ended, n_open = write_within(write, grammar, options.samples, options.tokens, options.rows)
    about = {"model": options.model, "llguidance": llguidance.__version__, "not_ended": n_open}
    content = about | judged(ended)
    options.out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print(json.dumps(content, indent=1))
    return int(bool(content["unexplained"]))


if __name__ == "__main__":
    sys.exit(main())
