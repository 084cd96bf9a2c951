"""What may follow in a tune of the ABC dialect, in the layout `bars`, character by character.

The header is read line by line, then one line per bar, `[V:1]...|[V:2]...|`, each voice's bar by
`grammar_abc_bar`. Counters enforce what no grammar can: bars of exact length, ties that find their
note, a minimum number of notes.
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
    """The position of a text in the tune, excluding the current bar.

    Attributes:
        phase: "line" of the header, "mark" of a voice, "start" of its bar with the fields there,
            "bar", "line end" after the last bar, "end".
        text: Text of the line, mark or fields so far.
        line: The header line it is; "head" may be one of another voice or the first bar.
        key: Key of the tune, once known.
        meter: Meter from here on.
        quarters_per_minute: Tempo.
        is_drums: For each voice, whether it is the drum kit.
        voice: The latest voice in the bar's line, from 1; 0 at the start of the line.
        fields: Changes that the voices of the line start with; None before the first has started.
        bar_ticks: Length of this line's bar, 0 while still open: a first bar may be short.
        n_bars: Whole bars written.
        tied_in: For each voice, the pitches that continue into this bar, or ().
        tied_out: For each voice, the pitches that continue beyond it, or ().
        is_silent: Whether the line is a bar in which all voices rest.
        n_silent: Number of consecutive such bars up to here.
        n_rests: Number of bars that voices left out, including this line up to here.
        seconds: Duration of the whole bars.
        is_heard: Whether a voice sounds up to the end of this line's bar.
        heard: Duration of the whole bars up to the last one in which a voice sounds to the end.
        plan: What the bars from here on must be, see grammar_abc_plan; None: anything.
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
    plan: object = None


