"""The ABC dialect as a file for other engines: `grammar.lark`, a parametric grammar of llguidance.

    text = lark_grammar(end_id=2)

llguidance is a grammar backend of vLLM, SGLang and llama.cpp, and can be used in transformers. The
file is written from the tables of our own automaton (`grammar_abc_tune`), and accepts every tune
that it accepts. Its rules have a memory of 64 bits, see `lark_abc_bits`; what these cannot
hold is in `NOT_COVERED`.
"""

import json
from dataclasses import replace
from functools import cache
from math import inf
from pathlib import Path
from typing import NamedTuple

from .grammar_abc_header import full_bar_ticks, meters
from .grammar_abc_limits import GENERATION, Limits
from .grammar_abc_tune import TuneGrammar
from .lark_abc_bar import add_bars
from .lark_abc_bits import (
    COUNT,
    DRUMS,
    FLAGS,
    KEY,
    LEFT,
    METER,
    MODE,
    N_TRACKED,
    SLOT,
    VOICE,
    VOICES,
    Rules,
    number_of,
)
from .lark_abc_elements import OPEN, PLAIN
from .lark_abc_lines import add_header, add_lines
from .lark_abc_names import CHORD, place_of
from .lark_abc_notes import add_notes
from .notation_abc import KEYS, SHORTEST_TICKS

LARK_FILE = "grammar.lark"


class Gap(NamedTuple):
    """A rule of the automaton that the grammar does not hold.

    Attributes:
        name: Its name in tables.
        about: What is accepted beyond the rule.
        in_masks: Whether the rule is one of `lark_limits`, so that masks show the difference.
    """

    name: str
    about: str
    in_masks: bool = True


NOT_COVERED = (
    Gap("budget", "a tune need not end within the tokens that an engine writes", in_masks=False),
    Gap("least length", "a tune may have fewer notes and pitches, and be shorter", in_masks=False),
    Gap("greatest length", "a tune may be longer than readers are asked to read", in_masks=False),
    Gap(
        "rests",
        "voices may rest in any share of the bars, and all of them in consecutive bars",
        in_masks=False,
    ),
    Gap(
        "tied chord",
        "a tied chord must be followed by a chord, but not by the same; and a chord may be tied "
        "even if its text would differ in the next bar, or has one letter in two forms",
    ),
    Gap(
        "several ties",
        "where several voices hold a note over a bar line, the first must repeat its note, the "
        "others may go on with any note or chord",
    ),
    Gap(
        "tie of a pickup",
        "the same for all notes held over from a short first bar of several voices",
    ),
    Gap("tie of a further voice", f"ties are not remembered in voices after the first {N_TRACKED}"),
    Gap("second drum kit", "its pitches may be those of melodic voices"),
)


def lark_limits(limits: Limits = GENERATION) -> Limits:
    """Returns the limits without those that `NOT_COVERED` names: what the grammar enforces."""
    return replace(
        limits,
        silent_bars=10**9,
        rest_share=1.0,
        n_notes=0,
        n_pitches=0,
        seconds=0.0,
        most_seconds=inf,
    )


def lark_grammar(end_id: int, limits: Limits = GENERATION, prompt: str = "") -> str:
    """Returns the text of `grammar.lark`: a whole tune, and then the end token.

    Args:
        end_id: The tokenizer's end token. Only it may follow a whole tune.
        limits: What may be written.
        prompt: What the tune starts with, for engines that give a grammar only what they write: a
            whole header, or that and whole lines of bars.

    Raises:
        ValueError: If the limits do not fit into 64 bits, or are those of the whole dialect, or the
            prompt leaves them or ends elsewhere.
    """
    ticks = {meter: full_bar_ticks(meter) for meter in meters(limits)}
    _check(limits, ticks)
    rules = Rules()
    start = _start_after(prompt, limits, list(ticks)) if prompt else "header::0x0"
    rules.add_line(f"start : {start}")
    add_header(rules, limits, list(ticks))
    add_lines(rules, limits, list(ticks))
    add_bars(rules, ticks)
    add_notes(rules, limits)
    # Twice: where a grammar is over, all its rules end at once, which are more than engines allow.
    rules.add_line(f"end : <[{end_id}]> <[{end_id}]>")
    # tokens are legal by their characters, as in our own automaton
    return '%llguidance {"no_forcing": true}\n' + rules.text()


