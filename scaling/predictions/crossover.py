"""Where two families' laws meet: the size with the same loss in both, with its interval.

Each family enters with its chosen law. Families are compared at equal parameters, at equal training
FLOPs and at equal training seconds, at each D that both were trained at; and, where both laws know
D, at equal FLOPs with each family at its own best N and D. Only a meeting inside what both families
measured is quoted. Letters: N parameters; D tokens; B draws of a law's theta; G points of the
search grid; x the logarithm of what the families share: N, or the cost of a token.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..fitting.intervals import PERCENTILES, is_degenerate
from .costs import CostCurve
from .fitted import FittedLaw
from .frontier import best_log_loss, budget_range

MIN_CROSSING_SHARE = 0.95
# how far outside the measured sizes an extrapolated meeting is looked for
REACH = 100.0
GRID_POINTS = 501
# token counts at which families are compared, where they share more
MOST_BUDGETS = 6
COSTS = {"equal_flops": "flops", "equal_time": "seconds"}
NO_DATA = {
    "equal_flops": "no data: a family's runs name no FLOPs (by 6 N D it is that at equal_params)",
    "equal_time": "no data: a family's runs name no seconds",
}


@dataclass(frozen=True)
class _Axis:
    """What both families share along the search.

    Attributes:
        low: of the range that both families measured, in x.
        high: likewise.
        first: log loss over x, (G,), for one theta of the first family.
        second: likewise.
    """

    low: float
    high: float
    first: Callable[[np.ndarray, np.ndarray], np.ndarray]
    second: Callable[[np.ndarray, np.ndarray], np.ndarray]


def find_crossovers(first: FittedLaw, second: FittedLaw) -> list[dict[str, object]]:
    """Every entry of fits.json for two families.

    Each entry says n_params, the size in the first family, null if the laws do not meet inside the
    measured range; a meeting outside it is in n_params_extrapolated, with extrapolated true.
    found_fraction is the share of draws that meet inside the range; interval_95 is over all draws
    that meet in the direction of the fit, within REACH times the range.
    """
    budgets, no_budgets = _shared_budgets(first, second)
    entries = []
    for at in ("equal_params", *COSTS):
        curves = _cost_curves(first, second, at)
        note = NO_DATA[at] if at in COSTS and None in curves else no_budgets
        if note:
            entries.append(_empty(first, second, at, None) | {"note": note})
            continue
        for n_tokens in budgets:
            entry = _empty(first, second, at, n_tokens)
            entries.append(entry | _at_budget(first, second, at, n_tokens, curves))
    if first.n_tokens is None and second.n_tokens is None:
        entries.append(_at_best(first, second))
    return entries


def _empty(first: FittedLaw, second: FittedLaw, at: str, n_tokens: float | None) -> dict:
    return {
        "archs": [first.arch, second.arch],
        "laws": [first.law.name, second.law.name],
        "at": at,
        "n_tokens": n_tokens,
        "measured_range": None,
        "n_params": None,
        "n_params_by_arch": None,
        "flops": None,
        "train_seconds": None,
        "interval_95": None,
        "found_fraction": None,
        "extrapolated": False,
        "n_params_extrapolated": None,
        "note": "",
    }


def _shared_budgets(first: FittedLaw, second: FittedLaw) -> tuple[list[float], str]:
    """Token counts to compare at, and why there are none."""
    fixed = {law.n_tokens for law in (first, second) if law.n_tokens is not None}
    if len(fixed) == 2:
        tokens = f"{first.n_tokens:g} and {second.n_tokens:g}"
        return [], f"the laws hold at different D, {tokens} tokens"
    if fixed:
        return sorted(fixed), ""
    shared = sorted(set(first.budgets) & set(second.budgets))
    if not shared:
        low, high = (
            max(first.tokens[0], second.tokens[0]),
            min(first.tokens[1], second.tokens[1]),
        )
        if low > high:
            return [], "the families' token counts do not overlap"
        return [float(np.sqrt(low * high))], ""
    if len(shared) > MOST_BUDGETS:
        kept = np.linspace(0, len(shared) - 1, MOST_BUDGETS).round().astype(int)
        shared = [shared[index] for index in kept]
    return shared, ""


def _cost_curves(first: FittedLaw, second: FittedLaw, at: str) -> list[CostCurve | None]:
    """What turns a cost into a size, for each family; None where sizes are compared as such."""
    return [getattr(law, COSTS[at]) if at in COSTS else None for law in (first, second)]


def _at_budget(
    first: FittedLaw,
    second: FittedLaw,
    at: str,
    n_tokens: float,
    curves: list[CostCurve | None],
) -> dict:
    """The fields of an entry at one D."""
    ends = [
        np.log(law.sizes) if curve is None else curve.at(np.log(law.sizes))
        for law, curve in zip((first, second), curves, strict=True)
    ]
    low, high = max(end[0] for end in ends), min(end[1] for end in ends)
    what = "sizes" if at == "equal_params" else "costs of a token"
    if low >= high:
        return {"note": f"the families' {what} do not overlap"}

    def to_size(curve: CostCurve | None, x: np.ndarray) -> np.ndarray:
        return x if curve is None else curve.size_for(x)

    def loss_of(
        law: FittedLaw, curve: CostCurve | None
    ) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        def log_loss(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
            return law.log_loss(theta, to_size(curve, x), np.full_like(x, np.log(n_tokens)))

        return log_loss

    axis = _Axis(low, high, loss_of(first, curves[0]), loss_of(second, curves[1]))
    found = _search(first, second, axis)
    in_first = {x: float(np.exp(to_size(curves[0], np.array(x)))) for x in found.log_values()}
    fields = found.fields(in_first)
    fields["measured_range"] = [in_first[low], in_first[high]]
    if at == "equal_params":  # whole numbers, as the runs have them
        fields["measured_range"] = [
            max(first.sizes[0], second.sizes[0]),
            min(first.sizes[1], second.sizes[1]),
        ]
    if found.root is not None and at in COSTS:
        fields["n_params_by_arch"] = {
            law.arch: float(np.exp(to_size(curve, np.array(found.root))))
            for law, curve in zip((first, second), curves, strict=True)
        }
        fields["flops" if at == "equal_flops" else "train_seconds"] = (
            float(np.exp(found.root)) * n_tokens
        )
    return fields


def _at_best(first: FittedLaw, second: FittedLaw) -> dict:
    """The entry at equal FLOPs with each family at its own best size and token count."""
    entry = _empty(first, second, "equal_flops", None)
    for fitted in (first, second):
        if reason := fitted.not_falling:
            return entry | {"note": f"{fitted.arch}: {reason}"}
    measured = (first.flops is None) == (second.flops is None)
    if not measured:
        return entry | {"note": NO_DATA["equal_flops"]}
    ranges = [budget_range(law) for law in (first, second)]
    low, high = max(r[0] for r in ranges), min(r[1] for r in ranges)
    best = "each family at its own best size and token count for the FLOPs"
    if low >= high:
        return entry | {"note": f"{best}: the families' FLOPs do not overlap"}

    def loss_of(law: FittedLaw) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        return lambda theta, x: best_log_loss(law, theta, x)[1]

    axis = _Axis(low, high, loss_of(first), loss_of(second))
    found = _search(first, second, axis, points=61)
    values = np.array(found.log_values())
    sizes = np.exp(best_log_loss(first, first.theta, values)[0])
    fields = found.fields(dict(zip(found.log_values(), sizes.tolist(), strict=True)))
    if found.root is not None:
        at_root = np.array([found.root])
        fields["n_params_by_arch"] = {
            law.arch: float(np.exp(best_log_loss(law, law.theta, at_root)[0][0]))
            for law in (first, second)
        }
        fields["flops"] = float(np.exp(found.root))
    fields["note"] = f"{best}; {fields['note']}" if fields["note"] else best
    fields["measured_range"] = [float(sizes[0]), float(sizes[1])]
    return entry | fields


@dataclass(frozen=True)
class _Found:
    """A search's outcome in x: the quoted root, the nearest one outside, the interval."""

    low: float
    high: float
    root: float | None
    outside: float | None
    interval: tuple[float, float] | None
    found_fraction: float | None
    note: str

    def log_values(self) -> list[float]:
        """Every x that an entry quotes in parameters; the ends of the range first."""
        ends = [] if self.interval is None else list(self.interval)
        given = [x for x in (self.root, self.outside) if x is not None]
        return [self.low, self.high, *given, *ends]

    def fields(self, n_params: dict[float, float]) -> dict[str, object]:
        """Fields of an entry; n_params: size in the first family at each of log_values."""
        interval = None
        if self.interval is not None:
            interval = [n_params[end] for end in self.interval]
        return {
            "n_params": None if self.root is None else n_params[self.root],
            "interval_95": interval,
            "found_fraction": self.found_fraction,
            "extrapolated": self.outside is not None,
            "n_params_extrapolated": None if self.outside is None else n_params[self.outside],
            "note": self.note,
        }


