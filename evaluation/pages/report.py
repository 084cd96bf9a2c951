"""A study -> one self-contained HTML page: figures, laws, runs, data, and tunes one can look at.

    python -m evaluation.pages.report runs/demo

All numbers come from runs.csv, fits.json, metrics.json and the stage.json files of the data.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from scaling.families import label_of
from scaling.writing.commands import command
from scaling.writing.files import read_csv, read_json, write_atomically
from scaling.writing.wording import crossover, parameter

from .model_report import N_TUNES, PAGE, page_template, verdicts_of
from .model_report import headlines as model_headlines
from .tune_view import need, tune_views

FIGURES = ("scaling_law", "loss_curves")


def build_report(study: Path) -> tuple[Path, list[str]]:
    """Writes `<study>/report.html` from what lies in the study's folder; returns its headlines too.

    Raises:
        FileNotFoundError: If a part is missing; names the command that makes it.
    """
    runs = _read_runs(study)
    fits = read_json(need(study / "fits.json", "make fit"))
    metrics = read_json(need(study / "metrics.json", "make evaluate"))
    shown = next(iter(metrics["sets"]))  # those within the grammar, where there are any
    lines, out = headlines(fits, metrics), study / "report.html"
    html = page_template("report.html.j2").render(
        study=study.name,
        runs=runs,
        fits=fits,
        metrics=metrics,
        figures={name: _figure(study, name) for name in FIGURES},
        data=_data_stages(study, runs[0]["run"]),
        tunes=tune_views(study / "samples" / shown, N_TUNES),
        verdicts=verdicts_of(metrics),
        page=PAGE,
        headlines=lines,
    )
    write_atomically(out, html)
    return out, lines


def headlines(fits: dict[str, Any], metrics: dict[str, Any]) -> list[str]:
    """Returns the results in a few lines of plain words."""
    lines = []
    for family, laws in fits["laws"].items():
        law, name = laws.get(laws["chosen"]), label_of(family)
        if law is None:
            reason = laws.get("power", {}).get("refused", laws["chosen_reason"])
            lines.append(f"{name}: no law fitted: {reason}")
            continue
        values = ", ".join(parameter(law, each, ".3g", "(no interval)") for each in law["params"])
        lines.append(f"{name}: {law['formula']} with {values}")
        floor = laws.get("power_floor", {})
        if "refused" in floor:
            lines.append(f"{name}: no floor term: {floor['refused']}")
    lines += [
        crossover(entry)
        for entry in fits["crossovers"]
        if entry["at"] == "equal_params" and entry["n_tokens"] is not None
    ]
    return lines + model_headlines(metrics)


def _read_runs(study: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_csv(need(study / "runs.csv", "make fit"))
    for row in rows:
        for name in ("n_params", "n_params_total", "n_tokens", "loss", "loss_se", "bits_per_char",
                     "bits_per_note", "train_seconds", "flops", "learning_rate"):  # fmt: skip
            row[name] = float(row[name]) if row[name] else None
    return sorted(rows, key=lambda row: (row["arch"], row["n_params"]))


def _figure(study: Path, name: str) -> Markup:
    svg = need(study / "figures" / f"{name}.svg", "make fit").read_text("utf-8")
    return Markup(svg[svg.index("<svg") :])  # written by matplotlib: no text from outside


def _data_stages(study: Path, run: str) -> dict[str, Any]:
    config = yaml.safe_load(need(study / run / "config.yaml", "make study").read_text("utf-8"))
    data = config["data"]
    folder = Path(data["root"]) / data["dataset"] / data["preset"]
    names = ("1_abc", "2_clean", "3_filtered", "5_tokens", "6_blocks")
    stages = {name: read_json(need(folder / name / "stage.json", "make data")) for name in names}
    return {"folder": str(folder), "stages": stages}


@command(ValueError, OSError)
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="evaluation.pages.report", description=__doc__)
    parser.add_argument("study", type=Path, help="e.g. runs/demo")
    options = parser.parse_args(arguments)
    out, lines = build_report(options.study)
    print(*lines, f"report: {out}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
