"""Rules of `grammar.lark` for the names of single notes and of chords, with exact accidentals."""

from .grammar_abc_limits import Limits
from .lark_abc_bits import (
    ALTERED,
    COUNT,
    KEY,
    OCTAVE,
    SAME,
    STEP,
    TUPLET,
    Rules,
    Value,
    Way,
    add_one,
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
)
from .lark_abc_names import CHORD, IS_MELODIC, MARKS, UNTIED, Form, Reach, forms_of, reaches
from .notation_abc import KEYS


def add_notes(rules: Rules, limits: Limits) -> None:
    """Adds `note`, `chord` and `tied_note`, with which an element starts, and `named`, its length.

    Args:
        rules: The grammar; must get `len`, and `tuplet_len` for elements of tuplets.
        limits: What may be written.
    """
    for rule in ("note", "chord", "tied_note"):
        ways = [Way("", f"{rule}_k{i}", SAME, eq(KEY, i)) for i in range(len(KEYS))]
        rules.add(rule, ways)
    for number, sharps in enumerate(KEYS.values()):
        forms = forms_of(sharps)
        _add_key(rules, f"note_k{number}", _single_ways(rules, forms, limits))
        chord = [("", Way("]", "chord_end", clear(STEP, OCTAVE, COUNT), ge(COUNT, 2)))]
        _add_key(rules, f"chord_k{number}", chord + _chord_ways(rules, forms, limits))
        rules.add(f"tied_note_k{number}", _tied_ways(forms, limits))
    rules.add("chord_end", [Way("", "named", put((STEP, CHORD)))])
    named = [Way("", "len", SAME, eq(TUPLET, 0)), Way("", "tuplet_len", SAME, ne(TUPLET, 0))]
    rules.add("named", named)
    octaves_of = {text: [o for o, mark in enumerate(MARKS, 1) if mark == text] for text in MARKS}
    rules.add(
        "tied_marks",
        [
            Way(text, "named", SAME, any_of(*(eq(OCTAVE, octave) for octave in octaves)))
            for text, octaves in octaves_of.items()
        ],
    )


def _add_key(rules: Rules, name: str, ways: list[tuple[str, Way]]) -> None:
    """Adds a rule whose alternatives with a sign are in rules of their own.

    Args:
        rules: The grammar.
        name: The rule.
        ways: For each alternative its sign, "" for none, and what follows it.
    """
    signs = sorted({sign for sign, _ in ways if sign})
    unsigned = [way for sign, way in ways if not sign]
    for place, sign in enumerate(signs):
        below = [way for other, way in ways if other == sign]
        always = any(not way.only for way in below)
        only = "" if always else any_of(*dict.fromkeys(way.only for way in below))
        unsigned.append(Way(sign, f"{name}s{place}", SAME, only))
        rules.add(f"{name}s{place}", below)
    rules.add(name, unsigned)


def _written(form: Form) -> list[tuple[str, str, list[Value]]]:
    """Returns how a form is written: sign, condition, and what it changes beside the step."""
    if form.bit is None:
        return [("", "", [])]
    if not form.is_in_key:
        return [(form.sign, "", [(ALTERED, 1 << form.bit)])]
    bit = ALTERED.bit(form.bit)
    return [("", is_clear(bit), []), (form.sign, is_set(bit), [])]


def _single_ways(rules: Rules, forms: list[Form], limits: Limits) -> list[tuple[str, Way]]:
    ways = []
    for form in forms:
        for reach in reaches(form, limits):
            for sign, only, altered in _written(form):
                step = UNTIED if sign and form.is_in_key else form.step
                change = put(*altered, (STEP, step))
                only = all_of(only, reach.only)
                ways.append((sign, Way(form.text(reach.all), _marks(rules, reach), change, only)))
    return ways


def _marks(rules: Rules, reach: Reach) -> str:
    """Returns the rule for the octave marks of a single note."""
    name = f"marks{reach.name}"
    if name not in rules:
        rules.add(
            name,
            [Way(MARKS[o - 1], "named", put((OCTAVE, o)), reach.only_in(o)) for o in reach.all],
        )
    return name


