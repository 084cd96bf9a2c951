"""A second method to fit the five-parameter law, to check the first: variable projection.

For given exponents the law is linear in E, A and B, so non-negative least squares solves for them,
and only the exponents are searched: two numbers, with no local minima found so far. Huber's loss is
handled by iterative reweighting. Source: Czech et al. 2026 (arXiv 2603.22339). Array letters:
n runs, m terms.
"""

import itertools

import numpy as np
from scipy.optimize import minimize, nnls

from scaling.fit_options import HUBER_DELTA
from scaling.fitting.minimise import Problem, objective_value
from scaling.laws.law import Law

EXPONENT_GRID = (0.15, 0.3, 0.45, 0.7, 1.0)
REWEIGHTINGS = 12
SMALLEST_SCALE = 1e-12  # nnls may return 0, which has no logarithm


def fit_by_projection(law: Law, problem: Problem) -> np.ndarray:
    """Theta, (k,), close to the minimum objective of a law E + A/N^a + B/D^b, tied or not."""
    n_exponents = len(law.parameters) - 3

    def theta_at(exponents: np.ndarray) -> np.ndarray:
        alpha, beta = exponents[0], exponents[-1]
        scales = _linear_part(problem, float(alpha), float(beta))
        return np.array([*np.log(np.maximum(scales, SMALLEST_SCALE)), *exponents])

    def value_at(exponents: np.ndarray) -> float:
        if np.any(exponents <= 0):
            return np.inf
        return objective_value(law, theta_at(exponents), problem)

    starts = itertools.product(EXPONENT_GRID, repeat=n_exponents)
    start = min((np.array(one) for one in starts), key=value_at)
    options = {"xatol": 1e-5, "fatol": 1e-12, "maxfev": 200}
    return theta_at(minimize(value_at, start, method="Nelder-Mead", options=options).x)


def _linear_part(problem: Problem, alpha: float, beta: float) -> np.ndarray:
    """E, A and B, (3,), for given exponents. Relative residuals approximate log residuals."""
    points, loss = problem.points, np.exp(problem.log_loss)
    centre = float(np.mean(points.log_n)), float(np.mean(points.log_d))
    columns = np.stack(
        [
            np.ones_like(loss),
            np.exp(-alpha * (points.log_n - centre[0])),
            np.exp(-beta * (points.log_d - centre[1])),
        ],
        axis=1,
    )  # (n, m)
    weights = problem.weights.copy()
    for _ in range(1 if problem.objective == "squares" else REWEIGHTINGS):
        root = np.sqrt(weights) / loss  # (n,)
        scales, _ = nnls(columns * root[:, None], root * loss)
        residual = np.log(np.maximum(columns @ scales, SMALLEST_SCALE)) - problem.log_loss
        weights = problem.weights * np.minimum(1, HUBER_DELTA / np.maximum(np.abs(residual), 1e-12))
    return scales * np.exp([0, alpha * centre[0], beta * centre[1]])
