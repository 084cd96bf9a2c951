"""The compute-optimal frontier: N_opt(C), D_opt(C) and the loss they reach.

N parameters, D tokens, C FLOPs, L loss; B draws of theta, k parameters, G budgets. C is the cost of
a token, from the family's runs or 6 N, times D. With C = 6 N D and L = E + A/N^alpha + B/D^beta,
N_opt = G (C/6)^q, q = beta / (alpha + beta); with other costs the minimum is searched. Source:
Hoffmann et al. 2022, eq. 4. No token is repeated.
"""

import numpy as np

from ..fitting.intervals import interval_or_none
from ..laws.power_sums import CHINCHILLA, CHINCHILLA_TIED
from .fitted import FittedLaw

BUDGETS_MEASURED = 5
BUDGETS_BEYOND = (10.0, 100.0)  # times the largest measured C
# how far outside the measured sizes the best one is searched for
REACH = 1e4
SIZES_SEARCHED = 241
DRAWS_USED = 400


def describe_frontier(fitted: FittedLaw) -> dict[str, object]:
    """The family's entry of fits.json."""
    if fitted.n_tokens is not None:
        return {
            "refused": f"the chosen law, {fitted.law.name}, is in N alone: splitting a budget "
            "between N and D needs a law in both"
        }
    if reason := fitted.not_falling:
        return {"refused": reason}
    low, high = budget_range(fitted)
    beyond = high + np.log(BUDGETS_BEYOND)
    log_c = np.concatenate([np.linspace(low, high, BUDGETS_MEASURED), beyond])  # (G,)
    centre = best_use(fitted, fitted.theta, log_c)  # (3, G)
    ends = fitted.ends(lambda theta: best_use(fitted, theta, log_c), DRAWS_USED)  # (2, 3, G)
    rows = []
    for index, budget in enumerate(np.exp(log_c)):
        row: dict[str, object] = {"flops": float(budget)}
        for part, name in enumerate(("n_params", "n_tokens", "loss")):
            row[name] = float(np.exp(centre[part, index]))
            interval = None if ends is None else interval_or_none(*np.exp(ends[:, part, index]))
            row[f"{name}_interval_95"] = interval
        row["extrapolated"] = not (
            fitted.sizes[0] <= row["n_params"] <= fitted.sizes[1]
            and fitted.tokens[0] <= row["n_tokens"] <= fitted.tokens[1]
        )
        rows.append(row)
    return {
        "law": fitted.law.name,
        "flops_per_token": "6 N" if fitted.flops is None else "from runs, log-log between sizes",
        **_exponent(fitted),
        "points": rows,
    }


def best_use(fitted: FittedLaw, theta: np.ndarray, log_c: np.ndarray) -> np.ndarray:
    """Log of the best N, the best D and their loss, (3, G). theta: (k,); log_c: (G,)."""
    log_n = _closed_form(fitted, theta, log_c)
    if log_n is None:
        log_n = _searched(fitted, theta, log_c)
    log_d = log_c - fitted.cost.at(log_n)
    return np.stack([log_n, log_d, fitted.log_loss(theta, log_n, log_d)])


def budget_range(fitted: FittedLaw) -> tuple[float, float]:
    """Log C of the smallest size on the fewest tokens, and of the largest on the most."""
    cost = fitted.cost.at(np.log(np.array(fitted.sizes, dtype=float)))
    low, high = cost + np.log(np.array(fitted.tokens, dtype=float))
    return float(low), float(high)


def _closed_form(fitted: FittedLaw, theta: np.ndarray, log_c: np.ndarray) -> np.ndarray | None:
    """Log N_opt, (G,), for C = 6 N D and a law with a closed form; else None."""
    if fitted.flops is not None or fitted.law not in (CHINCHILLA, CHINCHILLA_TIED):
        return None
    log_a, log_b, alpha, beta = theta[1], theta[2], theta[3], theta[-1]
    if min(alpha, beta) <= 0:
        return None
    log_g = (np.log(alpha / beta) + log_a - log_b) / (alpha + beta)
    return log_g + beta / (alpha + beta) * (log_c - np.log(6.0))


def _searched(fitted: FittedLaw, theta: np.ndarray, log_c: np.ndarray) -> np.ndarray:
    """Log N_opt, (G,): the lowest loss over a grid of sizes, refined by a parabola."""
    low, high = np.log(fitted.sizes)
    grid = np.linspace(low - np.log(REACH), high + np.log(REACH), SIZES_SEARCHED)
    log_n = np.broadcast_to(grid, (len(log_c), len(grid)))  # (G, sizes)
    log_d = log_c[:, None] - fitted.cost.at(grid)
    losses = fitted.log_loss(theta, log_n.ravel(), log_d.ravel()).reshape(log_d.shape)
    best = np.clip(losses.argmin(axis=1), 1, len(grid) - 2)
    rows = np.arange(len(log_c))
    left, middle, right = (losses[rows, best + step] for step in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = np.where(bend > 0, 0.5 * (left - right) / np.where(bend > 0, bend, 1), 0.0)
    return grid[best] + np.clip(shift, -1, 1) * (grid[1] - grid[0])


def _exponent(fitted: FittedLaw) -> dict[str, object]:
    """The exponent q of N_opt ~ C^q at C = 6 N D, with its interval."""
    name = "n_opt_exponent_6nd"
    fields: dict[str, object] = {name: None, f"{name}_interval_95": None}
    if fitted.law == CHINCHILLA_TIED:
        return fields | {name: 0.5, "note": "1/2 because the exponents are tied, not fitted"}
    if fitted.law != CHINCHILLA:
        return fields

    def share(theta: np.ndarray) -> float:
        return theta[4] / (theta[3] + theta[4])

    ends = fitted.ends(share)
    fields[name] = float(share(fitted.theta))
    fields[f"{name}_interval_95"] = None if ends is None else interval_or_none(*ends)
    return fields
