"""Cost of a token at each size of a family, in FLOPs or in seconds, from the runs.

N parameters, C FLOPs, S distinct sizes. Between sizes the cost is interpolated in log-log; beyond
them it is extrapolated with the slope of the nearest two sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..runs_table import Run

LEAST_SLOPE = 1e-3  # for a larger model whose tokens cost no more: keeps the inverse unique
FLOPS_PER_PARAMETER = 6.0


@dataclass(frozen=True)
class CostCurve:
    """Cost of a training token over size: log_n, ascending, and log_cost, (S,) each, S >= 2."""

    log_n: np.ndarray
    log_cost: np.ndarray

    @classmethod
    def through(cls, runs: Sequence[Run], field: str) -> "CostCurve | None":
        """The median cost at each size; field is "flops" or "train_seconds".

        Returns:
            None if fewer than two sizes have the field.
        """
        costs: dict[float, list[float]] = {}
        for run in runs:
            cost = getattr(run, field) / run.n_tokens
            if not np.isnan(cost):
                costs.setdefault(run.n_params, []).append(cost)
        if len(costs) < 2:
            return None
        sizes = sorted(costs)
        log_n = np.log(np.array(sizes, dtype=float))
        log_cost = np.log([float(np.median(costs[size])) for size in sizes])
        # no size is cheaper than a smaller one: undoes noise in the seconds of small models
        tilt = LEAST_SLOPE * log_n
        return cls(log_n, np.maximum.accumulate(log_cost - tilt) + tilt)

    @classmethod
    def kaplan(cls, low: float, high: float) -> "CostCurve":
        """C = 6 N D between two sizes, for runs without FLOPs."""
        log_n = np.log([low, high])
        return cls(log_n, log_n + np.log(FLOPS_PER_PARAMETER))

    def at(self, log_n: np.ndarray) -> np.ndarray:
        """Log cost of a token; log_n of any shape."""
        return _line_through(self.log_n, self.log_cost, log_n)

    def size_for(self, log_cost: np.ndarray) -> np.ndarray:
        """The inverse: log N at a log cost of a token, of any shape."""
        return _line_through(self.log_cost, self.log_n, log_cost)


def _line_through(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    first, last = (y[1] - y[0]) / (x[1] - x[0]), (y[-1] - y[-2]) / (x[-1] - x[-2])
    inside = np.interp(at, x, y)
    return inside + np.minimum(at - x[0], 0) * first + np.maximum(at - x[-1], 0) * last
