"""Which laws a table of runs cannot support, and the reason as text.

N parameters, D tokens, U unique tokens.
"""

from collections.abc import Sequence

import numpy as np

from ..laws.law import Law
from ..runs_table import Run
from .minimise import Problem

# correlation of log N and log D above which a fit cannot separate their effects
LOCKSTEP = 0.99


def refusal(law: Law, runs: Sequence[Run]) -> str | None:
    """Why the law cannot be fitted to these runs; None if it can."""
    needs = law.needs
    if len({run.loss for run in runs}) == 1:
        return f"all {len(runs)} runs have the loss {runs[0].loss:g}: there is nothing to fit"
    counted = [
        (len({run.n_params for run in runs}), needs.sizes, "sizes"),
        (len(runs), needs.runs, "runs"),
        (len({run.n_tokens for run in runs}), needs.budgets, "token counts"),
    ]
    if needs.repeated:
        if any(np.isnan(run.unique_tokens) for run in runs):
            return "unique_tokens is missing for at least one run"
        repeated = sum(run.n_tokens > run.unique_tokens for run in runs)
        if repeated == 0:
            return "no run repeats its data, so the value of a repeated token cannot be estimated"
        counted.append((repeated, needs.repeated, "runs that repeat their data"))
        counted.append((len({run.unique_tokens for run in runs}), needs.unique, "amounts of data"))
    for found, needed, what in counted:
        if found < needed:
            return f"{found} {what}, at least {needed} needed: {needs.why}"
    if law.is_at_one_budget:
        return None
    logs = np.log([(run.n_params, run.n_tokens) for run in runs])  # (n, 2)
    correlation = float(np.corrcoef(logs.T)[0, 1])
    if abs(correlation) < LOCKSTEP:
        return None
    return (
        f"N and D change in lockstep (correlation {correlation:.3f} of their logarithms): "
        "their effects cannot be separated; train some sizes on more and on fewer tokens"
    )


def carries(law: Law, problem: Problem) -> bool:
    """Whether the runs left by a draw or a holdout still determine all parameters.

    A run that was drawn twice counts twice among those that repeat their data.
    """
    points, needs = problem.points, law.needs
    axes = (points.log_n, points.log_d, points.log_u)
    sizes, budgets, amounts = (len(np.unique(axis)) for axis in axes)
    if law.is_at_one_budget:
        return sizes > len(law.parameters)
    if sizes < needs.sizes or budgets < needs.budgets:
        return False
    repeated = problem.weights[points.log_u < points.log_d].sum()
    return not needs.repeated or (repeated >= needs.repeated and amounts >= needs.unique)
