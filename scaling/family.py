"""All laws for one family: refusals, fits, intervals, warnings and the choice among them.

Letters: n runs, S distinct sizes, k parameters, x points of a drawn curve.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .crossover import FittedLaw
from .diagnostics import aicc, holdout_error, power_curvature, r_squared_log, run_warnings
from .intervals import (
    MIN_CLUSTERS,
    LogLine,
    bootstrap_thetas,
    is_degenerate,
    percentile_interval,
    size_means,
)
from .laws import LAWS, Law, Objective, Problem, fit_law, predict_log_loss
from .runs_table import Run

CURVE_POINTS = 41
# below this the AICc difference is no evidence (Burnham & Anderson 2002, section 2.6)
AICC_DECIDES = 2.0
# a floor that is known no better than this, relative to the smallest loss, is not identified
FLOOR_WIDTH = 0.20
OBJECTIVES_DIFFER = 0.10


def fit_family(
    arch: str,
    runs: Sequence[Run],
    law_names: Sequence[str],
    objective: Objective,
    bootstrap: int,
    seed: int,
) -> tuple[dict[str, object], FittedLaw | None]:
    """The family's entry of fits.json, and its chosen law for the crossovers if there is one.

    Args:
        arch: name of the family.
        runs: its usable runs, sorted.
        law_names: names in LAWS.
        objective: as in fit_law.
        bootstrap: number of refits.
        seed: of the draws.
    """
    entry: dict[str, object] = {}
    fitted: dict[str, FittedLaw] = {}
    kept, tokens_note = runs_at_one_budget(runs)
    for name in law_names:
        law = LAWS[name]
        refusal = tokens_note if not kept else _refusal(law, kept)
        if refusal is not None:
            entry[name] = {"refused": refusal, "n_sizes": len({run.n_params for run in runs})}
            continue
        # a stream of draws for each family and law: adding a law does not change another's interval
        rng = np.random.default_rng([seed, zlib.crc32(f"{arch} {name}".encode())])
        entry[name], theta, draws = _fit_one(law, kept, objective, bootstrap, rng)
        if tokens_note is not None:
            entry[name]["warnings"].insert(0, tokens_note)
        sizes = (kept[0].n_params, kept[-1].n_params)
        fitted[name] = FittedLaw(arch, law, theta, draws, kept[0].n_tokens, sizes)
    choice = choose_law(entry)
    return entry | choice, fitted.get(choice["chosen"])


def runs_at_one_budget(runs: Sequence[Run]) -> tuple[list[Run], str | None]:
    """The runs at one D, for laws in N alone, and what is to be said about the others.

    Returns:
        All runs and None if they have one D; else the runs at the largest D that every size has,
        with a note; else no runs, with the reason.
    """
    budgets = sorted({run.n_tokens for run in runs})
    if len(budgets) == 1:
        return list(runs), None
    sizes = {run.n_params for run in runs}
    listed = ", ".join(f"{budget:g}" for budget in budgets)
    for budget in reversed(budgets):
        kept = [run for run in runs if run.n_tokens == budget]
        if {run.n_params for run in kept} == sizes:
            note = (
                f"fitted at {budget:g} tokens, the largest count that all {len(sizes)} sizes have; "
                f"{len(runs) - len(kept)} runs at other counts are left out (found: {listed})"
            )
            return kept, note
    return [], f"a law in N alone needs one token count; no count is shared by all sizes ({listed})"


def choose_law(entry: dict[str, dict]) -> dict[str, object]:
    """The law to quote and why: AICc where it decides, else the error on the largest size."""
    fitted = {name: law for name, law in entry.items() if "refused" not in law}
    if not fitted:
        return {"chosen": None, "chosen_reason": "every law is refused"}
    if len(fitted) == 1:
        name = next(iter(fitted))
        return {"chosen": name, "chosen_reason": "the only law that is fitted"}
    by_aicc = sorted((law["aicc"], name) for name, law in fitted.items() if law["aicc"] is not None)
    by_holdout = sorted(
        (law["holdout_error"], name)
        for name, law in fitted.items()
        if law["holdout_error"] is not None
    )
    predicts = by_holdout[0][1]
    if len(by_aicc) > 1 and by_aicc[1][0] - by_aicc[0][0] >= AICC_DECIDES:
        name = by_aicc[0][1]
        reason = f"AICc is lower by {by_aicc[1][0] - by_aicc[0][0]:.1f}"
        other = "also predicts" if predicts == name else f"though {predicts} better predicts"
        return {
            "chosen": name,
            "chosen_reason": f"{reason}; {other} the largest size from the rest",
        }
    errors = ", ".join(f"{name} {error:.2%}" for error, name in by_holdout)
    return {
        "chosen": predicts,
        "chosen_reason": f"AICc does not decide (difference below {AICC_DECIDES:g}); "
        f"smaller error on the held-out largest size: {errors}",
    }


def _refusal(law: Law, runs: Sequence[Run]) -> str | None:
    n_sizes = len({run.n_params for run in runs})
    if n_sizes >= law.min_sizes:
        return None
    return f"{n_sizes} sizes, at least {law.min_sizes} needed: {law.min_sizes_reason}"


def _fit_one(
    law: Law, runs: Sequence[Run], objective: Objective, bootstrap: int, rng: np.random.Generator
) -> tuple[dict, np.ndarray, np.ndarray | None]:
    """One law's entry of fits.json, its theta (k,), and draws of theta (B, k) if there are any."""
    problem = _problem(runs)
    theta = fit_law(law, problem, objective)
    grid = np.linspace(problem.log_n.min(), problem.log_n.max(), CURVE_POINTS)
    spread = _spread(law, runs, problem, theta, grid, objective, bootstrap, rng)
    intervals, interval_warnings = _named_intervals(law, spread.ends, runs)
    entry = {
        "formula": law.formula,
        "params": law.values(theta),
        "interval_95": intervals,
        "interval_method": spread.method,
        "objective": objective,
        "aicc": aicc(law, theta, problem),
        "holdout_error": holdout_error(law, problem, objective),
        "curvature_p_value": power_curvature(law, problem),
        "r_squared_log": r_squared_log(law, theta, problem),
        "n_sizes": len({run.n_params for run in runs}),
        "n_runs": len({run.cluster for run in runs}),
        "n_tokens": runs[0].n_tokens,
        "warnings": [*spread.warnings, *interval_warnings, *run_warnings(law, runs, problem)],
        "curve": {
            "n_params": np.exp(grid).tolist(),
            "loss": np.exp(
                predict_log_loss(law, theta, grid, np.full_like(grid, problem.log_d[0]))
            ).tolist(),
            "band_95": None if spread.band is None else np.exp(spread.band).tolist(),
        },
    }
    return entry, theta, spread.draws


