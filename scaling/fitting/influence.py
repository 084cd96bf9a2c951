"""The influence of single runs and sizes on a fit: outliers, and the fit without each size.

N parameters. Letters: n runs, k parameters.
"""

from collections.abc import Sequence

import numpy as np

from ..laws.law import Law
from ..runs_table import Run
from .diagnostics import holdout_error
from .minimise import Problem, fit_law
from .refusals import carries

OUTLIER_DEVIATIONS = 6.0
MAD_TO_DEVIATION = 1.4826  # for normal noise
RUNS_PER_PARAMETER = 3  # with fewer, the law bends toward the outlier itself
SMALLEST_DEVIATION = 1e-9  # of log residuals: smaller values are rounding


def outlier_report(
    law: Law, theta: np.ndarray, problem: Problem, runs: Sequence[Run]
) -> dict[str, object] | None:
    """The runs too far from the law for the noise of the others, and the fit without them.

    Args:
        law: the form.
        theta: its fit to all runs, (k,).
        problem: the runs.
        runs: the same runs, in the same order.

    Returns:
        None if there are none, or more than a few.
    """
    residual = problem.residuals(law, theta)
    if len(residual) < RUNS_PER_PARAMETER * len(law.parameters):
        return None
    deviation = MAD_TO_DEVIATION * float(np.median(np.abs(residual - np.median(residual))))
    far = np.abs(residual) > OUTLIER_DEVIATIONS * max(deviation, SMALLEST_DEVIATION)
    others = problem.subset(~far)
    # more than a tenth of the runs are not a few outliers: the law itself is wrong
    if not 0 < far.mean() <= 0.1 or not carries(law, others):
        return None
    listed = [
        {"run": runs[i].name}
        | {name: getattr(runs[i], name) for name in ("n_params", "n_tokens", "loss")}
        | {"loss_of_the_law": float(np.exp(problem.log_loss[i] + residual[i]))}
        for i in np.flatnonzero(far)
    ]
    return {
        "runs": listed,
        "params_without": law.values(fit_law(law, others, warm=theta)),
        "holdout_error_without": holdout_error(law, others),
    }


def jackknife_by_size(
    law: Law, theta: np.ndarray, problem: Problem
) -> dict[str, dict[str, object]] | None:
    """Range of each parameter over fits that leave one size out, and the size that moves it most.

    theta: (k,), the fit to all runs.

    Returns:
        None if there are too few sizes to leave one out.
    """
    sizes = np.unique(problem.points.log_n)
    rests = [problem.subset(problem.points.log_n != size) for size in sizes]
    if not all(carries(law, rest) for rest in rests):
        return None
    moved = np.array([fit_law(law, rest, warm=theta) for rest in rests])  # (S, k)
    report: dict[str, dict[str, object]] = {}
    for index, name in enumerate(law.parameters):
        column = moved[:, index]
        ends = [law.values(moved[at])[name] for at in (column.argmin(), column.argmax())]
        most = float(np.exp(sizes[np.abs(column - theta[index]).argmax()]))
        report[name] = {"range": ends, "most_moved_without_n_params": round(most)}
    return report
