"""GPT for ABC notation: pre-norm, learned positions, GELU, no bias in any Linear or LayerNorm.

Letters in shapes: B batch, T time (new tokens), S keys seen so far plus T, C width, H heads,
D head width (C = H * D), V vocabulary.
"""
# ruff: noqa: RUF012 - the class attributes have the form that the library expects

import math
from collections.abc import Callable
from typing import Any, Unpack

import torch
from torch import nn
from transformers import initialization
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.gpt_neox.modeling_gpt_neox import eager_attention_forward
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.import_utils import is_tracing
from transformers.utils.output_capturing import capture_outputs

from .arguments_abc import CACHE, sort_arguments
from .configuration_abc_gpt import AbcGPTConfig
from .decoding_abc import AbcGenerationMixin, is_plain_model
from .decoding_abc_gpt import AbcGPTDecoder, AbcGPTFastDecoder, is_counted, takes_ids
from .saving_abc import AbcPreTrainedModel


class AbcGPTMLP(nn.Module):
    """Two linear layers with a GELU in between."""

    def __init__(self, config: AbcGPTConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.act = nn.GELU()
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.down_proj.writes_residual = True

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (B, T, C) to (B, T, C)."""
        return self.down_proj(self.act(self.up_proj(hidden_states)))


class AbcGPTAttention(nn.Module):
    """Causal multi-head self-attention through the library's attention interface."""

    def __init__(self, config: AbcGPTConfig, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = True
        self.qkv_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.o_proj.writes_residual = True

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map (B, T, C) to (B, T, C) and, if the implementation has them, weights (B, H, T, S)."""
        cache = kwargs.pop(CACHE, None)
        heads = (*hidden_states.shape[:-1], -1, self.head_dim)
        qkv = self.qkv_proj(hidden_states).chunk(3, dim=-1)  # three (B, T, C)
        query, key, value = (part.view(heads).transpose(1, 2) for part in qkv)  # (B, H, T, D)
        if cache is not None:
            # The cache of `generate_batch` reads and changes the attention arguments.
            key, value = cache.update(key, value, self.layer_idx, kwargs=kwargs)  # (B, H, S, D)

        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        options = {"dropout": self.config.dropout * self.training, "scaling": self.scaling}
        options |= kwargs
        # (B, T, H, D)
        mixed, weights = attention(self, query, key, value, attention_mask, **options)
        mixed = mixed.reshape(hidden_states.shape).contiguous()  # (B, T, C)
        return self.o_proj(mixed), weights


class AbcGPTBlock(GradientCheckpointingLayer):
    """Pre-norm block: attention and MLP, each after a LayerNorm, with residual connections."""

    def __init__(self, config: AbcGPTConfig, layer_idx: int) -> None:
        super().__init__()
        width, epsilon = config.hidden_size, config.layer_norm_epsilon
        self.input_layernorm = nn.LayerNorm(width, eps=epsilon, bias=False)
        self.attention = AbcGPTAttention(config, layer_idx)
        self.post_attention_layernorm = nn.LayerNorm(width, eps=epsilon, bias=False)
        self.mlp = AbcGPTMLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Map (B, T, C) to (B, T, C)."""
        attended, _ = self.attention(self.input_layernorm(hidden_states), **kwargs)
        hidden_states = hidden_states + self.dropout(attended)
        return hidden_states + self.dropout(self.mlp(self.post_attention_layernorm(hidden_states)))


class AbcGPTPreTrainedModel(AbcPreTrainedModel):
    """Initialization, and the flags that tell the library what the family supports."""

    config_class = AbcGPTConfig
    base_class = "modeling_abc_gpt.AbcGPTModel"
    supports_gradient_checkpointing = True
    _no_split_modules = ["AbcGPTBlock"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": AbcGPTBlock, "attentions": AbcGPTAttention}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize as GPT-2: normal weights, residual projections scaled down with depth."""
        super()._init_weights(module)
        # The mark is on the Linear itself: for a class registered with an auto class, the library
        # skips modules without their own parameters, so it would never reach the parent.
        if getattr(module, "writes_residual", False):
            std = self.config.initializer_range / math.sqrt(2 * self.config.num_hidden_layers)
            initialization.normal_(module.weight, std=std)


class AbcGPTModel(AbcGPTPreTrainedModel):
    """Embeddings, blocks and the final norm: token ids to hidden states."""

    def __init__(self, config: AbcGPTConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(AbcGPTBlock(config, i) for i in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon, bias=False)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        cache: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPast:
        """Run the blocks over T new tokens.

        Args:
            input_ids: (B, T) token ids; either these or `inputs_embeds`.
            attention_mask: (B, S), 0 at padding; or a ready mask (B, 1, T, S).
            position_ids: (B, T); by default they continue after the cache and skip padding.
            past_key_values: Keys and values of the S - T previous tokens.
            inputs_embeds: (B, T, C) instead of `input_ids`.
            use_cache: Whether to return the cache for the next call.
            cache: The name of `past_key_values` from transformers 5.24 on.
            **kwargs: Passed on to the attention implementation.

        Returns:
            `last_hidden_state` (B, T, C) after the final norm, and the cache.

        Raises:
            ValueError: If a position is not below `max_position_embeddings`, or an argument is
                unknown.
        """
        cache, options = sort_arguments(type(self).__name__, past_key_values, cache, kwargs)
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)  # (B, T, C)
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)

        # Only positions given by the caller can describe packed rows; ours need no check for them.
        causal_mask = create_causal_mask(
            self.config, inputs_embeds, attention_mask, cache, position_ids=position_ids
        )
        positions = self._positions(inputs_embeds, attention_mask, position_ids, cache)
        hidden_states = self.dropout(inputs_embeds + self.embed_positions(positions))
        options |= {CACHE: cache, "use_cache": use_cache, "position_ids": position_ids}
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_mask=causal_mask, **options)
        return BaseModelOutputWithPast(self.norm(hidden_states), cache)

    def _positions(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        cache: Cache | None,
    ) -> torch.Tensor:
        """Return positions of the new tokens, (B, T) or (1, T), checked against the table size."""
        n_new = inputs_embeds.shape[1]
        # Given positions need no count, and the cache of `generate_batch` does not have one.
        n_past = 0 if cache is None or position_ids is not None else cache.get_seq_length()
        n_seen = n_past + n_new  # a tensor with a static cache, whose mask is not used below
        is_counted = position_ids is None and isinstance(n_seen, int)
        if position_ids is not None:
            positions = position_ids
        elif is_counted and attention_mask is not None and attention_mask.shape[1:] == (n_seen,):
            # Left padding must not shift a row's first token away from position 0.
            positions = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -n_new:]  # (B, T)
        else:
            positions = torch.arange(n_new, device=inputs_embeds.device)[None] + n_past  # (1, T)

        limit = self.config.max_position_embeddings
        # Reading the values synchronizes an accelerator; training (counted, short) avoids it.
        is_short = is_counted and n_seen <= limit
        if not is_short and not is_tracing(positions) and not positions.is_meta:
            largest = int(positions.max())
            if largest >= limit:
                raise ValueError(
                    f"sequence of {largest + 1:,} tokens, but max_position_embeddings is "
                    f"{limit:,}; cut the prompt, lower max_new_tokens, or train on longer blocks"
                )
        return positions


