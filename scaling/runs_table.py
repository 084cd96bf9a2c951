"""A CSV of runs -> checked rows for the fits; an unusable row is listed with the reason.

Rows are numbered as in an editor: the header is row 1, the first run is row 2.
"""

import csv
import difflib
import hashlib
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

REQUIRED = ("n_params", "n_tokens", "loss")
OPTIONAL = ("arch", "unique_tokens", "flops", "train_seconds", "seed", "run", "trunk")
# common names of these columns in other tables; error messages suggest them
KNOWN_ALIASES = {
    "n_params": ("n", "params", "parameters", "n_parameters", "size"),
    "n_tokens": ("d", "tokens", "n_tokens_seen"),
    "loss": ("l", "val_loss", "validation_loss", "loss_nats_per_token"),
}


class TableError(ValueError):
    """The table cannot be read as runs; the message says where, and what to do."""


@dataclass(frozen=True, order=True)
class Run:
    """One trained model. loss in nats per token; n_params N, n_tokens D, unique_tokens U.

    cluster: the unit that the bootstrap draws: the column trunk, shared by the branches of a trunk,
    or the column run if there is no trunk. name: the column run.
    """

    arch: str
    n_params: float
    n_tokens: float
    loss: float
    cluster: str
    unique_tokens: float = math.nan
    flops: float = math.nan
    train_seconds: float = math.nan
    name: str = ""


@dataclass(frozen=True)
class RunsTable:
    """The usable runs in a fixed order, what was dropped and why, and the digest of the file."""

    runs: tuple[Run, ...]
    dropped: tuple[dict[str, str | int], ...]
    digest: str


def read_runs(path: Path, columns: Mapping[str, str] | None = None) -> RunsTable:
    """Reads a comma-separated table of runs.

    Args:
        path: UTF-8 file with a header row.
        columns: our column name -> its name in the file, where they differ.

    Raises:
        TableError: on a missing column, an empty file, a ragged row or a cell that is not a number.
    """
    data = path.read_bytes()
    header, rows = _read_csv(path, data)
    names = _resolve_columns(path, header, columns or {})
    runs: list[Run] = []
    dropped: list[dict[str, str | int]] = []
    seen: dict[tuple, int] = {}
    for number, cells in rows:
        run = _parse_row(path, number, dict(zip(header, cells, strict=True)), names)
        seed = cells[header.index(names["seed"])] if "seed" in names else ""
        key = (run.arch, run.n_params, run.n_tokens, run.loss, run.name, seed)
        reason = _drop_reason(run) or (f"duplicate of row {seen[key]}" if key in seen else None)
        if reason:
            dropped.append({"row": number, "run": run.name, "reason": reason})
        else:
            seen[key] = number
            runs.append(run)
    if not runs:
        first = f"row {dropped[0]['row']}: {dropped[0]['reason']}"
        raise TableError(f"{path}: no usable run in {len(rows)} rows; {first}")
    # a row without a run name is its own cluster, with the same name in any order of the rows
    named = [
        replace(run, cluster=run.cluster or f"unnamed {position}")
        for position, run in enumerate(sorted(runs))
    ]
    return RunsTable(tuple(sorted(named)), tuple(dropped), hashlib.sha256(data).hexdigest())


def parse_columns(text: str) -> dict[str, str]:
    """Reads "n_params=N,n_tokens=D" into {"n_params": "N", "n_tokens": "D"}.

    Raises:
        TableError: on a pair without "=" or a left side that is not one of our columns.
    """
    columns = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not equals or not theirs:
            raise TableError(f"--columns: found {pair!r}, expected OUR_NAME=NAME_IN_THE_FILE")
        columns[ours] = theirs
    check_columns(columns, "--columns")
    return columns


