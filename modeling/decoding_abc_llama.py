"""Fast generation with a stock Llama: one token per step, also beyond its context.

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
from .decoding_abc_gpt import AbcGPTDecoder, AbcGPTFastDecoder, is_counted, takes_ids

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

    Args:
        model: A plain one, see `_decoder`.
        max_length: Length of the longest row to generate.
    """

    def __init__(self, model: PreTrainedModel, max_length: int) -> None:
        AbcGPTDecoder.__init__(self, model, max_length)
        self.epsilon = model.config.rms_norm_eps
        base = model.model
        self.embedding = base.embed_tokens.weight
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
                layer.input_layernorm.weight,
                self._in_pairs(layer.self_attn).t(),
                layer.self_attn.o_proj.weight.t(),
                layer.post_attention_layernorm.weight,
                torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]).t(),
                layer.mlp.down_proj.weight.t(),
            )
            for layer in base.layers
        ]
        self.head = (base.norm.weight, model.lm_head.weight.t())

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
        heads = self.qkv.view(len(self.qkv), 3, -1, len(self.pairs) // 2, 2)
        self.turning = torch.view_as_complex(heads[:, :2])  # query and key, (B, 2, H, D / 2)

    def _decode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Turn tokens (B,) into logits (B, V), with the modules' operations one by one."""
        mm, add, norm, epsilon = torch.mm, torch.addmm, torch.rms_norm, self.epsilon
        hidden = functional.embedding(tokens, self.embedding)  # (B, C)
        rotation = self.rotations.index_select(0, self.positions)[:, None, None]
        keys, values, slots, mask = self._next_place()

        width, scale = hidden.shape[1:], self.query.shape[-1] ** -0.5
        for number, (norm_1, qkv, out, norm_2, gate_up, down) in enumerate(self.layers):
            mm(norm(hidden, width, norm_1, epsilon), qkv, out=self.qkv)
            self.turning.mul_(rotation)
            slots[number].copy_(self.new)
            mixed = functional.scaled_dot_product_attention(
                self.query, keys[number], values[number], mask, scale=scale
            )  # (B, H, 1, D)
            hidden = add(hidden, mixed.reshape(hidden.shape), out)
            gate, up = mm(norm(hidden, width, norm_2, epsilon), gate_up).chunk(2, dim=1)
            hidden = add(hidden, functional.silu(gate) * up, down)
        last_norm, head = self.head
        return mm(norm(hidden, width, last_norm, epsilon), head)


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
