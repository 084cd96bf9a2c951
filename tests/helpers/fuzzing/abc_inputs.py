"""Odd ABC text: in and near the dialect, and mutated real text."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

_LENGTHS = {  # text -> units of L:1/16
    **{"" if units == 1 else str(units): float(units) for units in (1, 2, 3, 4, 6, 7, 8, 12, 14)},
    **{"16": 16.0, "/": 0.5, "3/2": 1.5, "7/2": 3.5, "/4": 0.25, "3/4": 0.75, "7/4": 1.75},
}
_ODD_LENGTHS = (
    *("5", "9", "5/2", "0", "/0", "1/1", "01", "2/3", "4/3", "//", "/8", "1/", "32", "1000"),
    *("00000", "99999", "99999/7", "123456"),
)
_TUPLETS = (  # head, lengths of the items, total units
    *(("(3", (length,) * 3, 2 * units) for length, units in (("", 1), ("2", 2), ("/", 0.5))),
    *(("(3", ("4",) * 3, 8), ("(3:2:2", ("4", "2"), 4), ("(3:2:2", ("2", "4"), 4)),
    *(("(3:2:4", ("2", "", "", "2"), 4), ("(3:2:5", ("", "", "2", "", ""), 4)),
    ("(3:2:6", ("",) * 6, 4),
)
_ODD_TUPLETS = ("(", "(2", "(3:", "(3::", "(3:2:0", "(3:2:9", "(4", "(9:8:9", "(3:3:3", "(3(3")
_KEYS = ("C", "G", "D", "A", "E", "B", "F#", "F", "Bb", "Eb", "Ab", "Db", "Gb")
_ODD_KEYS = ("", "c", "Cm", "C ", "Cb", "C#", "H", "none", "G clef=treble")
_METERS = ("4/4", "3/4", "2/4", "6/8", "9/8", "12/8", "2/2", "5/8", "7/16", "1/64", "1/4")
_ODD_METERS = ("C", "C|", "0/4", "4/3", "4/0", "999/1", "1000/4", "255/32", "4/4 ", "-1/4", "")
_ODD_TEMPOS = ("1/4=0", "1/4=1", "1/4=99999", "1/16=1", "1/16=99999", "120", "1/8=90", "")


def _abc_note(rng: random.Random, *, odd: bool) -> str:
    signs, letters = ["", "", "", *"^_=", "^^", "__"], "CDEFGABcdefgab"
    marks = ["", "", ",", "'", ",,", "''"]
    if odd:
        signs, letters = [*signs, "^^^", "_^", "^="], letters + "HhZ"
        marks += [",,,,,", "'" * 7, ",'", "'" * 40]
    return rng.choice(signs) + rng.choice(letters) + rng.choice(marks)


def _abc_sound(rng: random.Random, *, odd: bool) -> str:
    """Draws a note, a chord or a rest, without its length."""
    kind = rng.random()
    if kind < 0.2:
        return rng.choice("zzzxZ") if odd else "z"
    if kind < 0.4:
        count = rng.choice((1, 2, 3, 6) + ((0, 65, 300) if odd else ()))
        return f"[{''.join(_abc_note(rng, odd=odd) for _ in range(count))}]"
    return _abc_note(rng, odd=odd)


def _full_bar(rng: random.Random, units: float) -> str:
    """Writes elements of the dialect that exactly fill a bar of `units` sixteenths."""
    out = []
    while units > 0:
        tuplets = [tuplet for tuplet in _TUPLETS if tuplet[2] <= units]
        if tuplets and rng.random() < 0.2:
            head, lengths, filled = rng.choice(tuplets)
        else:
            lengths = (rng.choice([text for text, size in _LENGTHS.items() if size <= units]),)
            head, filled = "", _LENGTHS[lengths[0]]
        out.append(head)
        for length in lengths:
            sound = _abc_sound(rng, odd=False)
            tie = "-" if rng.random() < 0.2 and sound != "z" else ""
            again = tie and not head and rng.random() < 0.8 and filled * 2 <= units
            out.append((sound + length + tie) + (sound + length if again else ""))
            units -= filled if again else 0
        units -= filled
    return "".join(out)


def _odd_bar(rng: random.Random) -> str:
    """Writes elements in or near the dialect, of any lengths."""
    out = []
    for _ in range(rng.choice((1, 3, 10))):
        if rng.random() < 0.15:
            out.append(rng.choice((*_ODD_TUPLETS, *(head for head, _, _ in _TUPLETS))))
        out.append(_abc_sound(rng, odd=rng.random() < 0.1))
        out.append(rng.choice(_ODD_LENGTHS if rng.random() < 0.3 else tuple(_LENGTHS)))
        out.append(rng.choice(("", "", "", "-", "--")))
    return "".join(out)


def _abc_bars(rng: random.Random, n_voices: int, n_bars: int) -> tuple[str, list[list[str]]]:
    """Draws the first meter, and each voice's bars with meter and tempo changes, no bar lines.

    A bar in which a voice is silent is "".
    """
    change, silence, odd = (rng.choice((0.0, share, 0.9)) for share in (0.1, 0.3, 0.02))
    change, odd = min(change, rng.random()), min(odd, rng.random() * rng.random())
    first = meter = rng.choice(_METERS)
    voices: list[list[str]] = [[] for _ in range(n_voices)]
    for bar in range(n_bars):
        head = tempo_head = ""
        if bar and rng.random() < change:
            any_meter = f"{rng.randint(1, 40)}/{rng.choice((4, 8, 16, 32, 64))}"
            meter = rng.choice((*_METERS, any_meter))
            head = f"[M:{meter}]"
        if bar and rng.random() < change / 2:
            tempo_head = f"[Q:1/4={rng.choice((20, 60, 120, 121, 300))}]"
        numerator, denominator = meter.split("/")
        size = 16 * int(numerator) / int(denominator)
        if bar == 0 and rng.random() < 0.2:
            size = max(0.25, size // 2)  # a pickup, the same in all voices
        for number, bars in enumerate(voices):
            text = _odd_bar(rng) if rng.random() < odd else _full_bar(rng, size)
            text = "" if rng.random() < silence else text
            bars.append(head + (tempo_head if number == 0 else "") + text)
    return first, voices


def _voice_lines(rng: random.Random, number: int) -> list[str]:
    lines = [f"V:{number}"]
    kind = rng.random()
    if kind < 0.2:
        lines.append("%%MIDI channel 10")
    elif kind < 0.9:
        lines += [f"%%MIDI channel {rng.randint(1, 16)}"] if kind < 0.4 else []
        lines.append(f"%%MIDI program {rng.randrange(128)}")
    return lines


def _random_abc(rng: random.Random) -> str:
    """Writes a tune in either layout, occasionally with hundreds of voices or bars."""
    n_voices, n_bars = rng.choice(
        ((1, 1), (1, 4), (1, 30), (2, 4), (4, 4)) * 5 + ((20, 2), (300, 1), (1, 300), (0, 0))
    )
    meter, voices = _abc_bars(rng, n_voices, n_bars)
    tempo_text = rng.choice((f"1/4={rng.randint(1, 400)}", f"1/16={rng.randint(40, 999)}"))
    odd = [rng.random() < 0.015 for _ in range(3)]
    lines = [
        "X:1",
        f"M:{rng.choice(_ODD_METERS) if odd[0] else meter}",
        "L:1/16",
        f"Q:{rng.choice(_ODD_TEMPOS) if odd[1] else tempo_text}",
        "%%MIDI chordattack 0",
        f"K:{rng.choice(_ODD_KEYS if odd[2] else _KEYS)}",
    ]
    heads = [_voice_lines(rng, number) for number in range(1, n_voices + 1)]
    if rng.random() < 0.5:
        for head, bars in zip(heads, voices, strict=True):
            lines += [*head, "".join(f"{bar}|" for bar in bars)]
    else:
        lines += [line for head in heads for line in head]
        for texts in zip(*voices, strict=True):
            sounding = {place: text for place, text in enumerate(texts, 1) if text}
            pairs = (sounding or {1: "z16"}).items()
            lines.append("".join(f"[V:{place}]{text}|" for place, text in pairs))
    end = "]" if n_bars and rng.random() < 0.9 else ""
    return "\n".join(lines) + end + "\n" * rng.choice((0, 1, 1, 1, 3))


_TOKEN = re.compile(r"\[[A-Z]:[^\]\n]*\]|\(3(?::\d)*|[_=^]*[A-Ga-gz][,']*[\d/]*-?|.", re.DOTALL)
_NOISE = (
    *'ABCDEFGabcdefgxzZ^_=,/0123456789|[]():-"!&<>%\n \t\r',
    *("\x00", "\x0b", "\x1c", "\x85", "\xa0", "\u2028", "\ufeff", "\ud800", "\U0001d15e"),
    *("\u0663", "\u00b2", "\uff13", "\U0001d7d9", "\u0968", "\u00e9", "\uff23", "\u212a", "\u017f"),
    *("[M:3/4]", "[Q:1/4=90]", "[V:2]", "|]", "(3", "V:2\n", "%%MIDI program 5\n", "K:D\n", "[M:"),
)


def _change_pieces(rng: random.Random, pieces: list[str]) -> list[str]:
    """Drops, doubles, swaps, shuffles or repeats pieces of a text."""
    if not pieces:
        return pieces
    start, stop = sorted(rng.randint(0, len(pieces)) for _ in range(2))
    stop = min(stop, start + rng.choice((1, 1, 2, 8, 10_000)))
    left, middle, right = pieces[:start], pieces[start:stop], pieces[stop:]
    change = rng.randrange(5)
    if change == 0:
        return left + right
    if change == 1:
        return left + middle + middle + right
    if change == 2:
        return left + right[:1] + middle + right[1:]
    if change == 3:
        return rng.sample(pieces, len(pieces))
    return left + middle[:2] * rng.choice((3, 50, 1000)) + right


def _change_lines(rng: random.Random, abc: str) -> str:
    return "".join(_change_pieces(rng, abc.splitlines(keepends=True)))


def _change_bars(rng: random.Random, abc: str) -> str:
    return "|".join(_change_pieces(rng, abc.split("|")))


def _change_tokens(rng: random.Random, abc: str) -> str:
    return "".join(_change_pieces(rng, _TOKEN.findall(abc)))


def _cut_text(rng: random.Random, abc: str) -> str:
    start, stop = sorted(rng.randint(0, len(abc)) for _ in range(2))
    return rng.choice((abc[:stop], abc[:stop], abc[start:], abc[:start] + abc[stop:]))


def _add_noise(rng: random.Random, abc: str) -> str:
    for _ in range(rng.choice((1, 1, 2, 10))):
        place = rng.randint(0, len(abc))
        abc = abc[:place] + rng.choice(_NOISE) + abc[place + rng.randint(0, 1) :]
    return abc


def _change_numbers(rng: random.Random, abc: str) -> str:
    """Replaces some numbers with odd ones: huge, zero, non-ASCII digits."""
    places = [match.span() for match in re.finditer(r"\d+", abc)]
    values = ["0", "00", "1", "3", "17", "128", "65535", "99999"]
    values += ["\u0663", "\u00b2", "\uff11\uff16"]
    for start, stop in sorted(rng.sample(places, min(len(places), rng.randint(1, 3))))[::-1]:
        value = rng.choice((*values, "9" * rng.choice((6, 20, 400, 5000))))
        abc = abc[:start] + value + abc[stop:]
    return abc


def _body_start(abc: str) -> int:
    """Returns where the header, which ends with K:, ends; 0 if there is none."""
    key = abc.find("\nK:")
    return abc.find("\n", key + 1) + 1 if key >= 0 else 0


_ABC_MUTATIONS = (
    *(_change_lines, _change_bars, _change_tokens, _cut_text, _add_noise, _change_numbers),
)


def abc_inputs(rng: random.Random, seeds: Sequence[str]) -> Iterator[str]:
    """Yields texts endlessly: from the grammar and, if there are seeds, mutations of the seeds.

    Each is drawn independently from `rng`, so that the first one of a fresh `rng` can be any kind.
    """
    while True:
        if seeds and rng.random() < 0.5:
            abc, count = rng.choice(seeds), rng.choice((1, 1, 1, 3))
        else:
            abc, count = _random_abc(rng), rng.choice((0, 0, 0, 1))
        for mutate in rng.choices(_ABC_MUTATIONS, k=count):
            # A broken header hides the rest from the reader, so it is usually kept intact.
            start = _body_start(abc) if rng.random() < 0.85 else 0
            abc = abc[:start] + mutate(rng, abc[start:])
        yield abc
