"""What `K:` says: `G`, `Emin`, `D Mix ^c`, `HP`, `none`, with clef, octave and transposition.

Source: ABC standard v2.1, sections 3.1.14 (keys), 4.6 (clefs and transposition).
"""

import re
from dataclasses import dataclass, field

from ...dialect.notation import LETTERS, key_alterations

_SHARPS = {"F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5}
# The first three letters of a mode -> fifths from the major key of the same tonic.
_MODES = {"": 0, "maj": 0, "ion": 0, "m": -3, "min": -3, "aeo": -3, "mix": -1, "dor": -2,
          "phr": -4, "lyd": 1, "loc": -5}  # fmt: skip
_BAGPIPES = 2  # sharps of `HP` and `Hp`
_MOST_SHARPS = 7
_TONIC = re.compile(r"([A-Ga-g])([#b]?)(.*)", re.DOTALL)
_MODIFIER = re.compile(r"(\^{1,2}|_{1,2}|=)([A-Ga-g])")
_MICROTONE = re.compile(r"[_^]+[0-9/]+[A-Ga-g]?")
_CLEFS = ("treble", "alto", "bass", "soprano", "mezzosoprano", "mezzo", "tenor", "baritone", "tab")
_CLEF = re.compile(rf"({'|'.join(_CLEFS)}|perc|auto|none|[CFG][1-5]?)(.*)")
_CLEF_OCTAVES = {"+8": 1, "+15": 2, "-8": -1, "-15": -2}
_PROPERTY = re.compile(
    r"(clef|octave|transpose|sound|shift|instrument|score|name|nm|s(?:ub)?name|snm|middle|m|stem"
    r"""|gstem|staff\w+|style|cue|dyn|map|merge|perc)\s*=\s*("[^"]*"?|[^\s=]*)""",
    re.IGNORECASE,
)
_WORD = re.compile(r"\S+")
_ALTERATIONS = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}


@dataclass
class Properties:
    """What K: and V: say of pitch, where they say it.

    Attributes:
        octaves: Octaves up, by `octave=`.
        clef_octaves: Octaves up, by a clef such as `treble-8`.
        semitones: Semitones up, by `transpose=`, `sound=`, `shift=` or `instrument=`.
        unknown: Words that mean nothing here.
    """

    octaves: int | None = None
    clef_octaves: int | None = None
    semitones: int | None = None
    unknown: list[str] = field(default_factory=list)


@dataclass
class Key:
    """A key signature.

    Attributes:
        sharps: Sharps (+) or flats (-) of the key, without explicit accidentals, -7 to 7; None if
            K: names no key.
        alterations: Letter -> alteration, -2 to 2.
        properties: Clef, octave, transposition.
        complaints: What was not understood.
    """

    sharps: int | None
    alterations: dict[str, int]
    properties: Properties
    complaints: list[str] = field(default_factory=list)


def read_key(text: str) -> Key:
    """Reads what follows `K:`."""
    words, properties = read_properties(text)
    complaints = [f"{unknown} in K: is left out" for unknown in properties.unknown]
    sharps, is_explicit = None, False
    modifiers: dict[str, int] = {}
    while words:
        word = words.pop(0)
        if sharps is None and word.lower() in ("hp", "none"):
            sharps = _BAGPIPES if word.lower() == "hp" else 0
        elif word.lower() == "exp":
            is_explicit = True
        elif word[0] in "^_=":
            modifiers |= _modifiers(word, complaints)
        elif sharps is None and (match := _TONIC.fullmatch(word)):
            sharps = _signature(match, words, complaints, modifiers)
        else:
            complaints.append(f"{word[:20]!r} in K: is left out")
    if sharps is None and modifiers:
        sharps, is_explicit = 0, True
    signature = key_alterations(0 if is_explicit else sharps or 0)
    return Key(sharps, signature | modifiers, properties, complaints)


