"""How pitches and lengths are written: one spelling for each, and their prefixes."""

import functools
from collections.abc import Iterable
from typing import NamedTuple

from .notation_abc import (
    LETTERS,
    SHORTEST_TICKS,
    SIGNS,
    TICKS_PER_TUPLET_UNIT,
    TICKS_PER_UNIT,
    key_alterations,
    length_text,
    spell,
)

LETTER_BITS = {letter: 1 << place for place, letter in enumerate(LETTERS)}


@functools.cache
def name_of(pitch: int, sharps: int, altered: int) -> str:
    """Returns the name of a pitch when these letters are altered, one bit each."""
    letter, alteration, name = spell(pitch, sharps)
    if alteration != key_alterations(sharps)[letter] or altered & LETTER_BITS[letter]:
        return SIGNS[alteration] + name
    return name


@functools.lru_cache(maxsize=65_536)
def alteration_bits(pitches: tuple[int, ...], sharps: int) -> int:
    """Returns the bits of the letters of those pitches that are outside the key."""
    spelled = {spell(pitch, sharps)[:2] for pitch in pitches}
    natural = key_alterations(sharps)
    return sum({LETTER_BITS[of] for of, alteration in spelled if alteration != natural[of]})


def beginnings(texts: Iterable[str]) -> dict[str, set[str]]:
    """Returns prefix of a text (or all of it) -> characters that may follow within one."""
    follow: dict[str, set[str]] = {"": set()}
    for text in texts:
        for place in range(len(text) - 1, -1, -1):
            found = follow.setdefault(text[:place], set())
            if text[place] in found:  # and so are all shorter beginnings
                break
            found.add(text[place])
        follow.setdefault(text, set())
    return follow


class Names:
    """The name of each pitch when some letters are altered, and the prefixes of names.

    Attributes:
        pitch_of: Name -> MIDI pitch.
        reach: Prefix of a name -> lowest and highest pitch whose name starts with it.
        follow: Prefix of a name -> characters that may follow within it.
        top: Highest pitch.
        shortest: Names, shortest first, ties broken by distance to middle C.
    """

    def __init__(self, sharps: int, altered: int, lowest: int, highest: int) -> None:
        pitches = range(lowest, highest + 1)
        self.pitch_of = {name_of(pitch, sharps, altered): pitch for pitch in pitches}
        self.reach: dict[str, tuple[int, int]] = {}
        for name, pitch in self.pitch_of.items():
            for end in range(len(name) + 1):
                low, _ = self.reach.get(name[:end], (pitch, pitch))
                self.reach[name[:end]] = (low, pitch)
        self.follow = beginnings(self.pitch_of)
        self.top = highest
        self.shortest = sorted(
            self.pitch_of, key=lambda name: (len(name), abs(self.pitch_of[name] - 60), name)
        )


class Lengths(NamedTuple):
    """The lengths that an element may have; falsy if there are none.

    Attributes:
        ticks_of: Text -> ticks, shortest first.
        text_of: Ticks -> text.
        follow: Prefix of a text -> characters that may follow within it.
    """

    ticks_of: dict[str, int]
    text_of: dict[int, str]
    follow: dict[str, set[str]]

    def __bool__(self) -> bool:
        return bool(self.ticks_of)


@functools.lru_cache(maxsize=1024)
def plain_lengths(ticks: int) -> Lengths:
    """Returns the lengths outside tuplets that fit into these ticks."""
    return lengths_of(tuple(range(SHORTEST_TICKS, ticks + 1, SHORTEST_TICKS)))


@functools.lru_cache(maxsize=4096)
def lengths_of(ticks: tuple[int, ...], in_tuplet: bool = False) -> Lengths:
    """Returns these lengths, shortest first; tuplet items are written in the tuplet's unit."""
    unit = TICKS_PER_TUPLET_UNIT if in_tuplet else TICKS_PER_UNIT
    ticks_of = {length_text(t * TICKS_PER_UNIT // unit): t for t in ticks}
    text_of = {t: text for text, t in ticks_of.items()}
    return Lengths(ticks_of, text_of, beginnings(ticks_of))
