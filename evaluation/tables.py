"""Evaluated models -> results/evaluation/<run>.json, an example page, and the docs' tables.

    python -m evaluation.tables runs/tiny/* --results results

No table entry is typed by hand: all numbers come from the runs' metrics.json.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.reporting.blocks import Block, fill_blocks
from scaling.writing.commands import command
from scaling.writing.files import read_json, write_json
from scaling.writing.markdown import markdown_table
from scaling.writing.wording import bracket

from .arrangements import in_words
from .judging.judge_table import VALID, field_label, shown_fields
from .pages.model_report import build_page
from .pages.tune_view import need

EXAMPLE = "example_tunes.html"
RESTS = {"rest_bar_rate": "bars of rest", "silence_loop": "loops of silence"}
ORDERS = {
    "constrained / free / real": ("constrained", "free", "real"),
    "prompted": ("prompted", "prompted_free", "reference"),
}

Metrics = dict[str, Any]


def validity_table(models: dict[str, Metrics]) -> list[str]:
    """Markdown, one line per model and sample set: shares in %, valid with its interval."""
    verdicts = {VALID: field_label(VALID)} | shown_fields()
    rows = []
    for name, metrics in models.items():
        for kind, own in metrics["sets"].items():
            rates = map(own["validity"].get, verdicts)
            cells = [f"{100 * rate['rate']:.1f}" if rate else "–" for rate in rates]
            if rate := own["validity"].get(VALID):
                cells[0] += f" {bracket([100 * end for end in rate['interval_95']], '.1f')}"
            rows.append((name, kind.replace("_", " "), f"{own['n']:,}", *cells))
    return markdown_table(("model", "samples", "tunes", *verdicts.values()), rows, left=2)


def overhead_table(models: dict[str, Metrics]) -> list[str]:
    """Markdown, one line per model: what the grammar masks and changes."""
    header = (
        *("model", "probability mass masked a step, mean (p95)", "resampled", "deterministic"),
        *("overhead, 1 tune (8)", "distance to real: constrained / free / real to real"),
        *(f"{label}: {order}" for label in RESTS.values() for order in ORDERS),
    )
    rows = []
    for name, metrics in models.items():
        overhead, sets = metrics["overhead"], metrics["sets"]
        if overhead is None:
            continue
        mass, speeds = overhead["mass"], overhead["speed"]
        cells = [
            f"{_share(mass['masked_mass_per_step']['mean'])} "
            f"({_share(mass['masked_mass_percentiles']['p95'])})",
            _share(speeds[-1]["resampled_share"]),
            _share(mass["deterministic_share"]["mean"]),
            f"{_share(speeds[0]['cost_share'])} ({_share(speeds[-1]['cost_share'])})",
            _distances(sets),
        ]
        for statistic in RESTS:
            for kinds in ORDERS.values():
                found = (sets.get(kind, {}).get("statistics", {}) for kind in kinds)
                means = [statistics.get(statistic, {}).get("mean") for statistics in found]
                cells.append(" / ".join("–" if mean is None else _share(mean) for mean in means))
        rows.append((name, *cells))
    return markdown_table(header, rows)


def _distances(sets: dict[str, Any]) -> str:
    found = [sets[kind].get("distance") for kind in ("constrained", "free")]
    values = [each and each["frechet"]["frechet_distance"] for each in found]
    texts = [f"{each['value']['mean']:.2f}" if each else "–" for each in values]
    floor = next((f"{each['floor']['mean']:.2f}" for each in values if each), "–")
    return " / ".join([*texts, floor])


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def arrangements_table(models: dict[str, Metrics]) -> list[str]:
    """Markdown, one column per model that was trained to fill in: see `arrangements`."""
    found = {
        name: dict(in_words(metrics["arrangements"]))
        for name, metrics in models.items()
        if metrics.get("arrangements")
    }
    labels = dict.fromkeys(label for words in found.values() for label in words)
    rows = [(label, *(words.get(label, "–") for words in found.values())) for label in labels]
    return markdown_table(("", *found), rows)


def _models(folder: Path) -> dict[str, Metrics]:
    models = {file.stem: read_json(file) for file in (folder / "evaluation").glob("*.json")}
    # study by study, in the order of their folders in runs/
    return dict(sorted(models.items(), key=lambda each: Path(each[1]["model"]).parts))


def _evaluation(folder: Path) -> list[str]:
    models = _models(folder)
    return [*validity_table(models), "", *overhead_table(models)]


def _arrangements(folder: Path) -> list[str]:
    return arrangements_table(_models(folder))


# Not in scaling.reporting.blocks, since the judges belong to this package.
BLOCKS = {
    "evaluation": Block("evaluation", _evaluation, "docs/results/samples.md"),
    "arrangements": Block("evaluation", _arrangements, "docs/how-to/arrange.md"),
}


@command(ValueError, OSError)
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="evaluation.tables", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="evaluated runs; the first gets a page")
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args(arguments)
    models = {
        run.name: read_json(need(run / "metrics.json", f"make evaluate MODEL={run}"))
        for run in options.runs
    }
    folder = options.results / "evaluation"
    for name, metrics in models.items():
        write_json(folder / f"{name}.json", metrics)
    fill_blocks(options.results, blocks=BLOCKS)
    page = build_page(options.runs[0], options.results / EXAMPLE)
    pages = ", ".join(block.page for block in BLOCKS.values())
    print(f"{len(models)} models -> {folder}, {pages}, {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
