"""Evidence for and against a fitted law: AICc, holdout error, warnings about the runs.

Letters: n runs, S distinct sizes, k parameters.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from ..laws.law import Law
from ..runs_table import Run
from .minimise import Problem, fit_law
from .refusals import carries

MIN_SIZES_FOR_HOLDOUT = 4
MIN_TOKENS_PER_PARAMETER = 15
MAX_REPETITIONS = 3
CURVATURE_P = 0.05
SMALLEST_MEAN_SQUARE = 1e-18  # of log residuals: smaller values are rounding


def aicc(law: Law, theta: np.ndarray, problem: Problem) -> float | None:
    """Corrected Akaike criterion; k counts the noise variance too. None where n <= k + 1."""
    n, k = len(problem.log_loss), len(law.parameters) + 1
    if n <= k + 1:
        return None
    # without this lower bound an exact fit would score minus infinity
    mean_square = max(float(np.mean(problem.residuals(law, theta) ** 2)), SMALLEST_MEAN_SQUARE)
    return n * float(np.log(mean_square)) + 2 * k + 2 * k * (k + 1) / (n - k - 1)


def holdout_error(law: Law, problem: Problem) -> float | None:
    """Relative error at the largest size (geometric mean of its runs), predicted from the rest."""
    log_n = problem.points.log_n
    largest = log_n == log_n.max()
    rest = problem.subset(~largest)
    if len(np.unique(log_n)) < MIN_SIZES_FOR_HOLDOUT or not carries(law, rest):
        return None
    theta = fit_law(law, rest)
    missed = float(np.mean(problem.subset(largest).residuals(law, theta)))
    return abs(float(np.expm1(missed)))


def r_squared_log(law: Law, theta: np.ndarray, problem: Problem) -> float | None:
    """Share of the variance of log loss explained by the law; None if all losses are equal."""
    total = float(np.sum((problem.log_loss - problem.log_loss.mean()) ** 2))
    if total == 0:
        return None
    return 1 - float(np.sum(problem.residuals(law, theta) ** 2)) / total


def power_curvature(law: Law, problem: Problem) -> float | None:
    """Probability of a bend this strong if L were a pure power of N.

    Returns:
        p of the two-sided t test on the quadratic term in log-log, one point per size; None for
        other laws and with fewer than 4 sizes.
    """
    log_n, log_loss = problem.size_means()  # (S,) each
    freedom = len(log_n) - 3
    if law.name != "power" or freedom < 1:
        return None
    centred = log_n - np.mean(log_n)
    columns = np.column_stack([np.ones_like(centred), centred, centred**2])
    coefficients, _, _, _ = np.linalg.lstsq(columns, log_loss, rcond=None)
    residual = log_loss - columns @ coefficients
    mean_square = float(residual @ residual) / freedom
    # points on a line up to rounding have no bend to test
    if mean_square < SMALLEST_MEAN_SQUARE:
        return None
    deviation = np.sqrt(mean_square * np.linalg.inv(columns.T @ columns)[2, 2])
    return float(2 * stats.t.sf(abs(coefficients[2]) / deviation, freedom))


def run_warnings(law: Law, runs: Sequence[Run], problem: Problem) -> list[str]:
    """Properties of the runs that make the law doubtful."""
    warnings = []
    p_value = power_curvature(law, problem)
    if p_value is not None and p_value < CURVATURE_P:
        warnings.append(
            f"the points bend in log-log (p = {p_value:.2g}): a single power of N does "
            "not describe them, so alpha depends on the range of sizes"
        )
    fewest = min(run.n_tokens / run.n_params for run in runs)
    if law.is_at_one_budget and fewest < MIN_TOKENS_PER_PARAMETER:
        warnings.append(
            f"the largest size saw {fewest:.2g} tokens per parameter, below "
            f"{MIN_TOKENS_PER_PARAMETER}: alpha at one D mixes the effects of N and D"
        )
    repeated = [run for run in runs if run.n_tokens / run.unique_tokens - 1 > MAX_REPETITIONS]
    if repeated and not law.needs.repeated:
        warnings.append(
            f"{len(repeated)} of {len(runs)} runs repeat their data more than "
            f"{MAX_REPETITIONS} times, where repetition itself raises the loss"
        )
    return warnings
