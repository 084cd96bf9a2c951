"""A table of runs -> laws with intervals, as fits.json.

    python -m scaling.fit runs/demo/runs.csv --out runs/demo/fits.json

N parameters, D tokens, U unique tokens, L loss in nats per token. Each family (column arch) is
fitted separately; rows that share a value in the column trunk (else run) are branches of one
training run. A law that the runs cannot support is refused with the reason; a parameter that they
do not determine gets a warning and no interval. A study's fit options are in a file beside its
table (scaling/fit_options.py); command-line options override them. python -m scaling.predict
answers questions from fits.json.
"""

import itertools
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from .fit_family import fit_family
from .fit_options import OBJECTIVES, Settings, read_fit
from .fitting.intervals import LEVEL, MIN_CLUSTERS, MIN_CLUSTERS_FOR_JACKKNIFE
from .laws.registry import LAWS
from .predictions.crossover import find_crossovers
from .predictions.fitted import FittedLaw
from .predictions.frontier import describe_frontier
from .runs_table import RunsTable, TableError, parse_columns, read_runs
from .writing.commands import command, parser_of
from .writing.files import write_atomically
from .writing.wording import crossover, parameter

MIN_BOOTSTRAP = 100
SIGNIFICANT_DIGITS = 8
# lists of numbers go on one line: there are thousands of draws
NUMBERS_OF_A_LIST = re.compile(r"\[[\s\d.,eE+-]+\]")


def fit_table(table: RunsTable, settings: Settings, path: Path) -> dict[str, object]:
    """The content of fits.json, ready for JSON."""
    laws: dict[str, object] = {}
    chosen: list[FittedLaw] = []
    for arch in sorted({run.arch for run in table.runs}):
        runs = [run for run in table.runs if run.arch == arch]
        laws[arch], law = fit_family(arch, runs, settings)
        if law is not None:
            chosen.append(law)
    return {
        "input": {
            "path": path.as_posix(),
            "digest": table.digest,
            "rows": len(table.runs) + len(table.dropped),
            "dropped": list(table.dropped),
        },
        "settings": asdict(settings)
        | {
            "level": LEVEL,
            "min_runs_for_bootstrap": MIN_CLUSTERS,
            "min_runs_for_jackknife": MIN_CLUSTERS_FOR_JACKKNIFE,
            "aicc": "n ln(RSS/n) + 2k + 2k(k+1)/(n-k-1) on log residuals, "
            "k = parameters of the law + 1 for the noise variance",
        },
        "laws": laws,
        "crossovers": [
            entry for pair in itertools.combinations(chosen, 2) for entry in find_crossovers(*pair)
        ],
        "frontier": {law.arch: describe_frontier(law) for law in chosen},
        "costs": {law.arch: _costs(law) for law in chosen},
    }


def _costs(law: FittedLaw) -> dict[str, object]:
    """FLOPs and seconds per token at each size, for predictions; null where unknown."""
    return {
        name: curve
        and {"n_params": np.exp(curve.log_n).tolist(), "cost": np.exp(curve.log_cost).tolist()}
        for name, curve in (("flops_per_token", law.flops), ("seconds_per_token", law.seconds))
    }


def write_fits(fits: dict[str, object], path: Path) -> None:
    """Writes fits.json atomically, with the same bytes for the same fits."""
    text = json.dumps(_rounded(fits), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, NUMBERS_OF_A_LIST.sub(lambda found: " ".join(found[0].split()), text))


