"""Predictions written down before the runs exist, and what later runs say of them.

    python -m scaling.forecasts results/runs.csv --sizes configs/gpt_large.yaml --tokens 1e8
        --flops 1e18 1e19 --date 2026-12-01 --out results/forecasts.json
    python -m scaling.forecasts runs/<later study>/runs.csv --compare results/forecasts.json

N parameters, D tokens, C FLOPs, L loss in nats per token. The first command predicts the loss of
each size at that many tokens, and the best size, token count and loss for each budget. Beside each
loss stand two intervals: that of the law, and that of one further run, which adds the scatter of
the runs around the law. All hold in the setting of the fitted runs (data, context, batch,
schedule) only.
"""

import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from .families import family_of
from .fit import write_fits
from .fit_family import fit_family
from .fit_options import OBJECTIVES, Settings, read_fit
from .laws.registry import LAWS
from .predictions.forecast import Target, compare, forecast, sources
from .runs_table import TableError, read_runs
from .writing.commands import command, parser_of
from .writing.files import read_json
from .writing.wording import bracket


def size_of(path: Path) -> tuple[str, int]:
    """Family and non-embedding parameters of a size file.

    Raises:
        TableError: If its family counts its parameters only from a built model, or the file names
            no family or width.
    """
    try:
        model = yaml.safe_load(path.read_text("utf-8"))["model"]
        family = family_of(model["model_type"])
        keys = family.config_keys(model)
        width = keys["hidden_size"]
        shape = (width, keys["num_hidden_layers"], keys.get("intermediate_size") or 4 * width)
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as err:
        raise TableError(f"{path}: not a size file ({err}), expected model with its sizes") from err
    if family.layer_parameters is None:
        raise TableError(f"{path}: {family.label} has no formula for its parameters")
    return family.name, sum(family.layer_parameters(*shape))


def targets_of(
    sizes: Sequence[Path], n_tokens: float, budgets: Sequence[float]
) -> dict[str, list[Target]]:
    """What to predict, by family: each size at a token count, and the best use of each budget."""
    targets: dict[str, list[Target]] = {}
    for path in sizes:
        arch, n_params = size_of(path)
        targets.setdefault(arch, []).append(Target(arch, path.stem, n_params, n_tokens))
    for arch, of_family in targets.items():
        for flops in budgets:
            of_family.append(Target(arch, f"best use of {flops:g} FLOPs", flops=flops))
    return targets


def _made_on(text: str) -> str:
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError as err:
        raise TableError(f"--date is {text!r}, expected one such as 2026-12-01") from err


def make(
    runs_path: Path, targets: dict[str, list[Target]], date: str, bootstrap: int
) -> dict[str, object]:
    """The content of the file of predictions.

    Args:
        runs_path: runs.csv, with the study's fit options beside it.
        targets: By family.
        date: Day on which the predictions are made.
        bootstrap: Number of refits for the intervals.

    Raises:
        TableError: If a family has no runs, or too few for a law.
    """
    made, study = _made_on(date), read_fit(runs_path.parent)
    settings = Settings(
        laws=tuple(LAWS),
        objective=study.get("objective", OBJECTIVES[0]),
        bootstrap=bootstrap,
        seed=0,
        columns=study.get("columns", {}),
    )
    table = read_runs(runs_path, settings.columns)
    predictions = []
    for arch, of_family in targets.items():
        runs = [run for run in table.runs if run.arch == arch]
        if not runs:
            raise TableError(f"{runs_path}: no run of {arch}; leave out its sizes, or train some")
        for source in sources(runs):
            law = fit_family(arch, source.runs, settings)[1] if source.runs else None
            if law is None:
                raise TableError(f"{runs_path}: {arch} {source.name} has no law; train more sizes")
            predictions += forecast(law, source, of_family, runs)
    return {"made": made, "input": {"digest": table.digest}, "predictions": predictions}


def _compare(path: Path, runs_path: Path) -> None:
    try:
        forecasts = read_json(path)
        columns = read_fit(runs_path.parent).get("columns")
        rows, made = compare(forecasts, read_runs(runs_path, columns).runs), forecasts["made"]
    except (json.JSONDecodeError, KeyError, TypeError) as err:
        raise TableError(f"{path}: not a file of predictions ({err!r}); make it again") from err
    if not rows:
        raise TableError(f"{runs_path}: no run of a size and token count predicted in {path}")
    print(f"predicted on {made}, in nats per token [95 % interval of one run]")
    for row in rows:
        verdict = {True: "inside", False: "outside", None: "no interval"}[row["inside"]]
        print(
            f"{row['arch']} {row['target']}, {row['from']}: {row['predicted']:.4f} "
            f"{bracket(row['run_interval_95'], '.4f')}, measured {row['measured']:.4f} "
            f"({row['relative_error']:+.2%}, {verdict})"
        )


@command(TableError, OSError)
def main(argv: Sequence[str] | None = None) -> None:
    """Writes predictions, or compares runs with them; 2 on an error the user can fix."""
    parser = parser_of("scaling.forecasts", __doc__)
    parser.add_argument("runs", type=Path, help="runs.csv: of the fit, or with later runs")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="predictions to test")
    parser.add_argument("--sizes", type=Path, nargs="+", default=[], help="size files")
    parser.add_argument("--tokens", type=float, help="token count of the sizes")
    parser.add_argument("--flops", type=float, nargs="+", default=[], help="budgets")
    parser.add_argument("--date", help="day on which the predictions are made")
    parser.add_argument("--bootstrap", type=int, default=1000, help="number of refits")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    if arguments.compare:
        return _compare(arguments.compare, arguments.runs)
    if not (arguments.sizes and arguments.tokens and arguments.date and arguments.out):
        raise TableError("nothing to write: give --sizes, --tokens, --date and --out, or --compare")
    targets = targets_of(arguments.sizes, arguments.tokens, arguments.flops)
    content = make(arguments.runs, targets, arguments.date, arguments.bootstrap)
    write_fits(content, arguments.out)
    print(f"{len(content['predictions'])} predictions -> {arguments.out}")


if __name__ == "__main__":
    sys.exit(main())
