"""A study -> one self-contained HTML page: findings, the main figure, tunes, then the tables.

    python -m evaluation.pages.report runs/demo

All numbers come from runs.csv, fits.json, metrics.json and the stage.json files of the data.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from scaling.families import in_order, label_of
from scaling.writing.commands import command
from scaling.writing.files import read_csv, read_json, write_atomically
from scaling.writing.wording import bracket, in_words

from .model_report import PAGE, verdicts_of
from .model_report import headlines as model_headlines
from .page_template import page_template
from .tune_view import need, tune_views

FIGURES = ("scaling_law", "loss_curves")
N_SHOWN = 3  # tunes


def build_report(study: Path) -> tuple[Path, list[str]]:
    """Writes `<study>/report.html` from the study's folder; returns its path and summary lines.

    Raises:
        FileNotFoundError: If a part is missing; names the command that creates it.
    """
    runs = _read_runs(study)
    fits = read_json(need(study / "fits.json", "make fit"))
    metrics = read_json(need(study / "metrics.json", "make evaluate"))
    shown = next(iter(metrics["sets"]))  # the constrained ones, if there are any
    data = _data_stages(study, runs[0]["run"])
    lines, out = summary(runs, fits, data, metrics), study / "report.html"
    html = page_template("report.html.j2").render(
        study=study.name,
        runs=runs,
        fits=fits,
        metrics=metrics,
        figures={name: _figure(study, name) for name in FIGURES},
        data=data,
        tunes=tune_views(study / "samples" / shown, N_SHOWN),
        verdicts=verdicts_of(metrics),
        page=PAGE,
        summary=lines,
        notes=_notes(fits),
        label_of=label_of,
    )
    write_atomically(out, html)
    return out, lines


def summary(
    runs: list[dict[str, Any]], fits: dict[str, Any], data: dict[str, Any], metrics: dict[str, Any]
) -> list[str]:
    """The findings, in sentences."""
    families = in_order(run["arch"] for run in runs)
    sizes = [run["n_params"] for run in runs]
    music = data["stages"]["5_tokens"]["splits"]["train"]
    lines = [
        f"{len(runs)} models of {in_words(map(label_of, families))}, with {min(sizes):,.0f} to "
        f"{max(sizes):,.0f} parameters (embeddings not counted), were trained on "
        f"{music['n_songs']:,} tunes, {music['n_seconds'] / 3600:.0f} hours of music."
    ]
    for family in families:
        own = [run for run in runs if run["arch"] == family]
        smallest, largest = own[0]["n_params"], own[-1]["n_params"]
        first, last = (
            min(run["loss"] for run in own if run["n_params"] == size)
            for size in (smallest, largest)
        )
        text = f"{label_of(family)}: the loss falls from {first:.2f} to {last:.2f} nats per token"
        lines.append(f"{text} as it grows {largest / smallest:,.0f}-fold.{_power(fits, family)}")
    best = min(runs, key=lambda run: run["loss"])
    lines.append(
        f"{best['run']} has the lowest loss: {best['loss']:.3f} nats per token, "
        f"{best['bits_per_char']:.2f} bits per character."
    )
    for entry in fits["crossovers"]:
        is_shown = entry["at"] == "equal_params" and entry["n_tokens"] is not None
        if is_shown and entry.get("n_params") is not None:
            pair = in_words(map(label_of, entry["archs"]))
            place = f"{entry['n_params']:,.0f} parameters {bracket(entry['interval_95'], ',.0f')}"
            lines.append(f"{pair} reach the same loss at {place.rstrip()}.")
    return lines + [f"{line}." for line in model_headlines(metrics)]


def _power(fits: dict[str, Any], family: str) -> str:
    """The effect of ten times the parameters on the loss, by the power law if it was fitted."""
    law = fits["laws"].get(family, {}).get("power", {"refused": ""})
    if "refused" in law or law["params"]["alpha"] <= 0:
        return ""
    text = f" Ten times the parameters multiply it by {10 ** -law['params']['alpha']:.2f}"
    ends = law["interval_95"]["alpha"]
    if ends:
        text += f" (95 % interval {10 ** -ends[1]:.2f} to {10 ** -ends[0]:.2f})"
    return f"{text}."


def _notes(fits: dict[str, Any]) -> list[str]:
    """Laws that were not fitted, and warnings about the fits."""
    notes = []
    for family, laws in fits["laws"].items():
        for name, law in laws.items():
            if isinstance(law, dict):
                found = [f"not fitted: {law['refused']}"] if "refused" in law else law["warnings"]
                notes += [f"{label_of(family)}, {name}: {text}" for text in found]
    return notes


def _read_runs(study: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_csv(need(study / "runs.csv", "make fit"))
    for row in rows:
        for name in ("n_params", "n_params_total", "n_tokens", "loss", "loss_se", "bits_per_char",
                     "bits_per_note", "train_seconds", "flops", "learning_rate"):  # fmt: skip
            row[name] = float(row[name]) if row[name] else None
    return sorted(rows, key=lambda row: (row["arch"], row["n_params"]))


def _figure(study: Path, name: str) -> Markup:
    svg = need(study / "figures" / f"{name}.svg", "make fit").read_text("utf-8")
    return Markup(svg[svg.index("<svg") :])  # written by matplotlib: no untrusted text


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
