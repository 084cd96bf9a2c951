"""Rules of `grammar.lark` for what a bar is made of: notes, chords, rests, tuplets, and lengths."""

from .grammar_abc_tuplets import EQUAL_UNITS, SHORTEST_TUPLET_TICKS
from .lark_abc_bits import (
    ALTERED,
    COUNT,
    DRUM,
    LEFT,
    MODE,
    OCTAVE,
    SAME,
    STEP,
    TUPLET,
    Field,
    Rules,
    Way,
    add_one,
    all_of,
    any_of,
    clear,
    eq,
    ge,
    lt,
    ne,
    put,
    take,
)
from .lark_abc_names import CHORD
from .notation_abc import SHORTEST_TICKS, TICKS_PER_TUPLET_UNIT, TICKS_PER_UNIT, length_text

# MODE: of the line of bars. In an open first bar any bar line may follow a note; a short one then
# holds for the other voices.
PLAIN, CHANGED, OPEN, SHORT = range(4)
# COUNT between elements: what the latest element was, if a rest that is not like others.
_NOTE, _REST_BEFORE_SOUND, _REST, _FIRST_REST = range(4)
# TUPLET: the first item; the second one, by the number of its length; the third, likewise.
_FIRST, _THIRD = 4, 4

IN_BAR = (LEFT, ALTERED, STEP, OCTAVE, COUNT, TUPLET, DRUM)  # what a bar line makes 0
PITCH = Field(STEP.start, STEP.width + OCTAVE.width)  # of the latest element; 0 after a rest
MAY_STOP = any_of(eq(LEFT, 0), eq(MODE, OPEN))


def add_elements(rules: Rules, longest: int) -> None:
    """Adds `first`, `quiet` and `element`: what may come before all, before a note, and after one.

    Args:
        rules: The grammar; must get `note`, `chord`, `sounded`, `bar_end` and `silent`.
        longest: The longest bar, as LEFT counts.
    """
    _add_boundaries(rules)
    _add_lengths(rules, longest)
    _add_tuplets(rules)


