"""`generate` within the ABC dialect: a LogitsProcessor that masks illegal tokens.

    tokens = TokenGrammar.of(tokenizer)
    processor = TuneLogitsProcessor(tokens, max_new_tokens=512)
    model.generate(..., max_new_tokens=512, logits_processor=[processor])

What is legal is decided by `grammar_abc_tokens`, so that a model always writes a complete tune. A
processor is for one call of `generate`. The families' own loops query it for one token at a time
(`choose`), which draws the same tokens as masking would, without checking the whole vocabulary; and
where there is no choice (`forced`), they do not ask the model.

Letters in shapes: B batch, T time, V vocabulary.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor

from .grammar_abc_cut import Cut, Head
from .grammar_abc_tokens import TokenGrammar
from .grammar_abc_tune_rules import State

_ASKED = (8, 64)  # tokens tried, until one is legal; then all others
_MOST_MASKS = 1_000  # of 16 kB with 4,096 tokens


@dataclass
class GrammarCounts:
    """What the grammar did to the steps of one call.

    Attributes:
        n_steps: Tokens chosen, over all rows, until each ended.
        n_forced: Those without a choice in any row, for which the model was not asked.
        n_replaced: Those where the model's own draw was illegal; their share of the rest estimates
            the illegal probability mass.
    """

    n_steps: int = 0
    n_forced: int = 0
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
        self._warpers: Sequence[LogitsProcessor] = ()
        self._cut: Cut | None = None
        self._states: dict[tuple[int, ...], State] = {}

    @property
    def end_ids(self) -> set[int]:
        """The tokens after which a row is free."""
        return {self.tokens.end_id}

    def begin(
        self, input_ids: torch.Tensor, warpers: Sequence[LogitsProcessor] = ()
    ) -> list[State | None]:
        """Returns the states after the prompts (B, T).

        Args:
            input_ids: The prompts.
            warpers: The library's top-k, top-p and min-p of this call, in its order.

        Raises:
            ValueError: If a prompt is not in the dialect, or leaves no tokens or time to end it.
        """
        self._n_prompt = input_ids.shape[1]
        self._warpers = warpers
        settings = {
            name: getattr(each, name)
            for each in warpers
            for name in Cut._fields
            if hasattr(each, name)
        }
        self._cut = Cut(**settings) if warpers else None
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

    def forced(self, states: list[State | None], is_open: list[bool]) -> list[int] | None:
        """Returns the tokens of a step in which no row has a choice; advances `states` by them.

        Args:
            states: The rows' states; None for one that has ended. Changed in place.
            is_open: Which rows go on; for the others, the token is 0.

        Returns:
            None if a row has a choice, with no state changed.
        """
        found = []
        for state, still_open in zip(states, is_open, strict=True):
            only = (0, None)
            if still_open:
                only = None if state is None else self.tokens.only(state)
            if only is None:
                return None
            found.append(only)
        n_open = sum(is_open)
        self.counts.n_steps += n_open
        self.counts.n_forced += n_open
        tokens, states[:] = map(list, zip(*found, strict=True))
        return tokens

    def choose(
        self,
        states: list[State | None],
        scores: torch.Tensor,
        noise: torch.Tensor | None,
        n_tokens: int,
    ) -> list[int]:
        """Returns a token for each row, drawn from the legal ones; advances `states` by it.

        `torch.multinomial` draws the token with the largest probability / noise. To draw as if
        illegal tokens had probability 0, the largest are tried in order until one is legal, and
        kept by top-k, top-p and min-p.

        Args:
            states: The rows' states; None for one that has ended or stopped. Changed in place.
            scores: (B, V).
            noise: (B, V), exponential; None picks the highest score.
            n_tokens: Tokens in each row so far.
        """
        chances = scores if noise is None else scores.softmax(-1)
        tokens = (scores if noise is None else chances / noise).argmax(-1).tolist()
        for row, state in enumerate(states):
            if state is None:
                continue
            token, step = tokens[row], _Step(self.tokens, state, self._n_left(row, n_tokens))
            self.counts.n_steps += 1
            is_legal = step.after(token) is not None
            self.counts.n_replaced += not is_legal
            head = head_of(chances[row], step) if self._cut and noise is not None else None
            if not is_legal or (head and not self._cut.keeps(token, head)):
                # as logarithms, since a legal token's probability may underflow to 0
                race = scores[row] if noise is None else scores[row] - noise[row].log()
                token = self._first_kept(step, race, head)
                if token is None:
                    token = self._by_mask(step, scores[row], noise[row])
            tokens[row] = token
            states[row] = None if token == self.tokens.end_id else step.after(token)
        return tokens

    def _first_kept(self, step: "_Step", race: torch.Tensor, head: Head | None) -> int | None:
        """Returns the token that ranks first in `race` (V,) of those that are legal and kept.

        None if the whole mask must tell.
        """
        for token in self._ranked(step.state, race):
            if step.after(token) is None:
                continue
            is_kept = True if head is None else self._cut.keeps(token, head)
            if is_kept is not False:
                return token if is_kept else None
        raise AssertionError(f"no token is legal after {step.state.stage}")

    def _ranked(self, state: State, race: torch.Tensor) -> Iterator[int]:
        """Yields the tokens with a legal first character, those that rank first in `race` first."""
        firsts, masks = self.tokens.firsts, self.tokens.masks
        legal = self.tokens.beginnings(state)
        mask = masks.get((legal, race.device))  # (V,), added to the scores
        if mask is None:
            if len(masks) >= _MOST_MASKS:
                masks.clear()
            allowed = [0.0 if first in legal else -math.inf for first in firsts]
            mask = masks[legal, race.device] = torch.tensor(allowed, device=race.device)
        race = race[: len(firsts)] + mask
        n_given = 0
        for most in (*_ASKED, len(firsts)):
            best, tokens = race.topk(min(most, len(firsts)))
            for value, token in zip(
                best.tolist()[n_given:], tokens.tolist()[n_given:], strict=True
            ):
                if value == -math.inf:
                    return
                yield token
            n_given = len(tokens)

    def _by_mask(self, step: "_Step", scores: torch.Tensor, noise: torch.Tensor) -> int:
        """Returns the token that the whole mask and the library's cuts give, from (V,) each."""
        legal = torch.tensor(self.tokens.legal(step.state, step.n_left), device=scores.device)
        masked = torch.full_like(scores, -math.inf)
        masked[legal] = scores[legal]
        masked = masked[None]
        for cut in self._warpers:
            masked = cut(None, masked)
        return int((masked.softmax(-1) / noise).argmax())


class _Step:
    """The state of one row before its next token, and the answers about tokens so far."""

    def __init__(self, tokens: TokenGrammar, state: State, n_left: int) -> None:
        self.tokens, self.state, self.n_left = tokens, state, n_left
        self._after: dict[int, State | None] = {}

    def after(self, token: int) -> State | None:
        """Returns the state after a token; None if it is illegal."""
        if token not in self._after:
            self._after[token] = self.tokens.advance(self.state, token, self.n_left)
        return self._after[token]

    def is_legal(self, token: int) -> bool:
        """Returns whether a token is legal."""
        return self.after(token) is not None


def head_of(chances: torch.Tensor, step: _Step) -> Head:
    """Returns the likeliest tokens, given the probabilities (V,) of all."""
    best, tokens = chances.topk(min(_ASKED[-1], len(chances)))
    listed = best.tolist()
    return Head(tokens.tolist(), listed, max(0.0, 1.0 - sum(listed)), step.is_legal)
