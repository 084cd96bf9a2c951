"""What a program of a client says: one line of JSON, after a mark."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet

REPORT = "report: "  # how the line begins


def songs() -> list[str]:
    """Returns the songs of the published dataset that the variable SONGS names."""
    file = Path(os.environ["SONGS"], "validation.parquet")
    return pyarrow.parquet.read_table(file, columns=["abc"])["abc"].to_pylist()


def report(check: Callable[[str, bool, int], str]) -> None:
    """Runs a check on each folder given on the command line and prints what it found.

    The command line is `<folder>:<1 if it needs remote code, else 0>:<context in tokens> ...`.

    Args:
        check: (folder, needs remote code, context) -> what it found, in a few words; an error it
            raises is the finding.
    """
    found = {}
    for argument in sys.argv[1:]:
        folder, trust, context = argument.rsplit(":", 2)
        try:
            found[folder] = {"ok": True, "found": check(folder, trust == "1", int(context))}
        except Exception as error:  # whatever a client raises is what this table is for
            traceback.print_exc()
            text = f"{type(error).__name__}: {error}".partition("\n")[0]
            found[folder] = {"ok": False, "found": text[:160]}
    # on a line of its own: what clients print may stand before it, and after it
    print(f"\n{REPORT}{json.dumps(found)}", flush=True)
