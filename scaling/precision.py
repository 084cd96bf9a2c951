"""Runs of a study in two precisions -> what bf16 costs in loss, compared with the seed noise.

    python -m scaling.precision runs/cpu_bf16 [--out results/precision.json]

Sizes are paired by name, `<size>_fp32` with `<size>_bf16`, seed by seed. The seed noise is pooled
over all sizes: with s_i^2 the variance of size and precision i over its k_i seeds, it is
sqrt(sum (k_i - 1) s_i^2 / sum (k_i - 1)), in nats per token.
"""

import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from .records import RecordError, read_study
from .writing.commands import command, parser_of
from .writing.files import write_json

PRECISIONS = ("fp32", "bf16")


def compare(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean differences by size, and the pooled standard deviation over seeds.

    Args:
        rows: Rows of runs.csv, with sizes named as above.

    Raises:
        RecordError: If a size's name does not end in its precision, no size was trained in both, or
            each has a single seed.
    """
    losses: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    speeds: dict[tuple[str, str], list[float]] = defaultdict(list)
    archs = {}
    for row in rows:
        size, _, said = str(row["size"]).rpartition("_")
        if said not in PRECISIONS or said != row["precision"]:
            raise RecordError(
                f"{row['run']}: size {row['size']!r} in {row['precision']}; expected its name to "
                "end in its precision, _fp32 or _bf16"
            )
        losses[size, said][row["seed"]] = row["loss"]
        speeds[size, said].append(row["n_tokens"] / (row["train_cpu_seconds"] or math.nan))
        archs[size] = row["arch"]
    squares = [
        ((len(of) - 1) * statistics.variance(of.values()), len(of) - 1)
        for of in losses.values()
        if len(of) > 1
    ]
    if not squares:
        raise RecordError("each size has a single seed; train at least two")
    deviation = math.sqrt(sum(s for s, _ in squares) / sum(k for _, k in squares))
    sizes = []
    for size, arch in archs.items():
        fp32, bf16 = (losses.get((size, precision), {}) for precision in PRECISIONS)
        seeds = sorted(fp32.keys() & bf16.keys())
        if not seeds:
            continue
        difference = statistics.mean(bf16[seed] - fp32[seed] for seed in seeds)
        faster = statistics.mean(speeds[size, "bf16"]) / statistics.mean(speeds[size, "fp32"])
        sizes.append(
            {
                **{"size": size, "arch": arch, "n_seeds": len(seeds)},
                "loss_fp32_nats_per_token": statistics.mean(fp32[seed] for seed in seeds),
                "difference_nats_per_token": difference,
                "difference_in_deviations": difference / deviation,
                "tokens_per_cpu_second_ratio": faster,
            }
        )
    if not sizes:
        raise RecordError("no size was trained in fp32 and in bf16 with the same seed")
    return {"seed_deviation_nats_per_token": deviation, "sizes": sizes}


@command(RecordError, OSError)
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = parser_of("scaling.precision", __doc__)
    parser.add_argument("study", type=Path, help="folder of a study, such as runs/cpu_bf16")
    parser.add_argument("--out", type=Path, help="default: precision.json in the study")
    options = parser.parse_args(arguments)
    found = compare(read_study(options.study)[0])
    out = options.out or options.study / "precision.json"
    write_json(out, found)
    for of in found["sizes"]:
        print(
            f"{of['size']:14} bf16 - fp32 {of['difference_nats_per_token']:+.4f} nats per token, "
            f"{of['difference_in_deviations']:+.1f} standard deviations over seeds; "
            f"x{of['tokens_per_cpu_second_ratio']:.2f} tokens per CPU second"
        )
    print(f"standard deviation over seeds: {found['seed_deviation_nats_per_token']:.4f}; -> {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
