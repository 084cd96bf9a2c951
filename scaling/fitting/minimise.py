"""Fit of one law to runs: many starts, a trust-region method, and L-BFGS-B to polish.

Objective: sum of Huber (delta 1e-3) over log residuals. Source: Hoffmann et al. 2022, section 3.3;
Besiroglu et al. 2024 for the sum, the scaling and the tight tolerances. The trust-region
method uses that the objective is a sum of penalties of residuals: it needs a tenth of the steps of
L-BFGS-B, and a hundredth where eleven parameters trade off. Array letters: n runs, k parameters.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.optimize import least_squares, minimize

from ..fit_options import HUBER_DELTA
from ..laws.law import Law, Points, Surface

# the first two are on log residuals; squares_of_loss is on the loss itself, as Gadre et al. fit
Objective = Literal["huber_log", "squares", "squares_of_loss"]
# sums of Huber terms are about 1e-5, where the minimizers' own tolerances would stop too early
OBJECTIVE_SCALE = 1e3
# of all starts, this many are refined to full precision
POLISHED_STARTS = 6
ROUGH = {"ftol": 1e-5, "xtol": 1e-5, "gtol": 1e-8, "max_nfev": 25}
TIGHT = {"ftol": 1e-11, "xtol": 1e-10, "gtol": 1e-14, "max_nfev": 300}
# for a draw: if a parameter runs away to its bound, the last steps change nothing else
REFIT = {"ftol": 1e-10, "xtol": 1e-9, "gtol": 1e-14, "max_nfev": 60}


@dataclass(frozen=True)
class Problem:
    """Runs to fit: their points, log_loss and weights, each (n,), and the objective.

    huber_delta: where the objective huber_log turns from quadratic to linear, in log loss.
    """

    points: Points
    log_loss: np.ndarray
    weights: np.ndarray
    objective: Objective = "huber_log"
    huber_delta: float = HUBER_DELTA

    @classmethod
    def of(
        cls,
        n_params: np.ndarray,
        n_tokens: np.ndarray,
        loss: np.ndarray,
        unique_tokens: np.ndarray | float = np.nan,
        objective: Objective = "huber_log",
        huber_delta: float = HUBER_DELTA,
    ) -> "Problem":
        """Runs of weight 1 from N, D, L and U, each (n,); where U is NaN (unknown), D is used."""
        log_d = np.log(n_tokens)
        log_u = np.where(np.isnan(unique_tokens), log_d, np.log(unique_tokens))
        points = Points(np.log(n_params), log_d, log_u)
        return cls(points, np.log(loss), np.ones(len(log_d)), objective, huber_delta)

    def subset(self, keep: np.ndarray) -> "Problem":
        """The runs where keep, (n,) of bool, is true."""
        points = Points(*(log[keep] for log in self.points))
        log_loss, weights = self.log_loss[keep], self.weights[keep]
        return replace(self, points=points, log_loss=log_loss, weights=weights)

    def centred(self) -> tuple["Problem", tuple[float, float]]:
        """The runs with log N and log D centered on their means, and those means."""
        centre = float(np.mean(self.points.log_n)), float(np.mean(self.points.log_d))
        return replace(self, points=self.points.minus(*centre)), centre

    def size_means(self) -> tuple[np.ndarray, np.ndarray]:
        """Distinct log N and the mean log loss at each, both (S,) and ascending in N.

        Seeds of one size share the law's error at that size, so for a line they are one point.
        """
        sizes, index = np.unique(self.points.log_n, return_inverse=True)
        return sizes, np.bincount(index, weights=self.log_loss) / np.bincount(index)

    def residuals(self, law: Law, theta: np.ndarray) -> np.ndarray:
        """Law minus run in log loss, (n,). theta: (k,)."""
        return law.log_loss(theta, self.points) - self.log_loss


def fit_law(law: Law, problem: Problem, warm: np.ndarray | None = None) -> np.ndarray:
    """Best theta, (k,), over all starts.

    Args:
        law: the form.
        problem: the runs and their weights.
        warm: theta of an earlier fit, (k,): a refit starts there instead of from all starts. If a
            parameter is at its bound, where it would stay, extra starts are added.
    """
    # centered logs: uncentered, scales and exponents correlate to 0.99 and the minimizer crawls
    centred, centre = problem.centred()
    surface = law.surface(centred.points)
    if warm is None:
        starts = law.starts(centred.points, centred.log_loss)
        rough = [_minimise(start, law, surface, centred, ROUGH) for start in starts]
        rough.sort(key=lambda found: found[1])
        starts, options = [theta for theta, _ in rough[:POLISHED_STARTS]], TIGHT
    else:
        start = law.shifted(warm, *centre)
        beside = law.starts_beside(start, centred.points, centred.log_loss)
        starts, options = [start, *beside], REFIT
    found = [_minimise(start, law, surface, centred, options) for start in starts]
    best = min(found, key=lambda one: one[1])[0]
    if warm is None:
        best = _polish(best, law, surface, centred)
    return law.shifted(best, -centre[0], -centre[1])


def objective_value(law: Law, theta: np.ndarray, problem: Problem) -> float:
    """The sum that fit_law minimizes, without its internal scaling. theta: (k,)."""
    return float(problem.weights @ _penalty(law.log_loss(theta, problem.points), problem)[0])


def _missed(log_loss: np.ndarray, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Law minus run, in loss or its logarithm, and its slope over log loss, (n,) each."""
    if problem.objective == "squares_of_loss":
        loss = np.exp(log_loss)
        return loss - np.exp(problem.log_loss), loss
    return log_loss - problem.log_loss, np.ones_like(log_loss)


