"""Fast sampling and greedy decoding in `generate`, for both families: one token per step.

The model heads get their generation and their loss from here (`AbcGenerationMixin`). Each family's
decoder (`decoding_abc_gpt`, `decoding_abc_lstm`) reads the rows and returns the logits; this file
has the loop around it, and the checks that model and request are plain enough for it. The tokens
are the same as from the library's loop. Anything else (returned scores, a user-supplied cache)
falls back to that loop automatically; to force it:
`model.generate(..., custom_generate=GenerationMixin._sample)`.

Letters in shapes: B batch, T time (tokens so far), V vocabulary.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional
from transformers import (
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    MinPLogitsWarper,
    PreTrainedModel,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria
from transformers.generation.streamers import BaseStreamer
from transformers.generation.utils import GenerateNonBeamOutput
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import output_capturing

from .arguments_abc import CACHE

IGNORED = -100  # the library's label where no token is to be predicted
PLAIN_MODULES = {nn.Dropout, nn.Embedding, nn.Linear, nn.ModuleList}
PLAIN_MODULES |= {nn.GELU, nn.LayerNorm, nn.LSTM}
PLAIN_ARGUMENTS = {"attention_mask", "position_ids", CACHE, "use_cache"}
PLAIN_ARGUMENTS |= {"logits_to_keep", "tokenizer"}  # the latter for stop strings
PLAIN_WARPERS = {TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, MinPLogitsWarper}


class Decoder(Protocol):
    """Reads rows of tokens and returns the logits of the next ones."""

    def read(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Read rows (B, T) from the start; return logits (B, V)."""

    def step(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Read the last token of rows (B, T), after the others were read; return logits (B, V)."""


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


def noise_for(scores: torch.Tensor) -> torch.Tensor:
    """Return the random numbers that `torch.multinomial` uses for one draw per row: (B, V)."""
    return torch.empty_like(scores).exponential_()


def draw(scores: torch.Tensor) -> torch.Tensor:
    """Draw what `torch.multinomial` draws from the softmax of scores (B, V): (B,).

    Uses its method for one draw per row and the same random numbers, without its checks.
    """
    chances = scores.softmax(-1)
    largest, tokens = (chances / noise_for(chances)).max(-1)
    if any(map(math.isnan, largest.tolist())):
        return torch.multinomial(chances, 1).squeeze(1)  # raises the error
    return tokens


def chooser(processors: LogitsProcessorList) -> Any:
    """Return the processor that can be queried token by token, if no other truncates the scores.

    Such a processor has `begin`, which returns the states of the rows, and `choose`: see
    grammar_abc_decoding.py.
    """
    asked = [each for each in processors if hasattr(each, "choose")]
    others = {type(each) for each in processors if not hasattr(each, "choose")}
    return asked[0] if len(asked) == 1 and others <= {TemperatureLogitsWarper} else None


def sample(
    decoder: Decoder,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    streamer: BaseStreamer | None,
) -> torch.Tensor:
    """Continue rows (B, T) as the library's `_sample` does, with the same draws.

    Returns:
        (B, longer T); a row that has ended is filled up with the padding token.
    """
    asked = chooser(logits_processor)
    # A LogitsProcessorList inspects signatures at each step; the library's own need no check.
    processors = [
        each if type(each) in PLAIN_WARPERS else LogitsProcessorList([each])
        for each in logits_processor
        if each is not asked
    ]
    # Criteria of these two classes change nothing before an end token or the last step.
    is_plain = {type(each) for each in stopping_criteria} <= {EosTokenCriteria, MaxLengthCriteria}
    ends = [each.eos_token_id for each in stopping_criteria if hasattr(each, "eos_token_id")]
    end_ids = {token for end in ends for token in end.tolist()} if is_plain else set()
    max_length = stopping_criteria.max_length
    pad = generation_config._pad_token_tensor
    # Inference mode is a tenth faster, but callers must get ordinary tensors.
    others = {type(each) for each in logits_processor if each is not asked}
    is_private = is_plain and streamer is None and others <= PLAIN_WARPERS

    with torch.inference_mode() if is_private else torch.no_grad():
        is_open = torch.ones_like(input_ids[:, 0], dtype=torch.bool)  # (B,)
        all_open = True
        states = asked.begin(input_ids) if asked else []
        logits = decoder.read(input_ids, attention_mask)
        while True:
            scores = logits.to(torch.float32, copy=True)  # (B, V)
            for process in processors:
                scores = process(input_ids, scores)
            if asked:
                noise = noise_for(scores) if generation_config.do_sample else None  # (B, V)
                chosen = asked.choose(states, scores, noise, input_ids.shape[1])
                tokens = input_ids.new_tensor(chosen)  # (B,)
            else:
                tokens = draw(scores) if generation_config.do_sample else scores.argmax(-1)
            if ends and not all_open:
                tokens = torch.where(is_open, tokens, pad)
            input_ids = torch.cat([input_ids, tokens[:, None]], dim=1)
            is_last = input_ids.shape[1] == max_length
            if not is_plain or is_last or not end_ids.isdisjoint(tokens.tolist()):
                is_open = is_open & ~stopping_criteria(input_ids, None)
                all_open = bool(is_open.all())
                if ends:  # a row that has stopped is padded, not chosen
                    rows = zip(states, is_open.tolist(), strict=False)
                    states = [state if still_open else None for state, still_open in rows]
            if streamer is not None:
                streamer.put(tokens.cpu())
            if not all_open and not is_open.any():
                break
            logits = decoder.step(input_ids)
    if streamer is not None:
        streamer.end()
    return input_ids.clone() if is_private else input_ids


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