def _tied_ways(forms: list[Form], limits: Limits) -> list[Way]:
    """Returns the ways to write the note whose step and octave are known, at the start of a bar."""
    ways = []
    for form in forms:
        sign = "" if form.is_in_key else form.sign
        change = SAME if form.is_in_key else put((ALTERED, 1 << form.bit))
        for reach in reaches(form, limits):
            octaves = [compare("ge", OCTAVE, reach.all[0]), compare("le", OCTAVE, reach.all[-1])]
            only = all_of(eq(STEP, form.step), *octaves)
            ways.append(Way(sign + form.text(reach.all), "tied_marks", change, only))
    return ways


# -- chords: step and octave are those of the note before, 0 before the first ----------------------


def _chord_ways(rules: Rules, forms: list[Form], limits: Limits) -> list[tuple[str, Way]]:
    ways = []
    for form in forms:
        for reach in reaches(form, limits):
            for sign, only, altered in _written(form):
                for is_higher_step in (True, False):
                    rise = _may_rise(form, reach, is_higher_step)
                    then = _chord_step(rules, form, reach, limits, is_higher_step, altered)
                    also = all_of(only, reach.only, lt(COUNT, limits.chord_notes), rise)
                    ways.append((sign, Way(form.text(reach.all), then, clear(STEP), also)))
    return ways


def _may_rise(form: Form, reach: Reach, is_higher_step: bool) -> str:
    """Returns the condition under which a form can be above the note before.

    Args:
        form: The form.
        reach: Its octaves.
        is_higher_step: For the case that its step is higher, so that the same octave will do.
    """
    how = "le" if is_higher_step else "lt"
    step = lt(STEP, form.step) if is_higher_step else ge(STEP, form.step)
    highest = compare(how, OCTAVE, reach.all[-1])
    if reach.drums and reach.drums[-1] < reach.all[-1]:
        highest = all_of(highest, any_of(IS_MELODIC, compare(how, OCTAVE, reach.drums[-1])))
    return all_of(step, highest)


def _chord_step(
    rules: Rules,
    form: Form,
    reach: Reach,
    limits: Limits,
    is_higher_step: bool,
    altered: list[Value],
) -> str:
    """Returns the rule that notes a letter of a chord, and reads its octave marks."""
    tops = [
        bool(octaves) and form.pitch(octaves[-1]) == highest
        for octaves, (_, highest) in zip(reach, (limits.pitches, limits.drum_pitches), strict=True)
    ]
    how = "le" if is_higher_step else "lt"
    marks = f"chord_marks{reach.name}{how}" + "".join("ad"[i] for i in (0, 1) if tops[i])
    if marks not in rules:
        rules.add(marks, [_chord_mark(rules, reach, octave, how, tops) for octave in reach.all])
    bits = "".join(str(value) for _, value in altered)
    name = f"step{form.step}b{bits or 0}{marks}"
    if name not in rules:
        rules.add(name, [Way("", marks, put(*altered, (STEP, form.step)))])
    return name


def _chord_mark(rules: Rules, reach: Reach, octave: int, how: str, tops: list[bool]) -> Way:
    rises = compare(how, OCTAVE, octave)
    # the highest pitch of all cannot be the first note of a chord: none is above it
    is_top = tops[0] and octave == reach.all[-1]
    is_top_drum = tops[1] and octave == reach.drums[-1]
    not_first = ge(COUNT, 1) if is_top else any_of(IS_MELODIC, ge(COUNT, 1)) if is_top_drum else ""
    name = f"octave{octave}"
    if name not in rules:
        rules.add(name, [Way("", "counted", put((OCTAVE, octave)))])
        if "counted" not in rules:
            rules.add("counted", [Way("", "chord", add_one(COUNT))])
    only = all_of(rises, reach.only_in(octave), not_first)
    return Way(MARKS[octave - 1], name, clear(OCTAVE), only)
