"""What `generate` runs for an LSTM when it samples or decodes greedily: one token a step, fast.

nn.LSTM prepares itself for a sequence at each call, which takes longer than the one step that is
wanted. Here a step is computed from the weights themselves, and the tokens are those of the
library's loop (the logits, up to rounding: the order of sums is another). What is not plain (an
adapter, a hook, scores wanted back, a state of one's own) goes to that loop by itself, see
`can_decode`; to have it in any case:
`model.generate(..., custom_generate=GenerationMixin._sample)`.

The GPT's file has the parts that are alike once more: a family shares no file with the other.

Letters in shapes: B batch, T time (tokens so far), C width, V vocabulary.
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
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria
from transformers.generation.streamers import BaseStreamer

from .arguments_abc import CACHE

PLAIN_MODULES = {nn.Dropout, nn.Embedding, nn.LSTM, nn.Linear, nn.ModuleList}
PLAIN_ARGUMENTS = {"attention_mask", CACHE, "use_cache"}
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

    In half precision and on accelerators nn.LSTM rounds in ways of its own, by which a sample would
    soon be another one; there it runs itself.

    Args:
        model: What generates.
        own_modules: The classes of the model's file; only they and torch's own are looked into.
        input_ids: (B, T) prompts.
        generation_config: As `generate` has prepared it.
        model_kwargs: What `generate` would hand to `forward`.
    """
    return (
        is_plain_request(generation_config, model_kwargs)
        and is_plain_model(model, own_modules, input_ids.device)
        and model.dtype == torch.float32
        and model.device.type == "cpu"
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


class AbcLSTMDecoder:
    """Reads rows of tokens and gives the logits of the next ones, with the weights of this moment.

    Args:
        model: A model for which `can_decode` holds.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.embedding, self.head = model.model.embed_tokens.weight, model.lm_head.weight
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        self.layers = [
            [getattr(layer.lstm, name) for name in names] for layer in model.model.layers
        ]
        # What each token adds to the gates of the first layer, unless it is more than the weights.
        self.table = None
        if self.embedding.shape[0] <= self.embedding.shape[1]:
            weight, _, *biases = self.layers[0]
            self.table = functional.linear(self.embedding, weight, sum(biases))  # (V, 4 * C)

    def read(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Read rows (B, T) from the start, by the modules; logits (B, V)."""
        output = self.model(input_ids, attention_mask, use_cache=True, logits_to_keep=1)
        self.states = [(layer.keys, layer.values) for layer in getattr(output, CACHE).layers]
        return output.logits[:, -1]

    def step(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Read the last token of rows (B, T), whose others were read before; logits (B, V)."""
        tokens, hidden = input_ids[:, -1], None
        for number, weights in enumerate(self.layers):
            if number == 0 and self.table is not None:
                state = self._look_up(tokens)
            else:
                hidden = functional.embedding(tokens, self.embedding) if number == 0 else hidden
                state = torch.lstm_cell(hidden, self.states[number], *weights)
            self.states[number], hidden = state, state[0]  # (B, C)
        return functional.linear(hidden, self.head)

    def _look_up(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The state of the first layer after tokens (B,), by the table: h and c, (B, C) each."""
        hidden, cell = self.states[0]
        inputs = functional.embedding(tokens, self.table)  # (B, 4 * C)
        gates = torch.addmm(inputs, hidden, self.layers[0][1].t())
        take, keep, new, show = gates.chunk(4, dim=1)
        cell = torch.addcmul(take.sigmoid() * new.tanh(), keep.sigmoid(), cell)
        return show.sigmoid() * cell.tanh(), cell


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
    decoder: AbcLSTMDecoder,
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
