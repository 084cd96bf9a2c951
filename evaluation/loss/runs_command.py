"""The shared part of this folder's commands: finished runs in, one JSON file out."""

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.storage.explain import explain
from scaling.writing.commands import Main, command
from scaling.writing.files import write_json

from ..loading.finished_run import open_runs


def runs_command(
    name: str,
    doc: str | None,
    measure: Callable[..., dict[str, Any]],
    out: str,
    settings: Callable[..., Any] | None = None,
    options: Mapping[str, dict[str, Any]] | None = None,
    also: Callable[[dict[str, Any]], str] = lambda _: "",
    indent: int | None = 1,
) -> Main:
    """A command that opens runs, measures them and writes the file.

    Args:
        name: Module name.
        doc: Docstring of the module.
        measure: Takes the runs, and the settings if there are any; returns the content of the
            file, with one row per run in `runs`.
        out: Default output file.
        settings: Builds the settings from the options.
        options: Name -> keyword arguments of `add_argument`.
        also: Text to print after the number of runs, given the content.
        indent: Indentation of the JSON.
    """

    @command(ValueError, OSError, say=explain)
    def main(arguments: Sequence[str] | None = None) -> int:
        parser = argparse.ArgumentParser(
            prog=f"evaluation.loss.{name}",
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("runs", type=Path, nargs="+", help="finished runs")
        parser.add_argument("--out", type=Path, default=Path(out))
        for option, how in (options or {}).items():
            parser.add_argument(f"--{option}", **how)
        given = vars(parser.parse_args(arguments))
        folders, file = given.pop("runs"), given.pop("out")
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        runs = open_runs(folders)
        content = measure(runs, settings(**given)) if settings else measure(runs)
        write_json(file, content, indent)
        print(f"{len(content['runs'])} runs{also(content)} -> {file}")
        return 0

    return main
