"""What the commands of this room share: finished runs go in, one file of JSON comes out."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_prep.storage.explain import explain
from scaling.writing.files import write_json

from ..loading.finished_run import FinishedRun, open_runs


def runs_parser(name: str, doc: str | None, out: str) -> argparse.ArgumentParser:
    """The options that all have; name: of the module; doc: its docstring; out: default file."""
    parser = argparse.ArgumentParser(
        prog=f"evaluation.loss.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=Path, nargs="+", help="finished runs")
    parser.add_argument("--out", type=Path, default=Path(out))
    return parser


def score_runs(
    options: argparse.Namespace,
    measure: Callable[[Sequence[FinishedRun]], dict[str, Any]],
    also: Callable[[dict[str, Any]], str] = lambda _: "",
    indent: int | None = 1,
) -> int:
    """Opens the runs, measures them and writes the file; returns the exit code.

    Args:
        options: Of `runs_parser`.
        measure: Returns the content of the file, with a row a run in `runs`.
        also: What is counted beside the runs, of the content.
        indent: Of the JSON.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        content = measure(open_runs(options.runs))
        write_json(options.out, content, indent)
    except (ValueError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2
    print(f"{len(content['runs'])} runs{also(content)} -> {options.out}")
    return 0
