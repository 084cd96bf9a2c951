"""Bars that are planned: what must be in them, and what the model may write.

A plan says for each bar its length and changes, and for each voice its text, that it rests, or that
the model writes it. So bars inside a tune can be written anew (`fill`), and voices be added to
given ones (`accompany`). Where the bars behind the plan are given, a note may be held into them
only if they begin with the same note.
"""

from dataclasses import replace
from itertools import accumulate
from math import inf
from typing import NamedTuple

from .grammar_abc_header import MARK
from .grammar_abc_limits import GENERATION
from .grammar_abc_tune import LONGEST_TUPLET_END, SHORT_BAR, TuneGrammar, held_length
from .grammar_abc_tune_rules import Stage, State, with_fields
from .notation_abc import rest_text

# A tune that is given around or beside what is written needs no least length of its own.
PLANNED = replace(GENERATION, n_notes=0, n_pitches=0, seconds=0.0, most_seconds=inf)


class PlannedBar(NamedTuple):
    """One bar of a plan.

    Attributes:
        ticks: Its length.
        fields: The changes at its start, such as "[M:3/4][Q:1/4=90]".
        given: For each voice the text of its bar, "" if it rests, None if the model writes it.
        next_notes: For each voice that the model writes, the name or chord, without its length,
            that the bar behind this one begins with, "" if no note may be held into that bar, and
            None if the model writes that bar, too.
    """

    ticks: int
    fields: str
    given: tuple[str | None, ...]
    next_notes: tuple[str | None, ...]

    @property
    def sounds(self) -> bool:
        """Whether a given voice sounds."""
        return any(self.given)

    @property
    def n_free(self) -> int:
        """Number of voices that the model writes."""
        return self.given.count(None)

    @property
    def longest_closing(self) -> int:
        """An upper bound of the characters of this bar on a short path to the end."""
        return 1 + sum(
            len(f"{MARK}{voice}]{self.fields}|") + (SHORT_BAR if text is None else len(text))
            for voice, text in enumerate(self.given, 1)
        )


class Plan:
    """The bars that follow a text; compared by identity.

    Args:
        bars: The bars, at least one.
        first: Number of bars before them.
        ends_tune: Whether the last one ends the tune.

    Attributes:
        n_free: For each bar the voices' bars to be written up to its end.
        n_given_rests: For each bar the given voices' rests before it.
        longest_behind: For each bar an upper bound of the characters behind it on a short path to
            the end.
    """

    def __init__(self, bars: tuple[PlannedBar, ...], first: int, ends_tune: bool) -> None:
        self.bars, self.first, self.ends_tune = bars, first, ends_tune
        self.n_free = tuple(accumulate(bar.n_free for bar in bars))
        self.n_given_rests = tuple(accumulate((bar.given.count("") for bar in bars), initial=0))
        behind = accumulate((bar.longest_closing for bar in bars[:0:-1]), initial=0)
        self.longest_behind = tuple(behind)[::-1]


def bar_of(stage: Stage) -> PlannedBar | None:
    """Returns the planned bar of the line; None without a plan."""
    plan = stage.plan
    if plan is None or stage.n_bars - plan.first >= len(plan.bars):
        return None
    return plan.bars[stage.n_bars - plan.first]


