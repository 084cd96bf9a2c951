"""Tables of any size, a part at a time: `datasets.map` over each part, in worker processes.

What a stage needs of memory depends on the size of a part, then, and not on that of the corpus.
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

FILES_A_PART = 4  # shards of the conversion: some 500 tunes, a worker of half a gigabyte


@dataclass(frozen=True)
class Part:
    """Some rows of a table.

    Attributes:
        files: Parquet files, all of whose rows are meant;
        row_group: or, of a single file, those of one row group.
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
    """Cuts a table of many files into parts of some files each."""
    files = list(files)
    return [
        Part(tuple(files[start : start + files_a_part]))
        for start in range(0, len(files), files_a_part)
    ]


def parts_of_file(file: Path) -> list[Part]:
    """Cuts a table of one file into its row groups."""
    with pq.ParquetFile(file) as table:
        return [Part((file,), group) for group in range(table.num_row_groups)]


Work = Callable[[Dataset], tuple[Dataset, Any]]
"""Rows in; rows out, and what is to be told of them: a function that another process can import."""


def map_parts(
    tasks: list[tuple[Part, Work]], out: Path, workers: int | None, desc: str
) -> Iterator[tuple[Path, Any]]:
    """Yields, for each task in order, the file that `work` made of its part, and what it told.

    Args:
        tasks: Parts, and what is done to each. If there is but one it is done here, which saves
            the start of a process.
        out: Folder of the files; where no row is left there is no file under the name yielded.
        workers: Processes; all cores if None.
        desc: What the progress bar says.

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
    datasets.disable_progress_bars()  # that of the parts stays
    rows, told = work(Dataset(part.read()))
    if len(rows):
        write_table(rows.with_format("arrow")[:], file)
    return told


class TableWriter:
    """A parquet file that is written a row group at a time.

    Args:
        file: Where to.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        """Appends the rows as one row group; none are no row group."""
        if not len(table):
            return
        table = table.replace_schema_metadata()  # the same bytes, whatever wrote the part
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.file, table.schema, compression="zstd")
        self._writer.write_table(table, row_group_size=len(table))

    def close(self) -> None:
        """Ends the file; there is none if nothing was written."""
        if self._writer is not None:
            self._writer.close()


def write_table(table: pa.Table, file: Path) -> None:
    """Writes a table as one row group."""
    writer = TableWriter(file)
    writer.write(table)
    writer.close()
