"""Where `grammar.lark` accepts more than our automaton: which rule of `NOT_COVERED` it is.

Uses the automaton as it is, so it also names what a text breaks that was written within the grammar
by another engine.
"""

from dataclasses import replace
from functools import cache

from modeling.grammar_abc_limits import GENERATION, Limits
from modeling.grammar_abc_tune import TuneGrammar
from modeling.grammar_abc_tune_rules import State
from modeling.lark_abc import NOT_COVERED, lark_limits
from modeling.lark_abc_bits import N_TRACKED

UNEXPLAINED = "unexplained"
_LIMITS_OF = {  # what the grammar leaves out -> the limits that it is about
    "least length": ("n_notes", "n_pitches", "seconds"),
    "greatest length": ("most_seconds",),
    "rests": ("rest_share", "silent_bars"),
}


def gap_at(state: State, character: str) -> str:
    """Returns the rule by which a character is illegal in the automaton, but not in the grammar.

    Args:
        state: The state before it, of an automaton with `lark_limits`.
        character: An illegal character.

    Returns:
        A name of `NOT_COVERED`, or UNEXPLAINED.
    """
    stage, node = state.stage, state.node
    tied = stage.tied_in[stage.voice - 1] if stage.phase == "start" else ()
    if node is not None:
        if character == "-" and len(node.key.pitches) > 1:
            return "tied chord"
        tied = node.key.tied
    if tied:
        return _tie_gap(state, tied)
    further = any(stage.tied_in[N_TRACKED:]) or any(stage.tied_out[N_TRACKED:])
    # such a voice may be left out, and all may rest or the tune end
    if further and (stage.phase in ("mark", "start") or character == "z"):
        return "tie of a further voice"
    is_drum = stage.is_drums[stage.voice - 1 : stage.voice]
    if is_drum == (True,) and stage.is_drums.index(True) < stage.voice - 1:
        return "second drum kit"
    return UNEXPLAINED


def _tie_gap(state: State, tied: tuple[int, ...]) -> str:
    stage = state.stage
    if len(tied) > 1:
        return "tied chord"
    if stage.voice > N_TRACKED:
        return "tie of a further voice"
    if stage.n_bars == 1 and len(stage.is_drums) > 1:
        return "tie of a pickup"
    return "several ties"


def gaps_of(abc: str) -> list[str]:
    """Returns the rules that a whole tune breaks, [] if the automaton could have written it.

    Args:
        abc: A tune in the layout `bars`.

    Returns:
        Names of `NOT_COVERED`; UNEXPLAINED alone if the text has an error that is none of them.
    """
    held = _grammar(lark_limits())
    state = held.start()
    for character in abc:
        following = held.step(state, character)
        if following is None:
            return [gap_at(state, character)]
        state = following
    if not state.is_end:
        return [UNEXPLAINED]
    broken = []
    for name, limits in _LIMITS_OF.items():
        values = {limit: getattr(GENERATION, limit) for limit in limits}
        if not _accepts(_grammar(replace(lark_limits(), **values)), abc):
            broken.append(name)
    return broken


@cache
def _grammar(limits: Limits) -> TuneGrammar:
    """Returns an automaton, which keeps its states."""
    return TuneGrammar(limits)


def _accepts(grammar: TuneGrammar, abc: str) -> bool:
    try:
        state = grammar.read(abc)
    except ValueError:
        return False
    return state.is_end and not grammar.is_late(state)


if missing := set(_LIMITS_OF) - {gap.name for gap in NOT_COVERED}:
    raise AssertionError(f"{missing} are not in NOT_COVERED")