class PlannedGrammar(TuneGrammar):
    """The automaton of whole tunes, and of bars with a plan; arguments as in `TuneRules`."""

    def planned(self, state: State, plan: Plan) -> State:
        """Returns the state after a text whose next bars are planned.

        Args:
            state: After a header, or after a whole bar.
            plan: Its `first` is the number of bars in the text.
        """
        stage = state.stage
        if stage.phase == "line":  # the end of the header: no further voice
            for character in MARK:
                state = self.step(state, character)
            stage = state.stage
        given = plan.bars[0].given
        held = zip(stage.tied_in, given, strict=True)
        stage = stage._replace(
            text="",
            plan=plan,
            bar_ticks=plan.bars[0].ticks,
            tied_in=tuple(pitches if text is None else () for pitches, text in held),
            n_rests=0,
        )
        return state._replace(stage=stage)

    # -- characters ---------------------------------------------------------------------------

    def follow(self, state: State) -> frozenset[str]:
        """As in `TuneRules`."""
        stage = state.stage
        if stage.phase == "given":
            return frozenset(self._given(stage)[len(stage.text)])
        found = super().follow(state)
        if "-" in found and not self._may_hold(state):
            return found - {"-"}
        return found

    def step(self, state: State, character: str) -> State | None:
        """As in `TuneRules`."""
        if character == "-" and character not in self.follow(state):
            return None
        return super().step(state, character)

    def _may_hold(self, state: State) -> bool:
        """Returns whether a note or chord that could be held may be: into the next bar."""
        bar = bar_of(state.stage)
        note = None if bar is None or state.node is None else bar.next_notes[state.stage.voice - 1]
        if note is None:
            return True
        grammar, key = state.node.grammar, state.node.key
        return bool(note) and grammar.text_of(grammar.end(key)[0].pitches) == note

    def _step(self, state: State, character: str) -> State:
        stage = state.stage
        if stage.phase != "given":
            return super()._step(state, character)
        if character != "|":
            return state._replace(stage=stage._replace(text=stage.text + character))
        is_silent = not bar_of(stage).given[stage.voice - 1]
        return state._replace(stage=stage._replace(phase="mark", text="", is_silent=is_silent))

    # -- voices -------------------------------------------------------------------------------

    def _n_rests_left(self, stage: Stage) -> int:
        bar, plan = bar_of(stage), stage.plan
        if bar is None:
            return super()._n_rests_left(stage)
        place = stage.n_bars - plan.first
        of_given = plan.n_given_rests[place] + bar.given[: stage.voice].count("")
        allowed = int(self.limits.rest_share * plan.n_free[place])
        return max(0, allowed - (stage.n_rests - of_given))

    def _may_end_line(self, stage: Stage) -> bool:
        bar = bar_of(stage)
        if bar is None or stage.is_silent:
            return super()._may_end_line(stage)
        left = bar.given[stage.voice :]
        is_owed = any(left) or any(stage.tied_in[stage.voice :])
        return not is_owed and left.count(None) <= self._n_rests_left(stage)

    def _marks(self, stage: Stage) -> list[str]:
        bar = bar_of(stage)
        if bar is None:
            return super()._marks(stage)
        marks, n_rests_left = [], self._n_rests_left(stage)
        if stage.is_silent:
            return marks
        for voice in range(stage.voice + 1, len(bar.given) + 1):
            text = bar.given[voice - 1]
            if text == "" and not (voice == 1 and self._may_be_silent(stage)):
                continue
            marks.append(f"{MARK}{voice}]")
            if text == "":  # all voices rest; or others sound
                continue
            if text or stage.tied_in[voice - 1] or not n_rests_left:
                break
            n_rests_left -= 1
        return marks

    def _may_be_silent(self, stage: Stage) -> bool:
        bar = bar_of(stage)
        if bar is None:
            return super()._may_be_silent(stage)
        if bar.sounds or any(stage.tied_in):
            return False
        is_allowed = bar.n_free <= self._n_rests_left(stage._replace(voice=0))
        return not bar.n_free or (is_allowed and stage.n_silent < self.limits.silent_bars)

    def _follow_mark(self, state: State) -> frozenset[str]:
        found = super()._follow_mark(state)
        if "\n" in found and bar_of(state.stage) is not None:
            found = found - {"\n", "]"} | {"]" if self.may_end(state) else "\n"}
        return found

    def may_end(self, state: State) -> bool:
        """As in `TuneRules`."""
        plan, stage = state.stage.plan, state.stage
        if bar_of(stage) is None:
            return super().may_end(state)
        return plan.ends_tune and stage.n_bars - plan.first == len(plan.bars) - 1

    def _mark_step(self, stage: Stage, character: str) -> Stage:
        found = super()._mark_step(stage, character)
        if character != "\n" or stage.plan is None:
            return found
        bar = bar_of(found)
        return found._replace(phase="end") if bar is None else found._replace(bar_ticks=bar.ticks)

    # -- the start of a bar -------------------------------------------------------------------

    def _given(self, stage: Stage) -> str:
        """Returns the voice's given bar with its bar line; "" if the model writes it."""
        bar = bar_of(stage)
        text = None if bar is None else bar.given[stage.voice - 1]
        return "" if text is None else (text or rest_text(bar.ticks)) + "|"

    def _fields_left(self, stage: Stage) -> str:
        """Returns the rest of the changes that the voice's bar starts with."""
        fields = bar_of(stage).fields if stage.fields is None else stage.fields
        return fields[len(stage.text) :]

    def _follow_start(self, stage: Stage) -> frozenset[str]:
        if bar_of(stage) is None:
            return super()._follow_start(stage)
        following = self._fields_left(stage) or self._given(stage)
        return frozenset(following[0]) if following else self._bar_start(stage).follow

    def _fields_after(self, stage: Stage, part: str) -> str:
        if bar_of(stage) is None:
            return super()._fields_after(stage, part)
        return self._fields_left(stage)[:1] if stage.fields is None else ""

    def _begin_bar(self, state: State, music: str) -> State:
        if not self._given(state.stage):
            return super()._begin_bar(state, music)
        stage = with_fields(state.stage)
        return state._replace(stage=stage._replace(phase="given", text=music))

    # -- a short path to the end --------------------------------------------------------------

    def closing_bound(self, state: State) -> int:
        """As in `TuneGrammar`."""
        bar, stage = bar_of(state.stage), state.stage
        if bar is None:
            return super().closing_bound(state)
        held = held_length((*stage.tied_in, *stage.tied_out))
        if state.node is not None:
            held += self.held_bound(state)
        behind = stage.plan.longest_behind[stage.n_bars - stage.plan.first]
        return bar.longest_closing + behind + held + LONGEST_TUPLET_END

    def _closing_part(self, state: State) -> tuple[str, State]:
        stage = state.stage
        if state.node is not None or stage.phase not in ("start", "given") or not bar_of(stage):
            return super()._closing_part(state)
        if stage.phase == "start" and (fields := self._fields_left(stage)):
            return fields, self.read(fields, state)
        if not (given := self._given(stage)):
            return super()._closing_part(state)
        text = given[len(stage.text) :] if stage.phase == "given" else given
        return text, self.read(text, state)