def _rounded(value: object) -> object:
    """Floats to 8 digits: the last digits of a minimizer differ between machines."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    return value


def _summary(fits: dict, every_law: bool) -> list[str]:
    """For the terminal: the quoted law of each family, or every law."""
    lines = [
        f"left out, row {row['row']} ({row['run'] or 'no name'}): {row['reason']}"
        for row in fits["input"]["dropped"]
    ]
    refused: dict[tuple[str, ...], list[str]] = {}
    warned: dict[str, list[str]] = {}  # families often share a warning
    for arch, laws in fits["laws"].items():
        names = fits["settings"]["laws"]
        not_fitted = tuple(name for name in names if "refused" in laws[name])
        refused.setdefault(not_fitted, []).append(arch)
        for name in names if every_law else filter(None, [laws["chosen"]]):
            if name in not_fitted:
                lines.append(f"{arch} {name}: refused: {laws[name]['refused']}")
                continue
            parts = [
                parameter(laws[name], each, ".4g", "no interval") for each in laws[name]["params"]
            ]
            lines.append(f"{arch} {name}: " + ", ".join(parts))
            for warning in laws[name]["warnings"]:
                warned.setdefault(warning, []).append(f"{arch} {name}")
        if every_law or not laws["chosen"] or len(names) - len(not_fitted) > 1:
            lines.append(f"{arch}: quoted law {laws['chosen']}: {laws['chosen_reason']}")
    lines += [f"warning ({', '.join(of)}): {text}" for text, of in warned.items()]
    for not_fitted, archs in refused.items():
        if not_fitted and not every_law:
            which = f"{', '.join(not_fitted)} ({', '.join(archs)})"
            lines.append(f"not fitted: {which}; --all prints the reasons, fits.json has them")
    found = [entry for entry in fits["crossovers"] if every_law or entry["n_params"] is not None]
    lines += [crossover(entry) for entry in found]
    if fits["crossovers"] and not found:
        lines.append("crossovers of families: none in the measured range")
    for arch, frontier in fits["frontier"].items():
        if "refused" not in frontier:
            exponent = frontier["n_opt_exponent_6nd"]
            text = "no closed form" if exponent is None else f"N_opt ~ C^{exponent:.3f}"
            lines.append(f"{arch} frontier: {text}")
    return lines


@command(TableError, OSError)
def main(argv: Sequence[str] | None = None) -> None:
    """Reads, fits, writes and prints one line per law; 2 on an error the user can fix."""
    parser = parser_of("scaling.fit", __doc__)
    parser.add_argument("runs", type=Path, help="CSV with n_params, n_tokens, loss and more")
    parser.add_argument("--out", type=Path, help="default: fits.json beside the table")
    parser.add_argument("--law", nargs="+", choices=list(LAWS), default=list(LAWS))
    objective = "default: the study's, else huber_log"
    parser.add_argument("--objective", choices=OBJECTIVES, help=objective)
    parser.add_argument("--bootstrap", type=int, default=1000, help="number of refits")
    parser.add_argument("--seed", type=int, default=0)
    columns = "OUR_NAME=NAME_IN_THE_FILE,... instead of the study's"
    parser.add_argument("--columns", default="", help=columns)
    parser.add_argument("--all", action="store_true", help="print every law, also those refused")
    arguments = parser.parse_args(argv)
    if arguments.bootstrap < MIN_BOOTSTRAP:
        raise TableError(
            f"--bootstrap is {arguments.bootstrap}, expected {MIN_BOOTSTRAP} or more: "
            "fewer refits give no percentiles"
        )
    if arguments.seed < 0:
        raise TableError(f"--seed is {arguments.seed}, expected 0 or more")
    study = read_fit(arguments.runs.parent)
    settings = Settings(
        laws=tuple(name for name in LAWS if name in arguments.law),
        objective=arguments.objective or study.get("objective", OBJECTIVES[0]),
        bootstrap=arguments.bootstrap,
        seed=arguments.seed,
        columns=parse_columns(arguments.columns) or study.get("columns", {}),
    )
    fits = fit_table(read_runs(arguments.runs, settings.columns), settings, arguments.runs)
    out = arguments.out or arguments.runs.parent / "fits.json"
    write_fits(fits, out)
    print("\n".join([*_summary(fits, arguments.all), f"-> {out}"]))


if __name__ == "__main__":
    sys.exit(main())
