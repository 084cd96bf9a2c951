"""Odd ABC files as other people and programs write them: bytes, of any encoding."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from .abc_inputs import abc_inputs
from .hostile_abc import HOSTILE

MAX_CHARS = 50_000  # longer ones take the checks longer than they may; hostile ones stay whole
_FIELDS = (
    *("M:6/8", "M:C|", "M:none", "M:2+3/8", "M:(3+2)/8", "M:7/0", "M:", "M:999/128", "M:5/3"),
    *("L:1/16", "L:1/4", "L:1", "L:3/8", "L:", "L:1/0", "L:1/4096", "Q:120", "Q:1/4=0", "Q:C3=40"),
    *('Q:"Allegro"', 'Q:"Allegro" 1/4=132', "Q:1/4 3/8=40", "Q:3/8=9999999", "Q:", "Q:1/0=9"),
    *("K:G", "K:Em", "K:F#mix", "K:HP", "K:none", "K:D exp _b ^f", "K:C^/f", "K:", "K:Zzz", "K:g"),
    *("K:Am clef=bass octave=-1", "K:C transpose=-99", "K:B#loc", "K:Cb maj treble+8"),
    *("V:1", "V:2 clef=treble-8", "V:T transpose=7", "V:1 octave=9", "V:99", "V:", "V:*"),
    *("P:A", "P:B", "P:A(AB)3", "P:((A9)9)9", "P:A.B", "P:)A(", "P:Variation", "P:A999999"),
    *("U:W=!trill!", "U:h = fermata", "U:T", "I:octave=1", "I:MIDI program 4", "m:~n2 = (3n/o/"),
    *("R:hornpipe", "s:!f! * *", "w:la-la * | _", "W:la", "T:\u00fc", "X:2", "E:5", "r:remark"),
)
_DIRECTIVES = (
    *("%%MIDI program 40", "%%MIDI program 1 300", "%%MIDI channel 10", "%%MIDI channel 99"),
    *("%%MIDI transpose 12", "%%MIDI transpose -99", "%%MIDI rtranspose 5", "%%MIDI grace 1/2"),
    *("%%MIDI gracedivider 6", "%%MIDI grace 5/0", "%%MIDI ratio 3 1", "%%MIDI ratio 0 0"),
    *("%%MIDI drummap ^c 38", "%%MIDI drummap", "%%MIDI drumon", "%%MIDI nobarlines", "%%MIDI C 0"),
    *("%%begintext", "%%endtext", "%%score (1 2)", "%%propagate-accidentals not", "%%", "%"),
    *("%%MidiOff", "%%MidiOn", "%%abc-include /etc/hostname", "%%MIDI programbase 1", "%%MIDI"),
)
_MUSIC = (
    *"ABCDEFGabcdefgzxyZXHLMOPSTuv~.-|:[](){}<>&!+\"'\\*$`=^_,/0123456789 ",
    *("|:", ":|", "::", "|1", ":|2", "[1", "[2,4", "[1-3", "[|", "|]", "||:", "[|]", ":||:", ".|"),
    *("(3", "(5:4:3", "(3::", "(2:0:0", "(99:98:97", "(0", "(&", "&)", "&", "{", "{/", "}"),
    *("!trill!", "!fermata!", "!D.C.!", "!", "+f+", "+CEG+", '"Am"', '"', "[CEG]", "[C-E-]2-"),
    *("C>>D", "<<<", ">>>>", "Z4", "X2/3", "Z999999", "z/0", "C/////", "C3/2", "^^^c", "^/c"),
    *("_3/2B", "=^f", "\u00e9", "\u2028", "C9999999", "C/9999999", "C" + "9" * 500, "c" + "'" * 99),
    *("[K:D]", "[M:3/4]", "[V:2]", "[L:1/4]", "[Q:1/4=60]", "[P:B]", "[I:octave=-1]", "[r:note]"),
    *("[U:T=!f!]", "[V:2", "[x:", "%%MIDI", "%c", "\\"),
)


def _random_tune(rng: random.Random) -> str:
    lines = ["X:1"] * (rng.random() < 0.95)
    lines += rng.choices((*_FIELDS, *_DIRECTIVES), k=rng.randint(0, 6))
    lines += [rng.choice(("K:C", "K:G", "K:Dm", rng.choice(_FIELDS)))] * (rng.random() < 0.95)
    for _ in range(rng.choice((1, 3, 8))):
        kind = rng.random()
        if kind < 0.2:
            lines.append(rng.choice((*_FIELDS, *_DIRECTIVES)))
        elif kind < 0.23:
            lines.append("")
        else:
            common = rng.choice((0.1, 0.5, 0.95))
            lines.append(
                "".join(
                    rng.choice("ABcdef|z 2") if rng.random() < common else rng.choice(_MUSIC)
                    for _ in range(rng.choice((1, 20, 20, 60, 300)))
                )
            )
    return "\n".join(lines)


def _nested(rng: random.Random) -> str:
    """Repeats one thing many times: what a reader may take quadratic time for."""
    head = "X:1\nL:1/8\nK:C\n"
    piece = rng.choice((*_MUSIC, *(f"\n{line}\n" for line in (*_FIELDS, *_DIRECTIVES) if line)))
    count = rng.choice((50, 1000, 20_000 // max(1, len(piece))))
    return head + rng.choice(("", "C2|", "|:C", "{", "[")) + piece * count + rng.choice(("", "D|]"))


def _encoded(rng: random.Random, text: str) -> bytes:
    ends = rng.choice(("\n", "\n", "\n", "\r\n", "\r", "\n\r"))
    text = text.replace("\n", ends)
    encoding = rng.choice(("utf-8", "utf-8", "utf-8", "latin-1", "utf-16", "utf-8-sig"))
    return text.encode(encoding, "replace")


def foreign_inputs(rng: random.Random, seeds: Sequence[str]) -> Iterator[bytes]:
    """Yields files endlessly: mutations and concatenations of the seeds, random and hostile ones.

    Each is drawn independently from `rng`, so that the first one of a fresh `rng` can be any kind.

    Args:
        rng: Random numbers.
        seeds: Real tunes of others, at least one.
    """
    hostile = sorted(HOSTILE)
    while True:
        kind = rng.random()
        if kind < 0.5:
            text = next(abc_inputs(rng, seeds))[:MAX_CHARS]
        elif kind < 0.6:
            text = "\n".join(rng.choices(seeds, k=rng.randint(2, 5)))
        elif kind < 0.9:
            text = "\n\n".join(_random_tune(rng) for _ in range(rng.choice((1, 1, 1, 3))))
        elif kind < 0.99:
            text = _nested(rng)
        else:
            text = HOSTILE[rng.choice(hostile)]
        yield _encoded(rng, text)
