"""runs.csv of a learning-rate sweep -> a rule for the learning rate of each size, as JSON.

    python -m scaling.learning_rates runs/cpu_sweep/runs.csv --out results/learning_rates.json

N non-embedding parameters. The best rate of a size is the minimum of the parabola through its
lowest loss and the two beside it, over the log of the rate. If the lowest loss is at the first or
last rate of the sweep, that rate is only a bound: it is marked at_edge and not used for the rule.
The rule is learning_rate = exp(c) N^-g, fitted by least squares on logs, one per family. The
largest size shows how far to trust it: the rate predicted from the smaller ones, and its cost.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.polynomial.polynomial import polyfit, polyval

from .families import FAMILIES
from .runs_table import TableError
from .writing.commands import command, parser_of
from .writing.files import read_csv, write_json

FORMULA = "learning_rate = exp(c) * n_params ** -g"
COLUMNS = ("arch", "size", "n_params", "n_tokens", "learning_rate", "loss")
LEAST_RATES = 3  # a parabola has three coefficients


@dataclass(frozen=True)
class SweptSize:
    """One size of one family. rates ascending and losses in nats per token, (n,) each, n >= 3."""

    name: str
    n_params: int
    n_tokens: int
    rates: np.ndarray
    losses: np.ndarray

    @property
    def is_at_edge(self) -> bool:
        """Whether the best is the first or the last: a better one may be outside the sweep."""
        return int(np.argmin(self.losses)) in (0, len(self.losses) - 1)

    @property
    def best_rate(self) -> float:
        """The minimum of the parabola; at an edge, the edge."""
        if self.is_at_edge:
            return float(self.rates[np.argmin(self.losses)])
        _, slope, bend = self._parabola()
        return float(np.exp(-slope / (2 * bend)))

    def loss_above_best(self, rate: float) -> float:
        """What a rate costs by the parabola, in nats per token; rough far from the best rate."""
        at, best = polyval(np.log([rate, self.best_rate]), self._parabola()).tolist()
        return at - best

    def _parabola(self) -> np.ndarray:
        """Coefficients, constant first, of loss over ln rate around the lowest loss."""
        middle = int(np.clip(np.argmin(self.losses), 1, len(self.losses) - 2))
        around = slice(middle - 1, middle + 2)
        x, y = np.log(self.rates[around]), self.losses[around]
        return polyfit(x, y, 2)


def read_sweep(path: Path) -> dict[str, list[SweptSize]]:
    """Sizes by family, smallest first.

    Raises:
        TableError: If columns are missing, or a size has fewer than three rates.
    """
    try:
        points = [
            (r["arch"], r["size"], *(float(r[k]) for k in COLUMNS[2:])) for r in read_csv(path)
        ]
    except KeyError as err:
        raise TableError(
            f"{path}: no column {err}; expected runs.csv of a sweep, made by "
            "`python -m scaling.records runs/<sweep>`"
        ) from None
    except ValueError as err:
        raise TableError(f"{path}: {err}; expected numbers in {', '.join(COLUMNS[2:])}") from None
    if not points:
        raise TableError(f"{path}: found no runs, expected runs.csv of a sweep")
    families: dict[str, list[SweptSize]] = {}
    for arch, name in sorted({point[:2] for point in points}):
        at = sorted((p[4], p[5], p[2], p[3]) for p in points if p[:2] == (arch, name))
        rates, losses, n_params, n_tokens = (np.array(column) for column in zip(*at, strict=True))
        if len(np.unique(rates)) < max(LEAST_RATES, len(rates)) or len(set(n_tokens)) > 1:
            raise TableError(
                f"{path}: {name} has {len(rates)} runs at rates {rates.tolist()}; expected "
                f"{LEAST_RATES} or more rates, one run each, all of the same length"
            )
        swept = SweptSize(name, int(n_params[0]), int(n_tokens[0]), rates, losses)
        families.setdefault(arch, []).append(swept)
    return {arch: sorted(sizes, key=lambda s: s.n_params) for arch, sizes in families.items()}


def fit_rule(sizes: Sequence[SweptSize]) -> dict[str, float]:
    """The rule's c and g.

    Raises:
        TableError: If fewer than two sizes have their best rate inside the sweep.
    """
    inside = [size for size in sizes if not size.is_at_edge]
    if len({size.n_params for size in inside}) < 2:
        at_edge = ", ".join(f"{s.name} (best {s.best_rate:g})" for s in sizes if s.is_at_edge)
        raise TableError(
            "a rule needs two sizes whose best learning rate is inside their sweep; at the edge: "
            f"{at_edge or 'none'}; sweep further there"
        )
    log_n = np.log([size.n_params for size in inside])
    c, slope = polyfit(log_n, np.log([s.best_rate for s in inside]), 1)
    return {"c": float(c), "g": float(-slope)}


def ruled_rate(rule: dict[str, float], n_params: float) -> float:
    """The learning rate of a size by a rule."""
    return float(np.exp(rule["c"]) * n_params ** -rule["g"])


def describe_family(sizes: Sequence[SweptSize]) -> dict[str, object]:
    """The entry of one family in the JSON file."""
    rule = fit_rule(sizes)
    by_rule = [ruled_rate(rule, size.n_params) for size in sizes]
    return {
        "formula": FORMULA,
        "rule": rule,
        "largest_size_from_smaller": _holdout(sizes),
        "sizes": [
            {
                "size": size.name,
                "n_params": size.n_params,
                "n_tokens": size.n_tokens,
                "rates": size.rates.tolist(),
                "losses": size.losses.tolist(),
                "best_rate": size.best_rate,
                "at_edge": size.is_at_edge,
                "rate_by_rule": rate,
                "loss_by_rule_above_best": size.loss_above_best(rate),
            }
            for size, rate in zip(sizes, by_rule, strict=True)
        ],
    }


def _holdout(sizes: Sequence[SweptSize]) -> dict[str, float | str] | None:
    """What the rule fitted without the largest size predicts for it; None without two others."""
    *smaller, largest = sizes
    try:
        rate = ruled_rate(fit_rule(smaller), largest.n_params)
    except TableError:
        return None
    return {
        "size": largest.name,
        "rate": rate,
        "rate_over_best": rate / largest.best_rate,
        "loss_above_best": largest.loss_above_best(rate),
    }


@command(TableError, OSError)
def main(argv: Sequence[str] | None = None) -> None:
    """Writes the rules; 2 on an error the user can fix."""
    parser = parser_of("scaling.learning_rates", __doc__)
    parser.add_argument("runs", type=Path, help="runs.csv of the sweep")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    sweep = read_sweep(arguments.runs)
    model_types = {arch: family.model_type for arch, family in FAMILIES.items()}
    families = {model_types.get(a, a): describe_family(s) for a, s in sweep.items()}
    digest = sha256(arguments.runs.read_bytes()).hexdigest()
    write_json(arguments.out, {"sweep": {"digest": digest}, "families": families})
    for name, family in families.items():
        rule = family["rule"]
        print(f"{name}: learning rate = {np.exp(rule['c']):.3g} N^-{rule['g']:.3f}")
        for size in family["sizes"]:
            mark = "  at the edge of its sweep" if size["at_edge"] else ""
            print(
                f"  {size['size']:16} best {size['best_rate']:.2e}  by the rule "
                f"{size['rate_by_rule']:.2e}, {size['loss_by_rule_above_best']:+.4f} nats{mark}"
            )
        if held := family["largest_size_from_smaller"]:
            cost = f"{held['loss_above_best']:+.4f} nats"
            print(f"  {held['size']} from the smaller: {held['rate']:.2e}, {cost}")
    print(f"-> {arguments.out}")


if __name__ == "__main__":
    sys.exit(main())
