"""results/ -> the generated blocks of the pages, between their markers.

    python -m scaling.reporting.blocks results [--only corpus ...]

The pages belong to the project that contains the folder: README.md, results/README.md, docs/. No
number in a block is typed by hand. A block whose file is missing stays as it is.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..writing.commands import command, parser_of
from ..writing.files import read_json, write_atomically
from ..writing.markdown import fill
from .benchmark_tables import (
    clients_table,
    conversion_table,
    foreign_abc_table,
    lark_gaps_table,
    lark_masks_table,
    lark_samples_table,
    sampling_table,
    scores_table,
    training_speed_table,
)
from .corpus import corpus_table
from .findings import findings
from .tables import laws_table


@dataclass(frozen=True)
class Block:
    """A generated part of a page.

    Attributes:
        source: The file or folder in results/ that it is made from.
        lines: Folder results/ -> Markdown lines.
        page: The page that contains it, relative to the project.
    """

    source: str
    lines: Callable[[Path], list[str]]
    page: str


def _headline(folder: Path) -> list[str]:
    return laws_table(read_json(folder / "fits.json"), only_chosen=True)


def _corpus(folder: Path) -> list[str]:
    files = {name: folder / f"{name}.json" for name in ("duplicates", "selection", "tokens")}
    others = {name: read_json(file) for name, file in files.items() if file.exists()}
    return corpus_table(read_json(folder / "corpus.json"), others)


def _benchmark(
    name: str, table: Callable[[Any], list[str]], page: str = "docs/benchmarks.md"
) -> Block:
    return Block(name, lambda folder: table(read_json(folder / name)), page)


_ENGINES = "docs/how-to/engines.md"
BLOCKS = {
    "headline": Block("fits.json", _headline, "README.md"),
    "findings": Block("fits.json", findings, "results/README.md"),
    "corpus": Block("corpus.json", _corpus, "docs/results/corpus.md"),
    "conversion": _benchmark("conversion.json", conversion_table),
    "foreign_abc": _benchmark("foreign_abc.json", foreign_abc_table),
    "scores": _benchmark("scores.json", scores_table),
    "sampling": _benchmark("sampling.json", sampling_table),
    "training_speed": _benchmark("training_speed.json", training_speed_table),
    "lark_gaps": _benchmark("lark_masks.json", lark_gaps_table, _ENGINES),
    "lark_masks": _benchmark("lark_masks.json", lark_masks_table, _ENGINES),
    "clients": _benchmark("clients.json", clients_table, "docs/how-to/publish.md"),
    "lark_samples": _benchmark("lark_samples.json", lark_samples_table, _ENGINES),
}


def fill_blocks(
    results: Path, names: Sequence[str] | None = None, blocks: Mapping[str, Block] = BLOCKS
) -> list[str]:
    """Writes the blocks whose source exists; returns their names.

    Args:
        results: Folder with their sources, in the project whose pages are filled.
        names: Names of the blocks to write; all by default.
        blocks: Available blocks by name.

    Raises:
        ValueError: If a page lacks the two markers of a block, or a file is malformed.
        FileNotFoundError: If the page does not exist.
    """
    filled = [name for name in names or blocks if (results / blocks[name].source).exists()]
    for name in filled:
        page = results.resolve().parent / blocks[name].page
        write_atomically(page, fill(page.read_text("utf-8"), blocks[name].lines(results), name))
    return filled


@command(ValueError, KeyError, OSError)
def main(argv: Sequence[str] | None = None) -> None:
    """Command line; returns the exit code."""
    parser = parser_of("scaling.reporting.blocks", __doc__)
    parser.add_argument("results", type=Path, help="folder with fits.json and other results")
    parser.add_argument("--only", nargs="+", choices=list(BLOCKS))
    arguments = parser.parse_args(argv)
    filled = fill_blocks(arguments.results, arguments.only)
    if not filled:
        raise ValueError(
            f"{arguments.results}: no source file of any block; run make fit, make update-results"
        )
    print(f"filled: {', '.join(filled)}")


if __name__ == "__main__":
    sys.exit(main())
