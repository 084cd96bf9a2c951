"""Predictions from fits.json: the loss at a budget, and the best size and token count.

    python -m scaling.predict runs/demo/fits.json --flops 1e15
    python -m scaling.predict runs/demo/fits.json --params 5e6 [--tokens 1e8]
    python -m scaling.predict runs/demo/fits.json --hours-on h100 [--hours 2]

N parameters, D tokens, C FLOPs, L loss in nats per token. Given one of --flops, --params and
--tokens, the others are chosen for the lowest loss at equal cost. Given two, the third follows.
--hours-on along with them prints how long that takes; alone, the hours are the budget. Each family
answers with its chosen law. Intervals are percentiles over the law's draws, where each draw makes
its own choice.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .counts import PEAK_FLOPS, usual_share
from .families import FAMILIES
from .fitting.intervals import interval_or_none
from .laws.registry import LAWS
from .predictions.costs import CostCurve
from .predictions.fitted import FittedLaw
from .predictions.frontier import best_use, budget_range
from .runs_table import TableError
from .writing.commands import command, parser_of
from .writing.files import read_json
from .writing.wording import quantity

# width and context of a mid-sized model, whose estimated share of the peak is used for its whole
# family; --mfu overrides it with a measured one
MIDDLING = (512, 256)
OTHER_SHARE = 0.25  # for families that are not ours
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


def read_fits(path: Path) -> dict[str, FittedLaw | str]:
    """Each family's chosen law, or the reason why it has none.

    Raises:
        TableError: if the file is not a fits.json, or is an outdated one.
    """
    again = "run python -m scaling.fit again"
    try:
        fits = read_json(path)
        return {arch: _restored(arch, fits) for arch in fits["laws"]}
    except (json.JSONDecodeError, KeyError, TypeError) as err:
        raise TableError(f"{path}: not a fits.json with costs and draws ({err}); {again}") from err


def _restored(arch: str, fits: dict[str, Any]) -> FittedLaw | str:
    laws = fits["laws"][arch]
    if laws["chosen"] is None:
        return laws["chosen_reason"]
    entry, law = laws[laws["chosen"]], LAWS[laws["chosen"]]
    draws = entry["draws"]
    if draws is not None:
        rows = zip(*(draws[name] for name in law.parameters), strict=True)
        draws = np.array([law.theta(dict(zip(law.parameters, row, strict=True))) for row in rows])
    flops, seconds = (
        cost and CostCurve(np.log(cost["n_params"]), np.log(cost["cost"]))
        for cost in (fits["costs"][arch][f"{what}_per_token"] for what in ("flops", "seconds"))
    )
    return FittedLaw(
        arch=arch,
        law=law,
        theta=law.theta(entry["params"]),
        draws=draws,
        n_tokens=entry["n_tokens"] if law.is_at_one_budget else None,
        sizes=tuple(entry["n_params_range"]),
        budgets=(),
        tokens=tuple(entry["n_tokens_range"]),
        flops=flops,
        seconds=seconds,
    )


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


def _lines(fitted: FittedLaw, question: Question, hours: "Hours | None") -> list[str]:
    """The answer as lines of text."""
    answers = ask(fitted, question)

    def text(name: str) -> str:
        return quantity(*answers[name], ".4g", missing="")

    lines = [
        f"{fitted.arch} ({fitted.law.name}): loss {text('loss')} nats per token at "
        f"{text('n_params')} parameters and {text('n_tokens')} tokens, {text('flops')} FLOPs"
    ]
    if hours is not None:
        took, share = answers["flops"][0] / hours.flops(fitted.arch), hours.share_of(fitted.arch)
        lines.append(f"  {took:.3g} hours on one {hours.device} at {share:.0%} of its peak")
    if fitted.draws is None:
        lines.append("  no intervals: the law has none")
    outside = []
    for name, (low, high) in (("n_params", fitted.sizes), ("n_tokens", fitted.tokens)):
        value = answers[name][0]
        if value < low * (1 - 1e-6):
            outside.append(f"{name} {value / low:.3g} times the smallest measured")
        elif value > high * (1 + 1e-6):
            outside.append(f"{name} {value / high:.3g} times the largest measured")
    if outside:
        lines.append(f"  extrapolated: {', '.join(outside)}")
    if fitted.flops is None:
        lines.append("  FLOPs computed as 6 N D: the table has none")
    return lines


@dataclass(frozen=True)
class Hours:
    """A device and the share of its peak FLOP/s that training reaches; None for the usual share."""

    device: str
    share: float | None

    def share_of(self, arch: str) -> float:
        """The share that training of a family reaches."""
        ours = FAMILIES.get(arch)
        usual = usual_share(ours.model_type, *MIDDLING) if ours else OTHER_SHARE
        return usual if self.share is None else self.share

    def flops(self, arch: str, hours: float = 1.0) -> float:
        """FLOPs of this many hours."""
        return hours * 3600 * PEAK_FLOPS[self.device] * self.share_of(arch)


def _check(arguments: argparse.Namespace) -> None:
    """Checks the options.

    Raises:
        TableError: on a question without an answer.
    """
    for name in ("flops", "params", "tokens", "hours"):
        value = getattr(arguments, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise TableError(f"--{name} is {value:g}, expected a number above 0")
    if arguments.mfu is not None and not 0 < arguments.mfu <= 1:
        raise TableError(f"--mfu is {arguments.mfu:g}, expected above 0 and at most 1")
    n_given = 3 - [arguments.flops, arguments.params, arguments.tokens].count(None)
    if n_given == 3:
        raise TableError("--flops, --params and --tokens: two of them fix the third, give two")
    if n_given == 0 and arguments.hours_on is None:
        raise TableError("nothing to predict: give --flops, --params, --tokens or --hours-on")


@command(TableError, OSError)
def main(argv: Sequence[str] | None = None) -> int:
    """Prints each family's answer; 2 if no family has one or the options are invalid."""
    parser = parser_of("scaling.predict", __doc__)
    parser.add_argument("fits", type=Path, help="fits.json, as python -m scaling.fit writes it")
    parser.add_argument("--flops", type=float, help="budget C in FLOPs")
    parser.add_argument("--params", type=float, help="size N, counted as in the fitted table")
    parser.add_argument("--tokens", type=float, help="training tokens D")
    parser.add_argument("--hours-on", choices=sorted(PEAK_FLOPS), help="device of the hours")
    parser.add_argument("--hours", type=float, default=1.0, help="budget, if no other is given")
    parser.add_argument("--mfu", type=float, help="share of the device's peak FLOPs, in (0, 1]")
    arguments = parser.parse_args(argv)
    _check(arguments)
    given = [arguments.flops, arguments.params, arguments.tokens]
    hours = None if arguments.hours_on is None else Hours(arguments.hours_on, arguments.mfu)
    refused, answered = [], 0
    for arch, fitted in read_fits(arguments.fits).items():
        asked = given if any(given) else [hours.flops(arch, arguments.hours), None, None]
        question = Question(*(value and math.log(value) for value in asked))
        try:
            if isinstance(fitted, str):
                raise TableError(f"{arch}: {fitted}")
            print("\n".join(_lines(fitted, question, hours)))
            answered += 1
        except TableError as err:
            refused.append(str(err))
    for reason in refused:
        print(f"error: {reason}", file=sys.stderr)
    return 0 if answered else 2


if __name__ == "__main__":
    sys.exit(main())
