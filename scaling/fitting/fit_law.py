"""One law and one family's runs -> the law's entry of fits.json, its theta and its draws.

N parameters, D tokens. Letters: n runs, k parameters, B draws, x points of a drawn curve.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..fit_options import Settings
from ..laws.law import Law, Points
from ..runs_table import Run
from .diagnostics import aicc, holdout_error, power_curvature, r_squared_log, run_warnings
from .identification import identification, named_intervals
from .influence import jackknife_by_size, outlier_report
from .intervals import (
    MIN_CLUSTERS,
    MIN_CLUSTERS_FOR_JACKKNIFE,
    LogLine,
    bootstrap_thetas,
    jackknife_spread,
    percentile_interval,
)
from .minimise import Problem, fit_law, objective_value

CURVE_POINTS = 41
MOST_LISTED = 6
OBJECTIVES_DIFFER = 0.10


def fit_one_law(
    law: Law, runs: Sequence[Run], settings: Settings, rng: np.random.Generator
) -> tuple[dict, np.ndarray, np.ndarray | None]:
    """One law's entry of fits.json, its theta (k,), and draws of theta (B, k) if there are any.

    Args:
        law: a form that `refusal` does not refuse for these runs.
        runs: one family's runs, sorted by size; at one D if the law is in N alone.
        settings: gives the objective, its delta, and B.
        rng: source of the draws.
    """
    fields = ("n_params", "n_tokens", "loss", "unique_tokens")
    columns = (np.array([getattr(run, field) for run in runs], dtype=float) for field in fields)
    problem = Problem.of(*columns, settings.objective, settings.huber_delta)
    theta = fit_law(law, problem)
    drawn, n_tokens = _drawn_points(runs)
    spread = _spread(law, runs, problem, theta, drawn, settings.bootstrap, rng)
    identified, flat = identification(law, theta, problem)
    intervals, interval_warnings = named_intervals(law, spread.ends, problem, flat)
    report = outlier_report(law, theta, problem, runs)
    warnings = [*spread.warnings, *interval_warnings, *run_warnings(law, runs, problem)]
    if reason := law.not_falling(theta, None if spread.ends is None else spread.ends[0]):
        warnings.insert(0, reason)
    entry = {
        "formula": law.formula,
        "params": law.values(theta),
        "interval_95": intervals,
        "interval_method": spread.method,
        "objective": settings.objective,
        "objective_value": objective_value(law, theta, problem),
        "aicc": aicc(law, theta, problem),
        "holdout_error": holdout_error(law, problem),
        "curvature_p_value": power_curvature(law, problem),
        "r_squared_log": r_squared_log(law, theta, problem),
        "n_sizes": len({run.n_params for run in runs}),
        "n_runs": len(runs),
        "n_trunks": len({run.cluster for run in runs}),
        "n_tokens": n_tokens,
        "n_tokens_range": [min(r.n_tokens for r in runs), max(r.n_tokens for r in runs)],
        "n_params_range": [runs[0].n_params, runs[-1].n_params],
        "warnings": warnings,
        "outliers": report,
        "jackknife_by_size": jackknife_by_size(law, theta, problem),
        "identification": identified,
        "curve": {
            "n_params": np.exp(drawn.log_n).tolist(),
            "loss": np.exp(law.log_loss(theta, drawn)).tolist(),
            "band_95": None if spread.band is None else np.exp(spread.band).tolist(),
        },
    }
    if report is not None:
        named = [run["run"] or f"{run['n_params']:g} parameters" for run in report["runs"]]
        listed = ", ".join(named[:MOST_LISTED]) + (", ..." if len(named) > MOST_LISTED else "")
        entry["warnings"].append(
            f"{len(named)} of {len(runs)} runs lie far from the law ({listed}): "
            "see outliers for the fit without them"
        )
    return entry, theta, spread.draws


def runs_at_one_budget(runs: Sequence[Run]) -> tuple[list[Run], str | None]:
    """The runs at one D, for laws in N alone, and a note about the others.

    Returns:
        All runs and None if they have one D; else the runs at the largest D that every size has,
        with a note; else no runs, with the reason.
    """
    budgets = sorted({run.n_tokens for run in runs})
    if len(budgets) == 1:
        return list(runs), None
    sizes = {run.n_params for run in runs}
    listed = ", ".join(f"{budget:g}" for budget in budgets[:MOST_LISTED])
    if len(budgets) > MOST_LISTED:
        listed += f", ... {budgets[-1]:g}: {len(budgets)} counts"
    for budget in reversed(budgets):
        kept = [run for run in runs if run.n_tokens == budget]
        if {run.n_params for run in kept} == sizes:
            note = (
                f"fitted at {budget:g} tokens, the largest count that all {len(sizes)} sizes have; "
                f"{len(runs) - len(kept)} runs at other counts are left out (found: {listed})"
            )
            return kept, note
    return [], f"a law in N alone needs one token count; no count is shared by all sizes ({listed})"


def _drawn_points(runs: Sequence[Run]) -> tuple[Points, float]:
    """The line to draw: sizes of the runs at one D of unique tokens; and that D."""
    shared, _ = runs_at_one_budget(runs)
    budgets = sorted(run.n_tokens for run in shared or runs)
    n_tokens = budgets[len(budgets) // 2]
    log_n = np.linspace(np.log(runs[0].n_params), np.log(runs[-1].n_params), CURVE_POINTS)
    return Points.once(log_n, np.full(CURVE_POINTS, np.log(n_tokens))), n_tokens


@dataclass(frozen=True)
class Spread:
    """The uncertainty that the runs leave.

    ends: (2, k) of theta; band: (2, x), log loss; draws of theta: (B, k); each None if unknown.
    """

    method: str
    ends: np.ndarray | None = None
    band: np.ndarray | None = None
    draws: np.ndarray | None = None
    warnings: tuple[str, ...] = ()


def _spread(
    law: Law,
    runs: Sequence[Run],
    problem: Problem,
    theta: np.ndarray,
    drawn: Points,
    bootstrap: int,
    rng: np.random.Generator,
) -> Spread:
    """The bootstrap if there are enough trunks, else Student's t."""
    clusters = np.array([run.cluster for run in runs])
    n_clusters = len(set(clusters))
    unit = "runs" if n_clusters == len(runs) else "trunks"
    warnings, student = (), None
    if n_clusters >= MIN_CLUSTERS:
        draws = bootstrap_thetas(law, problem, clusters, theta, bootstrap, rng)
        ends = percentile_interval(draws)
        method = f"percentiles of {bootstrap} refits, {n_clusters} {unit} drawn with replacement"
    else:
        if law.name == "power":
            student = LogLine.through(*problem.size_means())
            around = " around the least-squares line in log-log, one point per size"
            few = f"(the bootstrap needs {MIN_CLUSTERS} runs)"
            if abs(theta[1] - student.theta[1]) > OBJECTIVES_DIFFER * abs(student.theta[1]):
                warnings = (
                    f"alpha depends on the objective: {theta[1]:.4f} here, {student.theta[1]:.4f} "
                    "by least squares, on which the interval is centered",
                )
        elif n_clusters >= MIN_CLUSTERS_FOR_JACKKNIFE:
            student = jackknife_spread(law, problem, clusters, theta)
            around = f", jackknife over {n_clusters} {unit}"
            few = f"(the bootstrap needs {MIN_CLUSTERS})"
        if student is None:
            few = f"the bootstrap needs {MIN_CLUSTERS} runs, found {n_clusters}"
            return Spread("none", warnings=(f"no intervals: {few}",))
        draws, ends = student.draws(bootstrap, rng), student.interval()
        freedom = student.degrees_of_freedom
        method = f"Student t with {freedom} degrees of freedom{around} {few}"
    if isinstance(student, LogLine):
        band = student.band(drawn.log_n)
    else:
        surface = law.surface(drawn)
        band = percentile_interval(np.array([surface(each)[0] for each in draws]))
    return Spread(method, ends, band, draws, warnings)
