"""Rules of `grammar.lark` for one bar of one voice: elements, lengths, tuplets, ties.

The rule `bar_start` reads the music of a bar; `bar_end` follows its bar line.
"""

from .lark_abc_bits import (
    DRUM,
    DRUMS,
    FLAGS,
    LEFT,
    METER,
    MODE,
    N_TRACKED,
    OCTAVE,
    SAME,
    SLOT,
    STEP,
    VOICE,
    VOICES,
    Field,
    Rules,
    Way,
    all_of,
    any_of,
    clear,
    compare,
    eq,
    ge,
    is_clear,
    is_set,
    lt,
    ne,
    put,
    take,
)
from .lark_abc_elements import (
    IN_BAR,
    MAY_STOP,
    OPEN,
    PITCH,
    SHORT,
    add_elements,
    sounds,
)
from .lark_abc_names import CHORD, UNTIED
from .notation_abc import SHORTEST_TICKS


def add_bars(rules: Rules, meters: dict[str, int]) -> None:
    """Adds the rules; the grammar must get `note`, `chord`, `tied_note`, `after_bar` and `silent`.

    Args:
        rules: The grammar.
        meters: Meter -> ticks of its bar, in the order of their numbers in METER.
    """
    longest = max(meters.values()) // SHORTEST_TICKS
    _add_start(rules, [ticks // SHORTEST_TICKS for ticks in meters.values()])
    add_elements(rules, longest)
    _add_tied_in(rules)
    _add_ties(rules)
    _add_end(rules)


def _add_start(rules: Rules, lengths: list[int]) -> None:
    """Adds `bar_start`: the length of the bar, and whether the voice is the drum kit."""
    ways = [Way("", "shortened", put((LEFT, n)), eq(METER, i)) for i, n in enumerate(lengths)]
    rules.add("bar_start", ways)
    is_drum = any_of(*(all_of(eq(VOICE, v), eq(DRUMS, v)) for v in range(1, 2**VOICE.width)))
    begin = [Way("", "shorter", SAME, eq(MODE, SHORT)), Way("", "kit", SAME, ne(MODE, SHORT))]
    rules.add("shortened", begin)
    # a binary subtraction: what the first voice's short bar left out
    for place in reversed(range(LEFT.width)):
        name = "shorter" if place == LEFT.width - 1 else f"shorter{place}"
        then = f"shorter{place - 1}" if place else "kit"
        bit = SLOT.bit(place)
        rules.add(
            name,
            [Way("", then, take(LEFT, place), is_set(bit)), Way("", then, SAME, is_clear(bit))],
        )
    rules.add(
        "kit",
        [
            Way("", "tied_in", put((DRUM, 1)), is_drum),
            Way("", "tied_in", SAME, f"not({is_drum})"),
        ],
    )


def _add_tied_in(rules: Rules) -> None:
    """Adds `tied_in`, which goes on with a held note, or with whatever may come first."""
    tracked = range(1, N_TRACKED + 1)
    flags = {voice: FLAGS.bit(voice - 1) for voice in tracked}
    is_free = all_of(*(any_of(ne(VOICE, v), is_clear(flags[v])) for v in tracked))
    may_be_silent = all_of(eq(VOICE, 1), eq(FLAGS, 0))
    ways = [
        Way("", "held", clear(Field(flags[v], 1)), all_of(eq(VOICE, v), is_set(flags[v])))
        for v in tracked
    ]
    ways += [
        Way("", "first", SAME, may_be_silent),
        Way("", "quiet", SAME, all_of(is_free, f"not({may_be_silent})")),
    ]
    rules.add("tied_in", ways)


# -- ties ------------------------------------------------------------------------------------------


def _add_ties(rules: Rules) -> None:
    """Adds `sounded`, after an element that may be tied, and `held`, where a tied one goes on."""
    rules.add(
        "sounded",
        [
            Way("-", "tie", SAME, all_of(ne(STEP, UNTIED), MAY_STOP)),
            Way("", "element", clear(STEP, OCTAVE)),
        ],
    )
    rules.add("tie", [Way("|", "keep")])
    # the slot holds the first of the ties that wait, so a note is kept where none does
    is_first = all_of(eq(FLAGS, 0), ne(MODE, SHORT), lt(VOICE, N_TRACKED + 1))
    rules.add("keep", [Way("", "copy", SAME, is_first), Way("", "flag", SAME, f"not({is_first})")])
    rules.copy("copy", PITCH, SLOT, "flag")
    tracked = range(1, N_TRACKED + 1)
    ways = [Way("", "bar_end", f"set_bit({FLAGS.bit(v - 1)})", eq(VOICE, v)) for v in tracked]
    rules.add("flag", [*ways, Way("", "bar_end", SAME, ge(VOICE, N_TRACKED + 1))])
    rules.add(
        "held",
        [
            Way("", "recall", SAME, compare("gt", SLOT, CHORD)),
            Way("", "held_chord", clear(SLOT), eq(SLOT, CHORD)),
            Way("", "held_any", SAME, eq(SLOT, 0)),
        ],
    )
    rules.copy("recall", SLOT, PITCH, "recalled")
    rules.add("recalled", [Way("", "tied_note", clear(SLOT))])
    rules.add("held_chord", [Way("[", "chord")])
    rules.add("held_any", sounds())


def _add_end(rules: Rules) -> None:
    is_open, is_full = eq(MODE, OPEN), eq(LEFT, 0)
    is_alone = eq(VOICES, 1)
    rules.add(
        "bar_end",
        [
            Way("", "after_bar", clear(*IN_BAR), ne(MODE, OPEN)),
            Way("", "after_bar", clear(*IN_BAR, MODE), all_of(is_open, any_of(is_full, is_alone))),
            Way("", "short", clear(SLOT), all_of(is_open, ge(LEFT, 1), ge(VOICES, 2))),
        ],
    )
    rules.copy("short", LEFT, SLOT, "shut")
    rules.chain("shut", [clear(*IN_BAR, MODE), put((MODE, SHORT))], "after_bar")
