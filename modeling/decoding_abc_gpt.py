"""Fast sampling and greedy decoding in `generate` for a GPT.

The modules spend most of a step on calls, masks and a cache that is copied to grow. Here the same
operations run directly on the weights, with keys and values in one block of memory, and the tokens
are the same as from the library's loop. Several tokens that are known, a forced run, are read at
once, like a prompt. Other requests (returned scores, a user-supplied cache)
fall back to that loop automatically; within the context so do models with adapters or hooks, see
`AbcGPTForCausalLM`. To force it: `model.generate(..., custom_generate=GenerationMixin._sample)`.

Beyond the context of P = `max_position_embeddings` tokens, the last P // 2 are read again, as a
prompt at positions 0, 1, ..., and generation continues until P is reached again, row by row. Where
reading starts depends only on the number of tokens (`first_read`): a prompt that is too long is
read as if it had been generated, and continuing an output gives the same as one longer call.
nanoGPT's `generate` slides a window of P tokens by one per token and recomputes all of it; ours
recomputes P // 2 tokens once in P - P // 2 + 1 steps and sees between P // 2 and P of them.

Letters in shapes: B batch, T time (tokens so far), N new tokens, S keys (tokens in the cache),
C width, V vocabulary.
"""

from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.utils import logging

from .arguments_abc import CACHE
from .decoding_abc_cache import kept, laid_out

logger = logging.get_logger(__name__)

SQRT_HALF = 0.5**0.5


def takes_ids(model: PreTrainedModel) -> bool:
    """Return whether a step is just `forward` with ids and a cache: no prompt learning, a cache."""
    prepare = model.__dict__.get("prepare_inputs_for_generation")
    adapter = getattr(getattr(prepare, "__self__", None), "active_peft_config", None)
    is_own = prepare is None or (adapter is not None and not adapter.is_prompt_learning)
    return is_own and not (model.training and model.is_gradient_checkpointing)


