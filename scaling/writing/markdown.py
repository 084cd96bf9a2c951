"""Markdown tables, and the blocks of a page that they fill."""

from collections.abc import Iterable, Sequence


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1
) -> list[str]:
    """Lines of a table.

    Args:
        header: titles of the columns; in a table of two columns, the second may be empty.
        rows: cells, as many as titles.
        left: number of text columns; the others are numbers, aligned right.
    """
    cells = [" | ".join(row) for row in rows]
    marks = "---|" * left + "---:|" * (len(header) - left)
    return [f"| {' | '.join(header).rstrip()} |", f"|{marks}", *(f"| {row} |" for row in cells)]


def fill(page: str, lines: Sequence[str], name: str) -> str:
    """The page with the lines between the markers of that name.

    Raises:
        ValueError: If each marker is not there exactly once.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"the page needs the lines {begin} and {end}, exactly once each")
    before, rest = page.split(begin)
    return before + "\n".join([begin, *lines, end]) + rest.split(end)[1]
