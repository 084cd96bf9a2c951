"""The legal header lines, and the legal changes inside a tune, for the automata.

The legal texts are stored as a tree: prefix of a text -> characters that may follow.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping

from .grammar_abc_limits import Limits
from .grammar_abc_spelling import beginnings
from .notation_abc import (
    CHORD_ATTACK_LINE,
    DEFAULT_METER,
    DEFAULT_TEMPO,
    DRUM_CHANNEL,
    FIRST_LINE,
    KEYS,
    UNIT_LINE,
    meter_ticks,
    read_meter,
    tempo_text,
)

LONGEST_HEAD = 130  # characters: no shortest path through the header is longer
MARK, DRUMS, PROGRAM = "[V:", f"%%MIDI channel {DRUM_CHANNEL}", "%%MIDI program "
# The next line; after some MIDI lines it is "program". The "head" of another voice may also be
# the first bar.
NEXT_LINE = {
    **{"X": "M", "M": "L", "L": "Q", "Q": "chordattack", "chordattack": "K", "K": "V"},
    **{"V": "MIDI", "MIDI": "head", "program": "head", "head": "MIDI"},
}

# for a short header
DEFAULT_LINES = {
    "M": "M:{}/{}".format(*DEFAULT_METER),
    "Q": f"Q:{tempo_text(DEFAULT_TEMPO)}",
    "K": "K:C",
    "head": MARK,
    "MIDI": f"{PROGRAM}0",
    "program": f"{PROGRAM}0",
}


@functools.lru_cache(maxsize=1024)
def full_bar_ticks(meter: str) -> int:
    """Returns the ticks of a full bar of a meter such as `3/4`."""
    return meter_ticks(*read_meter(meter))


def _tree(texts: Iterable[str]) -> Mapping[str, str]:
    """Returns prefix of a text -> characters that may follow."""
    return {start: "".join(sorted(found)) for start, found in beginnings(texts).items() if found}


def shortest_way(tree: Mapping[str, str], start: str) -> str:
    """Returns the first character of a shortest path from a prefix to a complete text."""
    ways = [(start + c, c) for c in tree[start]]
    while True:
        for text, first in ways:
            if text not in tree:
                return first
        ways = [(text + c, first) for text, first in ways for c in tree[text]]


@functools.lru_cache(maxsize=4096)
def rest_of_line(limits: Limits, line: str, n_voices: int, start: str) -> str:
    """Returns a short path from the start of a header line to its end, or to a first mark."""
    tree = header_lines_tree(limits, line, n_voices)
    default = DEFAULT_LINES.get(line, "")
    text = default if default.startswith(start) else start
    while text in tree:
        text += "\n" if "\n" in tree[text] else shortest_way(tree, text)
    return text[len(start) :]


def meters(limits: Limits) -> Iterator[str]:
    """Yields the legal meters, such as `3/4`."""
    shortest, longest = limits.bar_ticks
    return (
        f"{n}/{d}"
        for d in limits.meter_units
        for n in range(1, limits.beats + 1)
        if shortest <= meter_ticks(n, d) <= longest
    )


def _tempos(limits: Limits) -> Iterator[str]:
    slowest, fastest = (round(4 * tempo) for tempo in limits.quarters_per_minute)
    return map(tempo_text, range(slowest, fastest + 1))


def header_texts(limits: Limits, line: str, n_voices: int) -> list[str]:
    """Returns the legal texts of a header line, without its newline.

    Args:
        limits: What may be written.
        line: One of NEXT_LINE.
        n_voices: Number of voices declared before it.
    """
    number = f"V:{n_voices + 1}"
    programs = [f"{PROGRAM}{n}" for n in range(128)]
    channels = [DRUMS] if limits.is_plain else [f"%%MIDI channel {n}" for n in range(1, 17)]
    if line == "Q":  # tens of thousands, for which no other line waits
        return [f"Q:{tempo}" for tempo in _tempos(limits)]
    texts = {
        "X": [FIRST_LINE],
        "M": [f"M:{meter}" for meter in meters(limits)],
        "L": [UNIT_LINE],
        "chordattack": [CHORD_ATTACK_LINE],
        "K": [f"K:{key}" for key in KEYS],
        "V": [number],
        "head": [number] if n_voices < limits.n_voices else [],
        "MIDI": [*channels, *programs],
        "program": programs,
    }
    return texts[line]


@functools.lru_cache(maxsize=64)
def header_lines_tree(limits: Limits, line: str, n_voices: int) -> Mapping[str, str]:
    """Returns the tree of a header line; the newline ends it."""
    texts = [f"{text}\n" for text in header_texts(limits, line, n_voices)]
    # the first bar may start where another voice could be declared
    return _tree([*texts, *([MARK] if line == "head" else [])])


@functools.lru_cache(maxsize=256)
def meter_changes(limits: Limits, meter: str) -> Mapping[str, str]:
    """Returns the tree of changes to another meter at the start of a bar."""
    return _tree(f"[M:{other}]" for other in meters(limits) if other != meter)


@functools.lru_cache(maxsize=4)
def tempo_changes(limits: Limits) -> Mapping[str, str]:
    """Returns the tree of tempo changes at the start of a bar."""
    return _tree(f"[Q:{tempo}]" for tempo in _tempos(limits))
