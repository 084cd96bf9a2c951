"""Which texts are rejected before any reader sees them, and why.

Three kinds of text are rejected: those that make a reader open files or run instructions
(directives, and the fields I: P: m: U:), those that make it run for minutes or crash (huge lengths,
texts and lines), and data that is not text. The sandbox is a second, independent layer.

Measured on abc2midi 4.84 and abcjs 6.7.2: `%%abc-include FILE` opens any file,
`P:((((((A9)9)9)9)9)9)` crashes abc2midi with a segmentation fault, `C99999999` crashes node.
"""

import re

MAX_TEXT_BYTES = 64 * 1024
MAX_LINE_CHARS = 8192
MAX_LENGTH = 64  # in units
TEMPOS = (20, 300)  # quarters per minute

_DIRECTIVE = re.compile(r"\s*%%")
_ALLOWED = re.compile(r"%%MIDI (program|channel|chordattack)( [0-9]{1,4}){1,2}\s*")
_REFUSED_FIELD = re.compile(r"(?:^\s*|\[\s*)([IPmU])\s*:")
_FIELD_LINE = re.compile(r"\s*([A-Za-z+])\s*:(.*)")
_INLINE_FIELD = re.compile(r"\[\s*([A-Za-z])\s*:([^\]\n]*)(?:\]|$)")
_LENGTH = re.compile(r"(?=[0-9/])([0-9]*)(/*)([0-9]*)")
_QUOTED = re.compile(r'"[^"]*"|![^!]*!|%.*')
_TEMPO = re.compile(r"([0-9]{1,6})\s*/\s*([0-9]{1,6})\s*=\s*([0-9]{1,6}(?:\.[0-9]{1,6})?)")
_PLAIN_TEMPO = re.compile(r"(?:C[0-9]?\s*=)?\s*([0-9]{1,6}(?:\.[0-9]{1,6})?)")


def refused(text: str) -> str | None:
    """Returns why a text is rejected, in a few words that quote none of it; None if it is not."""
    try:
        n_bytes = len(text.encode())
    except UnicodeEncodeError:
        return "not UTF-8"
    if n_bytes > MAX_TEXT_BYTES:
        return f"more than {MAX_TEXT_BYTES} bytes"
    if any((ord(char) < 32 and char not in "\t\n\r") or char in "\x7f\x85\u2028\u2029\ufeff"
           for char in text):  # fmt: skip
        return "control characters"
    for line in re.split(r"\r\n|\r|\n", text):
        if reason := _refused_line(line):
            return reason
    return None


def _refused_line(line: str) -> str | None:
    if len(line) > MAX_LINE_CHARS:
        return f"a line of more than {MAX_LINE_CHARS} characters"
    if _DIRECTIVE.match(line):
        return None if _ALLOWED.fullmatch(line) else "a directive"
    if match := _REFUSED_FIELD.search(line):
        return f"a field {match[1]}:"
    field = _FIELD_LINE.fullmatch(line)
    fields = [field.groups()] if field else _INLINE_FIELD.findall(line)
    for name, value in fields:
        if name == "Q" and not _tempo_is_sane(value):
            return f"a tempo outside {TEMPOS[0]} to {TEMPOS[1]} quarters a minute"
    music = "" if field else _QUOTED.sub(" ", _INLINE_FIELD.sub(" ", line))
    if any(_is_too_long(*length) for length in _LENGTH.findall(music)):
        return f"a length of more than {MAX_LENGTH} units"
    return None


def _is_too_long(number: str, slashes: str, divisor: str) -> bool:
    """Whether a length such as `87/4` is too long; divisors and tuplet numbers count as well."""
    if max(len(number), len(divisor)) > 4 or int(divisor or 0) > MAX_LENGTH:
        return True
    return int(number or 1) > MAX_LENGTH * max(1, int(divisor or 2 * bool(slashes)))


def _tempo_is_sane(value: str) -> bool:
    value = re.sub(r'"[^"]*"', "", value).partition("%")[0].strip()
    if not any(char.isdigit() for char in value):
        return True  # text only, or empty
    if match := _TEMPO.fullmatch(value):
        numerator, denominator, beats = int(match[1]), int(match[2]), float(match[3])
        quarters = 4 * beats * numerator / denominator if denominator else 0.0
    else:
        match = _PLAIN_TEMPO.fullmatch(value)
        quarters = float(match[1]) if match else 0.0
    return TEMPOS[0] <= quarters <= TEMPOS[1]
