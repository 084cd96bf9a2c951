"""A family's predictions for runs that do not exist yet, and their comparison with later runs.

N parameters, D tokens, C FLOPs, L loss in nats per token. Each family predicts with its chosen law,
fitted once to all runs and once without its two largest sizes, whose measured losses are the first
test. Array letters: n runs, B draws.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..fitting.intervals import percentile_interval
from ..runs_table import Run, TableError
from ..writing.wording import short_count
from .costs import CostCurve
from .fitted import FittedLaw
from .questions import Question, ask

LEFT_OUT = 2  # largest sizes
ALL_RUNS, SMALLER = "all runs", f"without the {LEFT_OUT} largest sizes"
SAME = 0.01  # relative difference in N and D below which a run is the predicted one
SCATTERS = 20  # drawn per draw of the law


@dataclass(frozen=True)
class Target:
    """What is predicted: the loss of a size at a token count, or the best use of a budget."""

    arch: str
    name: str
    n_params: float | None = None
    n_tokens: float | None = None
    flops: float | None = None

    @property
    def question(self) -> Question:
        """As `questions.ask` takes it."""
        given = (self.flops, self.n_params, self.n_tokens)
        return Question(*(value and math.log(value) for value in given))


@dataclass(frozen=True)
class Source:
    """Runs that predict, and what they are asked beyond the targets of all."""

    name: str
    runs: list[Run]
    held_out: list[Target]


def sources(runs: Sequence[Run]) -> list[Source]:
    """All runs of a family; and those of its smaller sizes, which predict the runs left out."""
    largest = sorted({run.n_params for run in runs})[-LEFT_OUT:]
    smaller = [run for run in runs if run.n_params not in largest]
    measured = sorted({(run.n_params, run.n_tokens) for run in runs if run.n_params in largest})
    held_out = [
        Target(runs[0].arch, f"{short_count(n)} parameters, {short_count(d)} tokens", n, d)
        for n, d in measured
    ]
    return [Source(ALL_RUNS, list(runs), []), Source(SMALLER, smaller, held_out)]


def forecast(
    law: FittedLaw, source: Source, targets: Sequence[Target], runs: Sequence[Run]
) -> list[dict[str, object]]:
    """Predictions of a law.

    Args:
        law: fitted to the runs of the source.
        source: these runs.
        targets: what to predict, besides the runs held out.
        runs: all runs of the family: what a token costs is counted, not fitted, so sizes that were
            left out may say it.
    """
    law = replace(law, flops=CostCurve.through(runs, "flops"))
    scatter = _scatter(law, source.runs)
    asked = [*targets, *source.held_out]
    return [{"from": source.name} | _predict(law, target, scatter) for target in asked]


def _scatter(law: FittedLaw, runs: Sequence[Run]) -> np.ndarray:
    """Log loss of the runs minus that of the law, (n,)."""
    columns = (np.log([getattr(run, name) for run in runs]) for name in ("n_params", "n_tokens"))
    return np.log([run.loss for run in runs]) - law.log_loss(law.theta, *columns)


def _predict(law: FittedLaw, target: Target, scatter: np.ndarray) -> dict[str, object]:
    row: dict[str, object] = {"arch": target.arch, "target": target.name, "law": law.law.name}
    row["given"] = {
        name: value
        for name in ("n_params", "n_tokens", "flops")
        if (value := getattr(target, name)) is not None
    }
    try:
        answers = ask(law, target.question)
    except TableError as err:
        return row | {"refused": str(err)}
    for name, (value, interval) in answers.items():
        row |= {name: value, f"{name}_interval_95": interval}
    row["run_interval_95"] = None
    if law.draws is not None and target.flops is None:
        at = (np.log([target.n_params]), np.log([target.n_tokens]))
        of_law = np.array([law.log_loss(theta, *at)[0] for theta in law.draws])
        rng = np.random.default_rng(0)
        each = of_law[:, None] + rng.choice(scatter, (len(of_law), SCATTERS))
        row["run_interval_95"] = np.exp(percentile_interval(each.reshape(-1, 1))[:, 0]).tolist()
    return row


def compare(forecasts: dict, runs: Sequence[Run]) -> list[dict[str, object]]:
    """For each prediction of a size at a token count with runs: what they measured, and the error.

    Returns:
        Rows of arch, target, from, predicted, run_interval_95, measured (geometric mean over
        seeds), n_runs, relative_error (above 0 if the prediction is too high), and inside: whether
        the measured loss is in the interval of one run; None without an interval.
    """
    rows = []
    for row in forecasts["predictions"]:
        if "refused" in row or "flops" in row["given"]:
            continue
        found = [run for run in runs if _is_same(run, row)]
        if not found:
            continue
        measured = float(np.exp(np.mean([math.log(run.loss) for run in found])))
        interval = row["run_interval_95"]
        rows.append(
            {
                **{name: row[name] for name in ("arch", "target", "from")},
                "predicted": row["loss"],
                "run_interval_95": interval,
                "measured": measured,
                "n_runs": len(found),
                "relative_error": row["loss"] / measured - 1,
                "inside": interval and interval[0] <= measured <= interval[1],
            }
        )
    return rows


def _is_same(run: Run, row: dict) -> bool:
    return run.arch == row["arch"] and all(
        abs(getattr(run, name) / value - 1) <= SAME for name, value in row["given"].items()
    )
