"""Passages of train songs in fill-in form: some bars moved behind those that follow them.

A song is cut into passages, each as long as a block can hold. Of each passage some bars are drawn
as the middle, and it is written as

    <fim_prefix> header, bars before <fim_suffix> bars after <fim_middle> number of bars, middle

so that a model learns to write bars that it knows both sides of, and how many they are. The header
of a passage names the meter and tempo in force at its start. Only the train split is changed.

The songs themselves stay, and every second passage of a chosen song is added to them: each passage
repeats the header, which is long in music of many voices, and what a model reads of headers it does
not read of music.

Source: Bavarian et al. 2022, "Efficient training of language models to fill in the middle": prefix,
suffix, middle at the level of documents; here at bar lines.
"""

import hashlib
import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ..dialect.notation import header_at

MOST_BARS = 16
EVERY = 2  # passage of a chosen song
_MARKS = 3 + 2  # tokens: the three of the form, start and end of the sequence


@dataclass(frozen=True)
class FillInSettings:
    """How much of the train split is in fill-in form.

    Attributes:
        share: Share of the train songs of which passages are added, in [0, 1]; which ones follows
            from their digests.
        most_bars: Most bars of a middle.
        seed: Seed of the middles.
    """

    share: float = 0.0
    most_bars: int = MOST_BARS
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share}, expected 0 to 1")
        if self.most_bars < 1:
            raise ValueError(f"most_bars is {self.most_bars}, expected 1 or more")


@dataclass(frozen=True)
class Passage:
    """A passage of a tune in the layout `bars`, in three parts of whole lines."""

    prefix: str
    suffix: str
    middle: str

    @property
    def middle_text(self) -> str:
        """The middle behind its number of bars, as it is encoded."""
        return f"{self.middle.count(chr(10))}\n{self.middle}"


def is_chosen(digest: str, settings: FillInSettings) -> bool:
    """Whether passages of a song, by its digest, are added."""
    number = hashlib.sha256(f"fill-in {settings.seed} {digest}".encode()).digest()[:4]
    return int.from_bytes(number, "big") < settings.share * 2**32


def added_passages(digest: str, found: Iterable[Passage]) -> Iterator[Passage]:
    """Yields every second passage of a chosen song, from the first or the second on."""
    first = hashlib.sha256(f"first passage {digest}".encode()).digest()[0] % EVERY
    return itertools.islice(found, first, None, EVERY)


def passages(
    abc: str,
    digest: str,
    most_tokens: int,
    n_tokens: Callable[[str], int],
    settings: FillInSettings,
) -> Iterator[Passage]:
    """Yields the passages of a song, from its start to its end.

    A bar that is too long for a passage of its own is in none.

    Args:
        abc: The song, in the layout `bars`.
        digest: Seeds the draws.
        most_tokens: Longest sequence, with all marks, start and end.
        n_tokens: Number of tokens of a line.
        settings: How the middle is drawn.
    """
    start = abc.find("\n[V:") + 1
    head, lines = abc[:start], abc[start:].splitlines(keepends=True)
    seed = hashlib.sha256(f"passages {settings.seed} {digest}".encode()).digest()
    # Only `Random.random()` is guaranteed to be reproducible across Python versions.
    draw = random.Random(int.from_bytes(seed, "big")).random
    lengths = [n_tokens(line) for line in lines]
    longest_count = n_tokens(f"{settings.most_bars}\n")
    first = 0
    while first < len(lines):
        header = header_at(head, "".join(lines[:first]))
        room = most_tokens - _MARKS - longest_count - sum(map(n_tokens, header.splitlines(True)))
        last = first
        while last < len(lines) and lengths[last] <= room:
            room -= lengths[last]
            last += 1
        if last > first:
            n_bars = last - first
            n_middle = 1 + int(draw() * min(settings.most_bars, n_bars))
            begin = first + int(draw() * (n_bars - n_middle + 1))
            before, behind = lines[first:begin], lines[begin + n_middle : last]
            middle = lines[begin : begin + n_middle]
            yield Passage(header + "".join(before), "".join(behind), "".join(middle))
        first = max(last, first + 1)
