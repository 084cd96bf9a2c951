"""A dataset -> the digests of its files, so that others can check whether theirs is the same.

    python -m data_prep.digest_list data/<name>/<preset> results/corpus_digests.csv

One line per song: the first 16 hex digits of the SHA-256 of its MIDI file, its split, and the
number of its duplicate cluster. No file names: those belong to the collection.
"""

import argparse
import csv
import io
import sys
from pathlib import Path

import pyarrow.parquet as pq

from .selection.split import SPLITS
from .storage.explain import command

DIGITS = 16


def list_digests(dataset: Path) -> str:
    """Returns the list as CSV, sorted by split and digest.

    Args:
        dataset: data/<name>/<preset>, with stage 4 (the split) done.

    Raises:
        FileNotFoundError: If a split is missing.
    """
    songs: list[tuple[int, str, str]] = []
    for place, split in enumerate(SPLITS):
        path = dataset / "4_split" / f"{split}.parquet"
        if not path.is_file():
            raise FileNotFoundError(f"{path} not found; run `make data`")
        table = pq.read_table(path, columns=["digest", "cluster_id"])
        rows = zip(table["digest"].to_pylist(), table["cluster_id"].to_pylist(), strict=True)
        songs += [(place, digest[:DIGITS], cluster) for digest, cluster in rows]
    numbers: dict[str, int] = {}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["midi_sha256", "split", "cluster"])
    for place, digest, cluster in sorted(songs):
        writer.writerow([digest, SPLITS[place], numbers.setdefault(cluster, len(numbers))])
    return text.getvalue()


@command(OSError)
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="data/<name>/<preset>")
    parser.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    text = list_digests(options.dataset)
    part = options.out.with_name(options.out.name + ".part")
    part.write_text(text, "utf-8")
    part.rename(options.out)
    print(f"{text.count(chr(10)) - 1} songs -> {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