def _signature(
    tonic: re.Match[str], words: list[str], complaints: list[str], modifiers: dict[str, int]
) -> int:
    """Returns the sharps of tonic and mode; takes the mode from the next word if it is there."""
    letter, accidental, rest = tonic.groups()
    if letter.islower():
        complaints.append(f"key {letter!r} is read as {letter.upper()!r}")
    sharps = _SHARPS[letter.upper()] + {"#": 7, "b": -7, "": 0}[accidental]
    cut = re.search(r"[\^_=]", rest)
    if cut:
        modifiers |= _modifiers(rest[cut.start() :], complaints)
        rest = rest[: cut.start()]
    if not rest and words and _mode(words[0]) is not None:
        rest = words.pop(0)
    mode = _mode(rest)
    if mode is None and rest.lower()[:3] != "exp":
        complaints.append(f"mode {rest[:20]!r} is unknown and read as major")
    sharps += mode or 0
    if abs(sharps) > _MOST_SHARPS:
        sharps += -12 if sharps > 0 else 12
    return sharps


def _mode(word: str) -> int | None:
    word = word.lower()
    return _MODES.get(word[:3] if word != "m" else "m")


def _modifiers(word: str, complaints: list[str]) -> dict[str, int]:
    """Returns letter -> alteration of accidentals such as `^f` or `_b_e`."""
    found = {letter.upper(): _ALTERATIONS[sign] for sign, letter in _MODIFIER.findall(word)}
    rest = _MODIFIER.sub("", word)
    if rest:
        what = "microtone" if _MICROTONE.search(word) else "accidental"
        complaints.append(f"{what} {word[:20]!r} in K: is left out")
    return found


def read_properties(text: str) -> tuple[list[str], Properties]:
    """Takes clefs, octaves and transpositions out of K: or V:.

    Returns:
        The other words, and the properties.
    """
    properties = Properties()
    for name, value in _PROPERTY.findall(text):
        _set_property(properties, name.lower(), value)
    words = []
    for word in _WORD.findall(_PROPERTY.sub(" ", text)):
        match = _CLEF.fullmatch(word)
        if match and match[1] in _CLEFS and not properties.clef_octaves:
            properties.clef_octaves = _CLEF_OCTAVES.get(match[2], 0)
        else:
            words.append(word)
    return words, properties


def _set_property(properties: Properties, name: str, value: str) -> None:
    if name == "clef":
        match = _CLEF.fullmatch(value)
        if match:
            properties.clef_octaves = _CLEF_OCTAVES.get(match[2], 0)
        else:
            properties.unknown.append(f"clef {value[:20]!r}")
    elif name in ("octave", "transpose"):
        if not re.fullmatch(r"[+-]?[0-9]{1,3}", value):
            properties.unknown.append(f"{name}={value[:20]}")
        elif name == "octave":
            properties.octaves = int(value)
        else:
            properties.semitones = int(value)
    elif name in ("sound", "shift", "instrument"):
        properties.semitones = _interval(name, value)
        if properties.semitones is None:
            properties.unknown.append(f"{name}={value[:20]}")


def _interval(name: str, value: str) -> int | None:
    """Returns the semitones of `sound=AB`, `shift=AB` (A to B) or `instrument=A/B` (c to B)."""
    notes = re.findall(r"([_=^]{0,2})([A-Ga-g])([,']*)", value)
    if not notes or (len(notes) < 2 and name != "instrument"):
        return None
    pitches = [_pitch(*note) for note in notes[:2]]
    return pitches[-1] - (72 if name == "instrument" else pitches[0])


def _pitch(sign: str, letter: str, octaves: str) -> int:
    steps = (0, 2, 4, 5, 7, 9, 11)[LETTERS.index(letter.upper())]
    octave = letter.islower() + octaves.count("'") - octaves.count(",")
    return 60 + 12 * octave + steps + _ALTERATIONS.get(sign, 0)
