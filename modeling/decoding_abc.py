"""Fast sampling and greedy decoding in `generate`, for all families.

The model heads get their generation and their loss from here (`AbcGenerationMixin`). Each family's
decoder (`decoding_abc_gpt`, `decoding_abc_lstm`) reads the rows and returns the logits; the loop
around it is in `decoding_abc_loop`; this file has the checks that model and request are plain
enough for it. The tokens are the same as from the library's loop. Anything else (returned scores, a
user-supplied cache) falls back to that loop automatically; to force it:
`model.generate(..., custom_generate=GenerationMixin._sample)`.

Letters in shapes: B batch, T time (tokens so far), V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import (
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer
from transformers.generation.utils import GenerateNonBeamOutput
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import output_capturing

from .arguments_abc import CACHE
from .decoding_abc_loop import Decoder, sample

IGNORED = -100  # the library's label where no token is to be predicted
PLAIN_MODULES = {nn.Dropout, nn.Embedding, nn.Linear, nn.ModuleList}
PLAIN_MODULES |= {nn.GELU, nn.LayerNorm, nn.LSTM}
PLAIN_ARGUMENTS = {"attention_mask", "position_ids", CACHE, "use_cache"}
PLAIN_ARGUMENTS |= {"logits_to_keep", "tokenizer"}  # the latter for stop strings


def is_plain_request(generation_config: GenerationConfig, model_kwargs: dict[str, Any]) -> bool:
    """Return whether it is ids in, ids out, with a private cache made by `generate`."""
    arguments = {name: value for name, value in model_kwargs.items() if value is not None}
    cache = arguments.get(CACHE)
    return (
        arguments.keys() <= PLAIN_ARGUMENTS
        and bool(arguments.get("use_cache"))
        and cache is not None
        and cache.get_seq_length() == 0
        and not getattr(cache, "_is_user_defined", False)
        and not generation_config.return_dict_in_generate
        and not generation_config.is_assistant
        and generation_config.prefill_chunk_size is None
        and generation_config.compile_config is None
    )


def is_plain_model(model: PreTrainedModel, own_modules: set[type], device: torch.device) -> bool:
    """Return whether each module is standard, with dense weights of one dtype on `device`.

    What a module of another class (an adapter, a quantized layer, a subclass) computes cannot be
    told from its weights; nor can that of one with a hook, a replaced `forward` or a compiled call.
    """
    weights = list(model.parameters())
    return (
        all(
            (type(module) in PLAIN_MODULES or type(module) in own_modules)
            # the library's hook for `output_hidden_states` stays and is harmless
            and {getattr(hook, "__module__", None) for hook in module._forward_hooks.values()}
            <= {output_capturing.__name__}
            and not (module.training or module._forward_pre_hooks)
            and module._compiled_call_impl is None
            and not {"forward", "prepare_inputs_for_generation"} & module.__dict__.keys()
            and not isinstance(getattr(module, "bias", None), torch.Tensor)
            for module in model.modules()
        )
        and {(type(weight), weight.dtype, weight.device) for weight in weights}
        == {(nn.Parameter, model.dtype, device)}
        and not torch.is_autocast_enabled(device.type)
        and not torch.compiler.is_compiling()
    )


def decode(
    model: PreTrainedModel,
    decoder_of: Callable[[torch.Tensor, dict[str, Any], int], Decoder | None],
    input_ids: torch.LongTensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    synced_gpus: bool = False,
    streamer: BaseStreamer | None = None,
    **model_kwargs: Any,
) -> torch.LongTensor | GenerateNonBeamOutput:
    """Continue rows (B, T), by the decoder if there is one for the request, else by the library.

    Args:
        model: The model that generates.
        decoder_of: As `AbcGenerationMixin._decoder`.
        input_ids: (B, T) prompts; this and the rest as in `GenerationMixin._sample`.
        logits_processor: Processors that change the scores of the next tokens.
        stopping_criteria: Decide which rows have ended.
        generation_config: How to choose tokens.
        synced_gpus: If true, the library's loop is used.
        streamer: Receives each token.
        **model_kwargs: What `generate` would pass to `forward`.
    """
    rules = (logits_processor, stopping_criteria, generation_config)
    max_length = stopping_criteria.max_length or generation_config.max_length
    decoder = None
    if not synced_gpus and is_plain_request(generation_config, model_kwargs):
        decoder = decoder_of(input_ids, model_kwargs, max_length)
    if decoder is None:
        library = GenerationMixin._sample
        return library(model, input_ids, *rules, synced_gpus, streamer, **model_kwargs)
    for each in stopping_criteria:
        if hasattr(each, "max_position_embeddings"):
            each.max_position_embeddings = None  # the decoder gives its own warning
    return sample(decoder, input_ids, model_kwargs.get("attention_mask"), *rules, streamer)


class AbcGenerationMixin(GenerationMixin):
    """Prediction and generation (by `sample`) for a base model with a head on top."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # The library looks up here by a class's name whether its labels are shifted (the Trainer's
        # `label_smoothing_factor`) and whether it is a language model (`transformers serve`).
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.setdefault(cls.config_class.model_type, cls.__name__)

    def _decoder(
        self, input_ids: torch.Tensor, model_kwargs: dict[str, Any], max_length: int
    ) -> Decoder | None:
        """Return the decoder for a plain request; None to use the library's loop.

        Args:
            input_ids: (B, T) prompts.
            model_kwargs: What `generate` would pass to `forward`.
            max_length: Length of the longest row to generate.
        """
        raise NotImplementedError

    def _sample(
        self, input_ids: torch.LongTensor, *rules: Any, **options: Any
    ) -> torch.LongTensor | GenerateNonBeamOutput:
        """Sample, or decode greedily; the arguments are those of `decode`."""
        return decode(self, self._decoder, input_ids, *rules, **options)

    def _predict(
        self,
        outputs: BaseModelOutputWithPast,
        attention_mask: torch.Tensor | None,
        labels: torch.LongTensor | None,
        logits_to_keep: int | torch.Tensor,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Turn the last hidden states into logits (B, T, V) and loss; arguments as in `forward`."""
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, keep])  # (B, T, V)
        loss = None
        if labels is not None:
            if attention_mask is not None and attention_mask.dim() == 2:
                # Padding on the left would predict the first token, and count in the loss.
                is_padding = attention_mask[:, -labels.shape[1] :] == 0  # (B, T)
                labels = labels.masked_fill(functional.pad(is_padding[:, :-1], (1, 0)), IGNORED)
            loss = self.loss_function(logits, labels, self.config.vocab_size, **kwargs)
        rest = (getattr(outputs, CACHE), outputs.hidden_states, outputs.attentions)
        return CausalLMOutputWithPast(loss, logits, *rest)
