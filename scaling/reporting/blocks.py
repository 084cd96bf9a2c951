"""results/ -> the generated blocks of README.md and results/README.md, between their marks.

    python -m scaling.reporting.blocks results README.md [--only corpus ...]

No number of a block is typed by hand. A block whose file is not there stays as it is.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..writing.commands import command, parser_of
from ..writing.files import read_csv, read_json, write_atomically
from ..writing.markdown import fill
from .benchmark_tables import conversion_table, sampling_table, training_speed_table
from .corpus import corpus_table
from .findings import findings
from .tables import laws_table, notes_list, sizes_table


@dataclass(frozen=True)
class Block:
    """A part of a page that is written by a command.

    Attributes:
        source: what it cannot do without, in results/.
        lines: folder results/ -> its Markdown.
        in_results: whether it stands in results/README.md; else in the project's own.
    """

    source: str
    lines: Callable[[Path], list[str]]
    in_results: bool = False


def _results(folder: Path) -> list[str]:
    fits, rows = read_json(folder / "fits.json"), read_csv(folder / "runs.csv")
    return [*sizes_table(rows), "", *laws_table(fits), "", *notes_list(fits)]


def _corpus(folder: Path) -> list[str]:
    files = {name: folder / f"{name}.json" for name in ("duplicates", "selection", "tokens")}
    others = {name: read_json(file) for name, file in files.items() if file.exists()}
    return corpus_table(read_json(folder / "corpus.json"), others)


def _table_of(name: str, table: Callable[[Any], list[str]]) -> Block:
    return Block(name, lambda folder: table(read_json(folder / name)))


BLOCKS = {
    "findings": Block("fits.json", findings, in_results=True),
    "results": Block("fits.json", _results),
    "conversion": _table_of("conversion.json", conversion_table),
    "corpus": Block("corpus.json", _corpus),
    "sampling": _table_of("sampling.json", sampling_table),
    "training_speed": _table_of("training_speed.json", training_speed_table),
}


def fill_blocks(
    results: Path,
    readme: Path,
    names: Sequence[str] | None = None,
    blocks: Mapping[str, Block] = BLOCKS,
) -> list[str]:
    """Writes the blocks anew. Returns the names of those that were, for their file is there.

    Args:
        results: folder with their sources.
        readme: the project's page.
        names: of the blocks; all by default.
        blocks: what there is, by name.

    Raises:
        ValueError: If a page has not the two marks of a block, or a file is not what it should be.
    """
    filled = [name for name in names or blocks if (results / blocks[name].source).exists()]
    for name in filled:
        block = blocks[name]
        page = results / "README.md" if block.in_results else readme
        write_atomically(page, fill(page.read_text("utf-8"), block.lines(results), name))
    return filled


@command(ValueError, KeyError, OSError)
def main(argv: Sequence[str] | None = None) -> None:
    """Command line; returns the exit code."""
    parser = parser_of("scaling.reporting.blocks", __doc__)
    parser.add_argument("results", type=Path, help="folder with fits.json and more")
    parser.add_argument("readme", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(BLOCKS))
    arguments = parser.parse_args(argv)
    filled = fill_blocks(arguments.results, arguments.readme, arguments.only)
    if not filled:
        raise ValueError(f"{arguments.results}: no file of a block; run make fit, make results")
    print(f"filled: {', '.join(filled)}")


if __name__ == "__main__":
    sys.exit(main())
