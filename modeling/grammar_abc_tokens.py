"""The dialect over the tokens of any tokenizer: what may follow, and how many tokens to the end.

With any tokenizer, a token is legal if each of its characters is, and if the tune can still be
completed within the tokens left.

Letters in shapes: V vocabulary.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .grammar_abc_limits import DIALECT, GENERATION, Limits
from .grammar_abc_plan import Plan, PlannedGrammar
from .grammar_abc_tune_rules import State
from .notation_abc import ALPHABET

END = "\0"  # stands for the end token
UNKNOWN = "\ufffd"  # placeholder for characters missing from the tokenizer; in no tune
_END_ONLY = frozenset(END)
_MOST_KEPT = 100_000
_MOST_BARS = 1_000


class _InBar:
    """What the states of one bar with the same notes have in common.

    Attributes:
        bound: An upper bound of the path to the end, without notes that are held.
        is_late: Whether the tune must end now.
    """

    __slots__ = ("_behind", "_n_behind", "_notes", "_stage", "bound", "is_late")

    def __init__(self, state: State, grammar: PlannedGrammar) -> None:
        self._stage, self._notes = state.stage, (state.n_notes, state.pitches)
        self.bound = grammar.closing_bound(state) - grammar.held_bound(state)
        self.is_late = grammar.is_late(state)
        self._n_behind: int | None = None

    def holds(self, state: State) -> bool:
        """Returns whether it is of this state's bar and notes."""
        return self._stage is state.stage and self._notes == (state.n_notes, state.pitches)

    def may_end_anywhere(self, state: State, n_left: int, tokens: "TokenGrammar") -> bool:
        """Returns whether even the longest path to the end of the bar leaves enough tokens."""
        grammar = tokens.grammar
        if grammar.may_end_worse(state.node.key):
            return False
        if self._n_behind is None:
            self._n_behind = tokens.n_closing_tokens(grammar.worst_case_bar_end(state))
        return grammar.bar_end_bound(state) + self._n_behind < n_left


