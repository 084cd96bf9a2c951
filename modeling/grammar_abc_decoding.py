"""`generate` within the ABC dialect: a LogitsProcessor that masks illegal tokens.

    tokens = TokenGrammar.of(tokenizer)
    processor = TuneLogitsProcessor(tokens, max_new_tokens=512)
    model.generate(..., max_new_tokens=512, logits_processor=[processor])

With any tokenizer, a token is legal if each of its characters is, and if the tune can still be
completed within the tokens left. So a model always writes a complete tune. A processor is for one
call of `generate`. The families' own loops query it for one token at a time (`choose`), which draws
the same tokens as masking would, without checking the whole vocabulary.

Letters in shapes: B batch, T time, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from .grammar_abc_limits import DIALECT, GENERATION, Limits
from .grammar_abc_plan import Plan, PlannedGrammar
from .grammar_abc_tune_rules import State
from .notation_abc import ALPHABET

_END = "\0"  # stands for the end token
UNKNOWN = "\ufffd"  # placeholder for characters missing from the tokenizer; in no tune
_MOST_KEPT = 100_000
_ASKED = (8, 64)  # tokens tried, until one is legal; then all others


@dataclass
class GrammarCounts:
    """What the grammar did to the steps of one call.

    Attributes:
        n_steps: Tokens chosen, over all rows, until each ended.
        n_replaced: Those where the model's own draw was illegal; their share estimates the
            illegal probability mass.
    """

    n_steps: int = 0
    n_replaced: int = 0


class TokenGrammar:
    """The automaton over the tokens of one tokenizer.

    Args:
        texts: The text of each token, "" for special ones: (V,).
        end_id: The end token.
        limits: What may be written.

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
        first = [text[:1] for text in self.texts]  # "" for special tokens, which are never legal
        first[end_id] = _END
        self._beginnings = sorted(set(first))
        places = {text: place for place, text in enumerate(self._beginnings)}
        self._place_of_first = torch.tensor([places[text] for text in first])  # (V,)
        self._n_closing: dict[State, int] = {}

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, limits: Limits = GENERATION) -> "TokenGrammar":
        """Returns the automaton for a tokenizer; worth keeping, since it caches its states.

        Args:
            tokenizer: One of data_prep/tokens/tokenizers.py.
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
        is_behind = self.grammar.is_late(state) and (
            self.n_closing_tokens(following) >= self.n_closing_tokens(state)
        )
        return None if is_behind else following

    def may_begin(self, state: State) -> torch.Tensor:
        """Returns which tokens have a first character, or end, that may come next: (V,) bool."""
        follow = self.grammar.follow(state) | ({_END} if state.is_end else set())
        return torch.tensor([text in follow for text in self._beginnings])[self._place_of_first]

    def can_end(self, state: State, n_left: int) -> bool:
        """Returns whether the tune and its end token can be completed in `n_left` more tokens."""
        if state.node is not None and (behind := self.grammar.worst_case_bar_end(state)):
            # no path to the end takes more tokens; the same for most states of a bar
            bound = self.grammar.bar_end_bound(state) + self.n_closing_tokens(behind)
            if bound < n_left:
                return True
        is_far = self.grammar.closing_bound(state) < n_left
        return is_far or self.n_closing_tokens(state) < n_left

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
        n_tokens = place = 0
        while place < len(text):
            stops = range(place + self._longest, place, -1)
            place += next(
                len(text[place:stop]) for stop in stops if text[place:stop] in self._known
            )
            n_tokens += 1
        return n_tokens

    def legal(self, state: State, n_left: int) -> list[int]:
        """Returns all tokens that may come next, if `n_left` others may follow them."""
        found = [self.end_id] if state.is_end else []
        is_far = self.grammar.closing_bound(state) + self._longest < n_left
        self._collect(state, self._tree, found, None if is_far else n_left)
        if self.grammar.is_late(state):
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


class TuneLogitsProcessor(LogitsProcessor):
    """Restricts a model to complete tunes of the dialect.

    Args:
        tokens: The automaton for the model's tokenizer.
        max_new_tokens: As given to `generate`, or one number per row, lower for some.
        starts: The state after each row's prompt, if a prompt is not the start of a tune.

    Attributes:
        counts: What it did; filled in by the loops of the two families.
    """

    def __init__(
        self,
        tokens: TokenGrammar,
        max_new_tokens: int | Sequence[int],
        starts: Sequence[State] | None = None,
    ) -> None:
        self.tokens = tokens
        self.max_new_tokens = max_new_tokens
        self.starts = starts
        self.counts = GrammarCounts()
        self._n_prompt: int | None = None
        self._states: dict[tuple[int, ...], State] = {}

    def begin(self, input_ids: torch.Tensor) -> list[State]:
        """Returns the states after the prompts (B, T).

        Raises:
            ValueError: If a prompt is not in the dialect, or leaves no tokens or time to end it.
        """
        self._n_prompt = input_ids.shape[1]
        return [self._prompt_state(ids, row) for row, ids in enumerate(input_ids.tolist())]

    def _budget(self, row: int) -> int:
        budgets = self.max_new_tokens
        return budgets if isinstance(budgets, int) else budgets[row]

    def _prompt_state(self, ids: list[int], row: int) -> State:
        if self.starts is not None:
            return self.starts[row]
        text = "".join(self.tokens.texts[token] for token in ids)
        state = self.tokens.read_prompt(text)
        if self.tokens.grammar.is_late(state):
            raise ValueError(
                f"the prompt lasts {state.stage.seconds:.0f} seconds, but a whole tune at most "
                f"{self.tokens.grammar.limits.most_seconds:.0f}; use a shorter one"
            )
        if not self.tokens.can_end(state, self._budget(row)):
            needed = self.tokens.n_closing_tokens(state) + 1
            raise ValueError(
                f"max_new_tokens is {self._budget(row)}, but a whole tune with this prompt "
                f"takes {needed} or more; raise it"
            )
        return state

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        """Returns scores (B, V), -inf at illegal tokens; `input_ids` is (B, T)."""
        if self._n_prompt is None:
            self._n_prompt = input_ids.shape[1]
        legal = torch.zeros(scores.shape, dtype=torch.bool)
        for row, state in enumerate(self._states_of(input_ids)):
            n_left = self._n_left(row, input_ids.shape[1])
            legal[row, slice(None) if state is None else self.tokens.legal(state, n_left)] = True
        return scores.masked_fill(~legal.to(scores.device), -math.inf)

    def _n_left(self, row: int, n_tokens: int) -> int:
        """Returns how many tokens may follow the next one, after `n_tokens` so far."""
        return self._budget(row) - (n_tokens - self._n_prompt) - 1

    def _states_of(self, input_ids: torch.Tensor) -> list[State | None]:
        """Returns each row's state, None if it has ended; beams may have swapped rows."""
        rows = [tuple(ids) for ids in input_ids.tolist()]
        known = self._states
        self._states = {ids: self._state_of(ids, row, known) for row, ids in enumerate(rows)}
        return [self._states[ids] for ids in rows]

    def _state_of(
        self, ids: tuple[int, ...], row: int, known: dict[tuple[int, ...], Any]
    ) -> State | None:
        n_prompt = self._n_prompt
        if ids[:-1] in known and len(ids) > n_prompt:
            before, new = known[ids[:-1]], ids[-1:]
        else:
            before, new = self._prompt_state(list(ids[:n_prompt]), row), ids[n_prompt:]
        for token in new:
            if before is None or not self.tokens.texts[token]:  # the end, or padding after it
                return None
            before = self.tokens.advance(before, token, self._budget(row))
            if before is None:
                raise ValueError(
                    f"token {token} ({self.tokens.texts[token]!r}) is illegal here, "
                    "expected one that this processor allows; something else chose it"
                )
        return before

    def choose(
        self,
        states: list[State | None],
        scores: torch.Tensor,
        noise: torch.Tensor | None,
        n_tokens: int,
    ) -> list[int]:
        """Returns a token for each row, drawn from the legal ones; advances `states` by it.

        `torch.multinomial` draws the token with the largest probability / noise. To draw as if
        illegal tokens had probability 0, the largest are tried in order until one is legal.

        Args:
            states: The rows' states; None for one that has ended or stopped. Changed in place.
            scores: (B, V).
            noise: (B, V), exponential; None picks the highest score.
            n_tokens: Tokens in each row so far.
        """
        tokens = (scores if noise is None else scores.softmax(-1) / noise).argmax(-1).tolist()
        for row, state in enumerate(states):
            if state is None:
                continue
            token, n_left = tokens[row], self._n_left(row, n_tokens)
            following = self.tokens.advance(state, token, n_left)
            self.counts.n_steps += 1
            if following is None:
                self.counts.n_replaced += 1
                # as logarithms, since a legal token's probability may underflow to 0
                race = scores[row] if noise is None else scores[row] - noise[row].log()
                token, following = self._first_legal(state, race, n_left)
            tokens[row] = token
            states[row] = None if token == self.tokens.end_id else following
        return tokens

    def _first_legal(self, state: State, race: torch.Tensor, n_left: int) -> tuple[int, State]:
        """Returns the legal token that ranks first in `race` (V,), and the state after it."""
        may_begin = self.tokens.may_begin(state).to(race.device)
        race = race[: len(may_begin)].masked_fill(~may_begin, -math.inf)
        n_asked, n_all = 0, int((race > -math.inf).sum())
        for most in (*_ASKED, n_all):
            order = race.topk(min(most, n_all)).indices.tolist()
            for token in order[n_asked:]:
                following = self.tokens.advance(state, token, n_left)
                if following is not None:
                    return token, following
            n_asked = len(order)
        raise AssertionError(f"no token is legal after {state.stage}")
