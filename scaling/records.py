"""runs/<study>/*/record.json -> runs.csv, one row per finished run: the only source of all laws.

    python -m scaling.records runs/demo [--out runs/demo/runs.csv]

A folder without record.json is an unfinished run; it is listed, not read. Branches of one training
run share a value in the column trunk, the unit that the fit's bootstrap draws. The bits columns are
comparable across tokenizers: the validation loss in bits, end of song included, divided by a count
that does not depend on the tokenizer (characters of the text, note onsets, bars over all voices,
seconds of the score). A BPE tokenizer scores only one segmentation of the text, so for it they are
upper bounds.
"""

import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .families import family_of
from .writing.commands import command, parser_of
from .writing.files import read_json, write_csv

# column of runs.csv -> path of the field in record.json; for bits, of the count they are divided by
COLUMNS = {
    "run": "name",
    "arch": "model_type",
    "size": "size",
    "seed": "seed",
    "n_params": "n_params_non_embedding",
    "n_params_total": "n_params_total",
    "n_tokens": "n_tokens_seen",
    "unique_tokens": "n_tokens_unique",
    "flops": "flops_train",
    "train_seconds": "train_seconds",
    "train_cpu_seconds": "train_cpu_seconds",
    "loss": "loss_nats_per_token.validation",
    "loss_se": "loss_standard_error_nats_per_token.validation",
    "bits_per_char": "validation.n_chars",
    "bits_per_note": "validation.n_notes",
    "bits_per_bar": "validation.n_bars",
    "bits_per_second": "validation.n_seconds",
    "precision": "precision",
    "learning_rate": "learning_rate",
    "batch_tokens": "global_batch_tokens",
    "optim": "optim",
    "tokenizer": "tokenizer",
    "dataset": "dataset",
    "context_length": "context_length",
    "trunk": "trunk_id",
}
TEXTS = ("run", "arch", "size", "precision", "optim", "tokenizer", "dataset", "trunk")
# of records from before the fields existed
OLDER = {"precision": "fp32", "optim": "adamw_torch_fused"}
NLL_FIELD = "validation.nll_nats"


class RecordError(ValueError):
    """A record or plan is unusable; the message names the file and the field."""


Row = dict[str, str | int | float]


def read_study(folder: Path) -> tuple[list[Row], list[str]]:
    """All finished runs of a study; if there is a plan.json, only those it names.

    Returns:
        Rows of runs.csv, sorted by family, size, tokens, seed and name; and the names of runs
        without a record.

    Raises:
        RecordError: if there is no finished run, or a record or the plan is broken.
    """
    if not folder.is_dir():
        raise RecordError(f"{folder}: no such folder, expected a study, such as runs/demo")
    plan = folder / "plan.json"
    if plan.is_file():
        names = _planned_names(plan)
    else:
        files = (*folder.glob("*/record.json"), *folder.glob("*/config.yaml"))
        names = sorted({path.parent.name for path in files})
    finished = [name for name in names if (folder / name / "record.json").is_file()]
    unfinished = [name for name in names if name not in finished]
    if not finished:
        waiting = f"; not finished: {', '.join(unfinished)}" if unfinished else ""
        raise RecordError(f"{folder}: no run with a record.json{waiting}; train a run first")
    rows = [read_record(folder / name / "record.json") for name in finished]
    for name, following in itertools.pairwise(sorted(row["run"] for row in rows)):
        if name == following:  # a copied run folder would count twice
            twice = f"two folders contain a record of the run {name!r}; remove the copy"
            raise RecordError(f"{folder}: {twice}")
    rows.sort(key=lambda r: (r["arch"], r["n_params"], r["n_tokens"], r["seed"], r["run"]))
    return rows, unfinished


def read_record(path: Path) -> Row:
    """One record as a row of runs.csv.

    Raises:
        RecordError: if the file is not JSON, or a field is missing or of the wrong kind.
    """
    record = OLDER | _read_json(path)
    if "finetuned_from" in record:
        raise RecordError(
            f"{path}: a fine-tuned model, to which no law applies; give the folder of a study"
        )
    row: Row = {}
    for column, field in COLUMNS.items():
        read = _text if column in TEXTS else _number
        row[column] = "" if _is_open(record, column) else read(path, record, field)
        if column.startswith("bits_per_"):
            if not row[column] > 0:
                raise RecordError(f"{path}: {field} is {row[column]}, expected above 0")
            row[column] = _number(path, record, NLL_FIELD) / math.log(2) / row[column]
    try:
        row["arch"] = family_of(row["arch"]).name
    except ValueError as err:
        raise RecordError(f"{path}: {err}") from None
    return row


def _is_open(record: Mapping[str, object], column: str) -> bool:
    """Whether a column is empty where a record may leave it empty."""
    if column == "train_cpu_seconds":
        return column not in record  # older records only have wall-clock time
    errors = record.get("loss_standard_error_nats_per_token")
    is_single_song = isinstance(errors, dict) and errors.get("validation", 0) is None
    return column == "loss_se" and is_single_song


def _planned_names(path: Path) -> list[str]:
    plan = _read_json(path)
    names = plan.get("runs")
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise RecordError(f'{path}: expected {{"runs": [names of run folders]}}')
    return sorted(set(names))


def _read_json(path: Path) -> dict[str, object]:
    try:
        content = read_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError) as err:
        raise RecordError(f"{path}: not valid JSON ({err}); run the training again") from err
    if not isinstance(content, dict):
        raise RecordError(f"{path}: found a {type(content).__name__}, expected a JSON object")
    return content


def _field(path: Path, record: Mapping[str, object], field: str) -> object:
    """The value at a dotted path."""
    value: object = record
    for key in field.split("."):
        if not isinstance(value, dict) or key not in value:
            raise RecordError(f"{path}: field {field} is missing; run the training again")
        value = value[key]
    return value


def _text(path: Path, record: Mapping[str, object], field: str) -> str:
    value = _field(path, record, field)
    if not isinstance(value, str) or not value:
        raise RecordError(f"{path}: {field} is {value!r}, expected text")
    return value


def _number(path: Path, record: Mapping[str, object], field: str) -> int | float:
    """A number; NaN passes, because the fit has to see a diverged run and drop it."""
    value = _field(path, record, field)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecordError(f"{path}: {field} is {value!r}, expected a number")
    return value


@command(RecordError, OSError)
def main(argv: Sequence[str] | None = None) -> None:
    """Reads a study's records and writes runs.csv; 2 on an error the user can fix."""
    parser = parser_of("scaling.records", __doc__)
    parser.add_argument("study", type=Path, help="folder of a study, such as runs/demo")
    parser.add_argument("--out", type=Path, help="default: runs.csv in the study's folder")
    arguments = parser.parse_args(argv)
    out = arguments.out or arguments.study / "runs.csv"
    rows, unfinished = read_study(arguments.study)
    write_csv(out, tuple(COLUMNS), rows)
    if unfinished:
        print(f"not finished, left out: {', '.join(unfinished)}")
    print(f"{len(rows)} runs -> {out}")


if __name__ == "__main__":
    sys.exit(main())
