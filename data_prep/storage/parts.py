"""Tables of any size, one part at a time, in worker processes.

So the memory of a stage depends on the size of a part, not on that of the corpus.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from pebble import ProcessExpired
from tqdm import tqdm

from .stages import worker_pool

FILES_A_PART = 4  # shards of the conversion: some 500 tunes, half a gigabyte per worker


@dataclass(frozen=True)
class Part:
    """Some rows of a table.

    Attributes:
        files: Parquet files; the part is all of their rows.
        row_group: If set, the part is only this row group, of a single file.
    """

    files: tuple[Path, ...]
    row_group: int | None = None

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """Reads the rows.

        Raises:
            ValueError: If a file is damaged.
        """
        return pa.concat_tables(self._read(file, columns) for file in self.files)

    def _read(self, file: Path, columns: list[str] | None) -> pa.Table:
        try:
            with pq.ParquetFile(file) as table:
                if self.row_group is None:
                    return table.read(columns)
                return table.read_row_group(self.row_group, columns)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{file} cannot be read ({reason}); remove it and repeat the command, which makes "
                "it again"
            ) from error


def parts_of_files(files: Iterable[Path], files_a_part: int = 1) -> list[Part]:
    """Splits a table of many files into parts of `files_a_part` files each."""
    files = list(files)
    return [
        Part(tuple(files[start : start + files_a_part]))
        for start in range(0, len(files), files_a_part)
    ]


def parts_of_file(file: Path) -> list[Part]:
    """Splits a table of one file into its row groups."""
    with pq.ParquetFile(file) as table:
        return [Part((file,), group) for group in range(table.num_row_groups)]


Work = Callable[[Dataset], tuple[Dataset, Any]]
"""Rows in; rows and a report on them out. Another process must be able to import the function."""


def map_parts(
    tasks: list[tuple[Part, Work]], out: Path, workers: int | None, desc: str
) -> Iterator[tuple[Path, Any]]:
    """Yields, for each task in order, the file that `work` made of its part, and its report.

    Args:
        tasks: Parts, and the work on each. A single task runs in this process, which saves starting
            another one.
        out: Folder of the files; if no row is left, the yielded path does not exist.
        workers: Number of processes; all cores if None.
        desc: Label of the progress bar.

    Raises:
        ValueError: If a worker died.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"part-{number:05d}.parquet" for number in range(len(tasks))]
    if len(tasks) == 1:
        yield files[0], _map_part(*tasks[0], files[0])
        return
    with worker_pool(workers) as pool, tqdm(desc=desc, total=len(tasks), unit="part") as progress:
        both = zip(tasks, files, strict=True)
        futures = [pool.schedule(partial(_map_part, *task, file)) for task, file in both]
        for file, future in zip(files, futures, strict=True):
            try:
                told = future.result()
            except ProcessExpired as error:
                raise ValueError(
                    f"{desc}: a worker died with code {error.exitcode}, short of memory perhaps; "
                    "repeat the command with fewer --workers"
                ) from error
            progress.update()
            yield file, told


def _map_part(part: Part, work: Work, file: Path) -> Any:
    datasets.disable_caching()
    datasets.disable_progress_bars()  # the bar over the parts remains
    rows, told = work(Dataset(part.read()))
    if len(rows):
        write_table(rows.with_format("arrow")[:], file)
    return told


class TableWriter:
    """A parquet file that is written one row group at a time.

    Args:
        file: Path of the file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        """Appends the rows as one row group; does nothing if there are none."""
        if not len(table):
            return
        table = table.replace_schema_metadata()  # the same bytes, whatever wrote the part
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.file, table.schema, compression="zstd")
        self._writer.write_table(table, row_group_size=len(table))

    def close(self) -> None:
        """Closes the file; there is no file if nothing was written."""
        if self._writer is not None:
            self._writer.close()


def write_table(table: pa.Table, file: Path) -> None:
    """Writes a table as one row group."""
    writer = TableWriter(file)
    writer.write(table)
    writer.close()
