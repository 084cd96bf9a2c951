"""The tunes of an ABC file: a file may be a book of thousands."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial

from ..importers.abc_book import split_book
from ..importers.kinds import ABC, TUNE_MARK
from ..midi.limits import LIMITS
from .members import Content, Entry, Member, Node, entry_of, read_node, too_large

_NUMBER = re.compile(r"\s*X\s*:\s*([\w.]{1,20})")
_FIELD = re.compile(r"%%|[A-Za-z]:")


def book_entries(node: Node) -> Iterator[Entry]:
    """Yields the tunes of a book, named by their X: fields: `book.abc#X12`.

    A tune whose number came before in the book is `book.abc#X12-2`. A file of one tune keeps its
    name. What is read is the text of the tune, after the fields and directives at the start of the
    file, which hold for all of its tunes.
    """
    content = read_node(node, ABC.most_bytes)
    if not isinstance(content, bytes):
        yield entry_of(node, lambda: content)
        return
    header, tunes = split_book(content)
    fields = "".join(f"{line}\n" for line in header.split("\n") if _FIELD.match(line))
    texts = (tune.text for tune in tunes)
    first, second = next(texts, ""), next(texts, None)
    if second is None:
        yield entry_of(node, partial(_encoded, fields + first))
        return
    seen: Counter[str] = Counter()
    for text in itertools.chain([first, second], texts):
        found = _NUMBER.match(text)
        number = found[1] if found else ""
        seen[number] += 1
        again = f"-{seen[number]}" if seen[number] > 1 else ""
        member = Member(f"{node.name}{TUNE_MARK}{number}{again}", node.stamp)
        yield Entry(member, partial(_encoded, fields + text))


def _encoded(text: str) -> Content:
    content = text.encode()
    return content if len(content) <= LIMITS.bytes else too_large(len(content), LIMITS.bytes)
