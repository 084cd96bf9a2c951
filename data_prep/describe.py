"""The stage.json files of a dataset -> results/corpus.json: what went in, what came out, and why.

python -m data_prep.describe data/<name>/<preset> results
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .stages import write_json

_STAGES = ("1_abc", "2_clean", "3_filtered", "4_split", "5_tokens", "6_blocks")
_COUNTS = ("rows_in", "rows_out", "dropped", "n_songs", "n_chars", "n_notes", "n_seconds")
_CLUSTERS = ("n_clusters", "n_songs_with_near_duplicates", "largest_cluster", "n_notes_in")
_LAST = ("splits", "vocab_size", "n_blocks", "block_length")


def describe(dataset: Path) -> dict[str, Any]:
    """Returns the counts of all stages of a dataset.

    Args:
        dataset: data/<name>/<preset>, all stages done.

    Raises:
        FileNotFoundError: If a stage is not there.
    """
    stages = {}
    for name in _STAGES:
        file = dataset / name / "stage.json"
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} not found: expected a finished dataset, made by make data"
            )
        stage = json.loads(file.read_text("utf-8"))
        stages[name] = {key: stage[key] for key in (*_COUNTS, *_CLUSTERS, *_LAST) if key in stage}
    digest = json.loads((dataset / "4_split" / "stage.json").read_text("utf-8"))["digest"]
    return {"dataset": dataset.parent.name, "preset": dataset.name, "digest": digest} | stages


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="data_prep.describe", description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="data/<name>/<preset>")
    parser.add_argument("results", type=Path, help="folder for corpus.json")
    options = parser.parse_args(arguments)
    try:
        content = describe(options.dataset)
        options.results.mkdir(parents=True, exist_ok=True)
        write_json(options.results / "corpus.json", content)
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.dataset} -> {options.results / 'corpus.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
