"""Stage 3, over all tunes: which of several copies is kept, and which tunes are one cluster.

Only little is kept in memory per tune: digests, and its sampled figures.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..storage.parts import Part, write_table
from .duplicates import DuplicateSettings, Sketches, clusters


def first_of_copies(files: list[Path]) -> np.ndarray:
    """Returns which tunes are kept, one per fingerprint: (n,) bool.

    It is the tune with the smallest digest, so the order of the files does not matter.

    Args:
        files: Tables with the columns `fingerprint` and `digest`.
    """
    tunes = pa.concat_tables(Part((file,)).read(["fingerprint", "digest"]) for file in files)
    tunes = tunes.append_column("row", pa.array(np.arange(len(tunes))))
    tunes = tunes.sort_by([(name, "ascending") for name in ("fingerprint", "digest", "row")])
    keys = tunes["fingerprint"].combine_chunks()
    first = np.ones(len(keys), bool)
    first[tunes["row"].to_numpy()[1:]] = np.asarray(pc.not_equal(keys[1:], keys[:-1]))
    return first


def cluster_tunes(files: list[Path], kept: np.ndarray, settings: DuplicateSettings) -> list[str]:
    """Returns the cluster of each kept tune.

    Args:
        files: Tables with the columns `fingerprint` and `figures`.
        kept: (n,) bool, over the rows of all files.
        settings: When two tunes are the same song.
    """
    figures, lengths, keys = [], [], []
    for table in _kept_rows(files, kept, ["fingerprint", "figures"]):
        column = table["figures"].combine_chunks()
        figures.append(pc.list_flatten(column).to_numpy())
        lengths.append(pc.list_value_length(column).to_numpy())
        keys += table["fingerprint"].to_pylist()
    sketches = Sketches(np.concatenate(figures), np.cumsum([0, *np.concatenate(lengths)]))
    return clusters(sketches, keys, settings)


def write_clustered(files: list[Path], kept: np.ndarray, ids: list[str], out: Path) -> None:
    """Writes the kept tunes, with a cluster column, and without fingerprint and figures."""
    start = 0
    for number, table in enumerate(_kept_rows(files, kept)):
        clustered = pa.array(ids[start : start + len(table)], pa.string())
        start += len(table)
        table = table.drop_columns(["figures", "fingerprint"])
        file = out / f"part-{number:05d}.parquet"
        write_table(table.append_column("cluster_id", clustered), file)


def _kept_rows(
    files: list[Path], kept: np.ndarray, columns: list[str] | None = None
) -> Iterator[pa.Table]:
    """Yields the kept rows of each file."""
    start = 0
    for file in files:
        table = Part((file,)).read(columns)
        yield table.filter(pa.array(kept[start : start + len(table)]))
        start += len(table)
