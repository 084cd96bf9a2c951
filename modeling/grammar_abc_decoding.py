"""`generate` within the ABC dialect: a LogitsProcessor that lets through what may come next.

    tokens = TokenGrammar.of(tokenizer)
    processor = TuneLogitsProcessor(tokens, max_new_tokens=512)
    model.generate(..., max_new_tokens=512, logits_processor=[processor])

Whatever the tokenizer, a token is legal if each of its characters is, and if the tune can still be
brought to its end within the tokens that are left. What a model writes so is always a whole tune.
A processor is for one call of `generate`. The families' own loops ask it for one token at a time
(`choose`), which draws the same tokens as the mask does without looking at all of the vocabulary.

Letters in shapes: B batch, T time, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from .grammar_abc_limits import DIALECT, GENERATION, Limits
from .grammar_abc_tune import State, TuneGrammar
from .notation_abc import ALPHABET

_END = "\0"  # stands for the end token
UNKNOWN = "\ufffd"  # what stands for a character that the tokenizer has not; in no tune
_MOST_KEPT = 100_000
_ASKED = (8, 64)  # tokens at a time, until one is legal; then all others


@dataclass
class GrammarCounts:
    """What the grammar did to the steps of one call.

    Attributes:
        n_steps: Tokens chosen, over all rows, until each ended.
        n_replaced: Those where the model's own draw was illegal: their share estimates the
            probability mass that was illegal.
    """

    n_steps: int = 0
    n_replaced: int = 0


class TokenGrammar:
    """The automaton over the tokens of one tokenizer.

    Args:
        texts: The text of each token, "" of special ones: (V,).
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
                "dialect: with this tokenizer no tune is sure to come to an end; use one that has "
                "all of them, as char does"
            )
        self.end_id = end_id
        self.grammar = TuneGrammar(limits)
        # what the prompt may hold; notes and seconds count as the limits say
        counted = {name: getattr(limits, name) for name in ("n_notes", "n_pitches", "seconds")}
        self._prompt_grammar = TuneGrammar(replace(DIALECT, **counted))
        self._tree: dict[str, Any] = {}
        for token, text in enumerate(self.texts):
            branch = self._tree
            for character in text:
                branch = branch.setdefault(character, {})
            if text:
                branch.setdefault("", []).append(token)
        first = [text[:1] for text in self.texts]  # "" of special tokens, which never may begin
        first[end_id] = _END
        self._beginnings = sorted(set(first))
        places = {text: place for place, text in enumerate(self._beginnings)}
        self._place_of_first = torch.tensor([places[text] for text in first])  # (V,)
        self._n_closing: dict[State, int] = {}

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, limits: Limits = GENERATION) -> "TokenGrammar":
        """The automaton over the tokens of a tokenizer; worth keeping, since it learns its states.

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
        """The state after a prompt, which may hold all that the dialect has.

        Raises:
            ValueError: With line and column, where it leaves the dialect.
        """
        return self.grammar.continued(self._prompt_grammar.read(text))

    def advance(self, state: State, token: int, n_left: int) -> State | None:
        """The state after a token; None if it is illegal.

        Args:
            state: Before it.
            token: Its id.
            n_left: Tokens that may follow it.
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
        # each token of the way to the end takes one off
        is_behind = self.grammar.is_late(state) and (
            self.n_closing_tokens(following) >= self.n_closing_tokens(state)
        )
        return None if is_behind else following

    def may_begin(self, state: State) -> torch.Tensor:
        """Tokens whose first character may come next, and the end where it may: (V,) bool."""
        follow = self.grammar.follow(state) | ({_END} if state.is_end else set())
        return torch.tensor([text in follow for text in self._beginnings])[self._place_of_first]

    def can_end(self, state: State, n_left: int) -> bool:
        """Whether a tune and its end token fit into so many tokens more."""
        if state.node is not None and (behind := self.grammar.worst_case_bar_end(state)):
            # no way to the end takes more tokens; the same for most of the states of a bar
            bound = self.grammar.bar_end_bound(state) + self.n_closing_tokens(behind)
            if bound < n_left:
                return True
        is_far = self.grammar.closing_bound(state) < n_left
        return is_far or self.n_closing_tokens(state) < n_left

    def n_closing_tokens(self, state: State) -> int:
        """Tokens of a short way to the end, the end token apart.

        Each of them takes one off this number, so the way stays open once it is.
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
            if state.node is None:  # those in a bar seldom come again
                self._n_closing[state] = n_tokens
        return n_tokens

    def _n_tokens_of(self, text: str) -> int:
        """Tokens of a text without a bar line or newline inside, each the longest that fits."""
        n_tokens = place = 0
        while place < len(text):
            stops = range(place + self._longest, place, -1)
            place += next(
                len(text[place:stop]) for stop in stops if text[place:stop] in self._known
            )
            n_tokens += 1
        return n_tokens

    def legal(self, state: State, n_left: int) -> list[int]:
        """All tokens that may come next, `n_left` of others after them."""
        found = [self.end_id] if state.is_end else []
        is_far = self.grammar.closing_bound(state) + self._longest < n_left
        self._collect(state, self._tree, found, None if is_far else n_left)
        if self.grammar.is_late(state):
            found = [token for token in found if self.advance(state, token, n_left)]
        return found

    def _collect(
        self, state: State, branch: dict[str, Any], found: list[int], n_left: int | None
    ) -> None:
        """Tokens of a branch of the tree that are legal; with `n_left` None all can end."""
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
    """Lets a model write whole tunes of the dialect, and nothing else.

    Args:
        tokens: Of the model's tokenizer.
        max_new_tokens: As given to `generate`; or less for some of the rows, one number each.

    Attributes:
        counts: What it did; filled by the loops of the two families.
    """

    def __init__(self, tokens: TokenGrammar, max_new_tokens: int | Sequence[int]) -> None:
        self.tokens = tokens
        self.max_new_tokens = max_new_tokens
        self.counts = GrammarCounts()
        self._n_prompt: int | None = None
        self._states: dict[tuple[int, ...], State] = {}

    def begin(self, input_ids: torch.Tensor) -> list[State]:
        """The states after the prompts (B, T).

        Raises:
            ValueError: If a prompt is not in the dialect, or leaves no room or time to end it.
        """
        self._n_prompt = input_ids.shape[1]
        return [self._prompt_state(ids, row) for row, ids in enumerate(input_ids.tolist())]

    def _budget(self, row: int) -> int:
        budgets = self.max_new_tokens
        return budgets if isinstance(budgets, int) else budgets[row]

    def _prompt_state(self, ids: list[int], row: int) -> State:
        text = "".join(self.tokens.texts[token] for token in ids)
        state = self.tokens.read_prompt(text)
        if self.tokens.grammar.is_late(state):
            raise ValueError(
                f"the beginning lasts {state.stage.seconds:.0f} seconds, but a whole tune at most "
                f"{self.tokens.grammar.limits.most_seconds:.0f}; take a shorter one"
            )
        if not self.tokens.can_end(state, self._budget(row)):
            needed = self.tokens.n_closing_tokens(state) + 1
            raise ValueError(
                f"max_new_tokens is {self._budget(row)}, but a whole tune with this beginning "
                f"takes {needed} or more; raise it"
            )
        return state

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        """Returns scores (B, V), -inf at illegal tokens; `input_ids` (B, T)."""
        if self._n_prompt is None:
            self._n_prompt = input_ids.shape[1]
        legal = torch.zeros(scores.shape, dtype=torch.bool)
        for row, state in enumerate(self._states_of(input_ids)):
            n_left = self._n_left(row, input_ids.shape[1])
            legal[row, slice(None) if state is None else self.tokens.legal(state, n_left)] = True
        return scores.masked_fill(~legal.to(scores.device), -math.inf)

    def _n_left(self, row: int, n_tokens: int) -> int:
        """Tokens that may follow the next one, behind so many."""
        return self._budget(row) - (n_tokens - self._n_prompt) - 1

    def _states_of(self, input_ids: torch.Tensor) -> list[State | None]:
        """The state of each row, None of one that has ended; beams may have changed places."""
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
            if before is None or not self.tokens.texts[token]:  # the end, or padding behind it
                return None
            before = self.tokens.advance(before, token, self._budget(row))
            if before is None:
                raise ValueError(
                    f"token {token} ({self.tokens.texts[token]!r}) is no part of a tune here; "
                    "something else than this processor chose it"
                )
        return before

    def choose(
        self,
        states: list[State | None],
        scores: torch.Tensor,
        noise: torch.Tensor | None,
        n_tokens: int,
    ) -> list[int]:
        """The token of each row, drawn among the legal ones; `states` move on by it.

        `torch.multinomial` draws the greatest of chance / noise. To draw with the illegal tokens at
        nought, the greatest are asked in turn until one is legal.

        Args:
            states: Of the rows; None of one that has ended or stopped. Changed in place.
            scores: (B, V).
            noise: (B, V), exponential; None takes the greatest score.
            n_tokens: Of each row so far.
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
                # as logarithms, for what is legal may be so unlikely that its chance is nought
                race = scores[row] if noise is None else scores[row] - noise[row].log()
                token, following = self._first_legal(state, race, n_left)
            tokens[row] = token
            states[row] = None if token == self.tokens.end_id else following
        return tokens

    def _first_legal(self, state: State, race: torch.Tensor, n_left: int) -> tuple[int, State]:
        """The legal token that comes first in the race (V,), and the state after it."""
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
