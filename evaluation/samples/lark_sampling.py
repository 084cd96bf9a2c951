"""Samples of a model whose tokens llguidance restricts to `grammar.lark`, in `generate`.

    processor = LarkLogitsProcessor(tokenizer, Path("grammar.lark").read_text())
    model.generate(..., logits_processor=[processor])

What other engines do with the file, within transformers. Needs the extra `[llguidance]`. A model is
not brought to an end within `max_new_tokens`, as our own grammar does.

Letters in shapes: B batch, T time, V vocabulary.
"""

import math

import llguidance
import numpy as np
import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from modeling.lark_abc import readable_tokenizer

# For vocabularies of some thousand merged tokens, whose masks take more than engines allow.
LARGE_MASKS = llguidance.LLParserLimits(step_max_items=4_000_000)


def llguidance_tokenizer(tokenizer: PreTrainedTokenizerBase) -> llguidance.LLTokenizer:
    """Returns a tokenizer of ours for llguidance, published or not."""
    text = readable_tokenizer(tokenizer.backend_tokenizer.to_str())
    return llguidance.LLTokenizer(text, eos_token=tokenizer.eos_token_id)


class LarkLogitsProcessor(LogitsProcessor):
    """Restricts a model to what a grammar allows; for one call of `generate`.

    Args:
        tokenizer: The model's tokenizer.
        grammar: The content of `grammar.lark`. A prompt after the start token must begin with what
            the grammar begins with.
        limits: Of llguidance's parser; None for what engines allow.

    Raises:
        ValueError: If llguidance rejects the grammar.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        grammar: str,
        limits: llguidance.LLParserLimits | None = None,
    ) -> None:
        self.end_id = tokenizer.eos_token_id
        self._start = llguidance.LLMatcher(
            llguidance_tokenizer(tokenizer),
            llguidance.LLMatcher.grammar_from_lark(grammar),
            limits=limits,
        )
        _check(self._start)
        self._rows: list[llguidance.LLMatcher | None] = []
        self._n_read = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        """Returns scores (B, V), -inf at illegal tokens; `input_ids` is (B, T).

        Raises:
            ValueError: If a prompt is not legal, or llguidance gives up.
        """
        if not self._rows:
            self._rows = [self._start.deep_copy() for _ in input_ids]
            self._n_read = 1  # the start token
        new = input_ids[:, self._n_read :].tolist()
        self._rows = [self._read(row, ids) for row, ids in zip(self._rows, new, strict=True)]
        self._n_read = input_ids.shape[1]
        legal = np.stack([self._legal(row, scores.shape[1]) for row in self._rows])
        return scores.masked_fill(~torch.from_numpy(legal).to(scores.device), -math.inf)

    def _read(
        self, matcher: llguidance.LLMatcher | None, ids: list[int]
    ) -> llguidance.LLMatcher | None:
        """Returns the matcher after further tokens; None once the tune has ended."""
        if matcher is None or self.end_id in ids:
            return None
        matcher.consume_tokens(ids)
        _check(matcher)
        return matcher

    def _legal(self, matcher: llguidance.LLMatcher | None, n_tokens: int) -> np.ndarray:
        """Returns which tokens may come next, any after the end: (V,) bool."""
        if matcher is None:
            return np.ones(n_tokens, bool)
        bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        _check(matcher)
        return np.unpackbits(bits, bitorder="little")[:n_tokens].astype(bool)


def _check(matcher: llguidance.LLMatcher) -> None:
    if matcher.is_error():
        raise ValueError(matcher.get_error().partition("\n")[0])
