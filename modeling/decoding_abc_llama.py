"""Fast generation with a stock Llama, also beyond its context.

A library class cannot have a decoder of ours built in, but `generate` accepts one:

    model.generate(..., custom_generate=sample_llama)

The tokens are the same as from the library's loop, and other requests fall back to it, as for the
GPT. See `decoding_abc_gpt` for this, for what happens beyond the context, and for the letters in
shapes.
"""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.cache_utils import DynamicCache
from transformers.models.llama import modeling_llama

from .arguments_abc import CACHE
from .decoding_abc import decode, is_plain_model
from .decoding_abc_cache import laid_out
from .decoding_abc_gpt import (
    AbcGPTDecoder,
    AbcGPTFastDecoder,
    is_counted,
    takes_ids,
)

OWN_MODULES = {
    LlamaForCausalLM,
    modeling_llama.LlamaModel,
    modeling_llama.LlamaDecoderLayer,
    modeling_llama.LlamaAttention,
    modeling_llama.LlamaMLP,
    modeling_llama.LlamaRMSNorm,
    modeling_llama.LlamaRotaryEmbedding,
    type(ACT2FN["silu"]),
}


class LlamaFastDecoder(AbcGPTFastDecoder):
    """Computes a step directly from the current weights.

    RMSNorm divides by the root of the mean square plus epsilon. A last column that holds the root
    of width times epsilon makes this the length of the row, one operation; the factors go into the
    weights that follow.

    Args:
        model: A plain one, see `_decoder`.
        max_length: Length of the longest row to generate.
    """

    def __init__(self, model: PreTrainedModel, max_length: int) -> None:
        AbcGPTDecoder.__init__(self, model, max_length)
        base, width = model.model, model.config.hidden_size
        self.embedding, self.width = base.embed_tokens.weight, width
        self.last_column = (width * model.config.rms_norm_eps) ** 0.5
        positions = torch.arange(self.context, device=model.device)[None]
        cosine, sine = base.rotary_emb(self.embedding, positions)  # (1, P, D) each
        half = sine.shape[-1] // 2
        self.rotations = torch.complex(cosine[0, :, :half], sine[0, :, :half])  # (P, D / 2)
        # The library rotates the left half of a head against the right. With both placed side by
        # side, a pair is one complex number and a rotation one product. Scores do not depend on
        # the order.
        self.pairs = torch.arange(2 * half, device=model.device).view(2, half).t().flatten()
        self.layers = [
            (
                self._normed(layer.input_layernorm, self._in_pairs(layer.self_attn)),
                laid_out(layer.self_attn.o_proj.weight),
                self._normed(
                    layer.post_attention_layernorm,
                    torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]),
                ),
                laid_out(layer.mlp.down_proj.weight),
            )
            for layer in base.layers
        ]
        self.head = self._normed(base.norm, model.lm_head.weight)

    def _normed(self, norm: nn.Module, weight: torch.Tensor) -> torch.Tensor:
        """Return a weight (out, C) as (C, out), with what the norm before it multiplies by."""
        return laid_out(weight * (norm.weight * self.width**0.5))

    def _in_pairs(self, attention: nn.Module) -> torch.Tensor:
        """Return query, key and value weights, (3 * C, C), the first two reordered by `pairs`."""
        turned = [
            layer.weight.view(-1, len(self.pairs), layer.in_features)[:, self.pairs].flatten(0, 1)
            for layer in (attention.q_proj, attention.k_proj)
        ]
        return torch.cat([*turned, attention.v_proj.weight])

    def _keep(self, cache: DynamicCache, mask: torch.Tensor | None, n_more: int) -> None:
        for layer in cache.layers:
            layer.keys = layer.keys[..., self.pairs]
        super()._keep(cache, mask, n_more)

    def _decode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Turn the next tokens (B, N) into logits (B, V), with one operation for several."""
        n_rows, n_new = tokens.shape
        mm, length, cache = torch.mm, torch.linalg.vector_norm, self.cache
        rotation = self.rotations.index_select(0, self._advance(n_new).flatten())[:, None, None]
        cache.advance(n_new)
        heads = cache.qkv.view(len(cache.qkv), 3, -1, len(self.pairs) // 2, 2)
        turning = torch.view_as_complex(heads[:, :2])  # query and key, (B * N, 2, H, D / 2)
        padded = self.embedding.new_empty(len(cache.qkv), self.width + 1)
        padded[:, -1] = self.last_column
        hidden = padded[:, :-1]  # (B * N, C)
        hidden.copy_(torch.embedding(self.embedding, tokens.flatten()))
        for number, (qkv, out, gate_up, down) in enumerate(self.layers):
            mm(hidden / length(padded, dim=1, keepdim=True), qkv, out=cache.qkv)
            turning.mul_(rotation)
            hidden.addmm_(cache.attend(number), out)
            inner = mm(hidden / length(padded, dim=1, keepdim=True), gate_up)
            gate, up = inner.chunk(2, dim=1)
            hidden.addmm_(functional.silu(gate) * up, down)
        normed = hidden / length(padded, dim=1, keepdim=True)
        return mm(normed.view(n_rows, n_new, -1)[:, -1], self.head)


def _decoder(
    model: PreTrainedModel, input_ids: torch.Tensor, model_kwargs: dict[str, Any], max_length: int
) -> AbcGPTDecoder | None:
    """Return the fast decoder; if it does not apply, beyond the context, `AbcGPTDecoder`."""
    config, cache = model.config, model_kwargs.get(CACHE)
    is_dynamic = type(cache) is DynamicCache and not cache.offloading
    if not is_dynamic or not is_counted(input_ids, **model_kwargs):
        return None
    if (
        is_plain_model(model, OWN_MODULES, input_ids.device)
        and model.dtype == torch.float32
        and config._attn_implementation == "sdpa"
        and config.hidden_act == "silu"
        and config.num_key_value_heads == config.num_attention_heads
        and config.head_dim * config.num_attention_heads == config.hidden_size
        and config.pretraining_tp == 1
        and config.rope_parameters["rope_type"] == "default"
    ):
        return LlamaFastDecoder(model, max_length)
    is_beyond = max_length > config.max_position_embeddings
    return AbcGPTDecoder(model, max_length) if is_beyond and takes_ids(model) else None


def sample_llama(model: PreTrainedModel, input_ids: torch.LongTensor, **rules: Any) -> Any:
    """Sample, or decode greedily, with a stock Llama; for `generate(custom_generate=...)`.

    Args:
        model: The model that generates; adapters and hooks are allowed.
        input_ids: (B, T) prompts.
        **rules: As `generate` passes them.

    Returns:
        (B, longer T).
    """
    return decode(model, partial(_decoder, model), input_ids, **rules)