def _search(first: FittedLaw, second: FittedLaw, axis: _Axis, points: int = GRID_POINTS) -> _Found:
    """Where the laws meet along an axis, and where their draws do."""
    grid = np.linspace(axis.low - np.log(REACH), axis.high + np.log(REACH), points)

    def roots(one: np.ndarray, other: np.ndarray) -> list[tuple[float, float]]:
        return _roots(grid, axis.first(one, grid) - axis.second(other, grid))

    def inside(x: float) -> bool:
        return bool(axis.low <= x <= axis.high)

    found = roots(first.theta, second.theta)
    drawn, share = None, None
    if first.draws is not None and second.draws is not None:
        drawn = [roots(*pair) for pair in zip(first.draws, second.draws, strict=True)]
        share = float(np.mean([any(inside(r) for r, _ in d) for d in drawn]))
    quoted = [root for root in found if inside(root[0])]
    if not quoted:
        nearest = min(found, key=lambda r: max(axis.low - r[0], r[0] - axis.high), default=None)
        outside = None if nearest is None else nearest[0]
        note = "no crossover in the measured range"
        return _Found(axis.low, axis.high, None, outside, None, share, note)
    interval, note = _interval(quoted[0][1], drawn, (axis.low, axis.high))
    if len(quoted) > 1:
        several = f"the laws meet {len(quoted)} times, the smallest size is quoted"
        note = f"{several}; {note}" if note else several
    return _Found(axis.low, axis.high, quoted[0][0], None, interval, share, note)


