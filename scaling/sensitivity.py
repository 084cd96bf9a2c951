"""How far a law depends on choices of its fit: each choice changed by itself -> one JSON table.

    python -m scaling.sensitivity results/runs.csv --out results/sensitivity.json

N parameters, D tokens. Changed are the objective and its Huber delta, what counts as a parameter
(non-embedding or all), and which runs are left out (the smallest and largest sizes, the fewest and
most tokens). Each row is a whole fit with intervals, not only a shifted value.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from .fit import write_fits
from .fit_options import OBJECTIVES, Settings, read_fit
from .fitting.fit_law import fit_one_law
from .fitting.refusals import refusal
from .laws.registry import LAWS
from .predictions.fitted import FittedLaw
from .predictions.frontier import describe_frontier
from .runs_table import Run, TableError, read_runs
from .writing.commands import command, parser_of

DELTAS = (1e-4, 1e-2)  # beside 1e-3; from 1e-1 on it is least squares
ALL_PARAMETERS = "n_params_total"  # column of runs.csv
MOST_LEFT_OUT = 3  # of the smallest sizes
REFITS = 200
AS_FITTED = "as fitted"


@dataclass(frozen=True)
class Choice:
    """One way to fit: what is changed, to what, and the runs and settings that follow from it."""

    changed: str
    to: str
    runs: list[Run]
    settings: Settings


def choices(path: Path, arch: str, settings: Settings) -> Iterator[Choice]:
    """The fit as it is quoted, then each choice changed by itself.

    Args:
        path: runs.csv.
        arch: name of the family.
        settings: of the quoted fit.
    """
    runs = _runs_of(path, arch, settings)
    yield Choice(AS_FITTED, "", runs, settings)
    for objective in OBJECTIVES:
        if objective != settings.objective:
            changed = replace(settings, objective=objective)
            yield Choice("objective", objective, runs, changed)
    if settings.objective == "huber_log":
        for delta in DELTAS:
            yield Choice("Huber delta", f"{delta:g}", runs, replace(settings, huber_delta=delta))
    if "n_params" not in settings.columns:
        columns = settings.columns | {"n_params": ALL_PARAMETERS}
        counted = replace(settings, columns=columns)
        yield Choice("parameters", "with embeddings", _runs_of(path, arch, counted), counted)
    for kept, text in _left_out(runs):
        yield Choice("runs", text, kept, settings)


def _runs_of(path: Path, arch: str, settings: Settings) -> list[Run]:
    return [run for run in read_runs(path, settings.columns).runs if run.arch == arch]


def _left_out(runs: list[Run]) -> Iterator[tuple[list[Run], str]]:
    """The runs without some sizes or token counts, and what is left out in words."""
    sizes = sorted({run.n_params for run in runs})
    tokens = sorted({run.n_tokens for run in runs})
    for count in range(1, MOST_LEFT_OUT + 1):
        which = "the smallest size" if count == 1 else f"the {count} smallest sizes"
        yield [run for run in runs if run.n_params not in sizes[:count]], f"without {which}"
    yield [run for run in runs if run.n_params != sizes[-1]], "without the largest size"
    yield [run for run in runs if run.n_tokens != tokens[0]], "without the fewest tokens"
    yield [run for run in runs if run.n_tokens != tokens[-1]], "without the most tokens"


def refit(choice: Choice, law_name: str) -> dict[str, object]:
    """The row of one choice: parameters with intervals, or the reason why there is no fit."""
    row: dict[str, object] = {"changed": choice.changed, "to": choice.to}
    law = LAWS[law_name]
    if not choice.runs or (reason := refusal(law, choice.runs)):
        return row | {"refused": reason if choice.runs else "no runs are left"}
    rng = np.random.default_rng(choice.settings.seed)
    entry, theta, draws = fit_one_law(law, choice.runs, choice.settings, rng)
    frontier = describe_frontier(FittedLaw.of(law, theta, draws, choice.runs, choice.runs))
    kept = ("params", "interval_95", "holdout_error", "n_runs", "n_sizes")
    exponent = {key: frontier.get(key) for key in ("n_opt_exponent_6nd", "refused")}
    return row | {key: entry[key] for key in kept} | {"frontier": exponent}


@command(TableError, OSError)
def main(argv: Sequence[str] | None = None) -> None:
    """Writes the table and prints the range of each exponent; 2 on an error the user can fix."""
    parser = parser_of("scaling.sensitivity", __doc__)
    parser.add_argument("runs", type=Path, help="runs.csv of a study, with its fit.json beside it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--law", choices=[n for n in LAWS if LAWS[n].exponents], required=True)
    parser.add_argument("--bootstrap", type=int, default=REFITS, help="number of refits per row")
    arguments = parser.parse_args(argv)
    study = read_fit(arguments.runs.parent)
    settings = Settings(
        laws=(arguments.law,),
        objective=study.get("objective", OBJECTIVES[0]),
        bootstrap=arguments.bootstrap,
        seed=0,
        columns=study.get("columns", {}),
    )
    table = read_runs(arguments.runs, settings.columns)
    families = {
        arch: [refit(choice, arguments.law) for choice in choices(arguments.runs, arch, settings)]
        for arch in sorted({run.arch for run in table.runs})
    }
    content = {
        "input": {"digest": table.digest},
        "law": arguments.law,
        "settings": asdict(settings),
        "families": families,
    }
    write_fits(content, arguments.out)
    for arch, rows in families.items():
        for name in LAWS[arguments.law].exponents:
            values = [row["params"][name] for row in rows if "params" in row]
            if values:
                ends = f"{min(values):.3f} to {max(values):.3f}"
                print(f"{arch}: {name} {ends} in {len(values)} fits")
    print(f"-> {arguments.out}")


if __name__ == "__main__":
    sys.exit(main())
