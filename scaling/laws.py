"""The forms that L(N, D) may take (LAWS), and the fit of one form to runs.

N parameters, D tokens, L loss in nats per token. A law is a sum of terms, each a scale times
powers of N and D: its logarithm is the log-sum-exp of lines in log N and log D, with an exact
gradient. A further law of this kind is one more entry of LAWS. Array letters: n runs, k
parameters, m terms.

Objective: sum of Huber(1e-3) over log residuals, minimised with L-BFGS-B and then BFGS from a grid
of starts. Source: Hoffmann et al. 2022, section 3.3; Besiroglu et al. 2024 for the sum, the
scaling and the tight tolerances.
"""

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

Objective = Literal["huber_log", "squares"]
HUBER_DELTA = 1e-3
# sums of Huber terms are about 1e-5, where the minimisers' own tolerances would stop too early
OBJECTIVE_SCALE = 1e3
EXPONENT_STARTS = (0.05, 0.2, 0.5, 1.0)
COLLAPSED = 0.01  # a floor below this share of the smallest loss
FLOOR_SHARE_STARTS = (0.05, 0.5, 0.9)


@dataclass(frozen=True)
class Term:
    """scale * N^-n_exponent * D^-d_exponent, by name; a term without exponents is the floor."""

    scale: str
    n_exponent: str | None = None
    d_exponent: str | None = None


@dataclass(frozen=True)
class Law:
    """One form of L(N, D).

    Attributes:
        parameters: names in the order of theta; scales are fitted and stored as logarithms in
            theta.
        min_sizes: distinct N below which the law is refused.
        min_sizes_reason: why, in words for the refusal.
    """

    name: str
    formula: str
    parameters: tuple[str, ...]
    terms: tuple[Term, ...]
    min_sizes: int
    min_sizes_reason: str

    @property
    def scales(self) -> frozenset[str]:
        """Names of the parameters that are above 0 by construction."""
        return frozenset(term.scale for term in self.terms)

    @property
    def floor(self) -> str | None:
        """Name of the loss that no size or budget goes below, if the law has one."""
        bare = [t.scale for t in self.terms if t.n_exponent is None and t.d_exponent is None]
        return bare[0] if bare else None

    def values(self, theta: np.ndarray) -> dict[str, float]:
        """Parameters in their natural scale, by name. theta: (k,)."""
        return {
            name: float(np.exp(number) if name in self.scales else number)
            for name, number in zip(self.parameters, theta, strict=True)
        }


LAWS = {
    law.name: law
    for law in (
        Law(
            name="power",
            formula="L = C * N^-alpha",
            parameters=("C", "alpha"),
            terms=(Term("C", n_exponent="alpha"),),
            min_sizes=3,
            min_sizes_reason="two sizes fix the line exactly and leave nothing to judge it by",
        ),
        Law(
            name="power_floor",
            formula="L = a * N^-alpha + c",
            parameters=("a", "alpha", "c"),
            terms=(Term("a", n_exponent="alpha"), Term("c")),
            min_sizes=6,
            min_sizes_reason="alpha and the floor c trade off against each other, "
            "and on 5 points the AICc of 3 parameters is not defined",
        ),
    )
}


def design(law: Law, log_n: np.ndarray, log_d: np.ndarray) -> np.ndarray:
    """Lines of the terms, (m, n, k): log term = design @ theta. log_n, log_d: (n,)."""
    lines = np.zeros((len(law.terms), len(log_n), len(law.parameters)))
    for index, term in enumerate(law.terms):
        lines[index, :, law.parameters.index(term.scale)] = 1.0
        if term.n_exponent is not None:
            lines[index, :, law.parameters.index(term.n_exponent)] -= log_n
        if term.d_exponent is not None:
            lines[index, :, law.parameters.index(term.d_exponent)] -= log_d
    return lines


def predict_log_loss(
    law: Law, theta: np.ndarray, log_n: np.ndarray, log_d: np.ndarray
) -> np.ndarray:
    """Natural logarithm of the law's loss. theta: (k,); log_n, log_d: (n,). Returns (n,)."""
    return logsumexp(design(law, log_n, log_d) @ theta, axis=0)


@dataclass(frozen=True)
class Problem:
    """Runs to be fitted: log_n, log_d, log_loss and weights, each (n,)."""

    log_n: np.ndarray
    log_d: np.ndarray
    log_loss: np.ndarray
    weights: np.ndarray

    def subset(self, keep: np.ndarray) -> "Problem":
        """The runs where keep, (n,) of bool, holds."""
        return Problem(*(a[keep] for a in (self.log_n, self.log_d, self.log_loss, self.weights)))


