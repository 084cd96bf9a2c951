"""Training with pages of 2 MiB beside pages of 4 KiB, in turns: tokens a second of four models.

    python -m benchmarks.huge_pages [--rounds 5] [--out results/huge_pages.json]

Each turn is a process of `training.study.timing`, which times steps of a size on this machine; the
page size is set by the variable that `use_huge_pages` sets. The data is that of `make demo`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from scaling.writing.commands import TUNABLE, TUNABLES, command
from training.study.timing import Speed

SIZES = ("gpt_tiny", "lstm_tiny", "llama_tiny", "llama_small")
DATA = ["data.dataset=music21", "data.preset=demo", "training.bf16=true"]


def tokens_per_second(hugetlb: int) -> dict[str, float]:
    """The speed of each size.

    Args:
        hugetlb: The value of the tunable, 0 or 1.

    Raises:
        RuntimeError: If a size cannot be timed.
    """
    words = {size: [f"configs/{size}.yaml", *DATA] for size in SIZES}
    answer = subprocess.run(
        [sys.executable, "-m", "training.study.timing", json.dumps(words)],
        env={**os.environ, TUNABLES: f"{TUNABLE}={hugetlb}"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    speeds = dict(map(json.loads, answer.splitlines()))
    for size, values in speeds.items():
        if isinstance(values, str):
            raise RuntimeError(f"{size} was not timed: {values}")
    return {size: 1 / Speed(*values).seconds_per_token for size, values in speeds.items()}


def compare(rounds: int) -> dict[str, Any]:
    """Ratios of both page sizes; each round begins with the other one."""
    turns: dict[int, list[dict[str, float]]] = {0: [], 1: []}
    for number in range(rounds):
        for hugetlb in (0, 1) if number % 2 else (1, 0):
            turns[hugetlb].append(tokens_per_second(hugetlb))
    rows = {}
    for size in SIZES:
        small, huge = ([turn[size] for turn in turns[each]] for each in (0, 1))
        ratios = [b / a for a, b in zip(small, huge, strict=True)]
        rows[size] = {
            "tokens_per_second_small_pages": round(statistics.median(small)),
            "tokens_per_second_huge_pages": round(statistics.median(huge)),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        }
    return {"rounds": rounds, "threads": os.environ.get("OMP_NUM_THREADS"), "sizes": rows}


@command(RuntimeError, OSError, subprocess.SubprocessError)
def main(arguments: list[str] | None = None) -> None:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/huge_pages.json"))
    options = parser.parse_args(arguments)
    text = json.dumps(compare(options.rounds), indent=1) + "\n"
    options.out.write_text(text, "utf-8")
    print(text, end="")


if __name__ == "__main__":
    sys.exit(main())