class TokenGrammar:
    """The automaton over the tokens of one tokenizer.

    Args:
        texts: The text of each token, "" for special ones: (V,).
        end_id: The end token.
        limits: What may be written.

    Attributes:
        firsts: The first character of each token, END for the end token, "" for other special ones,
            which are never legal.
        masks: Place for what processors derive from `beginnings`, kept between calls.

    Raises:
        ValueError: If a character of the dialect has no token of its own.
    """

    def __init__(self, texts: Sequence[str], end_id: int, limits: Limits = GENERATION) -> None:
        self.texts = list(texts)
        self._known, self._longest = set(self.texts), max(map(len, self.texts))
        if missing := set(ALPHABET) - set(self.texts):
            raise ValueError(
                f"no tokens for the characters {' '.join(sorted(map(repr, missing)))} of the "
                "dialect: with this tokenizer a tune may never be completed; use one that has all "
                "of them, such as char"
            )
        self.end_id = end_id
        self.grammar = PlannedGrammar(limits)
        # what the prompt may contain; notes and seconds count as in the limits
        counted = {name: getattr(limits, name) for name in ("n_notes", "n_pitches", "seconds")}
        self._prompt_grammar = PlannedGrammar(replace(DIALECT, **counted))
        self._tree: dict[str, Any] = {}
        for token, text in enumerate(self.texts):
            branch = self._tree
            for character in text:
                branch = branch.setdefault(character, {})
            if text:
                branch.setdefault("", []).append(token)
        self.firsts = [text[:1] for text in self.texts]
        self.firsts[end_id] = END
        counted = Counter(self.firsts)
        self._only_with = {
            first: token for token, first in enumerate(self.firsts) if first and counted[first] == 1
        }
        self.masks: dict[Any, Any] = {}
        self._in_bars: dict[int, _InBar] = {}
        self._n_closing: dict[State, int] = {}
        self._n_of_text: dict[str, int] = {}

    @classmethod
    def of(cls, tokenizer: Any, limits: Limits = GENERATION) -> "TokenGrammar":
        """Returns the automaton for a tokenizer; worth keeping, since it caches its states.

        Args:
            tokenizer: Of transformers, one of data_prep/tokens/tokenizers.py.
            limits: What may be written.
        """
        special, n_tokens = set(tokenizer.all_special_ids), len(tokenizer)
        texts = ["" if i in special else tokenizer.decode([i]) for i in range(n_tokens)]
        if tokenizer.unk_token_id is not None:
            texts[tokenizer.unk_token_id] = UNKNOWN
        return cls(texts, tokenizer.eos_token_id, limits)

    def read_prompt(self, text: str) -> State:
        """Returns the state after a prompt, which may use the whole dialect.

        Raises:
            ValueError: If it leaves the dialect; names line and column.
        """
        return self.grammar.continued(self._prompt_grammar.read(text))

    def planned(self, text: str, plan: Plan) -> State:
        """Returns the state after the start of a tune whose next bars are planned.

        Raises:
            ValueError: If the text leaves the dialect; names line and column.
        """
        return self.grammar.planned(self.read_prompt(text), plan)

    def advance(self, state: State, token: int, n_left: int) -> State | None:
        """Returns the state after a token; None if it is illegal.

        Args:
            state: The state before it.
            token: Its id.
            n_left: Number of tokens that may follow it.
        """
        if token == self.end_id:
            return state if state.is_end else None
        text = self.texts[token]
        step = self.grammar.step
        following: State | None = state if text else None
        for character in text:
            following = step(following, character)
            if following is None:
                return None
        if following is None or not self.can_end(following, n_left):
            return None
        # each token on the path to the end reduces this number by one
        is_behind = self._is_late(state) and (
            self.n_closing_tokens(following) >= self.n_closing_tokens(state)
        )
        return None if is_behind else following

    def only(self, state: State) -> tuple[int, State | None] | None:
        """Returns the only legal token and the state after it, None after the end token.

        None if there are more of them. That is certain only of a character that starts no other
        token; where one of several longer tokens is the only legal one, this says None, too.
        """
        if state.is_end:
            return self.end_id, None
        follow = self.grammar.follow(state)
        if len(follow) > 1:
            return None
        (character,) = follow
        token = self._only_with.get(character)
        return None if token is None else (token, self.grammar.step(state, character))

    def beginnings(self, state: State) -> frozenset[str]:
        """Returns the legal first characters of tokens, END for the end token; see `firsts`."""
        return _END_ONLY if state.is_end else self.grammar.follow(state)

    def can_end(self, state: State, n_left: int) -> bool:
        """Returns whether the tune and its end token can be completed in `n_left` more tokens."""
        if state.node is None:
            is_far = self.grammar.closing_bound(state) < n_left
            return is_far or self.n_closing_tokens(state) < n_left
        in_bar = self._in_bar(state)
        if in_bar.bound + self.grammar.held_bound(state) < n_left:
            return True
        if in_bar.may_end_anywhere(state, n_left, self):
            return True
        return self.n_closing_tokens(state) < n_left

    def _in_bar(self, state: State) -> "_InBar":
        """Returns what the states of the current bar have in common; most share their stage."""
        in_bar = self._in_bars.get(id(state.stage))
        if in_bar is None or not in_bar.holds(state):
            if len(self._in_bars) >= _MOST_BARS:
                self._in_bars.clear()
            in_bar = self._in_bars[id(state.stage)] = _InBar(state, self.grammar)
        return in_bar

    def _is_late(self, state: State) -> bool:
        """As `TuneGrammar.is_late`, which depends on the stage only."""
        return self.grammar.is_late(state) if state.node is None else self._in_bar(state).is_late

    def n_closing_tokens(self, state: State) -> int:
        """Returns the number of tokens on a short path to the end, excluding the end token.

        Each of them reduces this number by one, so a path that is open stays open.
        """
        pieces = []
        while not state.is_end and state not in self._n_closing:
            text, following = self.grammar.closing_piece(state)
            pieces.append((state, self._n_tokens_of(text)))
            state = following
        n_tokens = self._n_closing.get(state, 0)
        if len(self._n_closing) >= _MOST_KEPT:
            self._n_closing.clear()
        for state, n_of_piece in reversed(pieces):
            n_tokens += n_of_piece
            if state.node is None:  # states inside a bar rarely recur
                self._n_closing[state] = n_tokens
        return n_tokens

    def _n_tokens_of(self, text: str) -> int:
        """Returns the token count of a text with no inner bar line or newline, longest first."""
        if text in self._n_of_text:
            return self._n_of_text[text]
        n_tokens = place = 0
        while place < len(text):
            stops = range(place + self._longest, place, -1)
            place += next(
                len(text[place:stop]) for stop in stops if text[place:stop] in self._known
            )
            n_tokens += 1
        if len(self._n_of_text) >= _MOST_KEPT:
            self._n_of_text.clear()
        self._n_of_text[text] = n_tokens
        return n_tokens

    def legal(self, state: State, n_left: int) -> list[int]:
        """Returns all tokens that may come next, if `n_left` others may follow them."""
        found = [self.end_id] if state.is_end else []
        is_far = self.grammar.closing_bound(state) + self._longest < n_left
        self._collect(state, self._tree, found, None if is_far else n_left)
        if self._is_late(state):
            found = [token for token in found if self.advance(state, token, n_left)]
        return found

    def _collect(
        self, state: State, branch: dict[str, Any], found: list[int], n_left: int | None
    ) -> None:
        """Adds the legal tokens of a branch of the tree; if `n_left` is None, all can end."""
        for character in self.grammar.follow(state):
            below = branch.get(character)
            if below is None:
                continue
            tokens = below.get("", ())
            goes_on = len(below) > ("" in below)
            if not goes_on and n_left is None:
                found += tokens
                continue
            following = self.grammar.step(state, character)
            if tokens and (n_left is None or self.can_end(following, n_left)):
                found += tokens
            if goes_on:
                self._collect(following, below, found, n_left)