def _penalty(log_loss: np.ndarray, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Penalty of a law's log loss against the measured one, and its derivative, (n,) each."""
    residual, by_log_loss = _missed(log_loss, problem)
    if problem.objective != "huber_log":
        return 0.5 * residual**2, residual * by_log_loss
    slope = np.minimum(np.maximum(residual, -problem.huber_delta), problem.huber_delta)
    return slope * (residual - 0.5 * slope), slope  # quadratic inside delta, linear outside


def _minimise(
    start: np.ndarray,
    law: Law,
    surface: Surface,
    problem: Problem,
    options: dict[str, float],
) -> tuple[np.ndarray, float]:
    """Best theta, (k,), in centered logs and within the law's bounds, and its objective."""
    bounds = np.array(law.bounds).T  # (2, k)
    # start strictly inside the bounds: the trust-region method never reaches them exactly
    start = np.clip(start, bounds[0] + 1e-6, bounds[1] - 1e-6)

    def residuals(theta: np.ndarray) -> np.ndarray:
        return _missed(surface(theta)[0], problem)[0]

    def jacobian(theta: np.ndarray) -> np.ndarray:
        log_loss, by_theta = surface(theta)
        return by_theta * _missed(log_loss, problem)[1][:, None]

    def penalty(squares: np.ndarray) -> np.ndarray:
        return problem.weights * _penalty_of_squares(squares, problem)

    settings = {"bounds": bounds, "loss": penalty, "x_scale": "jac"} | options
    result = least_squares(residuals, start, jac=jacobian, **settings)
    return result.x, float(result.cost)


def _penalty_of_squares(squares: np.ndarray, problem: Problem) -> np.ndarray:
    """Twice the penalty as a function of the squared residual, and two derivatives, (3, n)."""
    if problem.objective != "huber_log":
        return np.stack([squares, np.ones_like(squares), np.zeros_like(squares)])
    delta = problem.huber_delta
    root = np.sqrt(np.maximum(squares, delta**2))
    outside = squares > delta**2
    value = np.where(outside, delta * (2 * root - delta), squares)
    bend = np.where(outside, -delta / (2 * root**3), 0.0)
    return np.stack([value, delta / root, bend])


def _polish(theta: np.ndarray, law: Law, surface: Surface, problem: Problem) -> np.ndarray:
    """The last digits, by L-BFGS-B, which can also reach a bound exactly."""

    def scaled(theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Scaled objective and its gradient, (k,)."""
        log_loss, jacobian = surface(theta)
        value, slope = _penalty(log_loss, problem)
        gradient = (problem.weights * slope) @ jacobian
        return OBJECTIVE_SCALE * float(problem.weights @ value), OBJECTIVE_SCALE * gradient

    options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 1000}
    settings = {"method": "L-BFGS-B", "bounds": law.bounds, "options": options}
    result = minimize(scaled, theta, jac=True, **settings)
    return result.x if result.fun < scaled(theta)[0] else theta
