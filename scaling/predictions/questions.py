"""A question to a fitted law, with one or two of C, N and D given, and its answer.

N parameters, D tokens, C FLOPs, L loss in nats per token; k parameters of the law. Given one, the
others are chosen for the lowest loss at equal cost; given two, the third follows.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..fitting.intervals import interval_or_none
from ..runs_table import TableError
from .fitted import FittedLaw
from .frontier import best_use, budget_range

# how far beyond the measured budgets a size or token count is searched for, and in how many steps
REACH = 1e8
BUDGETS_SEARCHED = 161
QUANTITIES = ("flops", "n_params", "n_tokens", "loss")


@dataclass(frozen=True)
class Question:
    """Logarithms of the given values, else None; at least one is given."""

    log_c: float | None = None
    log_n: float | None = None
    log_d: float | None = None


def ask(fitted: FittedLaw, question: Question) -> dict[str, tuple[float, list[float] | None]]:
    """Value and 95 % interval of each of QUANTITIES; None where there is no interval.

    Raises:
        TableError: if the law cannot answer.
    """
    is_choice = list(vars(question).values()).count(None) == 2 and fitted.n_tokens is None
    if is_choice and (reason := fitted.not_falling):
        raise TableError(f"{fitted.arch}: {reason}")
    centre = np.exp(_answer(fitted, fitted.theta, question))
    _, n_params, n_tokens, _ = centre
    if min(n_params, n_tokens) < 1:
        raise TableError(
            f"{fitted.arch}: the answer is {n_params:.3g} parameters and {n_tokens:.3g} tokens, "
            "expected 1 or more of each; stay closer to the runs, which have "
            f"{fitted.sizes[0]:g} to {fitted.sizes[1]:g} parameters"
        )
    ends = fitted.ends(lambda theta: _answer(fitted, theta, question))  # (2, 4)
    intervals = [None] * 4 if ends is None else [interval_or_none(*each) for each in np.exp(ends).T]
    return dict(zip(QUANTITIES, zip(centre.tolist(), intervals, strict=True), strict=True))


def _answer(fitted: FittedLaw, theta: np.ndarray, question: Question) -> np.ndarray:
    """Logs of QUANTITIES, (4,), for one theta, (k,)."""
    log_c, log_n, log_d = question.log_c, question.log_n, question.log_d
    if fitted.n_tokens is not None:
        if log_n is None or log_c is not None or log_d not in (None, math.log(fitted.n_tokens)):
            raise TableError(
                f"{fitted.arch}: the chosen law, {fitted.law.name}, is in N alone and valid at "
                f"{fitted.n_tokens:g} tokens: give --params alone, or train sizes at three token "
                "counts or more and fit again"
            )
        log_d = math.log(fitted.n_tokens)
    if sum(part is not None for part in (log_c, log_n, log_d)) == 1:
        log_n, log_d = _best(fitted, theta, question)
    elif log_n is None:
        log_n = float(fitted.cost.size_for(np.array(log_c - log_d)))
    elif log_d is None:
        log_d = log_c - float(fitted.cost.at(np.array(log_n)))
    log_loss = fitted.log_loss(theta, np.array([log_n]), np.array([log_d]))[0]
    return np.array([log_d + float(fitted.cost.at(np.array(log_n))), log_n, log_d, log_loss])


def _best(fitted: FittedLaw, theta: np.ndarray, question: Question) -> tuple[float, float]:
    """Log N and log D of lowest loss at their cost, given one of C, N and D."""
    if question.log_c is not None:
        log_n, log_d, _ = best_use(fitted, theta, np.array([question.log_c]))
        return float(log_n[0]), float(log_d[0])
    low, high = budget_range(fitted)
    log_c = np.linspace(low - np.log(REACH), high + np.log(REACH), BUDGETS_SEARCHED)
    log_n, log_d, _ = best_use(fitted, theta, log_c)
    if question.log_n is not None:
        return question.log_n, float(np.interp(question.log_n, log_n, log_d))
    return float(np.interp(question.log_d, log_d, log_n)), question.log_d
