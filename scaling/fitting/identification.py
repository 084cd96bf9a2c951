"""Which parameters the runs determine: an interval for those, a warning for the others.

Letters: n runs, k parameters.
"""

import numpy as np

from ..laws.law import Kind, Law
from .intervals import is_degenerate
from .minimise import Problem

# a floor with an interval wider than this, relative to the smallest loss, is not identified
FLOOR_WIDTH = 0.20
# limits for the other parameters: upper end over lower end, or upper minus lower
WIDEST_RATIO: dict[Kind, float] = {"scale": 1e3, "decay": 1e2}
WIDEST_DIFFERENCE: dict[Kind, float] = {"exponent": 1.0, "share": 0.8, "slope": 20.0}
# of the Jacobian with columns scaled to length 1: a direction below it has no effect
SMALLEST_SINGULAR_VALUE = 1e-6
PART_OF_FLAT_DIRECTION = 0.1


def named_intervals(
    law: Law, ends: np.ndarray | None, problem: Problem, flat: tuple[str, ...]
) -> tuple[dict[str, list[float] | None], list[str]]:
    """Intervals on the natural scale by name; None and a warning if the runs determine no value.

    Args:
        law: the form.
        ends: lower and upper end of theta, (2, k); None if there are none.
        problem: the fitted runs.
        flat: names of parameters that can be traded off against each other at no cost.
    """
    warnings = []
    if flat:
        names = ", ".join(flat)
        warnings = [f"{names} not identified: a change in one can offset a change in the others"]
    if ends is None:
        return dict.fromkeys(law.parameters), warnings
    lower, upper = law.values(ends[0]), law.values(ends[1])
    smallest_loss = float(np.exp(problem.log_loss.min()))
    intervals: dict[str, list[float] | None] = dict.fromkeys(law.parameters)
    for name, kind in law.kinds.items():
        low, high = lower[name], upper[name]
        if name in flat:
            continue
        if is_degenerate(low, high):
            warnings.append(f"{name} has no interval: the law passes through the runs exactly")
        elif name == law.floor and high - low > FLOOR_WIDTH * smallest_loss:
            warnings.append(
                f"the floor {name} is not identified: refits give {low:.3g} to {high:.3g}, "
                f"wider than {FLOOR_WIDTH:.0%} of the smallest loss"
            )
        elif _is_wide(kind, low, high):
            warnings.append(f"{name} is not identified: refits give {low:.3g} to {high:.3g}")
        else:
            intervals[name] = [low, high]
    return intervals, warnings


def _is_wide(kind: Kind, low: float, high: float) -> bool:
    if kind in WIDEST_RATIO:
        return low <= 0 or high / low > WIDEST_RATIO[kind]
    return high - low > WIDEST_DIFFERENCE[kind]


def identification(
    law: Law, theta: np.ndarray, problem: Problem
) -> tuple[dict[str, object], tuple[str, ...]]:
    """Rank of the Jacobian at the fit, and how strongly the parameters trade off.

    theta: (k,). Scales count as logarithms. The correlations are those of least squares.

    Returns:
        The entry of fits.json, and the names of the parameters that can be traded off against
        each other at no cost.
    """
    centred, centre = problem.centred()
    jacobian = law.surface(centred.points)(law.shifted(theta, *centre))[1]  # (n, k)
    length = np.linalg.norm(jacobian, axis=0)
    jacobian = jacobian / np.where(length > 0, length, 1.0)
    _, singular, directions = np.linalg.svd(jacobian, full_matrices=False)
    is_fixed = singular > SMALLEST_SINGULAR_VALUE * singular[0]
    rank = int(np.sum(is_fixed))
    moved = np.abs(directions[~is_fixed]).max(axis=0, initial=0.0)
    parts = zip(law.parameters, moved, strict=True)
    flat = tuple(name for name, part in parts if part > PART_OF_FLAT_DIRECTION)
    correlations: dict[str, float] = {}
    if rank == len(theta):
        covariance = np.linalg.inv(jacobian.T @ jacobian)
        deviation = np.sqrt(np.diag(covariance))
        matrix = covariance / np.outer(deviation, deviation)
        correlations = {
            f"{one}, {other}": float(matrix[i, j])
            for i, one in enumerate(law.parameters)
            for j, other in enumerate(law.parameters[:i])
        }
    entry = {"jacobian_rank": rank, "n_parameters": len(theta), "correlations": correlations}
    return entry, flat