def _roots(grid: np.ndarray, difference: np.ndarray) -> list[tuple[float, float]]:
    """Where difference, (G,), changes sign, as (x, direction); linear between grid points."""
    below, above = difference[:-1], difference[1:]
    return [
        (
            float(grid[i] - below[i] * (grid[i + 1] - grid[i]) / (above[i] - below[i])),
            float(np.sign(above[i] - below[i])),
        )
        for i in np.flatnonzero((below < 0) != (above < 0))
    ]


def _interval(
    direction: float,
    drawn: list[list[tuple[float, float]]] | None,
    measured: tuple[float, float],
) -> tuple[tuple[float, float] | None, str]:
    """The 95 % interval of the root in x, and what is to be said about it."""
    if drawn is None:
        return None, "no interval: the law of a family has none"
    same = [[root for root, sign in roots if sign == direction] for roots in drawn]
    x = [roots[0] for roots in same if roots]
    share = len(x) / len(drawn)
    if share < MIN_CROSSING_SHARE:
        return None, f"no interval: only {share:.0%} of draws meet in the direction of the fit"
    low, high = (float(end) for end in np.percentile(x, PERCENTILES))
    if is_degenerate(np.exp(low), np.exp(high)):
        return None, "no interval: the laws pass through their runs exactly"
    outside = low < measured[0] or high > measured[1]
    return (low, high), "the interval reaches outside the measured range" if outside else ""
