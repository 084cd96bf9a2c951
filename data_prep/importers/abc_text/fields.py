"""What the fields M:, L:, Q:, P: and U: say.

Source: ABC standard v2.1, section 3.1; where it leaves a choice, abc2midi's.
"""

import re
from fractions import Fraction

from ...dialect.notation import AbcError
from ..report import Place
from .bounded_numbers import LENGTH, read_length, read_number

Meter = tuple[int, int]
MAX_PARTS = 1000
MAX_FIELD_CHARS = 500  # that are read of a field
_MAX_TEMPO = 100_000
_METER = re.compile(r"\(?\s*([0-9]+(?:\s*\+\s*[0-9]+)*)\s*\)?\s*(?:/\s*([0-9]+))?")
_UNIT = re.compile(r"([0-9]+)(?:\s*/\s*([0-9]+))?")
_BEATS = re.compile(r"[A-Ga-g]?\s*[0-9]*/*[0-9]*(?:\s+[0-9]+/[0-9]+)*\s*")
_QUOTED = re.compile(r'"([^"]*)"?')
_SYMBOL = re.compile(r"([A-Za-z~])\s*=\s*(?:[!+]([^!+]*)[!+]?|([A-Za-z0-9]+))")
# Quarters a minute, by name alone.
_NAMED_TEMPOS = {
    "larghissimo": 40, "adagissimo": 44, "lentissimo": 48, "largo": 56, "adagio": 59, "lento": 62,
    "larghetto": 66, "adagietto": 76, "andante": 88, "andantino": 96, "moderato": 104,
    "allegretto": 112, "allegro": 120, "vivace": 168, "vivo": 180, "presto": 192,
    "allegrissimo": 208, "vivacissimo": 220, "prestissimo": 240,
}  # fmt: skip


class FieldError(Exception):
    """A field that is left out; the message says what it is and what was expected."""


def read_meter(text: str, place: Place) -> Meter | None:
    """Returns numerator and denominator of `6/8`, `C`, `C|`, `2+3/8`; None for `none`.

    Raises:
        FieldError: If it is no meter.
    """
    text = text.strip()
    if text.lower().startswith("none") or not text:
        return None
    if text[0] in "Cc":
        return (2, 2) if text[1:2] == "|" else (4, 4)
    match = _METER.match(text)
    if not match:
        raise FieldError(f"meter {text[:20]!r} is left out: expected one such as 6/8")
    beats = sum(read_number(each.strip(), place) for each in match[1].split("+"))
    unit = read_number(match[2], place) if match[2] else 1
    if not 1 <= beats <= 999 or unit not in (1, 2, 4, 8, 16, 32, 64, 128):
        raise FieldError(f"meter {text[:20]!r} is left out: expected one such as 6/8")
    return beats, unit


def read_unit(text: str, place: Place) -> Fraction:
    """Returns the unit length of `L:1/8` in whole notes.

    Raises:
        FieldError: If it is none.
    """
    match = _UNIT.match(text.strip())
    above, below = (
        (read_number(each, place) for each in (match[1], match[2] or "1")) if match else (0, 0)
    )
    if above != 1 or not 1 <= below <= 1024 or below & (below - 1):
        raise FieldError(f"unit length {text[:20]!r} is left out: expected one such as 1/8")
    return Fraction(1, below)


def default_unit(meter: Meter | None) -> Fraction:
    """Returns the unit length where L: is missing, in whole notes."""
    is_short = meter is not None and Fraction(*meter) < Fraction(3, 4)
    return Fraction(1, 16 if is_short else 8)


def read_tempo(text: str, unit: Fraction, place: Place) -> Fraction:
    """Returns the quarters a minute of `1/4=120`, `120`, `C3=40`, `"Allegro"`.

    Args:
        text: What follows Q:.
        unit: The tune's unit length, in whole notes, for `C3=40`.
        place: Of the text.

    Raises:
        FieldError: If it is no tempo.
    """
    names = _QUOTED.findall(text)
    text = _QUOTED.sub(" ", text).strip()
    beats, sign, number = text.rpartition("=")
    match = re.match(r"[0-9]+", number.strip())
    tempo = read_number(match[0], place) if match else 0
    if not match and not text and names:
        tempo = _NAMED_TEMPOS.get(names[0].strip().lower(), 0)
    beat = _beat(beats.strip(), unit, place) if sign else Fraction(1, 4)
    if not beat or not 1 <= tempo * beat * 4 <= _MAX_TEMPO:
        said = text or ", ".join(names)
        raise FieldError(f"tempo {said[:30]!r} is left out: expected one such as 1/4=120")
    return tempo * beat * 4


def _beat(text: str, unit: Fraction, place: Place) -> Fraction:
    """Returns the length of a beat such as `3/8`, `C3`, `1/4 1/8`; 0 if it is none."""
    if not _BEATS.fullmatch(text):
        return Fraction(0)
    is_relative = text[:1].isalpha()
    lengths = text[is_relative:].split() or [""]
    beat = sum(read_length(LENGTH.fullmatch(each), place) for each in lengths)
    return beat * unit if is_relative else beat


def read_symbol(text: str) -> tuple[str, str] | None:
    """Returns letter and decoration of `U: T = !trill!`; None if it defines nothing."""
    match = _SYMBOL.match(text.strip())
    return (match[1], (match[2] or match[3] or "").strip()) if match else None


def read_parts(text: str, place: Place) -> list[str]:
    """Returns the order of parts of `P:A(AB)3`: A A B A B A B.

    Raises:
        FieldError: If it is none, but a description.
        AbcError: If it is too long.
    """
    text = re.sub(r"[\s.+-]", "", text)
    stack: list[list[str]] = [[]]
    is_order = re.fullmatch(r"(?:[A-Z(][0-9]*|\)[0-9]*)*", text) and len(text) <= MAX_PARTS
    for token in re.findall(r"\(|[A-Z)][0-9]*", text) if is_order else ():
        if token == "(":
            stack.append([])
            continue
        items = [token[0]] if token[0] != ")" else stack.pop() if len(stack) > 1 else []
        stack[-1] += items * (read_number(token[1:], place) if token[1:] else 1)
        if len(stack[-1]) > MAX_PARTS:
            raise AbcError(f"more than {MAX_PARTS:,} parts to play", *place)
    if not is_order or len(stack) > 1:
        raise FieldError(f"P:{text[:20]} is left out: expected an order such as A(AB)3")
    return stack[0]
