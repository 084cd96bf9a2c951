"""A family's chosen law with everything that predictions need: draws, ranges, costs.

N parameters, D tokens, L loss; B draws of theta, k parameters, G points.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..fitting.intervals import percentile_interval
from ..laws.law import Law, Points
from ..runs_table import Run
from .costs import CostCurve

MIN_SIZES_AT_BUDGET = 3


@dataclass(frozen=True)
class FittedLaw:
    """A law, its fit and the runs' ranges.

    Attributes:
        arch: name of the family.
        law: its form.
        theta: the fit, (k,).
        draws: thetas compatible with the data, (B, k); None if the law has no interval.
        n_tokens: D of the fitted runs if the law is in N alone, else None.
        sizes: smallest and largest N.
        budgets: token counts at which at least three sizes were trained, ascending.
        tokens: smallest and largest D.
        flops: FLOPs per token over N; None if the table has none.
        seconds: seconds per token over N; None if the table has none.
    """

    arch: str
    law: Law
    theta: np.ndarray
    draws: np.ndarray | None
    n_tokens: float | None
    sizes: tuple[float, float]
    budgets: tuple[float, ...]
    tokens: tuple[float, float]
    flops: CostCurve | None = None
    seconds: CostCurve | None = None

    @classmethod
    def of(
        cls,
        law: Law,
        theta: np.ndarray,
        draws: np.ndarray | None,
        runs: Sequence[Run],
        family: Sequence[Run],
    ) -> "FittedLaw":
        """From the runs that the law was fitted to, sorted by size; costs from the whole family."""
        tokens = sorted({run.n_tokens for run in runs})
        sizes_at = {d: {run.n_params for run in runs if run.n_tokens == d} for d in tokens}
        flops, seconds = (CostCurve.through(family, name) for name in ("flops", "train_seconds"))
        return cls(
            arch=runs[0].arch,
            law=law,
            theta=theta,
            draws=draws,
            n_tokens=runs[0].n_tokens if law.is_at_one_budget else None,
            sizes=(runs[0].n_params, runs[-1].n_params),
            budgets=tuple(d for d in tokens if len(sizes_at[d]) >= MIN_SIZES_AT_BUDGET),
            tokens=(tokens[0], tokens[-1]),
            flops=flops,
            seconds=seconds,
        )

    @property
    def not_falling(self) -> str | None:
        """Why a budget has no best size; None if the law and its draws fall."""
        low = None if self.draws is None else percentile_interval(self.draws)[0]
        return self.law.not_falling(self.theta, low)

    def ends(
        self, question: Callable[[np.ndarray], np.ndarray], most: int | None = None
    ) -> np.ndarray | None:
        """Percentiles over the draws of a function of theta, (2, ...); None without draws.

        Args:
            question: theta, (k,) -> an array.
            most: use at most this many draws.
        """
        if self.draws is None:
            return None
        return percentile_interval(np.array([question(theta) for theta in self.draws[:most]]))

    @property
    def cost(self) -> CostCurve:
        """FLOPs per token from the runs, else 6 N."""
        return self.flops or CostCurve.kaplan(*self.sizes)

    def log_loss(self, theta: np.ndarray, log_n: np.ndarray, log_d: np.ndarray) -> np.ndarray:
        """Log loss, (G,), for one theta, (k,), over (G,) sizes and counts of unique tokens."""
        return self.law.log_loss(theta, Points.once(log_n, log_d))


def evenly(values: Sequence[float], most: int) -> list[float]:
    """At most `most` of the values, evenly spaced, including the first and the last."""
    if len(values) <= most:
        return list(values)
    return [values[i] for i in np.linspace(0, len(values) - 1, most).round().astype(int)]
