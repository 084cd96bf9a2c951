"""The ABC dialect as an automaton over characters: whole tunes, and a short path to their end.

No state is a dead end: any text so far can be completed (`closing`), and the number of characters
this takes is bounded.
"""

import functools
import math
from collections.abc import Iterable

from .grammar_abc_bar import NOTE, NOTES, SOUND, Node
from .grammar_abc_bar_rules import Key, Pitches
from .grammar_abc_header import (
    LONGEST_HEAD,
    MARK,
    full_bar_ticks,
    meter_changes,
    rest_of_line,
    shortest_way,
    tempo_changes,
)
from .grammar_abc_tune_rules import Stage, State, TuneRules, field_under_way, written_fields
from .notation_abc import TICKS_PER_QUARTER, TICKS_PER_UNIT

# upper bounds, in characters, of parts of `TuneGrammar.closing`; the tests check them on random
# walks
LONGEST_BAR_END, LONGEST_TUPLET_END, TIED_NOTE, SHORT_BAR = 30, 60, 8, 13
# `closing` takes less time than this many of the longest bars after the current bar
CLOSING_BARS = 4


def held_length(ties: Iterable[Pitches]) -> int:
    """Returns an upper bound of the length of notes or chords that are held."""
    return TIED_NOTE * sum(len(pitches) + 2 for pitches in ties if pitches)


