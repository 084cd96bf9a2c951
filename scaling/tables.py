"""results/runs.csv and fits.json -> the tables of README.md, between their two marks.

    python -m scaling.tables results README.md

No number of a table is typed by hand: `make results` writes them.
"""

import argparse
import csv
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .laws import LAWS

Row = dict[str, str]
COMPARED_AT = {"equal_params": "parameters", "equal_flops": "FLOPs", "equal_time": "seconds"}


def sizes_table(rows: Sequence[Row]) -> list[str]:
    """One line of Markdown a size, at its largest token count: the mean over seeds."""
    lines = [
        "| size | parameters (non-embedding) | tokens | seeds | loss, nats/token ± s.e. over songs "
        "| s.d. over seeds | bits/char | bits/note |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    sizes: dict[tuple[str, float, str], list[Row]] = defaultdict(list)
    for row in rows:
        sizes[row["arch"], float(row["n_params"]), row["size"]].append(row)
    for (_, n_params, size), of_size in sorted(sizes.items()):
        most = max(float(row["n_tokens"]) for row in of_size)
        longest = [row for row in of_size if float(row["n_tokens"]) == most]
        loss, *bits = (_mean(longest, key) for key in ("loss", "bits_per_char", "bits_per_note"))
        has_error = all(row["loss_se"] for row in longest)
        error = f" ± {_mean(longest, 'loss_se'):.4f}" if has_error else ""
        losses = [float(row["loss"]) for row in longest]
        spread = f"{statistics.stdev(losses):.4f}" if len(losses) > 1 else ""
        lines.append(
            f"| {size} | {n_params:,.0f} | {most:,.0f} | {len(longest)} | {loss:.4f}{error} "
            f"| {spread} | {bits[0]:.3f} | {bits[1]:.2f} |"
        )
    return lines


def laws_table(fits: dict[str, Any]) -> list[str]:
    """One line a family and law that was fitted; the chosen one is bold."""
    lines = [
        "| family | law | exponents [95 % interval] | floor [95 % interval] "
        "| error on the largest size, held out |",
        "|---|---|---|---|---:|",
    ]
    for family, laws in fits["laws"].items():
        for name in fits["settings"]["laws"]:
            law = laws.get(name)
            if law is None or "refused" in law:
                continue
            mark = "**" if name == laws["chosen"] else ""
            exponents = _parameters(law, LAWS[name].exponents)
            floor = _parameters(law, (LAWS[name].floor,) if LAWS[name].floor else ())
            error = law["holdout_error"]
            held_out = "" if error is None else f"{100 * error:.1f} %"
            lines.append(f"| {family} | {mark}{name}{mark} | {exponents} | {floor} | {held_out} |")
    return lines


def notes_list(fits: dict[str, Any]) -> list[str]:
    """Refused laws, crossovers, and what the fitter has against the chosen laws: Markdown lines."""
    refused: dict[tuple[str, str], list[str]] = defaultdict(list)
    for family, laws in fits["laws"].items():
        for name in fits["settings"]["laws"]:
            if "refused" in laws.get(name, {}):
                refused[name, laws[name]["refused"].split(":")[0]].append(family)
    lines = [
        f"- {name} not fitted ({', '.join(families)}): {reason}"
        for (name, reason), families in refused.items()
    ]
    lines += [_crossover_line(entry) for entry in fits["crossovers"]]
    return lines + [
        f"- {family}, {laws['chosen']}: {warning}"
        for family, laws in fits["laws"].items()
        for warning in (laws.get(laws["chosen"]) or {}).get("warnings", [])
    ]


def _mean(rows: Sequence[Row], column: str) -> float:
    return statistics.fmean(float(row[column]) for row in rows)


def _parameters(law: dict[str, Any], names: Sequence[str]) -> str:
    """`alpha 0.36 [0.35, 0.38], beta 0.35 [0.27, 0.44]`."""
    texts = []
    for name in names:
        ends = law["interval_95"][name]
        between = "not identified" if ends is None else f"{ends[0]:.3f}, {ends[1]:.3f}"
        texts.append(f"{name} {law['params'][name]:.3f} [{between}]")
    return ", ".join(texts)


def _crossover_line(entry: dict[str, Any]) -> str:
    pair, at = " and ".join(entry["archs"]), COMPARED_AT[entry["at"]]
    tokens = "" if entry["n_tokens"] is None else f", {entry['n_tokens'] / 1e6:.3g} M tokens"
    place = f"none: {entry['note'] or 'not in the measured range'}"
    if entry["n_params"] is not None:
        place = f"{entry['n_params']:,.0f} parameters"
        if entry["interval_95"] is not None:
            place += f" [{entry['interval_95'][0]:,.0f}, {entry['interval_95'][1]:,.0f}]"
        if entry["note"]:
            place += f" ({entry['note']})"
    return f"- crossover of {pair} at equal {at}{tokens}: {place}"


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
        tables = [*sizes_table(rows), "", *laws_table(fits), "", *notes_list(fits)]
        text = fill(arguments.readme.read_text(encoding="utf-8"), tables)
        arguments.readme.write_text(text, encoding="utf-8")
    except (ValueError, KeyError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