class State(NamedTuple):
    """The state of a text so far: its stage, the current bar, and what has sounded.

    Attributes:
        stage: Its position in the tune.
        node: State of the current bar, if there is one.
        n_notes: Notes started, counted up to what a tune needs.
        pitches: Their pitches, up to two different ones.
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
        limits: What may be written; `DIALECT` accepts everything that the converter writes.
    """

    def __init__(self, limits: Limits = GENERATION) -> None:
        self.limits = limits
        self._bars: dict[tuple[str, bool], BarGrammar] = {}

    def start(self) -> State:
        """Returns the state before the first character."""
        return State(Stage())

    def read(self, text: str, state: State | None = None) -> State:
        """Returns the state after a text.

        Raises:
            ValueError: If it leaves the dialect; names line, column and what was expected.
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
        """Returns the state after one more character; None if it is illegal."""
        node = state.node
        if node is None:
            return self._step(state, character) if character in self.follow(state) else None
        if character == "|" and "|" in node.follow:
            return self._bar_end(state, *node.grammar.end(node.key))
        found = node.step(character)
        if found is None:
            return None
        following, new = found
        stage, _, n_notes, pitches = state
        if not new:
            return State(stage, following, n_notes, pitches)
        return self._sounded(state._replace(node=following), new)

    def follow(self, state: State) -> frozenset[str]:
        """Returns the characters that may come next."""
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
        if state.n_notes >= self.limits.n_notes and len(state.pitches) == 2:
            return state  # all that counts has been counted
        pitches = tuple(dict.fromkeys((*state.pitches, *new)))[:2]
        n_notes = min(state.n_notes + len(new), self.limits.n_notes)
        return State(state.stage, state.node, n_notes, pitches)

    def _step(self, state: State, character: str) -> State:
        """Returns the state after a legal character outside a bar."""
        stage = state.stage
        match stage.phase:
            case "line":
                return State(self._line_step(stage, character))
            case "mark":
                _, node, n_notes, pitches = state
                return State(self._mark_step(stage, character), node, n_notes, pitches)
            case "start":
                return self._start_step(state, character)
        return state._replace(stage=stage._replace(phase="end"))

    def continued(self, state: State) -> State:
        """Turns a state of another automaton into one of this, whose limits hold from the next bar.

        Raises:
            ValueError: If an unfinished header line or change cannot be completed.
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
        """Returns whether the voices not yet written may be left out."""
        if any(stage.tied_in[stage.voice :]):
            return False
        return stage.is_silent or len(stage.is_drums) - stage.voice <= self._n_rests_left(stage)

    def _n_rests_left(self, stage: Stage) -> int:
        """Returns how many more voices may be left out of this line."""
        n_voices, share = len(stage.is_drums), self.limits.rest_share
        if share >= 1:
            return n_voices
        return max(0, int(share * n_voices * (stage.n_bars + 1)) - stage.n_rests)

    def _marks(self, stage: Stage) -> list[str]:
        """Returns the marks of the voices that may come next in the line."""
        if stage.is_silent:
            return []
        marks = []
        last = min(stage.voice + 1 + self._n_rests_left(stage), len(stage.is_drums))
        for voice in range(stage.voice + 1, last + 1):
            marks.append(f"[V:{voice}]")
            if stage.tied_in[voice - 1]:
                break  # its note continues, so it cannot be left out
        return marks

    def may_end(self, state: State) -> bool:
        """Returns whether `]` may follow, after the last voice of a line."""
        is_over = not any(state.stage.tied_out) and not self._wants_notes(state)
        return is_over and self._heard(state.stage) >= self.limits.seconds

    def _wants_notes(self, state: State) -> bool:
        return state.n_notes < self.limits.n_notes or len(state.pitches) < self.limits.n_pitches

    def _heard(self, stage: Stage) -> float:
        """Returns the seconds to the end of the last bar ending in sound, this line included."""
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
        return self._marked(stage, text) if character == "]" else stage._replace(text=text)

    def _marked(self, stage: Stage, mark: str) -> Stage:
        """Returns the stage after a whole mark, such as `[V:2]`."""
        voice = int(mark[len(MARK) : -1])
        n_rests = stage.n_rests + voice - stage.voice - 1
        return stage._replace(phase="start", text="", voice=voice, n_rests=n_rests)

    # -- the start of a bar: changes, then its music ------------------------------------------

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
        """Returns the characters that may follow this start of a change; "" if none is legal."""
        written = written_fields(stage)
        if stage.fields is not None or not stage.n_bars or "[Q:" in written:
            return ""
        found = "" if "[M:" in written else meter_changes(self.limits, stage.meter).get(part, "")
        if not self.limits.is_plain:
            found += tempo_changes(self.limits).get(part, "")
        return found

    def _bar_start(self, stage: Stage) -> Node:
        """Returns the initial state of the voice's bar."""
        kind = stage.key, stage.is_drums[stage.voice - 1]
        if kind not in self._bars:
            self._bars[kind] = BarGrammar(*kind, self.limits)
        tied = stage.tied_in[stage.voice - 1]
        key = Key(
            left=stage.bar_ticks or full_bar_ticks(stage.meter),
            tied=tied,
            is_tied_in=bool(tied),
            is_open=not stage.n_bars and not stage.bar_ticks,
            may_be_silent=stage.voice == 1 and self._may_be_silent(stage),
        )
        return self._bars[kind].node(key)

    def _may_be_silent(self, stage: Stage) -> bool:
        """Returns whether all voices may rest in this bar."""
        return (
            not any(stage.tied_in)
            and self._n_rests_left(stage) >= len(stage.is_drums)
            and stage.n_silent < self.limits.silent_bars
        )

    def _start_step(self, state: State, character: str) -> State:
        """Returns the state after a character before or at a bar's music; `[` may be either."""
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
        node = self._bar_start(state.stage)
        stage = with_fields(state.stage)
        if stage.n_bars and not stage.bar_ticks:
            stage = stage._replace(bar_ticks=full_bar_ticks(stage.meter))
        state = state._replace(stage=stage._replace(phase="bar", text=""), node=node)
        for character in music:
            state = self.step(state, character)
        return state

    def _bar_end(self, state: State, key: Key, new: Pitches) -> State:
        """Returns the state after a bar with this final state and these new pitches."""
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


def with_fields(stage: Stage) -> Stage:
    """Returns the stage with the fields that the other voices of the line repeat: the meter."""
    if stage.fields is not None:
        return stage
    meter, closed, _ = written_fields(stage).partition("]")
    return stage._replace(fields=meter + closed if meter.startswith("[M:") else "")


def written_fields(stage: Stage) -> str:
    """Returns the complete fields at the start of the bar."""
    return stage.text[: stage.text.rfind("]") + 1]


def field_under_way(stage: Stage) -> str:
    """Returns the unfinished field at the start of the bar."""
    return stage.text[stage.text.rfind("]") + 1 :]
