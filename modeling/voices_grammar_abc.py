"""The ABC dialect as an automaton over characters, in the layout `voices`: one block a voice.

The header and the bars are those of grammar_abc.py. The first voice decides on the bars; the others
repeat their number, lengths, changes and lines. Changes are lines before a bar, `M:3/4`, `Q:1/4=90`
and then `L:1/16`; a tune that changes its metre says it before its first bar as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .bar_grammar_abc import REST, Key, Node, Pitches
from .grammar_abc import LONGEST_TUPLET_END, SHORT_BAR, State, TuneGrammar
from .header_grammar_abc import (
    full_bar_ticks,
    line_ends,
    meter_lines,
    quarters_a_minute,
    shortest_way,
    tempo_lines,
)
from .notation_abc import TICKS_PER_QUARTER, UNIT_LINE

BARS_PER_LINE = 4


class PlannedBar(NamedTuple):
    """A bar of the first voice: the lines of changes before it, and its ticks."""

    changes: str
    ticks: int


class VoicesStage(NamedTuple):
    """Where in the tune a text stands, the bar under way apart; the header's as in Stage.

    Attributes:
        phase: "line" of a header or voice head, "gap" before a bar, "bar", "line end", "end".
        text: Of the line or gap, so far.
        line: Which line of the header it is.
        meter: From here on.
        quarters_per_minute: Tempo.
        key: Of the tune.
        is_drums: For each voice.
        plan: Bars of the first voice, as far as it is written.
        bar: Whole bars of this voice.
        n_in_line: Bars on its last line.
        tied: Pitches that sound on into the next bar.
        changes: Lines before the bar under way.
        n_silent: Silent bars in a row, of the first voice.
        seconds: Length of the first voice.
        heard: The same up to the last bar that ends with a sound.
    """

    phase: str = "line"
    text: str = ""
    line: str = "X"
    meter: str = ""
    quarters_per_minute: float = 0.0
    key: str = ""
    is_drums: tuple[bool, ...] = ()
    plan: tuple[PlannedBar, ...] = ()
    bar: int = 0
    n_in_line: int = 0
    tied: Pitches = ()
    changes: str = ""
    n_silent: int = 0
    seconds: float = 0.0
    heard: float = 0.0

    @property
    def is_first_voice(self) -> bool:
        """Whether the voice under way decides on the bars."""
        return len(self.is_drums) == 1


class VoicesGrammar(TuneGrammar):
    """The automaton of whole tunes in the layout `voices`."""

    def start(self) -> State:
        """The state before the first character."""
        return State(VoicesStage())

    def follow(self, state: State) -> frozenset[str]:
        """Characters that may come next."""
        if state.node is not None:
            return state.node.follow
        stage = state.stage
        match stage.phase:
            case "line":
                return self._follow_header(stage)
            case "gap":
                return frozenset(self._follow_gap(state))
            case "line end":
                return frozenset("\n")
        more = len(stage.is_drums) < self.limits.n_voices
        return frozenset("V" if more else "")

    def _step(self, state: State, character: str) -> State:
        stage = state.stage
        match stage.phase:
            case "line":
                return state._replace(stage=self._line_step(stage, character))
            case "gap":
                return self._gap_step(state, character)
            case "line end":
                return state._replace(stage=stage._replace(phase="end"))
        again = stage._replace(phase="line", line="V", text=character, bar=0, n_in_line=0)
        return state._replace(stage=again)

    def _begin_bars(self, stage: VoicesStage) -> VoicesStage:
        return stage._replace(phase="gap", text="", tied=())

    # -- between bars: a line break, changes, then the music of the next bar ---------------------

    def _follow_gap(self, state: State) -> set[str]:
        stage = state.stage
        if not stage.is_first_voice:
            if stage.bar == len(stage.plan):
                return {"]"}
            wanted = self._planned_gap(stage)
            if stage.text != wanted:
                return {wanted[len(stage.text)]}
            return set(self._bar_start(stage).follow)
        found = set()
        if not stage.text and stage.n_in_line:
            changes = self._change_tree(stage._replace(text="\n")).get("")
            if stage.n_in_line == BARS_PER_LINE or changes:
                found.add("\n")
            if self.may_end(state):
                found.add("]")
        if self._may_begin_music(stage):
            found |= self._bar_start(stage).follow
        if self._is_line_start(stage):
            found |= set(self._change_tree(stage).get(_part(stage), ""))
        return found

    def _planned_gap(self, stage: VoicesStage) -> str:
        """What stands before this bar in the first voice."""
        changes = stage.plan[stage.bar].changes
        breaks = stage.n_in_line and (stage.n_in_line == BARS_PER_LINE or changes)
        return ("\n" if breaks else "") + changes

    def _is_line_start(self, stage: VoicesStage) -> bool:
        return not stage.n_in_line or stage.text.startswith("\n")

    def _may_begin_music(self, stage: VoicesStage) -> bool:
        """Of the first voice: not within changes, nor where a line is full or broken too early."""
        changes = stage.text.lstrip("\n")
        if changes:
            return changes.endswith(UNIT_LINE + "\n")
        is_broken = stage.text == "\n"
        return is_broken == (stage.n_in_line == BARS_PER_LINE)

    def _change_tree(self, stage: VoicesStage) -> Mapping[str, str]:
        """Lines that may come next in a group of changes, each with its line end."""
        written, limits = stage.text.lstrip("\n"), self.limits
        if f"{UNIT_LINE}\n" in written:
            return {}
        trees = [line_ends(UNIT_LINE)] if "\n" in written else []
        if "Q:" not in _whole(written):
            if "M:" not in _whole(written) and self._may_change_meter(stage):
                trees.append(meter_lines(limits, stage.meter, is_same=not stage.bar))
            if not limits.is_plain:
                trees.append(tempo_lines(limits))
        return _merged(trees, _part(stage))

    def _may_change_meter(self, stage: VoicesStage) -> bool:
        """Abcjs needs the metre before the first bar of a tune that changes it."""
        return not stage.bar or "M:" in stage.plan[0].changes

    def may_end(self, state: State) -> bool:
        """Whether `]` may follow the first voice's last bar line."""
        stage = state.stage
        enough = not self._wants_notes(state) and self._is_heard_enough(stage)
        return bool(stage.bar) and not stage.tied and enough

    def _n_voice_bars(self, stage: VoicesStage, n_bars: int) -> int:
        return n_bars  # of the first voice; `closing_bound` counts those of the others

    def _heard(self, stage: VoicesStage) -> float:
        return stage.heard

    def _gap_step(self, state: State, character: str) -> State:
        stage = state.stage
        if character == "]":
            return state._replace(stage=stage._replace(phase="line end", text=""))
        is_music = (
            stage.text == self._planned_gap(stage)
            if not stage.is_first_voice
            else self._may_begin_music(stage) and character in self._bar_start(stage).follow
        )
        if not is_music:
            return state._replace(stage=stage._replace(text=stage.text + character))
        node = self._bar_start(stage)
        broken = stage.text.startswith("\n")
        stage = stage._replace(
            phase="bar",
            text="",
            changes=stage.text.lstrip("\n"),
            n_in_line=0 if broken else stage.n_in_line,
        )
        for line in stage.changes.splitlines():
            if line.startswith("M:"):
                stage = stage._replace(meter=line[2:])
            elif line.startswith("Q:"):
                stage = stage._replace(quarters_per_minute=quarters_a_minute(line[2:]))
        return self.step(state._replace(stage=stage, node=node), character)

    def _bar_start(self, stage: VoicesStage) -> Node:
        """The bar of the voice, at its beginning."""
        grammar = self.bar_grammar(stage, len(stage.is_drums))
        if not stage.is_first_voice:
            return grammar.start(
                stage.plan[stage.bar].ticks,
                stage.tied,
                may_be_silent=not stage.tied,
                is_last=stage.bar + 1 == len(stage.plan),
            )
        lines = stage.text.split("\n")
        meter = next((line[2:] for line in lines if line.startswith("M:")), stage.meter)
        may_be_silent = not stage.tied and stage.n_silent < self.limits.silent_bars
        ticks = full_bar_ticks(meter)
        return grammar.start(ticks, stage.tied, is_open=not stage.bar, may_be_silent=may_be_silent)

    def _bar_end(self, state: State, key: Key, new: Pitches) -> State:
        stage = state.stage
        if stage.is_first_voice:
            ticks = full_bar_ticks(stage.meter) - key.left
            seconds = stage.seconds + ticks / TICKS_PER_QUARTER * 60 / stage.quarters_per_minute
            stage = stage._replace(
                plan=(*stage.plan, PlannedBar(stage.changes, ticks)),
                n_silent=stage.n_silent + 1 if key.is_silent else 0,
                seconds=seconds,
                heard=seconds if key.pitches or key.tied else stage.heard,
            )
        stage = stage._replace(
            phase="gap",
            bar=stage.bar + 1,
            n_in_line=stage.n_in_line + 1,
            tied=key.tied,
            changes="",
        )
        state = state._replace(stage=stage, node=None)
        return self._sounded(state, new) if new else state

    # -- a short way to the end ----------------------------------------------------------------

    def closing_bound(self, state: State) -> int:
        """No `closing` of this state is longer; quick, and seldom near."""
        stage = state.stage
        bound = self._bound_of_needs(state, [stage.tied]) + LONGEST_TUPLET_END
        if not stage.plan or (stage.is_first_voice and stage.phase != "line"):
            return bound + SHORT_BAR
        # a later voice has the bars of the first, each with its changes
        to_come = stage.plan[stage.bar :]
        return bound + sum(SHORT_BAR + len(bar.changes) for bar in to_come)

    def _closing_between(self, state: State) -> tuple[str, State]:
        text = self._closing_gap(state) if state.stage.phase == "gap" else "\n"
        return text, self._step(state, text)

    def _fill(self, state: State) -> str:
        """What the tune needs in a bar that is brought to its end; of later voices nothing."""
        return super()._fill(state) if state.stage.is_first_voice else REST

    def _closing_gap(self, state: State) -> str:
        stage = state.stage
        follow = self._follow_gap(state)
        if "]" in follow:
            return "]"
        if not stage.is_first_voice and stage.text != self._planned_gap(stage):
            return next(iter(follow))
        if not stage.is_first_voice or self._may_begin_music(stage):
            return self._bar_start(stage).closing(self._fill(state))[0][0]
        if not stage.text:
            return "\n"
        return shortest_way(self._change_tree(stage), _part(stage))


def _whole(written: str) -> str:
    """Whole lines of a text."""
    return written[: written.rfind("\n") + 1]


def _part(stage: VoicesStage) -> str:
    """The line of changes under way."""
    return stage.text[stage.text.rfind("\n") + 1 :]


def _merged(trees: list[Mapping[str, str]], part: str) -> Mapping[str, str]:
    """One tree of those that have a way on from a beginning."""
    going_on = [tree for tree in trees if part in tree]
    if len(going_on) == 1:
        return going_on[0]
    return {part: "".join(tree[part] for tree in going_on)}