class TuneGrammar(TuneRules):
    """The automaton of whole tunes; arguments as in `TuneRules`."""

    def closing(self, state: State) -> str:
        """Returns a short text that completes the text so far to a whole tune.

        Following it character by character does not change the rest of it.
        """
        out = []
        while not state.is_end:
            text, state = self.closing_piece(state)
            out.append(text)
        return "".join(out)

    def closing_piece(self, state: State) -> tuple[str, State]:
        """Returns the first piece of `closing`, and the state after it.

        It ends with the next bar line or newline, or in the header with the mark of the first bar.
        """
        out = ""
        while not out.endswith(("|", "\n", MARK)):
            text, state = self._closing_part(state)
            out += text
        return out, state

    def worst_case_bar_end(self, state: State) -> State | None:
        """Returns the state after the current bar if nothing that counts came in the rest of it.

        From where the bar really ends, the path to the end is never longer, so one number serves
        nearly all states of the bar: those with the same stage and notes. None if the real end may
        be worse: after a tie, in a pickup or in silence.
        """
        return None if self.may_end_worse(state.node.key) else self._bar_end(state, Key(0), ())

    def may_end_worse(self, key: Key) -> bool:
        """Returns whether `worst_case_bar_end` has no answer."""
        is_silent = key.is_silent or (key.may_be_silent and key.phase == "l" and not key.pitches)
        is_tied_out = bool(key.tied) and not key.is_tied_in
        return is_silent or is_tied_out or key.is_open

    def bar_end_bound(self, state: State) -> int:
        """Returns an upper bound of the path to the end of the current bar, in characters."""
        key = state.node.key
        in_tuplet = key.tuplet is not None or key.phase == "("
        notes = TIED_NOTE * len(key.tied) + 2 * (self.limits.n_notes - state.n_notes)
        return (LONGEST_TUPLET_END if in_tuplet else LONGEST_BAR_END) + notes

    def is_late(self, state: State) -> bool:
        """Returns whether the tune must end now, by `closing`, to stay within the maximum time."""
        stage = state.stage
        if not stage.n_bars:
            return False
        ticks = stage.bar_ticks + CLOSING_BARS * self.limits.bar_ticks[1]
        closing_seconds = ticks / TICKS_PER_QUARTER * 60 / stage.quarters_per_minute
        return stage.seconds + closing_seconds > self.limits.most_seconds

    def closing_bound(self, state: State) -> int:
        """Returns an upper bound of the length of `closing`; fast, but rarely tight."""
        stage, limits = state.stage, self.limits
        seconds = limits.seconds - stage.seconds
        n_bars = 0
        if stage.heard < limits.seconds or self._wants_notes(state):
            shortest, fastest = limits.bar_ticks[0], limits.quarters_per_minute[1]
            ticks = full_bar_ticks(stage.meter) if stage.meter else shortest
            quarters = seconds / 60 * (stage.quarters_per_minute or fastest)
            n_notes = limits.n_notes - state.n_notes + 2
            n_bars = math.ceil(max(quarters * TICKS_PER_QUARTER, n_notes * TICKS_PER_UNIT) / ticks)
            n_bars = max(n_bars, 0) + 1  # one that sounds, if this one ends with a rest
        if any(stage.tied_out):
            n_bars = max(n_bars, 1)
        n_bars = self._n_voice_bars(stage, n_bars)
        held = held_length((*stage.tied_in[stage.voice :], *stage.tied_out))
        if state.node is not None:
            held += self.held_bound(state)
        head = LONGEST_HEAD if stage.phase == "line" else 0
        notes = 2 * (limits.n_notes - state.n_notes)
        return head + held + SHORT_BAR * n_bars + notes + LONGEST_TUPLET_END

    def held_bound(self, state: State) -> int:
        """Returns the part of `closing_bound` for the notes that a bar holds.

        Where they are held beyond it, each voice may have to be written in one more line.
        """
        key = state.node.key
        if not (key.tied or key.pitches):
            return 0
        is_tied_out = bool(key.tied) and not key.is_tied_in
        line = SHORT_BAR * len(state.stage.is_drums) if is_tied_out else 0
        return line + held_length((key.tied, key.pitches))

    def _n_voice_bars(self, stage: Stage, n_bars: int) -> int:
        """Returns how many bars of single voices are in `n_bars` more bars and the rest of this."""
        if self.limits.rest_share >= 1:
            return n_bars
        n_voices = max(1, len(stage.is_drums))
        n_lines = stage.n_bars + 1 + n_bars
        n_rests = int(self.limits.rest_share * n_voices * n_lines) - stage.n_rests
        n_left = n_voices * (n_bars + 1) - stage.voice - max(0, n_rests)
        return max(n_bars, n_left) + 1

    def _closing_part(self, state: State) -> tuple[str, State]:
        """Returns the next characters of `closing`, and the state after them."""
        if state.node is not None:
            text, end = self._bar_closing(state.node, state)
            if self._wants_notes(state):  # each note may be the last one needed
                return text[0], self.step(state, text[0])
            return text, self._bar_end(state, end, ())
        stage = state.stage
        match stage.phase:
            case "line":
                text = rest_of_line(self.limits, stage.line, len(stage.is_drums), stage.text)
                if text.endswith("\n"):
                    line = stage._replace(text=stage.text + text[:-1])
                    return text, State(self._line_step(line, "\n"))
            case "mark":
                text = self._closing_mark(state)
                if (mark := stage.text + text).startswith(MARK):
                    return text, State(self._marked(stage, mark), None, *state[2:])
            case "start" if stage.fields is None and field_under_way(stage):
                text = self._closing_field(state)
            case "start":
                fields = stage.text if stage.fields is None else stage.fields
                begun = self._begin_bar(state._replace(stage=stage._replace(text=fields)), "")
                return fields[len(stage.text) :], begun
            case _:
                text = "\n"
        return text, functools.reduce(self._step, text, state)

    def _bar_closing(self, node: Node, state: State) -> tuple[str, Key]:
        """Returns a short path to a bar's end with what the tune needs, and the state there."""
        fill = NOTE if self._heard(state.stage) >= self.limits.seconds else SOUND
        return node.grammar.closing(node.key, NOTES if self._wants_notes(state) else fill)

    def _closing_mark(self, state: State) -> str:
        stage = state.stage
        if not stage.text and stage.voice and self._may_end_line(stage):
            return "]" if self.may_end(state) else "\n"
        marks = [mark for mark in self._marks(stage) if mark.startswith(stage.text)]
        return (marks[-1] if stage.voice else marks[0])[len(stage.text) :]

    def _closing_field(self, state: State) -> str:
        part = field_under_way(state.stage)
        chord = self._bar_start(state.stage).step("[") if part == "[" else None
        if chord:
            return self._bar_closing(chord[0], state)[0][0]
        # tempo changes and meter changes have different short paths; the meter comes first
        is_meter = not part.startswith("[Q") and "[M:" not in written_fields(state.stage)
        limits, meter = self.limits, state.stage.meter
        return shortest_way(
            meter_changes(limits, meter) if is_meter else tempo_changes(limits), part
        )
