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
from .laws.registry import LAWS
from .predictions.costs import CostCurve
from .predictions.fitted import FittedLaw
from .predictions.questions import Question, ask
from .runs_table import TableError
from .writing.commands import command, parser_of
from .writing.files import read_json
from .writing.wording import quantity

# width and context of a mid-sized model, whose estimated share of the peak is used for its whole
# family; --mfu overrides it with a measured one
MIDDLING = (512, 256)
OTHER_SHARE = 0.25  # for families that are not ours


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