class AbcGPTForCausalLM(AbcGPTPreTrainedModel, AbcGenerationMixin):
    """The GPT with its head on top: token ids to logits of the next token.

    Beyond the context, `generate` continues from its last half, see `decoding_abc_gpt`; `forward`,
    and what only the library's loop can do (beam search, returned scores), raise an error there.
    """

    goes_beyond_context = True  # when it generates; read by the pipeline
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: AbcGPTConfig) -> None:
        super().__init__(config)
        self.model = AbcGPTModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _decoder(
        self, input_ids: torch.Tensor, model_kwargs: dict[str, Any], max_length: int
    ) -> AbcGPTDecoder | None:
        """Return the fast decoder; if it does not apply, beyond the context, `AbcGPTDecoder`.

        Else None, for the library's loop, which ends at the context.
        """
        cache = model_kwargs.get(CACHE)
        is_dynamic = type(cache) is DynamicCache and not cache.offloading
        if not is_dynamic or not is_counted(input_ids, **model_kwargs):
            return None
        own_modules = {AbcGPTForCausalLM, AbcGPTModel, AbcGPTBlock, AbcGPTAttention, AbcGPTMLP}
        if (
            is_plain_model(self, own_modules, input_ids.device)
            and self.dtype in (torch.float32, torch.bfloat16, torch.float16)
            and self.config._attn_implementation == "sdpa"
        ):
            return AbcGPTFastDecoder(self, max_length)
        is_beyond = max_length > self.config.max_position_embeddings
        return AbcGPTDecoder(self, max_length) if is_beyond and takes_ids(self) else None

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        cache: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithPast:
        """Predict the next token at each of T positions.

        In addition to the arguments of `AbcGPTModel`: `labels` (B, T), not shifted, -100 where no
        token is to be predicted; `logits_to_keep`, for how many last positions to return logits
        (0: all), or their indices; `num_items_in_batch`, by which the summed loss is divided.

        Returns:
            `logits` (B, T, V); with `labels`, also the mean `loss` in nats per predicted token.
        """
        state = {"past_key_values": past_key_values, "cache": cache, "use_cache": use_cache}
        outputs = self.model(
            input_ids, attention_mask, position_ids, inputs_embeds=inputs_embeds, **state, **kwargs
        )
        return self._predict(outputs, attention_mask, labels, logits_to_keep, **kwargs)
