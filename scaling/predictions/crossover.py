"""Where two families' laws cross: the size with the same loss in both, with its interval.

Each family is represented by its chosen law. Families are compared at equal parameters, equal
training FLOPs and equal training seconds, at each D that both were trained at; and, if both laws
depend on D, at equal FLOPs with each family at its own best N and D. A crossing is quoted only if
it is inside the range that both families measured. Letters: N parameters; D tokens; B draws of a
law's theta; G points of the search grid; x the logarithm of the shared quantity: N, or the cost of
a token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..fitting.intervals import PERCENTILES, is_degenerate
from .costs import CostCurve
from .fitted import FittedLaw, evenly
from .frontier import best_use, budget_range

MIN_CROSSING_SHARE = 0.95
# how far outside the measured sizes an extrapolated crossing is searched for
REACH = 100.0
GRID_POINTS = 501
GRID_POINTS_AT_BEST = 61  # fewer, because each point searches for the best size
# at most this many shared token counts are compared
MOST_BUDGETS = 6
COSTS = {"equal_flops": "flops", "equal_time": "seconds"}
NO_DATA = {
    "equal_flops": "no data: a family's runs have no FLOPs (with 6 N D, see equal_params)",
    "equal_time": "no data: a family's runs have no seconds",
}


@dataclass(frozen=True)
class _Side:
    """One family along the search.

    Attributes:
        fitted: its law.
        ends: of its measured range, in x.
        size: log N at x, (G,).
        log_loss: function of theta and x, (G,).
    """

    fitted: FittedLaw
    ends: tuple[float, float]
    size: Callable[[np.ndarray], np.ndarray]
    log_loss: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def n_params(self, x: float) -> float:
        """Its size at x."""
        return float(np.exp(self.size(np.array([x]))[0]))


def find_crossovers(first: FittedLaw, second: FittedLaw) -> list[dict[str, object]]:
    """All entries of fits.json for two families.

    In each entry, n_params is the size in the first family, null if the laws do not cross inside
    the measured range; a crossing outside it is in n_params_extrapolated, with extrapolated true.
    found_fraction is the share of draws that cross inside the range; interval_95 is over all draws
    that cross in the direction of the fit, within REACH times the range.
    """
    budgets, no_budgets = _shared_budgets(first, second)
    found: list[tuple[str, float | None, dict]] = []
    for at in ("equal_params", *COSTS):
        # converts a cost into a size; None where sizes are compared directly
        curves = [getattr(law, COSTS[at]) if at in COSTS else None for law in (first, second)]
        note = NO_DATA[at] if at in COSTS and None in curves else no_budgets
        if note:
            found.append((at, None, {"note": note}))
        else:
            found += [(at, n, _at_budget(first, second, at, n, curves)) for n in budgets]
    if first.n_tokens is None and second.n_tokens is None:
        found.append(("equal_flops", None, _at_best(first, second)))
    return [
        {
            "archs": [first.arch, second.arch],
            "laws": [first.law.name, second.law.name],
            "at": at,
            "n_tokens": n_tokens,
            **dict.fromkeys(("measured_range", "n_params", "n_params_by_arch", "flops")),
            **dict.fromkeys(("train_seconds", "interval_95", "found_fraction")),
            "extrapolated": False,
            "n_params_extrapolated": None,
            "note": "",
            **fields,
        }
        for at, n_tokens, fields in found
    ]


def _shared_budgets(first: FittedLaw, second: FittedLaw) -> tuple[list[float], str]:
    """Token counts to compare at, and the reason if there are none."""
    fixed = {law.n_tokens for law in (first, second) if law.n_tokens is not None}
    if len(fixed) == 2:
        tokens = f"{first.n_tokens:g} and {second.n_tokens:g}"
        return [], f"the laws hold at different D, {tokens} tokens"
    if fixed:
        return sorted(fixed), ""
    shared = sorted(set(first.budgets) & set(second.budgets))
    if not shared:
        low, high = _overlap(first.tokens, second.tokens)
        if low > high:
            return [], "the families' token counts do not overlap"
        return [float(np.sqrt(low * high))], ""
    return evenly(shared, MOST_BUDGETS), ""


def _overlap(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    return max(one[0], other[0]), min(one[1], other[1])


def _at_budget(
    first: FittedLaw, second: FittedLaw, at: str, n_tokens: float, curves: list[CostCurve | None]
) -> dict:
    """The fields of an entry at one D."""

    def side(law: FittedLaw, curve: CostCurve | None) -> _Side:
        size, ends = (lambda x: x), np.log(law.sizes)
        if curve is not None:
            size, ends = curve.size_for, curve.at(ends)

        def log_loss(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
            return law.log_loss(theta, size(x), np.full_like(x, np.log(n_tokens)))

        return _Side(law, tuple(ends), size, log_loss)

    fields = _meeting(side(first, curves[0]), side(second, curves[1]), GRID_POINTS)
    if fields is None:
        what = "sizes" if at == "equal_params" else "costs of a token"
        return {"note": f"the families' {what} do not overlap"}
    cost_of_token = fields.pop("cost")
    if at == "equal_params":  # whole numbers, as in the runs
        fields["measured_range"] = [*_overlap(first.sizes, second.sizes)]
        del fields["n_params_by_arch"]
    elif cost_of_token is not None:
        fields["flops" if at == "equal_flops" else "train_seconds"] = cost_of_token * n_tokens
    return fields


def _at_best(first: FittedLaw, second: FittedLaw) -> dict:
    """The fields at equal FLOPs, with each family at its own best size and token count."""
    for fitted in (first, second):
        if reason := fitted.not_falling:
            return {"note": f"{fitted.arch}: {reason}"}
    if (first.flops is None) != (second.flops is None):
        return {"note": NO_DATA["equal_flops"]}

    def side(law: FittedLaw) -> _Side:
        return _Side(
            *(law, budget_range(law)),
            size=lambda x: best_use(law, law.theta, x)[0],
            log_loss=lambda theta, x: best_use(law, theta, x)[2],
        )

    best = "each family at its own compute-optimal size and token count"
    fields = _meeting(side(first), side(second), GRID_POINTS_AT_BEST)
    if fields is None:
        return {"note": f"{best}: the families' FLOPs do not overlap"}
    fields["flops"] = fields.pop("cost")
    fields["note"] = f"{best}; {fields['note']}" if fields["note"] else best
    return fields


def _meeting(first: _Side, second: _Side, points: int) -> dict | None:
    """Where the laws and their draws cross, as fields of an entry; cost is exp(x) there.

    points: G.

    Returns:
        None if the measured ranges do not overlap.
    """
    low, high = _overlap(first.ends, second.ends)
    if low >= high:
        return None
    grid = np.linspace(low - np.log(REACH), high + np.log(REACH), points)

    def roots(one: np.ndarray, other: np.ndarray) -> list[tuple[float, float]]:
        return _roots(grid, first.log_loss(one, grid) - second.log_loss(other, grid))

    found = roots(first.fitted.theta, second.fitted.theta)
    quoted = [root for root in found if low <= root[0] <= high]
    fields: dict = {
        "measured_range": [first.n_params(low), first.n_params(high)],
        "n_params_by_arch": None,
        "cost": None,
        "note": "no crossover in the measured range",
    }
    drawn = None
    if first.fitted.draws is not None and second.fitted.draws is not None:
        pairs = zip(first.fitted.draws, second.fitted.draws, strict=True)
        drawn = [roots(*pair) for pair in pairs]
        meet_inside = [any(low <= x <= high for x, _ in each) for each in drawn]
        fields["found_fraction"] = float(np.mean(meet_inside))
    if not quoted:
        if found:
            nearest = min((x for x, _ in found), key=lambda x: max(low - x, x - high))
            fields |= {"extrapolated": True, "n_params_extrapolated": first.n_params(nearest)}
        return fields
    root, direction = quoted[0]
    interval, note = _interval(direction, drawn, (low, high))
    if len(quoted) > 1:
        several = f"the laws cross {len(quoted)} times; the smallest size is quoted"
        note = f"{several}; {note}" if note else several
    return fields | {
        "n_params": first.n_params(root),
        "n_params_by_arch": {side.fitted.arch: side.n_params(root) for side in (first, second)},
        "cost": float(np.exp(root)),
        "interval_95": interval and [first.n_params(end) for end in interval],
        "note": note,
    }


def _roots(grid: np.ndarray, difference: np.ndarray) -> list[tuple[float, float]]:
    """Where difference, (G,), changes sign, as (x, direction); linear between grid points."""
    below, above = difference[:-1], difference[1:]
    at = np.flatnonzero((below < 0) != (above < 0))
    rise = above[at] - below[at]
    places = grid[at] - below[at] * (grid[at + 1] - grid[at]) / rise
    return [*zip(places.tolist(), np.sign(rise).tolist(), strict=True)]


def _interval(
    direction: float, drawn: list[list[tuple[float, float]]] | None, measured: tuple[float, float]
) -> tuple[tuple[float, float] | None, str]:
    """The 95 % interval of the root in x, and a note about it."""
    if drawn is None:
        return None, "no interval: the law of a family has none"
    same = [[root for root, sign in roots if sign == direction] for roots in drawn]
    x = [roots[0] for roots in same if roots]
    share = len(x) / len(drawn)
    if share < MIN_CROSSING_SHARE:
        return None, f"no interval: only {share:.0%} of draws cross in the direction of the fit"
    low, high = (float(end) for end in np.percentile(x, PERCENTILES))
    if is_degenerate(np.exp(low), np.exp(high)):
        return None, "no interval: the laws pass through their runs exactly"
    outside = low < measured[0] or high > measured[1]
    return (low, high), "the interval extends beyond the measured range" if outside else ""
