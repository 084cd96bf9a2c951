"""Odd scores: real ones with their text or their elements changed."""

from __future__ import annotations

import io
import random
import re
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable, Iterator, Sequence

MANY = 40  # times that something is repeated
_NUMBER = re.compile(r"(?<=[>\"'])-?\d+(?=[<\"'])")
_WORDS = (
    *(
        "0",
        "-1",
        "1",
        "3",
        "7",
        "255",
        "256",
        "65536",
        "2147483648",
        "-9999999999",
        "1e9",
        "0.0001",
    ),
    *("", " ", "x", "nan", "C", "whole", "eighth", "start", "stop", "é", "𝄞", "\n", "forward"),
)


_SIGNS = ("<", "&", "]]>", "\t*v", "[", "*^\n", "-->")


def score_inputs(
    seeds: Sequence[tuple[str, str]], rng: random.Random
) -> Iterator[tuple[str, bytes]]:
    """Yields (suffix, content) of mutated scores, for ever.

    Args:
        seeds: (suffix, text) of real scores: .musicxml, .mei, .krn.
        rng: The random generator.
    """
    while True:
        suffix, text = rng.choice(seeds)
        if suffix != ".krn" and rng.random() < 0.7:
            text = _with_changed_elements(text, rng)
        else:
            for _ in range(rng.choice((1, 1, 2, 5))):
                text = rng.choice(_TEXT_CHANGES)(text, rng)
        content = text.encode(rng.choice(("utf-8", "utf-8", "utf-8", "utf-16")), "replace")
        if rng.random() < 0.1:
            content = _with_changed_bytes(content, rng)
        if suffix == ".musicxml" and rng.random() < 0.2:
            suffix, content = ".mxl", _packed(content, rng)
        yield suffix, content


# ---------------------------------------------------------------- elements


def _with_changed_elements(text: str, rng: random.Random) -> str:
    root = ET.fromstring(text)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        parents = [parent for parent in root.iter() if len(parent)]
        if not parents:
            break
        rng.choice(_ELEMENT_CHANGES)(rng.choice(parents), root, rng)
    return ET.tostring(root, "unicode")


def _remove(parent: ET.Element, _: ET.Element, rng: random.Random) -> None:
    parent.remove(rng.choice(parent))


def _repeat(parent: ET.Element, _: ET.Element, rng: random.Random) -> None:
    place = rng.randrange(len(parent))
    for _ in range(rng.choice((1, 1, 2, MANY))):
        parent.insert(place, parent[place])


def _swap(parent: ET.Element, _: ET.Element, rng: random.Random) -> None:
    one, other = rng.randrange(len(parent)), rng.randrange(len(parent))
    parent[one], parent[other] = parent[other], parent[one]


def _move(parent: ET.Element, root: ET.Element, rng: random.Random) -> None:
    """Puts a copy of an element somewhere else."""
    content = ET.fromstring(ET.tostring(rng.choice(parent)))
    rng.choice([*root.iter()]).insert(0, content)


def _say_otherwise(parent: ET.Element, _: ET.Element, rng: random.Random) -> None:
    rng.choice(parent).text = rng.choice(_WORDS)


def _change_attribute(parent: ET.Element, root: ET.Element, rng: random.Random) -> None:
    with_some = [element for element in root.iter() if element.attrib]
    element = rng.choice(with_some or [parent])
    name = rng.choice([*element.attrib] or ["id"])
    if rng.random() < 0.3:
        element.attrib.pop(name, None)
    else:
        element.set(name, rng.choice(_WORDS).strip() or "x")


def _rename(parent: ET.Element, root: ET.Element, rng: random.Random) -> None:
    rng.choice(parent).tag = rng.choice([*root.iter()]).tag


_ELEMENT_CHANGES: tuple[Callable[[ET.Element, ET.Element, random.Random], None], ...] = (
    *(_remove, _remove, _repeat, _swap, _move),
    *(_say_otherwise, _say_otherwise, _change_attribute, _rename),
)


# ---------------------------------------------------------------- text and bytes


def _span(text: str, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(text) + 1)
    return start, min(len(text), start + rng.choice((1, 3, 10, 100, 2000)))


def _cut(text: str, rng: random.Random) -> str:
    return text[: rng.randrange(len(text) + 1)]


def _without_span(text: str, rng: random.Random) -> str:
    start, stop = _span(text, rng)
    return text[:start] + text[stop:]


def _with_span_again(text: str, rng: random.Random) -> str:
    start, stop = _span(text, rng)
    return text[:stop] + text[start:stop] * rng.choice((1, 2, MANY)) + text[stop:]


def _without_line(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    del lines[rng.randrange(len(lines))]
    return "\n".join(lines)


def _with_other_number(text: str, rng: random.Random) -> str:
    places = [match.span() for match in _NUMBER.finditer(text)] or [_span(text, rng)]
    start, stop = rng.choice(places)
    return text[:start] + rng.choice(_WORDS[:12]) + text[stop:]


def _with_word(text: str, rng: random.Random) -> str:
    start, stop = _span(text, rng)
    return text[:start] + rng.choice((*_WORDS, *_SIGNS)) + text[stop:]


_TEXT_CHANGES: tuple[Callable[[str, random.Random], str], ...] = (
    *(_cut, _without_span, _with_span_again, _without_line, _with_other_number, _with_word),
)


def _with_changed_bytes(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(rng.choice((1, 10, 100))):
        if out:
            out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def _packed(content: bytes, rng: random.Random) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        if rng.random() < 0.7:
            root = (
                "<container><rootfiles><rootfile full-path='a.musicxml'/></rootfiles></container>"
            )
            archive.writestr("META-INF/container.xml", root)
        archive.writestr(rng.choice(("a.musicxml", "b.xml", "c.txt")), content)
    packed = out.getvalue()
    return _with_changed_bytes(packed, rng) if rng.random() < 0.2 else packed
