"""The best family for a budget of seconds to write music in: step times and laws -> one JSON table.

    python -m scaling.inference results/step_time.json results/fits.json --tokens 2.5e7
        --out results/inference.json

N parameters, D training tokens, L loss in nats per token. For each budget of seconds per 1,000
tokens (one row, one CPU thread), a family affords the N whose step takes that long, interpolated
between the timed sizes. Its law then says the loss of that N after D training tokens. Sizes beyond
those of the law are not quoted.
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .fitting.intervals import percentile_interval
from .predict import read_fits
from .predictions.costs import CostCurve
from .predictions.fitted import FittedLaw
from .runs_table import TableError
from .writing.commands import command, parser_of
from .writing.files import read_json, write_json

BUDGETS = (0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)  # seconds per 1,000 tokens
TOKENS_OF_A_BUDGET = 1000
CONTEXT, BATCH = 256, 1


def step_costs(times: dict) -> dict[str, CostCurve]:
    """Seconds of a step over size, by family: the mean over the timed positions."""
    curves = {}
    for arch in dict.fromkeys(row["family"] for row in times["rows"]):
        seconds: dict[int, list[float]] = {}
        for row in times["rows"]:
            if (row["family"], row["context"], row["batch"]) == (arch, CONTEXT, BATCH):
                seconds.setdefault(row["n_params"], []).append(row["step_seconds"])
        if len(seconds) < 2:
            raise TableError(f"{arch} was timed at {len(seconds)} sizes, expected two or more")
        sizes = sorted(seconds)
        mean = np.array([np.mean(seconds[size]) for size in sizes])
        curves[arch] = CostCurve(np.log(sizes), np.log(np.maximum.accumulate(mean)))
    return curves


def losses_at(
    budget: float, costs: dict[str, CostCurve], laws: dict[str, FittedLaw], n_tokens: float
) -> list[dict[str, object]]:
    """What each family reaches in a budget of seconds per 1,000 tokens, lowest loss first."""
    rows = []
    for arch, law in laws.items():
        log_n = float(costs[arch].size_for(np.array(math.log(budget / TOKENS_OF_A_BUDGET))))
        n_params = math.exp(log_n)
        if not law.sizes[0] <= n_params <= law.sizes[1]:
            continue
        at = (np.array([log_n]), np.array([math.log(n_tokens)]))
        row: dict[str, object] = {"arch": arch, "n_params": round(n_params)}
        row["loss"] = float(np.exp(law.log_loss(law.theta, *at)[0]))
        row["loss_interval_95"] = None
        if law.draws is not None:
            drawn = np.array([law.log_loss(theta, *at) for theta in law.draws])
            row["loss_interval_95"] = np.exp(percentile_interval(drawn)[:, 0]).tolist()
        rows.append(row)
    return sorted(rows, key=lambda row: row["loss"])


@command(TableError, OSError)
def main(argv: Sequence[str] | None = None) -> None:
    """Writes the table; 2 on an error the user can fix."""
    parser = parser_of("scaling.inference", __doc__)
    parser.add_argument("times", type=Path, help="step_time.json, of benchmarks/step_time.py")
    parser.add_argument("fits", type=Path, help="fits.json with laws in N and D")
    parser.add_argument("--tokens", type=float, required=True, help="training tokens D")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        costs = step_costs(read_json(arguments.times))
    except (json.JSONDecodeError, KeyError, TypeError) as err:
        raise TableError(f"{arguments.times}: no step times ({err!r}); measure again") from err
    laws = {
        arch: law
        for arch, law in read_fits(arguments.fits).items()
        if isinstance(law, FittedLaw) and law.n_tokens is None and arch in costs
    }
    if not laws:
        raise TableError(f"{arguments.fits}: no timed family has a law in N and D")
    table = [
        {"seconds_per_1000_tokens": budget, "families": rows}
        for budget in BUDGETS
        if (rows := losses_at(budget, costs, laws, arguments.tokens))
    ]
    content = {"n_tokens": arguments.tokens, "context": CONTEXT, "batch": BATCH, "budgets": table}
    write_json(arguments.out, content)
    for row in table:
        best, *others = row["families"]
        text = ", ".join(f"{o['arch']} {o['loss']:.3f} ({o['n_params']:,})" for o in others)
        print(
            f"{row['seconds_per_1000_tokens']:g} s per 1,000 tokens: {best['arch']} "
            f"{best['loss']:.3f} ({best['n_params']:,} parameters){', ' if text else ''}{text}"
        )
    print(f"-> {arguments.out}")


if __name__ == "__main__":
    sys.exit(main())