def token_mask(input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """Return a mask (B, T), bool, false at padding."""
    if attention_mask is None:
        return torch.ones_like(input_ids, dtype=torch.bool)
    return attention_mask.bool()


def is_counted(
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    **kwargs: Any,
) -> bool:
    """Return whether no row ends in padding and the positions follow from the mask."""
    is_token = token_mask(input_ids, attention_mask)
    counted = (is_token.long().cumsum(1) - 1).masked_fill(~is_token, 0)  # (B, T)
    follows = position_ids is None or torch.equal(position_ids.expand_as(counted), counted)
    return follows and bool(is_token[:, -1].all())


def first_read(n_tokens: torch.Tensor, context: int) -> torch.Tensor:
    """Return the index of the first token to read in rows of `n_tokens`, (B,), if `context` fit."""
    step = context + 1 - max(1, context // 2)
    n_over = (n_tokens - context).clamp(min=0)
    return (n_over + step - 1).div(step, rounding_mode="floor") * step


class AbcGPTDecoder:
    """Reads rows of tokens and returns the logits of the next ones, by running the modules.

    Args:
        model: A GPT, with any adapters, hooks or weight dtypes.
        max_length: Length of the longest row to generate.
    """

    def __init__(self, model: PreTrainedModel, max_length: int) -> None:
        self.model, self.max_length = model, max_length
        self.context = model.config.max_position_embeddings

    def read(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Read rows (B, T) from the start; return logits (B, V)."""
        self.is_token = token_mask(input_ids, attention_mask)
        n_more = self.max_length - input_ids.shape[1]
        input_ids, is_read = self._window(input_ids)
        self.positions = is_read.sum(1)  # (B,), of the next tokens
        self.n_longest = int(self.positions.max())
        mask = None if bool(is_read.all()) else is_read
        places = (is_read.long().cumsum(1) - 1).clamp(min=0)  # as `is_counted`
        output = self.model(input_ids, mask, places, use_cache=True, logits_to_keep=1)
        n_more = min(n_more, self.context - self.n_longest)
        self._keep(getattr(output, CACHE), mask, n_more)
        return output.logits[:, -1]

    def _window(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the columns that any row still reads, and a mask of the tokens each row reads."""
        n_tokens = self.is_token.sum(1)
        if int(n_tokens.max()) <= self.context:
            return input_ids, self.is_token
        logger.warning_once(
            f"rows longer than max_position_embeddings = {self.context:,} tokens: each time this "
            f"length is reached, generation continues from the last {max(1, self.context // 2):,}"
        )
        start = first_read(n_tokens, self.context)
        is_read = self.is_token & (self.is_token.cumsum(1) > start[:, None])
        first = int(is_read.any(0).nonzero()[0])
        return input_ids[:, first:], is_read[:, first:]

    def step(self, input_ids: torch.Tensor, n_new: int = 1) -> torch.Tensor:
        """Read the last N tokens of rows (B, T), after the others; return logits (B, V)."""
        if self.n_longest + n_new <= self.context:
            return self._decode(input_ids[:, -n_new:])
        n_unknown = input_ids.shape[1] - self.is_token.shape[1]
        return self.read(input_ids, functional.pad(self.is_token, (0, n_unknown), value=True))

    def _keep(self, cache: DynamicCache, mask: torch.Tensor | None, n_more: int) -> None:
        """Keep what the next step needs: the cache, and the mask (B, S) of its tokens."""
        self.cache, self.mask = cache, mask

    def _advance(self, n_new: int) -> torch.Tensor:
        """Return the positions (B, N) of the next tokens, and count them."""
        positions = self.positions[:, None]
        if n_new > 1:
            positions = positions + torch.arange(n_new, device=positions.device)
        self.positions = self.positions + n_new
        self.n_longest += n_new
        return positions

    def _decode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Turn the next tokens (B, N) into logits (B, V)."""
        n_new = tokens.shape[1]
        if self.mask is not None:
            self.mask = functional.pad(self.mask, (0, n_new), value=True)
        state = {CACHE: self.cache, "use_cache": True, "logits_to_keep": 1}
        return self.model(tokens, self.mask, self._advance(n_new), **state).logits[:, -1]


class AbcGPTFastDecoder(AbcGPTDecoder):
    """The same, directly from the current weights, in a fraction of the time.

    Args:
        model: A plain model, see `AbcGPTForCausalLM`.
        max_length: Length of the longest row to generate.
    """

    def __init__(self, model: PreTrainedModel, max_length: int) -> None:
        super().__init__(model, max_length)
        self.epsilon = model.config.layer_norm_epsilon
        base = model.model
        self.tables = (base.embed_tokens.weight, base.embed_positions.weight)
        self.layers = [
            (
                layer.input_layernorm.weight,
                laid_out(layer.attention.qkv_proj.weight),
                laid_out(layer.attention.o_proj.weight),
                layer.post_attention_layernorm.weight,
                laid_out(layer.mlp.up_proj.weight),
                laid_out(layer.mlp.down_proj.weight),
            )
            for layer in base.layers
        ]
        self.head = (base.norm.weight, laid_out(model.lm_head.weight))
        # In half precision each operation rounds, so there it must be one of the modules'.
        is_single = model.dtype == torch.float32
        self._feed_forward = self._merged_feed_forward if is_single else self._plain_feed_forward
        self._add = torch.addmm if is_single else self._plain_add

    def _keep(self, cache: DynamicCache, mask: torch.Tensor | None, n_more: int) -> None:
        self.cache = kept(cache, mask, n_more)

    def _decode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Turn the next tokens (B, N) into logits (B, V)."""
        n_rows, n_new = tokens.shape
        mm, norm, epsilon, cache = torch.mm, torch.layer_norm, self.epsilon, self.cache
        token_table, position_table = self.tables
        positions = self._advance(n_new)
        cache.advance(n_new)
        hidden = torch.embedding(token_table, tokens.flatten())
        hidden = hidden + torch.embedding(position_table, positions.flatten())  # (B * N, C)
        width = hidden.shape[1:]
        for number, (norm_1, qkv, out, norm_2, up, down) in enumerate(self.layers):
            mm(norm(hidden, width, norm_1, None, epsilon), qkv, out=cache.qkv)
            hidden = self._add(hidden, cache.attend(number), out)
            normed = norm(hidden, width, norm_2, None, epsilon)
            hidden = self._feed_forward(hidden, normed, up, down)
        hidden = hidden.view(n_rows, n_new, -1)[:, -1]  # (B, C)
        last_norm, head = self.head
        return mm(norm(hidden, width, last_norm, None, epsilon), head)

    @staticmethod
    def _merged_feed_forward(
        hidden: torch.Tensor, normed: torch.Tensor, up: torch.Tensor, down: torch.Tensor
    ) -> torch.Tensor:
        """Return hidden states (B * N, C) plus the MLP of the normed ones.

        GELU is x * (1 + erf(x / sqrt(2))) / 2, with the half left to the product: for a few rows
        PyTorch's own has an overhead of several such operations.
        """
        inner = torch.mm(normed, up)
        inner = torch.addcmul(inner, inner, torch.erf(inner * SQRT_HALF))
        return torch.addmm(hidden, inner, down, alpha=0.5)

    @staticmethod
    def _plain_feed_forward(
        hidden: torch.Tensor, normed: torch.Tensor, up: torch.Tensor, down: torch.Tensor
    ) -> torch.Tensor:
        return hidden + torch.mm(functional.gelu(torch.mm(normed, up)), down)

    @staticmethod
    def _plain_add(hidden: torch.Tensor, mixed: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return hidden + torch.mm(mixed, out)
