"""runs.csv and fits.json -> tables of the sizes and the laws, and a list of notes."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ..laws.registry import LAWS
from ..writing.markdown import markdown_table
from ..writing.wording import crossover, parameter

Row = dict[str, str]


def sizes_table(rows: Sequence[Row]) -> list[str]:
    """One row of Markdown per size, at its largest token count: the mean over seeds."""
    sizes: dict[tuple[str, float, str], list[Row]] = defaultdict(list)
    for row in rows:
        sizes[row["arch"], float(row["n_params"]), row["size"]].append(row)
    lines = []
    for (_, n_params, size), of_size in sorted(sizes.items()):
        most = max(float(row["n_tokens"]) for row in of_size)
        longest = [row for row in of_size if float(row["n_tokens"]) == most]
        loss, *bits = (_mean(longest, key) for key in ("loss", "bits_per_char", "bits_per_note"))
        has_error = all(row["loss_se"] for row in longest)
        error = f" ± {_mean(longest, 'loss_se'):.4f}" if has_error else ""
        losses = [float(row["loss"]) for row in longest]
        spread = f"{statistics.stdev(losses):.4f}" if len(losses) > 1 else ""
        counts = (f"{n_params:,.0f}", f"{most:,.0f}", f"{len(longest)}")
        cells = (f"{loss:.4f}{error}", spread, f"{bits[0]:.3f}", f"{bits[1]:.2f}")
        lines.append((size, *counts, *cells))
    header = (
        *("size", "parameters (non-embedding)", "tokens", "seeds"),
        *("loss, nats/token ± s.e. over songs", "s.d. over seeds", "bits/char", "bits/note"),
    )
    return markdown_table(header, lines)


def laws_table(fits: dict[str, Any], only_chosen: bool = False) -> list[str]:
    """One row per family and fitted law, or only the chosen laws; the chosen law is bold."""
    lines = []
    for family, laws in fits["laws"].items():
        for name in fits["settings"]["laws"]:
            law = laws.get(name, {"refused": ""})
            if "refused" in law or (only_chosen and name != laws["chosen"]):
                continue
            mark = "**" if name == laws["chosen"] else ""
            exponents = ", ".join(parameter(law, each, ".3f") for each in LAWS[name].exponents)
            floor = LAWS[name].floor and parameter(law, LAWS[name].floor, ".3f")
            error = law["holdout_error"]
            held_out = "" if error is None else f"{100 * error:.1f} %"
            lines.append((family, f"{mark}{name}{mark}", exponents, floor or "", held_out))
    header = (
        *("family", "law", "exponents [95 % interval]", "floor [95 % interval]"),
        "error on the held-out largest size",
    )
    return markdown_table(header, lines, left=4)


def notes_list(fits: dict[str, Any]) -> list[str]:
    """Refused laws, crossovers, and warnings about the chosen laws: Markdown lines."""
    refused: dict[tuple[str, str], list[str]] = defaultdict(list)
    for family, laws in fits["laws"].items():
        for name in fits["settings"]["laws"]:
            if "refused" in laws.get(name, {}):
                refused[name, laws[name]["refused"].split(":")[0]].append(family)
    lines = [
        f"- {name} not fitted ({', '.join(families)}): {reason}"
        for (name, reason), families in refused.items()
    ]
    lines += [f"- {crossover(entry)}" for entry in fits["crossovers"]]
    return lines + [
        f"- {family}, {laws['chosen']}: {warning}"
        for family, laws in fits["laws"].items()
        for warning in (laws.get(laws["chosen"]) or {}).get("warnings", [])
    ]


def _mean(rows: Sequence[Row], column: str) -> float:
    return statistics.fmean(float(row[column]) for row in rows)
