"""Lines of the header, and changes inside a tune, for the automata: what they may be.

What a line may be is a tree: beginning of a text -> characters that may follow.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

from .grammar_abc_limits import Limits
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
    read_tempo,
    tempo_text,
)

LONGEST_HEAD = 130  # characters: no shortest way through the header is longer
MARK, DRUMS, PROGRAM = "[V:", f"%%MIDI channel {DRUM_CHANNEL}", "%%MIDI program "
# the line that follows; that behind a voice's MIDI lines depends on them
NEXT_LINE = {
    **{"X": "M", "M": "L", "L": "Q", "Q": "chordattack", "chordattack": "K", "K": "V"},
    **{"V": "MIDI", "head": "MIDI"},
}

# where a header is to be short
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
    """Length of a full bar of `3/4`."""
    return meter_ticks(*read_meter(meter))


def quarters_a_minute(tempo: str) -> float:
    """Quarters a minute of `1/4=120` or `1/16=483`."""
    return read_tempo(tempo) / 4


def _tree(texts: Iterable[str], end: str = "") -> Mapping[str, str]:
    """Beginning of a text -> characters that may follow; `end` behind a whole one."""
    tree: dict[str, set[str]] = {}
    for text in texts:
        whole = text + end
        for place, character in enumerate(whole):
            tree.setdefault(whole[:place], set()).add(character)
    return {start: "".join(sorted(found)) for start, found in tree.items()}


def shortest_way(tree: Mapping[str, str], start: str) -> str:
    """The first character of a shortest way on from a beginning to a whole text."""
    ways = [(start + c, c) for c in tree[start]]
    while True:
        for text, first in ways:
            if text not in tree:
                return first
        ways = [(text + c, first) for text, first in ways for c in tree[text]]


@functools.lru_cache(maxsize=4096)
def rest_of_line(limits: Limits, line: str, n_voices: int, start: str) -> str:
    """A short way on from the beginning of a line of the header to its end, or to a first mark."""
    tree = header_lines_tree(limits, line, n_voices)
    default = DEFAULT_LINES.get(line, "")
    text = default if default.startswith(start) else start
    while text in tree:
        text += "\n" if "\n" in tree[text] else shortest_way(tree, text)
    return text[len(start) :]


def _meters(limits: Limits) -> list[str]:
    shortest, longest = limits.bar_ticks
    return [
        f"{n}/{d}"
        for d in limits.meter_units
        for n in range(1, limits.beats + 1)
        if shortest <= meter_ticks(n, d) <= longest
    ]


def _tempos(limits: Limits) -> list[str]:
    slowest, fastest = (round(4 * tempo) for tempo in limits.quarters_per_minute)
    return [tempo_text(tempo) for tempo in range(slowest, fastest + 1)]


@functools.lru_cache(maxsize=64)
def header_lines_tree(limits: Limits, line: str, n_voices: int) -> Mapping[str, str]:
    """What a line of the header may be; the newline ends it."""
    number = f"V:{n_voices + 1}"
    match line:
        case "X":
            texts = [FIRST_LINE]
        case "M":
            texts = [f"M:{meter}" for meter in _meters(limits)]
        case "L":
            texts = [UNIT_LINE]
        case "Q":
            texts = [f"Q:{tempo}" for tempo in _tempos(limits)]
        case "chordattack":
            texts = [CHORD_ATTACK_LINE]
        case "K":
            texts = [f"K:{key}" for key in KEYS]
        case "V":
            texts = [number]
        case "head":
            texts = [number] if n_voices < limits.n_voices else []
            return {**_tree(texts, "\n"), **_marks_beside(texts)}
        case "MIDI" if limits.is_plain:
            texts = [DRUMS, *(f"{PROGRAM}{n}" for n in range(128))]
        case "MIDI":
            channels = [f"%%MIDI channel {n}" for n in range(1, 17)]
            texts = [*channels, *(f"{PROGRAM}{n}" for n in range(128))]
        case "program":
            texts = [f"{PROGRAM}{n}" for n in range(128)]
    return _tree(texts, "\n")


def _marks_beside(lines: list[str]) -> dict[str, str]:
    """The beginning of the first bar, which may stand where another voice might be declared."""
    first = "".join(line[0] for line in lines)
    return {"": first + MARK[0], **{MARK[:n]: MARK[n] for n in range(1, len(MARK))}}


@functools.lru_cache(maxsize=256)
def meter_changes(limits: Limits, meter: str) -> Mapping[str, str]:
    """Changes at the beginning of a bar to a metre that is another one."""
    return _tree(f"[M:{other}]" for other in _meters(limits) if other != meter)


@functools.lru_cache(maxsize=4)
def tempo_changes(limits: Limits) -> Mapping[str, str]:
    """Changes at the beginning of a bar to a tempo."""
    return _tree(f"[Q:{tempo}]" for tempo in _tempos(limits))
