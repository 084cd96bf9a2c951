"""One bar of one voice as an automaton over characters: its states, and short paths to its end.

States are created when first reached and cached, so a step is usually one lookup. No state is a
dead end: a character is legal only if the bar can still be completed after it.
"""

from .grammar_abc_bar_rules import BarRules, Key, Pitches
from .grammar_abc_limits import Limits
from .grammar_abc_spelling import alteration_bits
from .grammar_abc_tuplets import Tuplet
from .notation_abc import TICKS_PER_UNIT

_MOST_STATES = 100_000  # of one key, some 200 MB; then the cache is cleared
# what a short path to the end fills a bar with: many notes; a note, with sound up to the end; a
# note and rests
NOTES, SOUND, NOTE = "notes", "sound", "note"


class Node:
    """A state of a bar, which computes what may follow on demand.

    Attributes:
        grammar: The grammar that created it.
        key: Its description.
    """

    __slots__ = ("_follow", "_steps", "grammar", "key")

    def __init__(self, grammar: "BarGrammar", key: Key) -> None:
        self.grammar, self.key = grammar, key
        self._follow: frozenset[str] | None = None
        self._steps: dict[str, tuple[Node, Pitches] | None] = {}

    @property
    def follow(self) -> frozenset[str]:
        """The legal characters, `|` for the end of the bar."""
        if self._follow is None:
            self._follow = frozenset(self.grammar.follow(self.key))
        return self._follow

    def step(self, character: str) -> "tuple[Node, Pitches] | None":
        """Returns the next state and the pitches that start to sound; None if illegal.

        Also None at the bar line; see `BarGrammar.follow`.
        """
        if character not in self._steps:
            found = None
            if character in self.follow and character != "|":
                key, new = self.grammar.stepped(self.key, character)
                found = self.grammar.node(key), new
            self._steps[character] = found
        return self._steps[character]


class BarGrammar(BarRules):
    """The automaton for one key signature, melodic or drums; arguments as in `BarRules`."""

    def __init__(self, key: str, is_drums: bool, limits: Limits) -> None:
        super().__init__(key, is_drums, limits)
        self._nodes: dict[Key, Node] = {}
        self._closings: dict[tuple[Key, str], tuple[str, Key]] = {}

    def node(self, key: Key) -> Node:
        """Returns the state with this description, created if it is new."""
        node = self._nodes.get(key)
        if node is None:
            if len(self._nodes) >= _MOST_STATES:
                self._nodes.clear()
            node = self._nodes[key] = Node(self, key)
        return node

    # -- a short path to the end ---------------------------------------------------------------

    def closing(self, key: Key, fill: str) -> tuple[str, Key]:
        """Returns a short path to the end of the bar, including the bar line, and its final state.

        Args:
            key: The state where it starts.
            fill: What to fill the bar with: NOTES, SOUND or NOTE.
        """
        passed = []
        if len(self._closings) >= _MOST_STATES:
            self._closings.clear()
        while (key, fill) not in self._closings:
            part = self._closing_part(key, fill)
            if part == "|":
                self._closings[key, fill] = part, self.end(key)[0]
                break
            passed.append((key, part))
            for character in part:
                key, _ = self.stepped(key, character)
        text, end = self._closings[key, fill]
        for key, part in reversed(passed):
            text = part + text
            self._closings[key, fill] = text, end
        return text, end

    def _closing_part(self, key: Key, fill: str) -> str:
        """Returns the next characters of `closing`."""
        match key.phase:
            case "t":
                return self._tied_text(key)[len(key.text) :]
            case "(" if key.text == "(3":
                item = key._replace(phase="", text="", tuplet=Tuplet(3, 0, False))
                return self._closing_boundary(item, fill)
            case "(":
                return min(self._follow_tuplet_head(key))
            case "n" if key.text not in self.names(key.altered).pitch_of:
                return self._closing_name(key, -1)
            case "n":
                return self._closing_length(self._named(key), fill, key.text)
            case "[":
                return self._closing_chord(key)
            case "l":
                return self._closing_length(key, fill)
        return self._closing_boundary(key, fill)

    def _closing_boundary(self, key: Key, fill: str, before: str = "") -> str:
        """Handles the place between elements; `before` names a note not to be repeated."""
        more = fill == NOTES and key.left > 0 and not key.is_silent
        if self._may_end(key) and not (more and not key.is_open):
            return "|"
        if key.tied:
            return "|" if not key.is_tied_in and self.limits.is_plain else self._tied_text(key)
        if not self._item_kinds(key)[1]:
            return "["
        may_rest = key.sounds and not more and fill != SOUND
        if may_rest and self._rest_lengths(key):
            return "z"
        names = self.names(key.altered).shortest
        return names[0] if names[0] != before else names[1]

    def _closing_name(self, key: Key, above: int, below: int = 128) -> str:
        """Returns the rest of the shortest name that starts with the text, pitch within bounds."""
        names = self.names(key.altered)
        return next(
            name[len(key.text) :]
            for name in names.shortest
            if name.startswith(key.text) and above < names.pitch_of[name] < below
        )

    def _closing_chord(self, key: Key) -> str:
        names = self.names(key.altered)
        last = key.pitches[-1] if key.pitches else -1
        pitch = names.pitch_of.get(key.text)
        if pitch is None or pitch <= last or (not key.pitches and pitch == names.top):
            return self._closing_name(key, last, 128 if key.pitches else names.top)
        if key.pitches:
            return "]"
        altered = key.altered | alteration_bits((pitch,), self.sharps)
        return self._closing_name(key._replace(altered=altered, text=""), pitch)

    def _closing_length(self, key: Key, fill: str, name: str = "") -> str:
        lengths = self._lengths(key)
        goes_on = fill == NOTES and key.pitches and key.left > TICKS_PER_UNIT
        whole = None if key.tuplet or goes_on else lengths.text_of.get(key.left)
        if whole is not None and whole.startswith(key.text):
            text = whole
        elif key.text in lengths.ticks_of:
            text = key.text
        else:
            fitting = [text for text in lengths.ticks_of if text.startswith(key.text)]
            text = min(fitting, key=lambda text: (len(text), text))
        if text != key.text:
            return text[len(key.text) :]
        ended = self._ended(key)
        return self._closing_boundary(ended._replace(pitches=()), fill, name)
