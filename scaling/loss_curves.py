"""Each trunk's log.jsonl -> curves.csv: losses over training tokens, thinned for a figure.

    python -m scaling.loss_curves runs/demo [--out runs/demo/curves.csv]

Columns: run; n_tokens; loss_nats_per_token, the training loss averaged over each of at most 100
equal steps of log n_tokens; validation_loss_nats_per_token, as logged; cells without a value are
empty. Branches are left out: up to their decay they equal their trunk.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .runs_table import TableError
from .writing.commands import command, parser_of
from .writing.files import read_csv, write_csv

TRAIN_FIELD, VALIDATION_FIELD = "loss_nats_per_token", "validation_loss_nats_per_token"
COLUMNS = ("run", "n_tokens", TRAIN_FIELD, VALIDATION_FIELD)
MOST_POINTS = 100
SIGNIFICANT_DIGITS = 6


def read_curves(folder: Path) -> tuple[list[dict[str, str | float]], list[str]]:
    """Rows of curves.csv for the trunks in runs.csv, and the names of those without a log.

    Raises:
        TableError: if runs.csv is missing, no trunk has a log, or a log is malformed.
    """
    table = folder / "runs.csv"
    if not table.is_file():
        raise TableError(f"{table}: no such file; run python -m scaling.records {folder}")
    runs = [row["run"] for row in read_csv(table) if row["trunk"] in ("", row["run"])]
    logs = {run: read_log(folder / run / "log.jsonl") for run in runs}
    rows = [row for run, events in logs.items() for row in thin(run, events)]
    if not rows:
        raise TableError(f"{folder}: no run has a log.jsonl; train them again for their curves")
    return rows, [run for run, events in logs.items() if not events]


def read_log(path: Path) -> list[dict]:
    """Events of a run, in order; empty if it has no log.

    Raises:
        TableError: if a line is not a JSON object with n_tokens.
    """
    if not path.is_file():
        return []
    events = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in [(at, line) for at, line in enumerate(lines, start=1) if line.strip()]:
        try:
            event = json.loads(line)
            event["n_tokens"]  # every event has it; without it the log is malformed
        except (json.JSONDecodeError, KeyError, TypeError) as err:
            raise TableError(
                f"{path}, line {number}: expected a JSON object with n_tokens ({err}); "
                "run the training again"
            ) from err
        events.append(event)
    return events


def thin(run: str, events: Sequence[dict]) -> list[dict[str, str | float]]:
    """Rows of one run: training losses averaged over steps of log n_tokens, then validation."""
    rows: list[dict[str, str | float]] = []
    for field, thinned in ((TRAIN_FIELD, _bin_means), (VALIDATION_FIELD, list)):
        logged = [e for e in events if e.get(field) is not None and e["n_tokens"]]
        for n_tokens, loss in thinned([(e["n_tokens"], e[field]) for e in logged]):
            rounded = float(f"{loss:.{SIGNIFICANT_DIGITS}g}")
            rows.append({"run": run, "n_tokens": n_tokens, field: rounded})
    return rows


def _bin_means(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most MOST_POINTS points: the last n_tokens and the mean loss of each step."""
    if len(points) <= MOST_POINTS:
        return list(points)
    tokens, losses = np.array(points).T
    edges = np.geomspace(tokens[0], tokens[-1], MOST_POINTS + 1)
    place = np.clip(np.searchsorted(edges, tokens, side="left"), 1, MOST_POINTS)
    return [
        (int(tokens[place == p].max()), float(losses[place == p].mean())) for p in np.unique(place)
    ]


@command(TableError, OSError)
def main(argv: Sequence[str] | None = None) -> None:
    """Reads the logs of a study and writes curves.csv; 2 on an error the user can fix."""
    parser = parser_of("scaling.loss_curves", __doc__)
    parser.add_argument("study", type=Path, help="folder of a study with runs.csv")
    parser.add_argument("--out", type=Path, help="default: curves.csv in the study's folder")
    arguments = parser.parse_args(argv)
    out = arguments.out or arguments.study / "curves.csv"
    rows, missing = read_curves(arguments.study)
    write_csv(out, COLUMNS, rows)
    if missing:
        print(f"no log.jsonl, left out: {', '.join(missing)}")
    print(f"{len({row['run'] for row in rows})} runs, {len(rows)} points -> {out}")


if __name__ == "__main__":
    sys.exit(main())