@dataclass(frozen=True)
class Spread:
    """What the runs leave open.

    ends: (2, k) of theta; band: (2, x), log loss; draws of theta: (B, k); each None if not known.
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
    grid: np.ndarray,
    objective: Objective,
    bootstrap: int,
    rng: np.random.Generator,
) -> Spread:
    """The bootstrap where there are runs enough, else the exact interval of the straight line."""
    clusters = np.array([run.cluster for run in runs])
    n_clusters = len(set(clusters))
    if n_clusters >= MIN_CLUSTERS:
        draws = bootstrap_thetas(law, problem, clusters, theta, objective, bootstrap, rng)
        curves = np.array(
            [
                predict_log_loss(law, drawn, grid, np.full_like(grid, problem.log_d[0]))
                for drawn in draws
            ]
        )
        method = f"percentiles of {bootstrap} refits, {n_clusters} runs drawn with replacement"
        return Spread(method, percentile_interval(draws), percentile_interval(curves), draws)
    if law.name != "power":
        return Spread(
            "none",
            warnings=(
                f"no intervals: the bootstrap needs {MIN_CLUSTERS} runs, these are {n_clusters}",
            ),
        )
    line = LogLine.through(*size_means(problem.log_n, problem.log_loss))
    method = (
        f"Student t with {line.degrees_of_freedom} degrees of freedom around the least-squares "
        f"line in log-log, one point a size (the bootstrap needs {MIN_CLUSTERS} runs)"
    )
    warnings = tuple(_least_squares_warning(theta, line.theta))
    return Spread(method, line.interval(), line.band(grid), line.draws(bootstrap, rng), warnings)


def _problem(runs: Sequence[Run]) -> Problem:
    def logs(field: str) -> np.ndarray:
        return np.log(np.array([getattr(run, field) for run in runs], dtype=float))

    return Problem(logs("n_params"), logs("n_tokens"), logs("loss"), np.ones(len(runs)))


def _named_intervals(
    law: Law, ends: np.ndarray | None, runs: Sequence[Run]
) -> tuple[dict[str, list[float] | None], list[str]]:
    """Intervals in natural scale by name; None and a warning where the runs fix no value."""
    if ends is None:
        return dict.fromkeys(law.parameters), []
    lower, upper = law.values(ends[0]), law.values(ends[1])
    intervals: dict[str, list[float] | None] = {}
    warnings = []
    for name in law.parameters:
        low, high = lower[name], upper[name]
        intervals[name] = [low, high]
        if is_degenerate(low, high):
            intervals[name] = None
            warnings.append(f"{name} has no interval: the law passes through the runs exactly")
        elif name == law.floor and high - low > FLOOR_WIDTH * min(run.loss for run in runs):
            intervals[name] = None
            warnings.append(
                f"the floor {name} is not identified: refits give {low:.3g} to {high:.3g}, "
                f"wider than {FLOOR_WIDTH:.0%} of the smallest loss"
            )
    return intervals, warnings


def _least_squares_warning(theta: np.ndarray, least_squares: np.ndarray) -> list[str]:
    if abs(theta[1] - least_squares[1]) <= OBJECTIVES_DIFFER * abs(least_squares[1]):
        return []
    return [
        f"alpha depends on the objective: {theta[1]:.4f} here, {least_squares[1]:.4f} by least "
        "squares, which the interval is centred on"
    ]
