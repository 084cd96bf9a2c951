"""LSTM for ABC notation: embedding as wide as the state, one nn.LSTM per layer, tied head.

Letters in shapes: B batch, T time (new tokens), S tokens seen so far plus T, C width, V vocabulary.
"""
# ruff: noqa: RUF012 - the class attributes have the form that the library expects

from typing import Any, Unpack

import torch
from torch import nn
from transformers import GenerationConfig, initialization
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .arguments_abc import CACHE, sort_arguments
from .configuration_abc_lstm import AbcLSTMConfig
from .decoding_abc import AbcGenerationMixin, is_plain_model
from .decoding_abc_lstm import AbcLSTMDecoder
from .layer_abc_lstm import AbcLSTMCache, AbcLSTMLayer
from .saving_abc import AbcPreTrainedModel


class AbcLSTMPreTrainedModel(AbcPreTrainedModel):
    """Initialization, and the flags that tell the library what the family supports."""

    config_class = AbcLSTMConfig
    base_class = "modeling_abc_lstm.AbcLSTMModel"
    supports_gradient_checkpointing = True
    _no_split_modules = ["AbcLSTMLayer"]
    _is_stateful = True  # no assisted decoding: a recurrent state cannot roll tokens back
    _can_record_outputs = {"hidden_states": AbcLSTMLayer}

    def lora_targets(self) -> dict[str, Any]:
        """See `AbcPreTrainedModel`; weights are named, since peft does not support nn.LSTM."""
        names = [name for name, _ in self.named_parameters() if ".lstm.weight_" in name]
        return {"target_modules": [], "target_parameters": names}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize with Xavier weights, a wide embedding (and head) and open forget gates."""
        super()._init_weights(module)
        # A slice does not know whether its tensor was loaded, so check the tensor itself.
        if isinstance(module, nn.LSTM) and not hasattr(module.bias_ih_l0, "_is_hf_initialized"):
            width = self.config.hidden_size
            initialization.ones_(module.bias_ih_l0[width : 2 * width])  # gates: i, f, g, o


class AbcLSTMModel(AbcLSTMPreTrainedModel):
    """Embedding and LSTM layers: token ids to hidden states."""

    def __init__(self, config: AbcLSTMConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        layers = (AbcLSTMLayer(config, i) for i in range(config.num_hidden_layers))
        self.layers = nn.ModuleList(layers)
        self.dropout = nn.Dropout(config.dropout)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: AbcLSTMCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        position_ids: torch.LongTensor | None = None,
        cache: AbcLSTMCache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPast:
        """Run the layers over T new tokens.

        Args:
            input_ids: (B, T) token ids; either these or `inputs_embeds`.
            attention_mask: (B, S), 0 at padding on either side.
            past_key_values: State after the S - T previous tokens, updated in place.
            inputs_embeds: (B, T, C) instead of `input_ids`.
            use_cache: Whether to return the state for the next call.
            cache: The name of `past_key_values` from transformers 5.24 on.
            position_ids: (B, T), or (1, T) for all rows; each 0 after the first starts a new text.
            **kwargs: The library's arguments for other models, unused here.

        Returns:
            `last_hidden_state` (B, T, C) of the last layer, and the state.

        Raises:
            ValueError: If the cache or the mask is not of the kind that an LSTM accepts, packed
                rows are padded or continue a cache, or an argument is unknown.
        """
        cache, _ = sort_arguments(type(self).__name__, past_key_values, cache, kwargs)
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass exactly one of input_ids and inputs_embeds")
        if cache is not None and not isinstance(cache, AbcLSTMCache):
            raise ValueError(
                f"the cache is a {type(cache).__name__}, expected an AbcLSTMCache; "
                "pass the one that forward returned, or none"
            )
        hidden_states = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and cache is None:
            cache = AbcLSTMCache(self.config)

        is_token = self._is_token(hidden_states, attention_mask)
        is_start = self._is_start(hidden_states, position_ids, is_token, cache)
        for layer in self.layers:
            if layer.layer_idx > 0:
                hidden_states = self.dropout(hidden_states)
            options = {"is_token": is_token, "is_start": is_start}
            hidden_states = layer(hidden_states, past_key_values=cache, **options)  # (B, T, C)
        return BaseModelOutputWithPast(hidden_states, cache)

    def _is_token(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> torch.Tensor | None:
        """Return the mask of the new tokens, (B, T) bool; `None` if none of them is padding."""
        if attention_mask is None:
            return None
        n_rows, n_new = hidden_states.shape[:2]
        shape = tuple(attention_mask.shape)
        if len(shape) != 2 or shape[0] != n_rows or shape[1] < n_new:
            raise ValueError(
                f"attention_mask of shape {shape}, expected ({n_rows}, {n_new} or more); "
                "pass the tokenizer's mask, a 0 or 1 for every token so far"
            )
        is_token = attention_mask[:, -n_new:].bool()
        return None if bool(is_token.all()) else is_token

    def _is_start(
        self,
        hidden_states: torch.Tensor,
        position_ids: torch.Tensor | None,
        is_token: torch.Tensor | None,
        cache: AbcLSTMCache | None,
    ) -> torch.Tensor | None:
        """Return where texts start in packed rows, (B, T) bool; `None` if no row is packed."""
        n_rows, n_new = hidden_states.shape[:2]
        if position_ids is None or n_new == 1:
            return None
        is_start = (position_ids == 0).expand(n_rows, n_new).clone()
        is_start[:, 0] = True
        is_next = is_start[:, 1:] if is_token is None else is_start[:, 1:] & is_token[:, :-1]
        if not bool(is_next.any()):
            return None
        if is_token is not None or (cache is not None and cache.get_seq_length() > 0):
            raise ValueError(
                "position_ids start again within a row, as in packed rows, but the rows are padded "
                "or continue a cache; pass packed rows whole and without padding"
            )
        return is_start


class AbcLSTMForCausalLM(AbcLSTMPreTrainedModel, AbcGenerationMixin):
    """The LSTM with its head on top: token ids to logits of the next token."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: AbcLSTMConfig) -> None:
        super().__init__(config)
        self.model = AbcLSTMModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _prepare_cache_for_generation(
        self,
        generation_config: GenerationConfig,
        model_kwargs: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Give `generate` a recurrent state where it would create a cache of keys and values."""
        kind = generation_config.cache_implementation
        if kind is not None and not kind.startswith("dynamic"):
            raise ValueError(
                f"cache_implementation {kind!r}, but an LSTM has one state of fixed size; "
                "leave it out"
            )
        is_wanted = generation_config.use_cache is not False
        if model_kwargs.get(CACHE) is None and is_wanted:
            model_kwargs[CACHE] = AbcLSTMCache(self.config)
        else:
            super()._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)

    def _decoder(
        self, input_ids: torch.Tensor, model_kwargs: dict[str, Any], max_length: int
    ) -> AbcLSTMDecoder | None:
        """Return the fast decoder where its tokens equal those of the modules; else None.

        In half precision and on accelerators nn.LSTM rounds differently, so samples would soon
        diverge; there the modules run.
        """
        own_modules = {AbcLSTMForCausalLM, AbcLSTMModel, AbcLSTMLayer}
        is_plain = is_plain_model(self, own_modules, input_ids.device)
        is_exact = self.dtype == torch.float32 and self.device.type == "cpu"
        return AbcLSTMDecoder(self) if is_plain and is_exact else None

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: AbcLSTMCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        cache: AbcLSTMCache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithPast:
        """Predict the next token at each of T positions.

        In addition to the arguments of `AbcLSTMModel`: `labels` (B, T), not shifted, -100 where no
        token is to be predicted; `logits_to_keep`, for how many last positions to return logits
        (0: all), or their indices; `num_items_in_batch`, by which the summed loss is divided.

        Returns:
            `logits` (B, T, V); with `labels`, also the mean `loss` in nats per predicted token.
        """
        state = {"past_key_values": past_key_values, "cache": cache, "use_cache": use_cache}
        outputs = self.model(
            input_ids, attention_mask, inputs_embeds=inputs_embeds, **state, **kwargs
        )
        return self._predict(outputs, attention_mask, labels, logits_to_keep, **kwargs)
