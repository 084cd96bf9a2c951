"""What the decoders keep in memory: weights in the order of use; keys and values, with room.

The library's cache is copied to grow. `RowsCache` is for any rows; `OneRowCache`, for a single row
in float32 on the CPU, stores keys so that a step's products read memory in order: half the time.

Letters in shapes: B batch, N new tokens, S keys (tokens in the cache), C width, H heads, D head
width (C = H * D), L layers.
"""

import torch
from torch.nn import functional
from transformers.cache_utils import DynamicCache

SMALL_WEIGHT = 2**20  # elements; a larger one is read from memory, not from the CPU's cache


def laid_out(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight (out, in) as (in, out), a small one copied so that products read it in order.

    For a single row this takes up to a third less time, unless memory is what a step waits for.
    """
    turned = weight.t()
    return turned.contiguous() if weight.numel() <= SMALL_WEIGHT else turned


def causal_bias(n_keys: int, n_new: int, like: torch.Tensor) -> torch.Tensor:
    """Return what is added to the scores of the last `n_new` of `n_keys` tokens: (N, S)."""
    hidden = like.new_full((n_new, n_keys), -torch.inf)
    return hidden.triu_(n_keys - n_new + 1)


class RowsCache:
    """Keys and values of rows of tokens.

    Args:
        cache: What the modules filled, B rows of S tokens.
        mask: (B, S), bool, false at padding; None if there is none.
        n_more: Number of tokens to make room for.

    Attributes:
        qkv: (B * N, 3 * C), where a layer writes queries, keys and values of the new tokens.
    """

    def __init__(self, cache: DynamicCache, mask: torch.Tensor | None, n_more: int) -> None:
        first = cache.layers[0].keys
        n_rows, self.n_heads, self.n_keys, self.head_dim = first.shape
        self._store(cache, self.n_keys + n_more)
        self.mask = None
        if mask is not None:
            self.mask = first.new_zeros(n_rows, 1, 1, self.n_keys + n_more)  # added to the scores
            self.mask[:, 0, 0, : self.n_keys].masked_fill_(~mask, -torch.inf)
        self.n_rows, self.n_new, self.scale = n_rows, 0, self.head_dim**-0.5

    def _store(self, cache: DynamicCache, n_slots: int) -> None:
        """Move keys and values to a block with this many slots."""
        first = cache.layers[0].keys
        shape = (2, len(cache.layers), *first.shape[:2], n_slots, self.head_dim)
        self.block = first.new_empty(shape)  # (2, L, B, H, S, D)
        for number, layer in enumerate(cache.layers):
            self.block[0, number, :, :, : self.n_keys] = layer.keys
            self.block[1, number, :, :, : self.n_keys] = layer.values

    def advance(self, n_new: int) -> None:
        """Make place for `n_new` more tokens per row."""
        if n_new != self.n_new:
            self.n_new = n_new
            width = 3 * self.n_heads * self.head_dim
            self.qkv = self.block.new_empty(self.n_rows * n_new, width)
            parts = self.qkv.view(self.n_rows, n_new, 3, self.n_heads, self.head_dim)
            self._name(parts.permute(2, 0, 3, 1, 4))
        self.n_keys += n_new
        self._select(self.n_keys - n_new, self.n_keys)

    def _name(self, parts: torch.Tensor) -> None:
        """Name the parts of `qkv`, (3, B, H, N, D)."""
        self.query, self.new = parts[0], parts[1:]

    def _select(self, start: int, end: int) -> None:
        """Select what is seen, up to `end`, and where new keys and values go, from `start` on."""
        seen, slots = self.block[..., :end, :], self.block[..., start:end, :]
        self.keys, self.values = (part.unbind() for part in seen.unbind())  # L of (B, H, S, D)
        self.slots = slots.unbind(1)  # L of (2, B, H, N, D)
        self.bias = None if self.mask is None else self.mask[..., :end]  # (B, 1, 1 or N, S)
        if self.n_new > 1:
            causal = causal_bias(end, self.n_new, self.block)
            self.bias = causal[None, None] if self.bias is None else self.bias + causal

    def attend(self, layer: int) -> torch.Tensor:
        """Store a layer's new keys and values; return the mixed values, (B * N, C)."""
        self.slots[layer].copy_(self.new)
        mixed = functional.scaled_dot_product_attention(
            self.query, self.keys[layer], self.values[layer], self.bias, scale=self.scale
        )  # (B, H, N, D)
        return mixed.transpose(1, 2).reshape(len(self.qkv), -1)


class OneRowCache(RowsCache):
    """The same for one row without padding."""

    def _store(self, cache: DynamicCache, n_slots: int) -> None:
        first, n_layers = cache.layers[0].keys[0], len(cache.layers)
        self.block = first.new_empty(n_layers, self.n_heads, self.head_dim, n_slots)  # keys
        self.value_block = first.new_empty(n_layers, self.n_heads, n_slots, self.head_dim)
        for number, layer in enumerate(cache.layers):
            self.block[number, ..., : self.n_keys] = layer.keys[0].transpose(1, 2)
            self.value_block[number, :, : self.n_keys] = layer.values[0]

    def _name(self, parts: torch.Tensor) -> None:
        self.query, new_keys, self.new_values = parts[:, 0]  # (H, N, D) each
        self.new_keys = new_keys.transpose(1, 2)  # (H, D, N)

    def _select(self, start: int, end: int) -> None:
        self.keys = self.block[..., :end].unbind()  # L of (H, D, S)
        self.values = self.value_block[:, :, :end].unbind()  # L of (H, S, D)
        self.key_slots = self.block[..., start:end].unbind()
        self.value_slots = self.value_block[:, :, start:end].unbind()
        self.bias = causal_bias(end, self.n_new, self.block) if self.n_new > 1 else None

    def attend(self, layer: int) -> torch.Tensor:
        """Store a layer's new keys and values; return the mixed values, (N, C)."""
        self.key_slots[layer].copy_(self.new_keys)
        self.value_slots[layer].copy_(self.new_values)
        scores = torch.bmm(self.query * self.scale, self.keys[layer])  # (H, N, S)
        if self.bias is not None:
            scores += self.bias
        mixed = torch.bmm(scores.softmax(-1), self.values[layer])  # (H, N, D)
        return mixed.transpose(0, 1).reshape(len(self.qkv), -1)


def kept(cache: DynamicCache, mask: torch.Tensor | None, n_more: int) -> RowsCache:
    """Return the cache to go on with, that takes the least time; arguments as in `RowsCache`."""
    first = cache.layers[0].keys
    is_one = len(first) == 1 and mask is None
    is_plain = first.dtype == torch.float32 and first.device.type == "cpu"
    return (OneRowCache if is_one and is_plain else RowsCache)(cache, mask, n_more)