def _add_boundaries(rules: Rules) -> None:
    tuplet = Way("(3", "tuplet_quiet", SAME, ge(LEFT, SHORTEST_TUPLET_TICKS // SHORTEST_TICKS))
    rules.add("first", [*sounds(), Way("z", "first_rest"), tuplet])
    # a bar needs a note: a rest before it leaves room for one
    rules.add("quiet", [*sounds(), Way("z", "early_rest", take(LEFT, 0), ge(LEFT, 2)), tuplet])
    goes_on = ge(LEFT, 1)
    rules.add(
        "element",
        [
            Way("", "note", SAME, goes_on),
            Way("[", "chord", SAME, goes_on),
            Way("z", "rest", SAME, goes_on),
            tuplet._replace(then="tuplet"),
            Way("|", "bar_end", SAME, MAY_STOP),
        ],
    )
    rules.add("first_rest", [Way("", "len", put((COUNT, _FIRST_REST)))])
    rules.add("early_rest", [Way("", "len", put((COUNT, _REST_BEFORE_SOUND)))])
    rules.add("rest", [Way("", "len", put((COUNT, _REST)))])
    rules.add("more_room", [Way("", "quiet", add_one(LEFT))])
    rules.add(
        "silence",
        [Way("|", "silent", clear(*IN_BAR), MAY_STOP), Way("", "quiet", SAME, goes_on)],
    )


def sounds() -> list[Way]:
    """Returns the ways to start a note or a chord."""
    return [Way("", "note"), Way("[", "chord")]


# -- lengths ---------------------------------------------------------------------------------------


def _add_lengths(rules: Rules, longest: int) -> None:
    """Adds `len`: a length that fits into the bar, and what may follow its element."""
    lengths = {length_text(n * SHORTEST_TICKS): n for n in range(1, longest + 1)}
    shortest: dict[str, int] = {}  # beginning of a text -> the least length that begins so
    for text, n in lengths.items():
        for end in range(len(text) + 1):
            shortest[text[:end]] = min(n, shortest.get(text[:end], n))
    for start in sorted(shortest):
        ways = [
            Way(text[-1], _length_rule(text), SAME, ge(LEFT, shortest[text]))
            for text in sorted(shortest)
            if text and text[:-1] == start
        ]
        if start in lengths:
            ways.append(_taken(rules, lengths[start], ge(LEFT, lengths[start])))
        rules.add(_length_rule(start), ways)
    rules.add(
        "len_end",
        [
            Way("", "sounded", SAME, eq(COUNT, _NOTE)),
            Way("", "more_room", clear(COUNT), eq(COUNT, _REST_BEFORE_SOUND)),
            Way("", "element", clear(COUNT), eq(COUNT, _REST)),
            Way("", "silence", clear(COUNT), eq(COUNT, _FIRST_REST)),
        ],
    )


def _length_rule(start: str) -> str:
    return "len" + start.replace("/", "s")


def _taken(rules: Rules, n: int, only: str) -> Way:
    """Returns the way on which `n` is taken from what is left of the bar, bit by bit."""
    place = (n & -n).bit_length() - 1
    rest = n & (n - 1)
    then = f"take{rest}" if rest else "len_end"
    if rest and then not in rules:
        rules.add(then, [_taken(rules, rest, "")])
    return Way("", then, take(LEFT, place), only)


# -- tuplets ---------------------------------------------------------------------------------------


def _add_tuplets(rules: Rules) -> None:
    for name, rest in (("tuplet", "tuplet_len"), ("tuplet_quiet", "tuplet_rest")):
        rules.add(name, [Way("", f"{name}_item", put((TUPLET, _FIRST)))])
        rules.add(f"{name}_item", [*sounds(), Way("z", rest)])
    rules.add("tuplet_rest", [Way("", "tuplet_len", put((COUNT, _REST_BEFORE_SOUND)))])
    ways = []
    for number, units in enumerate(EQUAL_UNITS, 1):
        text = length_text(units * TICKS_PER_UNIT)
        # the whole tuplet is taken from the bar at once
        n = 3 * units * TICKS_PER_TUPLET_UNIT // SHORTEST_TICKS
        place = n.bit_length() - 1
        is_first = all_of(eq(TUPLET, _FIRST), ge(LEFT, n))
        ways.append(Way(text, f"tuplet_of{number}", take(LEFT, place), is_first))
        ways.append(Way(text, "item_end", put((TUPLET, _THIRD)), eq(TUPLET, number)))
        ways.append(Way(text, "tuplet_end", clear(TUPLET), eq(TUPLET, number + _THIRD)))
        rules.chain(f"tuplet_of{number}", [clear(TUPLET), put((TUPLET, number))], "item_end")
    rules.add("tuplet_len", ways)
    # abc2midi takes chords and notes in one tuplet for items of different lengths
    pitches = clear(STEP, OCTAVE)
    is_quiet = eq(COUNT, _REST_BEFORE_SOUND)
    rules.add(
        "item_end",
        [
            Way("", "item_chord", pitches, eq(STEP, CHORD)),
            Way("", "item", pitches, all_of(ne(STEP, CHORD), ne(COUNT, _REST_BEFORE_SOUND))),
            Way("", "item_quiet", clear(COUNT), is_quiet),
        ],
    )
    rules.add("item_chord", [Way("[", "chord")])
    rules.add("item", [Way("", "note"), Way("z", "tuplet_len")])
    has_room = any_of(lt(TUPLET, _THIRD), ge(LEFT, 1))
    rules.add("item_quiet", [Way("", "note"), Way("z", "tuplet_rest", SAME, has_room)])
    rules.add(
        "tuplet_end",
        [
            Way("", "quiet", clear(COUNT), is_quiet),
            Way("", "element", SAME, all_of(ne(COUNT, _REST_BEFORE_SOUND), eq(PITCH, 0))),
            Way("", "sounded", SAME, all_of(ne(COUNT, _REST_BEFORE_SOUND), ne(PITCH, 0))),
        ],
    )