def fit_law(
    law: Law,
    problem: Problem,
    objective: Objective = "huber_log",
    warm: np.ndarray | None = None,
) -> np.ndarray:
    """Best theta, (k,), over all starts.

    Args:
        law: the form.
        problem: the runs and their weights.
        objective: "huber_log" or "squares", both on log residuals.
        warm: theta of an earlier fit, (k,): a refit starts there instead of from the whole grid. A
            law with a floor also starts at other floors, for a floor that has collapsed to 0 would
            stay there in every refit.
    """
    # centred logs: uncentred, scales and exponents correlate to 0.99 and the minimiser crawls
    centre = float(np.mean(problem.log_n)), float(np.mean(problem.log_d))
    lines = design(law, problem.log_n - centre[0], problem.log_d - centre[1])
    if warm is None:
        starts = _start_grid(law, problem.log_loss)
    else:
        starts = [_shift(law, warm, centre)]
        if law.floor and law.values(warm)[law.floor] < COLLAPSED * np.exp(problem.log_loss.min()):
            starts += _start_grid(law, problem.log_loss, exponents_of=warm)
    best, best_value = starts[0], np.inf
    for start in starts:
        theta, value = _minimise(start, lines, problem, objective, refine=warm is None)
        if value < best_value:
            best, best_value = theta, value
    return _shift(law, best, (-centre[0], -centre[1]))


def objective_value(law: Law, theta: np.ndarray, problem: Problem, objective: Objective) -> float:
    """The sum that fit_law minimises, without its internal scaling."""
    lines = design(law, problem.log_n, problem.log_d)
    return _loss_and_gradient(theta, lines, problem, objective)[0] / OBJECTIVE_SCALE


def _loss_and_gradient(
    theta: np.ndarray, lines: np.ndarray, problem: Problem, objective: Objective
) -> tuple[float, np.ndarray]:
    """Scaled objective and its gradient, (k,)."""
    log_terms = lines @ theta  # (m, n)
    # by hand: scipy's logsumexp and softmax take ten times as long on arrays this small
    highest = log_terms.max(axis=0)  # (n,)
    shares = np.exp(log_terms - highest)  # (m, n)
    total = shares.sum(axis=0)  # (n,)
    residual = highest + np.log(total) - problem.log_loss  # (n,)
    if objective == "squares":
        value, slope = 0.5 * residual**2, residual
    else:
        slope = np.minimum(np.maximum(residual, -HUBER_DELTA), HUBER_DELTA)
        value = slope * (residual - 0.5 * slope)  # quadratic inside delta, linear outside
    jacobian = ((shares / total)[:, :, None] * lines).sum(axis=0)  # (n, k)
    gradient = (problem.weights * slope) @ jacobian
    return OBJECTIVE_SCALE * float(problem.weights @ value), OBJECTIVE_SCALE * gradient


def _minimise(
    start: np.ndarray, lines: np.ndarray, problem: Problem, objective: Objective, refine: bool
) -> tuple[np.ndarray, float]:
    """Best theta, (k,), and its scaled objective; refine polishes with BFGS, for the quoted fit."""
    arguments = (lines, problem, objective)
    result = minimize(
        _loss_and_gradient,
        start,
        args=arguments,
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 1e-14, "gtol": 1e-8},
    )
    if refine:
        result = minimize(
            _loss_and_gradient,
            result.x,
            args=arguments,
            jac=True,
            method="BFGS",
            options={"gtol": 1e-8},
        )
    return result.x, float(result.fun)


def _start_grid(
    law: Law, log_loss: np.ndarray, exponents_of: np.ndarray | None = None
) -> list[np.ndarray]:
    """Thetas for centred logs: exponents from a grid or a theta, terms sharing the mean loss."""
    exponents = [name for name in law.parameters if name not in law.scales]
    shares = FLOOR_SHARE_STARTS if law.floor else (0.0,)
    n_power_terms = len(law.terms) - (law.floor is not None)
    grids = [EXPONENT_STARTS] * len(exponents)
    if exponents_of is not None:
        grids = [(exponents_of[law.parameters.index(name)],) for name in exponents]
    starts = []
    for share, *slopes in itertools.product(shares, *grids):
        named = dict(zip(exponents, slopes, strict=True))
        for term in law.terms:
            part = share if term.scale == law.floor else (1 - share) / n_power_terms
            named[term.scale] = float(np.mean(log_loss)) + np.log(part)
        starts.append(np.array([named[name] for name in law.parameters]))
    return starts


def _shift(law: Law, theta: np.ndarray, by: tuple[float, float]) -> np.ndarray:
    """Theta for logs with `by` subtracted: exponents stay, scales absorb the shift."""
    shifted = theta.copy()
    at_origin = design(law, np.array([by[0]]), np.array([by[1]]))[:, 0, :] @ theta  # (m,)
    for value, term in zip(at_origin, law.terms, strict=True):
        shifted[law.parameters.index(term.scale)] = value
    return shifted