def save_grammar(folder: Path, end_id: int) -> None:
    """Writes `grammar.lark` into a folder, which is created if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LARK_FILE).write_text(_whole_tunes(end_id), "utf-8")


@cache
def _whole_tunes(end_id: int) -> str:
    return lark_grammar(end_id)


def _start_after(prompt: str, limits: Limits, all_meters: list[str]) -> str:
    """Returns the rule and number after a prompt."""
    stage = TuneGrammar(lark_limits(limits)).read(prompt).stage
    after_header = stage.phase == "line" and stage.line == "head" and not stage.text
    after_line = stage.phase == "mark" and not stage.text and not stage.voice
    if not after_header and not after_line:
        raise ValueError(
            f"the prompt ends with {prompt[-20:]!r}, expected the end of a header, or of a line of "
            "bars"
        )
    held = [pitches for pitches in stage.tied_in if pitches]
    flags = sum(1 << v for v, pitches in enumerate(stage.tied_in[:N_TRACKED]) if pitches)
    number = number_of(
        (METER, all_meters.index(stage.meter)),
        (MODE, OPEN if after_header else PLAIN),
        (KEY, list(KEYS).index(stage.key)),
        (VOICES, len(stage.is_drums)),
        (DRUMS, stage.is_drums.index(True) + 1 if any(stage.is_drums) else 0),
        (FLAGS, flags),
        (SLOT, _slot(stage.key, held[0]) if flags else 0),
    )
    return f"line::{number:#x}"


def _slot(key: str, pitches: tuple[int, ...]) -> int:
    """Returns how the first of the ties that wait is remembered."""
    if len(pitches) > 1:
        return CHORD
    return place_of(pitches[0], KEYS[key])


def _check(limits: Limits, ticks: dict[str, int]) -> None:
    most = {
        "meters": (len(ticks), 2**METER.width),
        "n_voices": (limits.n_voices, 2**VOICE.width - 1),
        "chord_notes": (limits.chord_notes, 2**COUNT.width - 1),
        "bar_ticks": (max(ticks.values()) // SHORTEST_TICKS, 2**LEFT.width - 1),
    }
    for name, (found, allowed) in most.items():
        if found > allowed:
            raise ValueError(f"{name}: {found}, but a grammar of 64 bits has at most {allowed}")
    (lowest, highest), drums = limits.pitches, limits.drum_pitches
    if not lowest <= drums[0] <= drums[1] <= highest:
        raise ValueError(f"drum_pitches {drums}, expected some of the pitches {limits.pitches}")
    if not limits.is_plain:
        raise ValueError(
            "limits with is_plain=False, expected those of tunes that models write, such as "
            "GENERATION: ties inside bars and unequal tuplets do not fit into 64 bits"
        )


def readable_tokenizer(tokenizer_json: str) -> str:
    """Returns a tokenizer.json as llguidance reads it, which decodes to the same text.

    llguidance knows tokens of bytes, and of text in which some stand for bytes. Ours are text
    without such tokens; their decoder only joins them, which tells it nothing.

    Args:
        tokenizer_json: The content of a tokenizer.json. Unless its decoder only joins tokens, it is
            returned as it is.
    """
    content = json.loads(tokenizer_json)
    join = {"type": "Fuse"}
    if content["decoder"] != join:
        return tokenizer_json
    content["decoder"] = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, join]}
    return json.dumps(content, indent=2, ensure_ascii=False)
