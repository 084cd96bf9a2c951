"""What `generate` runs for a GPT when it samples or decodes greedily: one token a step, fast.

The modules spend most of a step on calls, masks and a cache that is copied in order to grow. Here
the same operations run on the weights themselves, with keys and values in one block of memory, and
the tokens are those of the library's loop. What is not plain (an adapter, a hook, scores wanted
back, a cache of one's own) goes to that loop by itself, see `can_decode`; to have it in any case:
`model.generate(..., custom_generate=GenerationMixin._sample)`.

Beyond the context of P = `max_position_embeddings` tokens, the last P // 2 are read anew, as a
prompt at positions 0, 1, ..., and generation goes on until P are reached again, row by row. Where
reading begins depends on the number of tokens alone (`first_read`): a prompt that is too long is
read as if it had been generated, and going on from an output gives what one longer call gives.
nanoGPT's `generate` moves a window of P tokens by one with each token and computes all of it anew;
ours computes P // 2 tokens anew once in P - P // 2 + 1 steps and sees between P // 2 and P of them.

The LSTM's file has the parts that are alike once more: a family shares no file with the other.

Letters in shapes: B batch, T time (tokens so far), S keys (tokens in the cache), C width, H heads,
D head width (C = H * D), L layers, V vocabulary.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    PreTrainedModel,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.cache_utils import DynamicCache
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria
from transformers.generation.streamers import BaseStreamer
from transformers.utils import logging

from .arguments_abc import CACHE

logger = logging.get_logger(__name__)

PLAIN_MODULES = {nn.Dropout, nn.Embedding, nn.GELU, nn.LayerNorm, nn.Linear, nn.ModuleList}
PLAIN_ARGUMENTS = {"attention_mask", "position_ids", CACHE, "use_cache"}
PLAIN_ARGUMENTS |= {"logits_to_keep", "tokenizer"}  # the latter is for stop strings
PLAIN_WARPERS = {TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, MinPLogitsWarper}


def can_decode(
    model: PreTrainedModel,
    own_modules: set[type],
    input_ids: torch.Tensor,
    generation_config: GenerationConfig,
    model_kwargs: dict[str, Any],
) -> bool:
    """Whether model and request are plain, so that reading the weights is running the modules.

    Args:
        model: What generates.
        own_modules: The classes of the model's file; only they and torch's own are looked into.
        input_ids: (B, T) prompts.
        generation_config: As `generate` has prepared it.
        model_kwargs: What `generate` would hand to `forward`.
    """
    cache = model_kwargs.get(CACHE)
    return (
        is_plain_request(generation_config, model_kwargs)
        and type(cache) is DynamicCache
        and not cache.offloading
        and is_plain_model(model, own_modules, input_ids.device)
        and model.dtype in (torch.float32, torch.bfloat16)
        and model.config._attn_implementation == "sdpa"
        and _is_counted(input_ids, **model_kwargs)
    )


def is_plain_request(generation_config: GenerationConfig, model_kwargs: dict[str, Any]) -> bool:
    """Whether it is ids in, ids out, with a cache that `generate` made and nobody else sees."""
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
    """Whether each module does what its class says, on dense weights of one type on `device`.

    A module of another class (an adapter, a quantised layer, a subclass), with a hook, with a
    `forward` of its own or compiled does what nobody knows who only looks at its weights.
    """
    weights = list(model.parameters())
    return (
        all(
            (type(module) in PLAIN_MODULES or type(module) in own_modules)
            and not (module.training or module._forward_hooks or module._forward_pre_hooks)
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


def token_mask(input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """(B, T) bool, false at padding."""
    if attention_mask is None:
        return torch.ones_like(input_ids, dtype=torch.bool)
    return attention_mask.bool()


def _is_counted(
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    **kwargs: Any,
) -> bool:
    """Whether no row ends in padding and positions are those that follow from the mask."""
    is_token = token_mask(input_ids, attention_mask)
    counted = (is_token.long().cumsum(1) - 1).masked_fill(~is_token, 0)  # (B, T)
    follows = position_ids is None or torch.equal(position_ids.expand_as(counted), counted)
    return follows and bool(is_token[:, -1].all())


def first_read(n_tokens: torch.Tensor, context: int) -> torch.Tensor:
    """Index of the first token that is read of rows of `n_tokens`, (B,), where `context` fit."""
    step = context + 1 - max(1, context // 2)
    n_over = (n_tokens - context).clamp(min=0)
    return (n_over + step - 1).div(step, rounding_mode="floor") * step


class AbcGPTDecoder:
    """Reads rows of tokens and gives the logits of the next ones, with the weights of this moment.

    Args:
        model: A model for which `can_decode` holds.
        max_length: Longest row that will be asked for.
    """

    def __init__(self, model: PreTrainedModel, max_length: int) -> None:
        self.model, self.max_length = model, max_length
        self.context = model.config.max_position_embeddings
        self.epsilon = model.config.layer_norm_epsilon
        base = model.model
        self.tables = (base.embed_tokens.weight, base.embed_positions.weight)
        self.layers = [
            (
                layer.input_layernorm.weight,
                layer.attention.qkv_proj.weight.t(),
                layer.attention.o_proj.weight.t(),
                layer.post_attention_layernorm.weight,
                layer.mlp.up_proj.weight.t(),
                layer.mlp.down_proj.weight.t(),
            )
            for layer in base.layers
        ]
        self.head = (base.norm.weight, model.lm_head.weight.t())

    def read(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Read rows (B, T) from the start, by the modules; logits (B, V)."""
        self.is_token = token_mask(input_ids, attention_mask)
        n_more = self.max_length - input_ids.shape[1]
        input_ids, is_read = self._window(input_ids)
        self.positions = is_read.sum(1)  # (B,), those of the next tokens
        self.n_longest = int(self.positions.max())
        mask = None if bool(is_read.all()) else is_read
        output = self.model(input_ids, mask, use_cache=True, logits_to_keep=1)
        n_more = min(n_more, self.context - self.n_longest)
        self._keep(getattr(output, CACHE), mask, n_more)
        return output.logits[:, -1]

    def _window(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The columns that any row still reads, and which of their tokens it reads."""
        n_tokens = self.is_token.sum(1)
        if int(n_tokens.max()) <= self.context:
            return input_ids, self.is_token
        logger.warning_once(
            f"rows of more than max_position_embeddings = {self.context:,} tokens: each time so "
            f"many are reached, generation goes on from the last {max(1, self.context // 2):,}"
        )
        start = first_read(n_tokens, self.context)
        is_read = self.is_token & (self.is_token.cumsum(1) > start[:, None])
        first = int(is_read.any(0).nonzero()[0])
        return input_ids[:, first:], is_read[:, first:]

    def _keep(self, cache: DynamicCache, mask: torch.Tensor | None, n_more: int) -> None:
        """Move keys and values to where there is room for `n_more` tokens; lay out buffers."""
        first = cache.layers[0].keys
        n_rows, n_heads, self.n_keys, head_dim = first.shape
        shape = (2, len(cache.layers), n_rows, n_heads, self.n_keys + n_more, head_dim)
        self.cache = first.new_empty(shape)  # (2, L, B, H, S, D)
        for number, layer in enumerate(cache.layers):
            self.cache[0, number, :, :, : self.n_keys] = layer.keys
            self.cache[1, number, :, :, : self.n_keys] = layer.values
        self.mask = None
        if mask is not None:
            self.mask = first.new_zeros(n_rows, 1, 1, self.n_keys + n_more)  # added to the scores
            self.mask[:, 0, 0, : self.n_keys].masked_fill_(~mask, -torch.inf)
        self.qkv = first.new_empty(n_rows, 3 * n_heads * head_dim)
        parts = self.qkv.view(n_rows, 3, n_heads, 1, head_dim)
        self.query = parts[:, 0]  # (B, H, 1, D)
        self.new = parts[:, 1:, :, 0].transpose(0, 1)  # (2, B, H, D)

    def step(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Read the last token of rows (B, T), whose others were read before; logits (B, V)."""
        if self.n_longest < self.context:
            return self._decode(input_ids[:, -1])
        n_new = input_ids.shape[1] - self.is_token.shape[1]
        return self.read(input_ids, functional.pad(self.is_token, (0, n_new), value=True))

    def _decode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (B,) to logits (B, V), the operations of the modules one by one."""
        mm, norm, epsilon = torch.mm, torch.layer_norm, self.epsilon
        token_table, position_table = self.tables
        hidden = functional.embedding(tokens, token_table)
        hidden = hidden + functional.embedding(self.positions, position_table)  # (B, C)
        self.positions += 1
        self.n_longest += 1
        self.n_keys += 1
        seen = self.cache.narrow(4, 0, self.n_keys)
        keys, values = (part.unbind() for part in seen.unbind())  # L of (B, H, S, D) each
        slots = self.cache.select(4, self.n_keys - 1).unbind(1)  # L of (2, B, H, D)
        mask = None if self.mask is None else self.mask[..., : self.n_keys]

        width, scale = hidden.shape[1:], self.query.shape[-1] ** -0.5
        for number, (norm_1, qkv, out, norm_2, up, down) in enumerate(self.layers):
            mm(norm(hidden, width, norm_1, None, epsilon), qkv, out=self.qkv)
            slots[number].copy_(self.new)
            mixed = functional.scaled_dot_product_attention(
                self.query, keys[number], values[number], mask, scale=scale
            )  # (B, H, 1, D)
            hidden = hidden + mm(mixed.reshape(hidden.shape), out)
            inner = functional.gelu(mm(norm(hidden, width, norm_2, None, epsilon), up))
            hidden = hidden + mm(inner, down)
        last_norm, head = self.head
        return mm(norm(hidden, width, last_norm, None, epsilon), head)


def noise_for(scores: torch.Tensor) -> torch.Tensor:
    """The random numbers that `torch.multinomial` would take for one draw a row: (B, V)."""
    return torch.empty_like(scores).exponential_()


def draw(scores: torch.Tensor) -> torch.Tensor:
    """What `torch.multinomial` draws from the softmax of scores (B, V): (B,).

    By the method of its own for one draw a row, from the same random numbers, without its checks.
    """
    chances = scores.softmax(-1)
    largest, tokens = (chances / noise_for(chances)).max(-1)
    if any(map(math.isnan, largest.tolist())):
        return torch.multinomial(chances, 1).squeeze(1)  # says what is wrong
    return tokens


def chooser(processors: LogitsProcessorList) -> Any:
    """The processor that can be asked token by token, if what else there is cuts nothing off.

    Such a one has `begin`, which gives the states of the rows, and `choose`: constrained_abc.py.
    """
    asked = [each for each in processors if hasattr(each, "choose")]
    others = {type(each) for each in processors if not hasattr(each, "choose")}
    return asked[0] if len(asked) == 1 and others <= {TemperatureLogitsWarper} else None


def without_checks(processor: LogitsProcessor) -> Callable[[torch.Tensor, torch.Tensor], Any]:
    """The processor as a function; a list of them looks up each signature at each step."""
    if type(processor) is TopKLogitsWarper:

        def keep_top(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            lowest = scores.topk(min(processor.top_k, scores.shape[-1])).values[:, -1:]
            return scores.masked_fill(scores < lowest, processor.filter_value)

        return keep_top
    return processor if type(processor) in PLAIN_WARPERS else LogitsProcessorList([processor])


def sample(
    decoder: AbcGPTDecoder,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    streamer: BaseStreamer | None,
) -> torch.Tensor:
    """Continue rows (B, T) as the library's `_sample` does, by the same draws.

    Returns:
        (B, longer T); a row that has ended is filled with the padding token.
    """
    asked = chooser(logits_processor)
    processors = [without_checks(each) for each in logits_processor if each is not asked]
    # Criteria of these two classes have nothing new to say before an end token or the last step.
    is_plain = {type(each) for each in stopping_criteria} <= {EosTokenCriteria, MaxLengthCriteria}
    ends = [each.eos_token_id for each in stopping_criteria if hasattr(each, "eos_token_id")]
    end_ids = {token for end in ends for token in end.tolist()} if is_plain else set()
    max_length = stopping_criteria.max_length
    pad = generation_config._pad_token_tensor
    # A tenth faster, but what strangers are handed must be tensors that they can do anything with.
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
            if streamer is not None:
                streamer.put(tokens.cpu())
            if not all_open and not is_open.any():
                break
            logits = decoder.step(input_ids)
    if streamer is not None:
        streamer.end()
    return input_ids.clone() if is_private else input_ids
