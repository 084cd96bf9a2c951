"""Evaluated models -> results/evaluation/<run>.json, an example page, and the README's tables.

    python -m evaluation.tables runs/tiny/* --results results --readme README.md

No number of a table is typed by hand: all come from the runs' metrics.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from scaling.blocks import fill_blocks
from scaling.commands import command
from scaling.files import write_json

from .model_report import build_page
from .tune_view import need

EXAMPLE = "example_tunes.html"


@command(ValueError, OSError)
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="evaluation.tables", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="evaluated runs; the first is shown")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    options = parser.parse_args(arguments)
    models = {}
    for run in options.runs:
        file = need(run / "metrics.json", f"make evaluate MODEL={run}")
        models[run.name] = json.loads(file.read_text("utf-8"))
    folder = options.results / "evaluation"
    for name, metrics in models.items():
        write_json(folder / f"{name}.json", metrics)
    fill_blocks(options.results, options.readme, ["evaluation"])
    page = build_page(options.runs[0], options.results / EXAMPLE)
    print(f"{len(models)} models -> {folder}, {options.readme}, {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
