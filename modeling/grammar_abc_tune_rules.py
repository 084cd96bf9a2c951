"""What may follow in a tune of the ABC dialect, in the layout `bars`, character by character.

Header line by line, then one line a bar, `[V:1]...|[V:2]...|`, a voice's bar by `grammar_abc_bar`;
counters see to what no grammar can: bars that are exact, ties that find their note, a least number
of notes.
"""

from typing import NamedTuple

from .grammar_abc_bar import BarGrammar, Node
from .grammar_abc_bar_rules import Key, Pitches
from .grammar_abc_header import (
    DRUMS,
    MARK,
    NEXT_LINE,
    full_bar_ticks,
    header_lines_tree,
    meter_changes,
    tempo_changes,
)
from .grammar_abc_limits import GENERATION, Limits
from .notation_abc import TICKS_PER_QUARTER, read_tempo


class Stage(NamedTuple):
    """Where in the tune a text stands, the bar under way apart.

    Attributes:
        phase: "line" of the header, "mark" of a voice, "start" of its bar, with the fields there,
            "bar", "line end" behind the last bar, "end".
        text: Of the line, mark or fields, so far.
        line: Which line of the header it is; "head" may be one of another voice or the first bar.
        key: Of the tune, once it is there.
        meter: From here on.
        quarters_per_minute: Tempo.
        is_drums: For each voice.
        voice: The last one of the bar's line, from 1; 0 at its beginning.
        fields: Changes that the voices of the line begin with; None before the first has begun.
        bar_ticks: Length of the bar of this line, 0 while it is open: a first bar may be short.
        n_bars: Whole bars written.
        tied_in: For each voice, the pitches that sound on into this bar, or ().
        tied_out: For each voice, those that sound on out of it.
        is_silent: Whether the line is a bar in which all rest.
        n_silent: Such bars in a row, up to here.
        n_rests: Bars that voices left out, those of this line included as far as it is written.
        seconds: Length of the whole bars.
        is_heard: Whether a voice sounds to the end of the bar of this line.
        heard: Length of the whole bars up to the last one to whose end a voice sounds.
    """

    phase: str = "line"
    text: str = ""
    line: str = "X"
    key: str = ""
    meter: str = ""
    quarters_per_minute: float = 0.0
    is_drums: tuple[bool, ...] = ()
    voice: int = 0
    fields: str | None = None
    bar_ticks: int = 0
    n_bars: int = 0
    tied_in: tuple[Pitches, ...] = ()
    tied_out: tuple[Pitches, ...] = ()
    is_silent: bool = False
    n_silent: int = 0
    n_rests: int = 0
    seconds: float = 0.0
    is_heard: bool = False
    heard: float = 0.0


class State(NamedTuple):
    """A text so far: its stage, the bar under way, and what has sounded.

    Attributes:
        stage: Where it stands.
        node: Of the bar, if one is under way.
        n_notes: Notes begun, counted up to what a tune needs.
        pitches: Of them, up to two different ones.
    """

    stage: Stage
    node: Node | None = None
    n_notes: int = 0
    pitches: Pitches = ()

    @property
    def is_end(self) -> bool:
        """Whether the tune is complete: the end token may follow."""
        return self.stage.phase == "end"


