"""results/runs.csv and fits.json -> the tables of README.md, between their two marks.

    python -m scaling.tables results README.md

No number of a table is typed by hand: `make results` writes them.
"""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any


def runs_table(rows: list[dict[str, str]]) -> list[str]:
    """One line of Markdown a run, smallest first in each family."""
    lines = [
        "| run | parameters (non-embedding) | tokens | loss, nats/token ± s.e. "
        "| bits/char | bits/note |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in sorted(rows, key=lambda row: (row["arch"], float(row["n_params"]))):
        error = f" ± {float(row['loss_se']):.4f}" if row["loss_se"] else ""
        lines.append(
            f"| {row['run']} | {float(row['n_params']):,.0f} | {float(row['n_tokens']):,.0f} "
            f"| {float(row['loss']):.4f}{error} | {float(row['bits_per_char']):.3f} "
            f"| {float(row['bits_per_note']):.2f} |"
        )
    return lines


def laws_table(fits: dict[str, Any]) -> list[str]:
    """One line a family and law; a law that was refused says why."""
    lines = [
        "| family | law | exponent alpha | 95 % interval "
        "| relative error on the largest size, held out |",
        "|---|---|---:|---:|---:|",
    ]
    for family, laws in fits["laws"].items():
        for name in ("power", "power_floor"):
            law = laws.get(name)
            if law is None:
                continue
            if "refused" in law:
                reason = law["refused"].split(":")[0]
                lines.append(f"| {family} | {name} | not fitted: {reason} | | |")
                continue
            interval = law["interval_95"]["alpha"]
            between = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "not identified"
            error = law["holdout_error"]
            held_out = "" if error is None else f"{100 * error:.1f} %"
            lines.append(
                f"| {family} | {name} | {law['params']['alpha']:.3f} | {between} | {held_out} |"
            )
    return lines


def warnings_list(fits: dict[str, Any]) -> list[str]:
    """What the fitter has against its own laws, one line of Markdown each."""
    return [
        f"- {family}, {name}: {warning}"
        for family, laws in fits["laws"].items()
        for name in ("power", "power_floor")
        for warning in laws.get(name, {}).get("warnings", [])
    ]


def fill(readme: str, tables: list[str], name: str = "results") -> str:
    """README with the tables between the marks of that name.

    Raises:
        ValueError: If the marks are not there, once each.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if readme.count(begin) != 1 or readme.count(end) != 1:
        raise ValueError(f"README needs the lines {begin} and {end}, once each")
    before, rest = readme.split(begin)
    return before + "\n".join([begin, *tables, end]) + rest.split(end)[1]


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("readme", type=Path)
    arguments = parser.parse_args(argv)
    try:
        with (arguments.results / "runs.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        fits = json.loads((arguments.results / "fits.json").read_text(encoding="utf-8"))
        tables = [*runs_table(rows), "", *laws_table(fits), "", *warnings_list(fits)]
        text = fill(arguments.readme.read_text(encoding="utf-8"), tables)
        arguments.readme.write_text(text, encoding="utf-8")
    except (ValueError, KeyError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
