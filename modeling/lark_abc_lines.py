"""Rules of `grammar.lark` for a tune: its header, and its lines of bars."""

from collections.abc import Iterable

from .grammar_abc_header import DRUMS as DRUM_LINE
from .grammar_abc_header import MARK, header_texts
from .grammar_abc_limits import Limits
from .lark_abc_bits import (
    DRUMS,
    FLAGS,
    KEY,
    METER,
    MODE,
    N_TRACKED,
    NEVER,
    SAME,
    SLOT,
    VOICE,
    VOICES,
    Rules,
    Way,
    all_of,
    any_of,
    clear,
    eq,
    ge,
    is_clear,
    lt,
    ne,
    put,
    quoted,
)
from .lark_abc_elements import CHANGED, OPEN, PLAIN, SHORT


def add_header(rules: Rules, limits: Limits, all_meters: list[str]) -> None:
    """Adds `header`, which ends where the first bar begins."""
    line = {
        name: header_texts(limits, name, 0) for name in ("X", "L", "Q", "chordattack", "K", "MIDI")
    }
    rules.add("header", [Way(f"{line['X'][0]}\nM:", "header_meter")])
    ways = [Way(m, "header_unit", put((METER, i))) for i, m in enumerate(all_meters)]
    rules.add("header_meter", ways)
    rules.add("header_unit", [Way(f"\n{line['L'][0]}\n", "header_tempo")])
    rules.add_line(f"TEMPO : /{_regex(line['Q'])}/")
    rules.add_line(f"header_tempo::_ : TEMPO header_chords::_ | {NEVER}")
    rules.add("header_chords", [Way(f"\n{line['chordattack'][0]}\n", "header_key")])
    ways = [Way(text, "voice1", put((KEY, i))) for i, text in enumerate(line["K"])]
    rules.add("header_key", ways)
    programs = [text for text in line["MIDI"] if text != DRUM_LINE]
    rules.add_line(f"INSTRUMENT : /{_regex(programs)}/")
    for voice in range(1, limits.n_voices + 1):
        _add_voice(rules, limits, voice)


def _add_voice(rules: Rules, limits: Limits, voice: int) -> None:
    """Adds the rules that declare a voice."""
    number = header_texts(limits, "V", voice - 1)[0]
    rules.add(f"voice{voice}", [Way(f"\n{number}\n", f"part{voice}")])
    drums = quoted(DRUM_LINE)
    rules.add_line(
        f"part{voice}::_ : INSTRUMENT declared{voice}::_ | {drums} drums{voice}::_",
    )
    first = Way("", f"declared{voice}", put((DRUMS, voice)), eq(DRUMS, 0))
    rules.add(f"drums{voice}", [first, Way("", f"declared{voice}", SAME, ne(DRUMS, 0))])
    ways = [Way("\n", "line", put((VOICES, voice), (MODE, OPEN)))]
    more = [Way("", f"voice{voice + 1}")] if voice < limits.n_voices else []
    rules.add(f"declared{voice}", ways + more)


def _regex(texts: Iterable[str]) -> str:
    """Returns a regular expression for some texts, without those that begin with each other."""
    below: dict[str, list[str]] = {}
    for text in texts:
        if text:
            below.setdefault(text[0], []).append(text[1:])
    if not below:
        return ""
    parts = []
    for character, rest in below.items():
        written = "\\/" if character == "/" else character
        after = _regex(rest)
        parts.append(written + (f"({after})?" if "" in rest and after else after))
    return parts[0] if len(parts) == 1 else f"({'|'.join(parts)})"


# -- lines of bars ---------------------------------------------------------------------------------


def add_lines(rules: Rules, limits: Limits, all_meters: list[str]) -> None:
    """Adds `line`, one line of bars, `after_bar`, what follows a voice's bar, and `silent`."""
    tracked = range(1, min(N_TRACKED, limits.n_voices) + 1)
    # a voice whose note is held cannot be left out; a voice up to the latest has been written
    done = {v: any_of(is_clear(FLAGS.bit(v - 1)), ge(VOICE, v)) for v in tracked}
    first, later = [], []
    for voice in range(1, limits.n_voices + 1):
        mark, is_there = f"{MARK}{voice}]", ge(VOICES, voice)
        before = [done[v] for v in tracked if v < voice]
        first.append(Way(mark, "changes", put((VOICE, voice)), all_of(is_there, *before)))
        if voice > 1:
            only = all_of(is_there, lt(VOICE, voice), *before)
            later.append(Way(mark, f"mark{voice}", clear(VOICE), only))
            rules.add(f"mark{voice}", [Way("", "repeated", put((VOICE, voice)))])
    rules.add("line", first)
    rules.add(
        "changes",
        [Way("[M:", "change", SAME, eq(MODE, PLAIN)), Way("", "bar_start")],
    )
    repeated = [Way("", "bar_start", SAME, ne(MODE, CHANGED))]
    change = []
    for number, meter in enumerate(all_meters):
        is_same = all_of(eq(MODE, CHANGED), eq(METER, number))
        repeated.append(Way(f"[M:{meter}]", "bar_start", SAME, is_same))
        change.append(Way(f"{meter}]", f"meter{number}", clear(METER), ne(METER, number)))
        changed = put((METER, number), (MODE, CHANGED))
        rules.add(f"meter{number}", [Way("", "bar_start", changed)])
    rules.add("repeated", repeated)
    rules.add("change", change)
    rules.add("after_bar", [*later, *_line_end(all_of(*done.values()), eq(FLAGS, 0))])
    rules.add("silent", _line_end("", ""))
    rules.add(
        "next_line",
        [
            Way("", "line", clear(VOICE, MODE), ne(MODE, SHORT)),
            Way("", "line", clear(VOICE, MODE, SLOT), eq(MODE, SHORT)),
        ],
    )


def _line_end(may_go_on: str, may_end: str) -> list[Way]:
    return [Way("\n", "next_line", SAME, may_go_on), Way("]\n", "end", "", may_end)]
