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
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor

from .grammar_abc_tokens import TokenGrammar
from .grammar_abc_tune_rules import State

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
        self._place_of_first = torch.tensor(tokens.place_of_first)  # (V,)

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
        may_begin = torch.tensor(self.tokens.may_begin(state))[self._place_of_first]
        may_begin = may_begin.to(race.device)
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
