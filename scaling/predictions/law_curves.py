"""The chosen law for figures: loss over N at each D, and over N at equal C (IsoFLOP).

N parameters, D tokens, C FLOPs, L loss in nats per token. Letters: x points of a line, B draws.
Source of the second view: Hoffmann et al. 2022, approach 2; here the lines come from the law and
the points from runs, not the other way around.
"""

from collections.abc import Sequence

import numpy as np

from ..runs_table import Run
from .fitted import FittedLaw, evenly
from .frontier import DRAWS_USED, best_use, budget_range
from .isoflop import parabola_optimum

LINE_POINTS = 41
MOST_BUDGETS = 6
MIN_SIZES_AT_FLOPS = 2
ISOFLOP_BUDGETS = 7


def lines_at_tokens(fitted: FittedLaw) -> list[dict[str, object]]:
    """Loss over N at each D that three sizes share, at most MOST_BUDGETS of them, ascending."""
    log_n = np.linspace(*np.log(fitted.sizes), LINE_POINTS)
    return [
        {"n_tokens": n_tokens, **_line(fitted, log_n, np.full(LINE_POINTS, np.log(n_tokens)))}
        for n_tokens in evenly(fitted.budgets, MOST_BUDGETS)
    ]


def lines_at_flops(fitted: FittedLaw, runs: Sequence[Run]) -> list[dict[str, object]]:
    """Loss over N at several C: runs, the law's line, and the best N.

    A size's loss at C is interpolated in log-log between its own token counts, as the mean over
    its seeds, and never extrapolated. A C with fewer than two sizes is left out. If the law does
    not fall, the list is empty.

    Args:
        fitted: a law in N and D.
        runs: runs of its family.
    """
    if fitted.not_falling:
        return []
    low, high = budget_range(fitted)
    first, last = fitted.sizes
    ladders = _ladders(runs)
    found = []
    for log_c in np.linspace(low, high, ISOFLOP_BUDGETS + 2)[1:-1]:
        points = _points(fitted, ladders, log_c)  # (n, 3)
        if len(points) < MIN_SIZES_AT_FLOPS:
            continue
        log_n = np.linspace(*np.log(fitted.sizes), LINE_POINTS)
        # sizes whose D at this C is the largest or the smallest D measured
        cost = log_c - np.log(np.array(fitted.tokens[::-1], dtype=float))
        low_n, high_n = np.exp(fitted.cost.size_for(cost)).tolist()
        best_n, _, best_loss = best_use(fitted, fitted.theta, np.array([log_c]))
        parabola = parabola_optimum(points[:, 0], points[:, 2])
        names = ("n_params", "n_tokens", "loss")
        found.append(
            {
                "flops": float(np.exp(log_c)),
                "points": dict(zip(names, np.exp(points).T.tolist(), strict=True)),
                "curve": _line(fitted, log_n, log_c - fitted.cost.at(log_n)),
                "n_params_measured": [float(max(low_n, first)), float(min(high_n, last))],
                "n_opt": float(np.exp(best_n[0])),
                "loss_at_n_opt": float(np.exp(best_loss[0])),
                "n_opt_by_parabola": None if parabola is None else float(np.exp(parabola)),
            }
        )
    return found


def _line(fitted: FittedLaw, log_n: np.ndarray, log_d: np.ndarray) -> dict[str, object]:
    """The law and its band over (x,) sizes and counts of unique tokens."""
    loss = np.exp(fitted.log_loss(fitted.theta, log_n, log_d))
    ends = fitted.ends(lambda theta: fitted.log_loss(theta, log_n, log_d), DRAWS_USED)  # (2, x)
    band = None if ends is None else np.exp(ends).tolist()
    return {"n_params": np.exp(log_n).tolist(), "loss": loss.tolist(), "band_95": band}


def _ladders(runs: Sequence[Run]) -> dict[float, tuple[np.ndarray, np.ndarray]]:
    """Size -> log D, ascending, and the mean log loss at each."""
    losses: dict[float, dict[float, list[float]]] = {}
    for run in runs:
        losses.setdefault(run.n_params, {}).setdefault(run.n_tokens, []).append(np.log(run.loss))
    return {
        size: (np.log(sorted(at)), np.array([np.mean(at[tokens]) for tokens in sorted(at)]))
        for size, at in losses.items()
    }


def _points(
    fitted: FittedLaw, ladders: dict[float, tuple[np.ndarray, np.ndarray]], log_c: float
) -> np.ndarray:
    """Log N, D and loss of the sizes trained both below and above C, (n, 3)."""
    rows = []
    for size in sorted(ladders):
        log_d, log_loss = ladders[size]
        wanted = log_c - float(fitted.cost.at(np.log(size)))
        if len(log_d) > 1 and log_d[0] <= wanted <= log_d[-1]:
            rows.append((np.log(size), wanted, float(np.interp(wanted, log_d, log_loss))))
    return np.array(rows).reshape(-1, 3)
