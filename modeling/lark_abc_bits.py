"""The 64 bits that a rule of `grammar.lark` is given, and how rules are written with them.

A rule of a parametric grammar of llguidance has one number of 64 bits. It is divided into fields
here. A rule passes it on to the next one, changed by one operation; whatever takes several
operations is a chain of rules that read nothing.

Source: llguidance, docs/parametric.md.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

N_BITS = 64


class Field(NamedTuple):
    """Some bits of the number.

    Attributes:
        start: The lowest bit.
        width: How many.
    """

    start: int
    width: int

    @property
    def place(self) -> str:
        """The bits as conditions and operations name them."""
        return f"[{self.start}:{self.start + self.width}]"

    @property
    def mask(self) -> int:
        """A number with all bits of the field set, and no other."""
        return ((1 << self.width) - 1) << self.start

    def bit(self, place: int) -> int:
        """Returns the number of one of its bits, counted from its lowest."""
        return self.start + place


def _fields(**widths: int) -> dict[str, Field]:
    starts = [sum(list(widths.values())[:place]) for place in range(len(widths))]
    if sum(widths.values()) > N_BITS:
        raise AssertionError(f"{widths} take more than {N_BITS} bits")
    return {
        name: Field(start, width)
        for (name, width), start in zip(widths.items(), starts, strict=True)
    }


N_TRACKED = 4  # voices whose ties are remembered
_ALL = _fields(
    left=8,  # to the end of the bar, in SHORTEST_TICKS
    altered=5,  # letters altered in this bar, of those that can be
    step=4,  # of the latest note: its place in the octave, see `lark_abc_names`
    octave=4,  # of the same; 0 for none
    count=3,  # notes of the chord so far; what a rest is between elements
    tuplet=3,
    drum=1,  # whether the current voice is the drum kit
    meter=6,
    mode=2,
    voice=4,  # the latest voice of the line
    voices=4,  # how many the tune has
    drums=4,  # the first voice that is the drum kit, 0 for none
    key=4,
    slot=8,  # step and octave of the first note that is tied; in a pickup, the ticks it leaves out
    flags=N_TRACKED,  # for each tracked voice, whether its note is tied
)
LEFT, ALTERED, STEP, OCTAVE = _ALL["left"], _ALL["altered"], _ALL["step"], _ALL["octave"]
COUNT, TUPLET, DRUM = _ALL["count"], _ALL["tuplet"], _ALL["drum"]
METER, MODE, VOICE, VOICES = _ALL["meter"], _ALL["mode"], _ALL["voice"], _ALL["voices"]
DRUMS, KEY, SLOT, FLAGS = _ALL["drums"], _ALL["key"], _ALL["slot"], _ALL["flags"]


# -- conditions -----------------------------------------------------------------------------------


def compare(how: str, field: Field, value: int) -> str:
    """Returns a comparison, such as `compare("ge", LEFT, 4)`."""
    return f"{how}({field.place}, {value})"


def eq(field: Field, value: int) -> str:
    """Returns the condition that a field has a value."""
    return compare("eq", field, value)


def ne(field: Field, value: int) -> str:
    """Returns the condition that a field has another value."""
    return compare("ne", field, value)


def ge(field: Field, value: int) -> str:
    """Returns the condition that a field has at least a value."""
    return compare("ge", field, value)


def lt(field: Field, value: int) -> str:
    """Returns the condition that a field has less than a value."""
    return compare("lt", field, value)


def is_set(bit: int) -> str:
    """Returns the condition that a bit is set."""
    return f"bit_set({bit})"


def is_clear(bit: int) -> str:
    """Returns the condition that a bit is not set."""
    return f"bit_clear({bit})"


def _joined(how: str, conditions: Iterable[str]) -> str:
    *before, last = [condition for condition in conditions if condition] or [""]
    for condition in reversed(before):
        last = f"{how}({condition}, {last})"
    return last


def all_of(*conditions: str) -> str:
    """Returns the condition that all hold; "" always holds."""
    return _joined("and", conditions)


def any_of(*conditions: str) -> str:
    """Returns the condition that one of some holds, none of which is ""."""
    return _joined("or", conditions)


# -- operations -----------------------------------------------------------------------------------

SAME = "_"
Value = tuple[Field, int]


def number_of(*values: Value) -> int:
    """Returns the number whose fields have these values, the others 0."""
    return sum(value << field.start for field, value in values)


def put(*values: Value) -> str:
    """Returns the operation that writes values into fields that are 0."""
    return f"bit_or({number_of(*values):#x})"


def clear(*fields: Field) -> str:
    """Returns the operation that makes fields 0."""
    return f"bit_and({((1 << N_BITS) - 1) & ~sum(field.mask for field in fields):#x})"


def take(field: Field, place: int) -> str:
    """Returns the operation that takes `2 ** place` from a field that has as much."""
    return f"decr([{field.start + place}:{field.start + field.width}])"


def add_one(field: Field) -> str:
    """Returns the operation that adds one to a field."""
    return f"incr({field.place})"


# -- rules ----------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    """Returns a text as a terminal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


class Way(NamedTuple):
    """One alternative of a rule.

    Attributes:
        text: What is read: "" for nothing.
        then: The rule that follows.
        change: The operation on its number; "" if it takes none.
        only: The condition, "" for none.
    """

    text: str
    then: str
    change: str = SAME
    only: str = ""


# llguidance 1.9.1 puts rules of one alternative, and alternatives of one symbol, where their names
# stand, and then loses their numbers or panics. So what reads nothing begins with an empty rule,
# and each rule has a second alternative: one that is never legal, with a text that is in no tune.
NEVER = '"~" %if not(true)'
_NOTHING = f'nul::_ : "" | {NEVER}'


class Rules:
    """The rules of a grammar, in the order in which they were added."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._lines: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str, ways: Sequence[Way]) -> None:
        """Adds a rule with a number, whose name must be new."""
        if name in self._names:
            raise AssertionError(f"rule {name} is there already")
        self._names.add(name)
        parts = []
        for way in ways:
            read = quoted(way.text) if way.text else "nul::_"
            only = f" %if {way.only}" if way.only else ""
            then = f"{way.then}::{way.change}" if way.change else way.then
            parts.append(f"{read} {then}{only}")
        if len(parts) == 1:
            parts.append(NEVER)
        self._lines.append(f"{name}::_ : " + "\n  | ".join(parts))

    def add_line(self, line: str) -> None:
        """Adds a rule or terminal as it stands."""
        self._lines.append(line)

    def chain(self, name: str, steps: Sequence[str], then: str) -> None:
        """Adds rules that read nothing and apply operations one after another.

        Args:
            name: The first rule.
            steps: The operations, at least one.
            then: The rule that follows.
        """
        for place, step in enumerate(steps):
            following = then if place == len(steps) - 1 else f"{name}{place + 1}"
            self.add(f"{name}{place}" if place else name, [Way("", following, step)])

    def copy(self, name: str, source: Field, target: Field, then: str) -> None:
        """Adds rules that copy a field into one of the same width that is 0."""
        for place in range(source.width):
            following = then if place == source.width - 1 else f"{name}{place + 1}"
            self.add(
                f"{name}{place}" if place else name,
                [
                    Way("", following, f"set_bit({target.bit(place)})", is_set(source.bit(place))),
                    Way("", following, SAME, is_clear(source.bit(place))),
                ],
            )

    def text(self) -> str:
        """Returns the rules as a file."""
        return "\n".join([_NOTHING, *self._lines]) + "\n"