def check_columns(columns: Iterable[str], where: str) -> None:
    """Checks names against our columns.

    Raises:
        TableError: If one is unknown.
    """
    known = REQUIRED + OPTIONAL
    for ours in columns:
        if ours not in known:
            near = f"nearest is {_nearest(str(ours), known)!r}"
            raise TableError(f"{where}: unknown column {ours!r} ({', '.join(known)}); {near}")


def _read_csv(path: Path, data: bytes) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        text = io.StringIO(data.decode("utf-8-sig"), newline="")
        lines = list(csv.reader(text, strict=True))
    except (UnicodeDecodeError, csv.Error) as err:
        raise TableError(
            f"{path}: not a UTF-8 table with commas ({err}); export it as CSV"
        ) from err
    numbered = [(number, cells) for number, cells in enumerate(lines, start=1) if any(cells)]
    if not numbered:
        raise TableError(f"{path}: the file is empty, expected a header row and one row per run")
    header = [name.strip() for name in numbered[0][1]]
    if len(header) == 1 and (other := re.search(r"[;\t|]", header[0])):
        raise TableError(
            f"{path}: the columns are separated by {other[0]!r}, expected commas, and decimal "
            "points in numbers; export it as CSV with commas"
        )
    if len(numbered) == 1:
        raise TableError(f"{path}: only a header row, expected one row per run below it")
    for number, cells in numbered[1:]:
        if len(cells) != len(header):
            found = f"{len(cells)} cells, expected {len(header)} as in the header"
            raise TableError(f"{path}, row {number}: {found}")
    return header, numbered[1:]


def _resolve_columns(path: Path, header: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Our column name -> the file's, for all columns present."""
    names = {}
    for ours in REQUIRED + OPTIONAL:
        theirs = columns.get(ours, ours)
        if theirs in header:
            names[ours] = theirs
        elif ours in columns:
            raise TableError(
                f"{path}: no column {theirs!r}, given by the option columns for {ours}; "
                f"nearest is {_nearest(theirs, header)!r}"
            )
        elif ours in REQUIRED:
            free = [name for name in header if name not in REQUIRED + OPTIONAL] or header
            near = _nearest(ours, free)
            raise TableError(
                f"{path}: no column {ours!r} (found: {', '.join(header)}); nearest is {near!r}: "
                f"rename it or give --columns {ours}={near}"
            )
    return names


def _parse_row(path: Path, number: int, cells: dict[str, str], names: dict[str, str]) -> Run:
    def value(ours: str) -> float:
        if ours not in names:
            return math.nan
        cell = cells[names[ours]].strip()
        where = f"{path}, row {number}: {names[ours]}"
        try:
            parsed = float(cell) if cell else math.nan
        except ValueError:
            raise TableError(f"{where} is {cell!r}, expected a number") from None
        if ours in ("flops", "train_seconds") and parsed <= 0:
            raise TableError(f"{where} is {cell}, expected above 0, or an empty cell")
        # counts stay whole numbers: fits.json rounds its floats
        return int(parsed) if parsed.is_integer() else parsed

    def text(ours: str) -> str:
        return cells[names[ours]].strip() if ours in names else ""

    return Run(
        arch=text("arch") or "all",
        cluster=text("trunk") or text("run"),
        name=text("run"),
        **{ours: value(ours) for ours in (*REQUIRED, "unique_tokens", "flops", "train_seconds")},
    )


def _drop_reason(run: Run) -> str | None:
    for name in (*REQUIRED, "unique_tokens"):
        number = getattr(run, name)
        if name in REQUIRED and not math.isfinite(number):
            return f"{name} is not a finite number"
        if number <= 0:
            return f"{name} is {number:g}, expected above 0"
    return None


def _nearest(name: str, candidates: list[str] | tuple[str, ...]) -> str:
    lowered = {candidate.lower(): candidate for candidate in reversed(candidates)}
    for alias in KNOWN_ALIASES.get(name, ()):
        if alias in lowered:
            return lowered[alias]
    return lowered[difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.0)[0]]