class TuneRules:
    """What may follow in whole tunes.

    Args:
        limits: What may be written; `DIALECT` takes all that the converter writes.
    """

    def __init__(self, limits: Limits = GENERATION) -> None:
        self.limits = limits
        self._bars: dict[tuple[str, bool], BarGrammar] = {}

    def start(self) -> State:
        """The state before the first character."""
        return State(Stage())

    def read(self, text: str, state: State | None = None) -> State:
        """The state after a text.

        Raises:
            ValueError: With line and column, and what was expected, where it leaves the dialect.
        """
        state = state or self.start()
        for place, character in enumerate(text):
            following = self.step(state, character)
            if following is None:
                line = text.count("\n", 0, place) + 1
                column = place - text.rfind("\n", 0, place)
                legal = " ".join(sorted(map(repr, self.follow(state)))) or "the end of the tune"
                raise ValueError(
                    f"line {line}, column {column}: {text[place : place + 20]!r}, expected {legal}"
                )
            state = following
        return state

    def step(self, state: State, character: str) -> State | None:
        """The state after one more character; None if it is illegal."""
        node = state.node
        if node is None:
            return self._step(state, character) if character in self.follow(state) else None
        if character == "|" and "|" in node.follow:
            return self._bar_end(state, *node.grammar.end(node.key))
        found = node.step(character)
        if found is None:
            return None
        following, new = found
        if not new:
            return State(state.stage, following, *state[2:])
        return self._sounded(state._replace(node=following), new)

    def follow(self, state: State) -> frozenset[str]:
        """Characters that may come next."""
        if state.node is not None:
            return state.node.follow
        stage = state.stage
        match stage.phase:
            case "line":
                tree = header_lines_tree(self.limits, stage.line, len(stage.is_drums))
                return frozenset(tree.get(stage.text, ""))
            case "mark":
                return self._follow_mark(state)
            case "start":
                return self._follow_start(stage)
            case "line end":
                return frozenset("\n")
        return frozenset()

    def _sounded(self, state: State, new: Pitches) -> State:
        pitches = tuple(dict.fromkeys((*state.pitches, *new)))[:2]
        n_notes = min(state.n_notes + len(new), self.limits.n_notes)
        return State(state.stage, state.node, n_notes, pitches)

    def _step(self, state: State, character: str) -> State:
        """A legal character outside a bar."""
        stage = state.stage
        match stage.phase:
            case "line":
                return State(self._line_step(stage, character))
            case "mark":
                return state._replace(stage=self._mark_step(stage, character))
            case "start":
                return self._start_step(state, character)
        return state._replace(stage=stage._replace(phase="end"))

    def continued(self, state: State) -> State:
        """A state of another automaton as one of this: its limits hold from the next bar on.

        Raises:
            ValueError: If a line of the header, or a change, is under way that cannot be completed.
        """
        stage = state.stage
        if field_under_way(stage) and not self.follow(state):
            raise ValueError(f"{stage.text!r} cannot be completed within the limits {self.limits}")
        n_notes = min(state.n_notes, self.limits.n_notes)
        return state._replace(n_notes=n_notes)

    # -- header -------------------------------------------------------------------------------

    def _line_step(self, stage: Stage, character: str) -> Stage:
        text = stage.text + character
        if text == MARK:
            ties = ((),) * len(stage.is_drums)
            return stage._replace(phase="mark", text=text, tied_in=ties, tied_out=ties)
        if character != "\n":
            return stage._replace(text=text)
        value = stage.text.partition(":")[2]
        match stage.line:
            case "M":
                stage = stage._replace(meter=value)
            case "Q":
                stage = stage._replace(quarters_per_minute=read_tempo(value) / 4)
            case "K":
                stage = stage._replace(key=value)
            case "MIDI" if stage.text.startswith("%%MIDI channel") and stage.text != DRUMS:
                return stage._replace(text="", line="program")
            case "MIDI" | "program":
                stage = stage._replace(is_drums=(*stage.is_drums, stage.text == DRUMS))
        return stage._replace(text="", line=NEXT_LINE[stage.line])

    # -- between bars -------------------------------------------------------------------------

    def _follow_mark(self, state: State) -> frozenset[str]:
        stage = state.stage
        n_read = len(stage.text)
        found = {mark[n_read] for mark in self._marks(stage) if mark.startswith(stage.text)}
        if stage.text == "" and stage.voice and self._may_end_line(stage):
            found.add("\n")
            if self.may_end(state):
                found.add("]")
        return frozenset(found)

    def _may_end_line(self, stage: Stage) -> bool:
        """Whether the voices that are not yet written may be left out."""
        if any(stage.tied_in[stage.voice :]):
            return False
        return stage.is_silent or len(stage.is_drums) - stage.voice <= self._n_rests_left(stage)

    def _n_rests_left(self, stage: Stage) -> int:
        """How many voices more may be left out of this line."""
        n_voices, share = len(stage.is_drums), self.limits.rest_share
        if share >= 1:
            return n_voices
        return max(0, int(share * n_voices * (stage.n_bars + 1)) - stage.n_rests)

    def _marks(self, stage: Stage) -> list[str]:
        """Marks of the voices that may come next in the line."""
        if stage.is_silent:
            return []
        marks = []
        last = min(stage.voice + 1 + self._n_rests_left(stage), len(stage.is_drums))
        for voice in range(stage.voice + 1, last + 1):
            marks.append(f"[V:{voice}]")
            if stage.tied_in[voice - 1]:
                break  # its note sounds on: it cannot be left out
        return marks

    def may_end(self, state: State) -> bool:
        """Whether `]` may follow: behind the last voice of a line."""
        is_over = not any(state.stage.tied_out) and not self._wants_notes(state)
        return is_over and self._heard(state.stage) >= self.limits.seconds

    def _wants_notes(self, state: State) -> bool:
        return state.n_notes < self.limits.n_notes or len(state.pitches) < self.limits.n_pitches

    def _heard(self, stage: Stage) -> float:
        """Seconds to the end of the last bar that ends with a sound, that of this line included."""
        return stage.seconds + self._seconds(stage) if stage.is_heard else stage.heard

    def _seconds(self, stage: Stage) -> float:
        return stage.bar_ticks / TICKS_PER_QUARTER * 60 / stage.quarters_per_minute

    def _mark_step(self, stage: Stage, character: str) -> Stage:
        if character == "\n":
            return stage._replace(
                voice=0,
                fields=None,
                bar_ticks=0,
                n_bars=stage.n_bars + 1,
                tied_in=stage.tied_out,
                tied_out=((),) * len(stage.tied_out),
                is_silent=False,
                n_silent=stage.n_silent + 1 if stage.is_silent else 0,
                n_rests=stage.n_rests + len(stage.is_drums) - stage.voice + stage.is_silent,
                seconds=stage.seconds + self._seconds(stage),
                is_heard=False,
                heard=self._heard(stage),
            )
        text = stage.text + character
        if text == "]":
            return stage._replace(phase="line end", text="")
        if character == "]":
            voice = int(text[len(MARK) : -1])
            n_rests = stage.n_rests + voice - stage.voice - 1
            return stage._replace(phase="start", text="", voice=voice, n_rests=n_rests)
        return stage._replace(text=text)

    # -- the beginning of a bar: changes, then its music ------------------------------------------

    def _follow_start(self, stage: Stage) -> frozenset[str]:
        if stage.fields is not None and stage.text != stage.fields:
            return frozenset(stage.fields[len(stage.text)])  # as the first voice has it
        part = field_under_way(stage)
        fields = self._fields_after(stage, part)
        if not part:
            return self._bar_start(stage).follow.union(fields)
        chord = self._bar_start(stage).step("[") if part == "[" else None
        return frozenset(fields).union(chord[0].follow if chord else ())

    def _fields_after(self, stage: Stage, part: str) -> str:
        """Characters that may follow this beginning of a change; "" where none may stand."""
        written = written_fields(stage)
        if stage.fields is not None or not stage.n_bars or "[Q:" in written:
            return ""
        found = "" if "[M:" in written else meter_changes(self.limits, stage.meter).get(part, "")
        if not self.limits.is_plain:
            found += tempo_changes(self.limits).get(part, "")
        return found

    def _bar_start(self, stage: Stage) -> Node:
        """The bar of the voice, at its beginning."""
        may_be_silent = stage.voice == 1 and not any(stage.tied_in)
        may_be_silent &= self._n_rests_left(stage) >= len(stage.is_drums)
        kind = stage.key, stage.is_drums[stage.voice - 1]
        if kind not in self._bars:
            self._bars[kind] = BarGrammar(*kind, self.limits)
        tied = stage.tied_in[stage.voice - 1]
        key = Key(
            left=stage.bar_ticks or full_bar_ticks(stage.meter),
            tied=tied,
            is_tied_in=bool(tied),
            is_open=not stage.n_bars and not stage.bar_ticks,
            may_be_silent=may_be_silent and stage.n_silent < self.limits.silent_bars,
        )
        return self._bars[kind].node(key)

    def _start_step(self, state: State, character: str) -> State:
        """A character before or at the beginning of a bar's music; `[` may be either."""
        stage, change = state.stage, {}
        if stage.fields is None or stage.text == stage.fields:
            part = field_under_way(stage)
            if character not in self._fields_after(stage, part):
                return self._begin_bar(state, part + character)
            if character == "]" and part.startswith("[M:"):
                change = {"meter": part[3:]}
            elif character == "]":
                change = {"quarters_per_minute": read_tempo(part[3:]) / 4}
        return state._replace(stage=stage._replace(text=stage.text + character, **change))

    def _begin_bar(self, state: State, music: str) -> State:
        stage = state.stage
        node = self._bar_start(stage)
        if stage.fields is None:  # the other voices repeat the metre alone
            meter, closed, _ = written_fields(stage).partition("]")
            fields = meter + closed if meter.startswith("[M:") else ""
            stage = stage._replace(fields=fields)
        if stage.n_bars and not stage.bar_ticks:
            stage = stage._replace(bar_ticks=full_bar_ticks(stage.meter))
        state = state._replace(stage=stage._replace(phase="bar", text=""), node=node)
        for character in music:
            state = self.step(state, character)
        return state

    def _bar_end(self, state: State, key: Key, new: Pitches) -> State:
        """The state behind a bar that ended so, with these pitches."""
        stage = state.stage
        ties = list(stage.tied_out)
        ties[stage.voice - 1] = key.tied
        stage = stage._replace(
            phase="mark",
            bar_ticks=stage.bar_ticks or full_bar_ticks(stage.meter) - key.left,
            tied_out=tuple(ties),
            is_silent=key.is_silent,
            is_heard=stage.is_heard or bool(key.pitches or key.tied),
        )
        return self._sounded(state._replace(stage=stage, node=None), new)


def written_fields(stage: Stage) -> str:
    """Whole fields at the beginning of the bar."""
    return stage.text[: stage.text.rfind("]") + 1]


def field_under_way(stage: Stage) -> str:
    """The field under way."""
    return stage.text[stage.text.rfind("]") + 1 :]
