"""Where two families' laws meet: the size with the same loss in both, with its interval.

Each family enters with its chosen law. Only a meeting inside the sizes that both families measured
is quoted. Letters: N parameters; B draws of a law's theta; G points of the search grid.
"""

from dataclasses import dataclass

import numpy as np

from .intervals import PERCENTILES, is_degenerate
from .laws import Law, predict_log_loss

MIN_CROSSING_SHARE = 0.95
# how far outside the measured sizes an extrapolated meeting is looked for
REACH = 100.0
GRID_POINTS = 1001


@dataclass(frozen=True)
class FittedLaw:
    """A family's chosen law.

    Attributes:
        arch: name of the family.
        law: its form.
        theta: the fit, (k,).
        draws: thetas that the data leave possible, (B, k); None if the law has no interval.
        n_tokens: D of the fitted runs.
        sizes: smallest and largest N.
    """

    arch: str
    law: Law
    theta: np.ndarray
    draws: np.ndarray | None
    n_tokens: float
    sizes: tuple[float, float]

    def log_loss(self, theta: np.ndarray, log_n: np.ndarray) -> np.ndarray:
        """Log loss over log_n, (G,), for one theta, (k,)."""
        return predict_log_loss(self.law, theta, log_n, np.full_like(log_n, np.log(self.n_tokens)))


def equal_params_crossover(first: FittedLaw, second: FittedLaw) -> dict[str, object]:
    """The N at which both families have the same loss, at the one D of both.

    Returns:
        The entry of fits.json. n_params is null if the laws do not meet inside the measured range;
        a meeting outside it is in n_params_extrapolated, with extrapolated true. found_fraction is
        the share of draws that meet inside the range; interval_95 is over all draws that meet in
        the direction of the fit, within REACH times the range.
    """
    entry: dict[str, object] = {
        "archs": [first.arch, second.arch],
        "laws": [first.law.name, second.law.name],
        "at": "equal_params",
        "n_tokens": first.n_tokens,
        "measured_range": None,
        "n_params": None,
        "interval_95": None,
        "found_fraction": None,
        "extrapolated": False,
        "n_params_extrapolated": None,
        "note": "",
    }
    if first.n_tokens != second.n_tokens:
        tokens = f"{first.n_tokens:g} and {second.n_tokens:g}"
        return entry | {"n_tokens": None, "note": f"the laws hold at different D, {tokens} tokens"}
    low, high = (
        max(first.sizes[0], second.sizes[0]),
        min(first.sizes[1], second.sizes[1]),
    )
    if low >= high:
        return entry | {"note": "the families' sizes do not overlap"}
    entry["measured_range"] = [low, high]
    return entry | _search(first, second, np.log(low), np.log(high))


def _search(first: FittedLaw, second: FittedLaw, log_low: float, log_high: float) -> dict:
    """The fields of the entry that a search over sizes decides."""
    grid = np.linspace(log_low - np.log(REACH), log_high + np.log(REACH), GRID_POINTS)

    def roots(one: np.ndarray, other: np.ndarray) -> list[tuple[float, float]]:
        return _roots(grid, first.log_loss(one, grid) - second.log_loss(other, grid))

    def inside(log_n: float) -> bool:
        return bool(log_low <= log_n <= log_high)

    found = roots(first.theta, second.theta)
    drawn = None
    fields: dict[str, object] = {}
    if first.draws is not None and second.draws is not None:
        drawn = [roots(*pair) for pair in zip(first.draws, second.draws, strict=True)]
        fields["found_fraction"] = float(np.mean([any(inside(r) for r, _ in d) for d in drawn]))
    quoted = [root for root in found if inside(root[0])]
    if not quoted:
        nearest = min(found, key=lambda r: max(log_low - r[0], r[0] - log_high), default=None)
        return fields | {
            "extrapolated": nearest is not None,
            "n_params_extrapolated": None if nearest is None else float(np.exp(nearest[0])),
            "note": "no crossover in the measured range",
        }
    interval, note = _interval(quoted[0][1], drawn, (log_low, log_high))
    if len(quoted) > 1:
        several = f"the laws meet {len(quoted)} times, the smallest size is quoted"
        note = f"{several}; {note}" if note else several
    return fields | {
        "n_params": float(np.exp(quoted[0][0])),
        "interval_95": interval,
        "note": note,
    }


def _roots(grid: np.ndarray, difference: np.ndarray) -> list[tuple[float, float]]:
    """Where difference, (G,), changes sign, as (log N, direction); linear between grid points."""
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
    log_range: tuple[float, float],
) -> tuple[list[float] | None, str]:
    """The 95 % interval of the root in N, and what is to be said about it."""
    if drawn is None:
        return None, "no interval: the law of a family has none"
    same = [[root for root, sign in roots if sign == direction] for roots in drawn]
    log_n = [roots[0] for roots in same if roots]
    share = len(log_n) / len(drawn)
    if share < MIN_CROSSING_SHARE:
        return None, f"no interval: only {share:.0%} of draws meet in the direction of the fit"
    low, high = (float(end) for end in np.exp(np.percentile(log_n, PERCENTILES)))
    if is_degenerate(low, high):
        return None, "no interval: the laws pass through their runs exactly"
    outside = np.log(low) < log_range[0] or np.log(high) > log_range[1]
    return [low, high], "the interval reaches outside the measured range" if outside else ""
