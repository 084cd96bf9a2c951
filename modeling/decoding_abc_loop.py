"""The loop of `generate`: choose a token for each row, append it, let the model read it.

Where a grammar leaves one token only, in all rows, no scores are needed. The model reads such a
forced run together with the token before it, at once. Random numbers are drawn for each of its
tokens all the same, so a seed gives the same tokens as one step per token.

Letters in shapes: B batch, T time (tokens so far), N new tokens, V vocabulary.
"""

import math
from typing import Any, Protocol

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    MinPLogitsWarper,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria
from transformers.generation.streamers import BaseStreamer

# in the order in which the library applies them
WARPERS = (TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, MinPLogitsWarper)


class Decoder(Protocol):
    """Reads rows of tokens and returns the logits of the next ones."""

    def read(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Read rows (B, T) from the start; return logits (B, V)."""

    def step(self, input_ids: torch.Tensor, n_new: int = 1) -> torch.Tensor:
        """Read the last N tokens of rows (B, T), after the others; return logits (B, V)."""


def noise_for(scores: torch.Tensor) -> torch.Tensor:
    """Return the random numbers that `torch.multinomial` uses for one draw per row: (B, V)."""
    return torch.empty_like(scores, dtype=torch.float32).exponential_()


def draw(scores: torch.Tensor) -> torch.Tensor:
    """Draw what `torch.multinomial` draws from the softmax of scores (B, V): (B,).

    Uses its method for one draw per row and the same random numbers, without its checks.
    """
    chances = scores.softmax(-1)
    largest, tokens = (chances / noise_for(chances)).max(-1)
    if any(map(math.isnan, largest.tolist())):
        return torch.multinomial(chances, 1).squeeze(1)  # raises the error
    return tokens


class Freely:
    """Chooses tokens as the library does.

    Args:
        processors: Change the scores first.
        do_sample: Whether to draw; else the highest score wins.
    """

    def __init__(self, processors: LogitsProcessorList, do_sample: bool) -> None:
        # A LogitsProcessorList inspects signatures at each step; the library's own need no check.
        self.processors = [
            each if type(each) in WARPERS else LogitsProcessorList([each]) for each in processors
        ]
        self.do_sample = do_sample

    def __call__(self, input_ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return the next tokens (B,) of rows (B, T), given their logits (B, V)."""
        scores = logits.to(torch.float32, copy=True)
        for process in self.processors:
            scores = process(input_ids, scores)
        return draw(scores) if self.do_sample else scores.argmax(-1)

    def forced(self, logits: torch.Tensor) -> torch.Tensor | None:
        """Return None: any token may come next."""

    def note_ends(self, is_open: torch.Tensor) -> None:
        """Need not know which rows have ended."""


class Asking:
    """Chooses tokens with a processor that can be asked for one token at a time.

    Such a processor has `begin`, which returns the states of the rows, `choose` and `forced`, see
    grammar_abc_decoding.py; it does itself what the other processors would do after it.

    Args:
        asked: The processor.
        others: The library's own after it, of WARPERS.
        input_ids: (B, T) prompts.
        do_sample: As in `Freely`.
    """

    def __init__(
        self, asked: Any, others: list[Any], input_ids: torch.Tensor, do_sample: bool
    ) -> None:
        self.asked, self.do_sample = asked, do_sample
        self.scaling = [each for each in others if type(each) is TemperatureLogitsWarper]
        cutting = [each for each in others if type(each) is not TemperatureLogitsWarper]
        self.states = asked.begin(input_ids, cutting)
        self.is_open = [True] * len(input_ids)

    def __call__(self, input_ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """As in `Freely`."""
        scores = logits.to(torch.float32, copy=True)
        for process in self.scaling:
            scores = process(input_ids, scores)
        noise = noise_for(scores) if self.do_sample else None  # (B, V)
        tokens = self.asked.choose(self.states, scores, noise, input_ids.shape[1])
        return input_ids.new_tensor(tokens)

    def forced(self, logits: torch.Tensor) -> torch.Tensor | None:
        """Return the next tokens (B,) if no open row has a choice; else None."""
        tokens = self.asked.forced(self.states, self.is_open)
        if tokens is None:
            return None
        if self.do_sample:
            noise_for(logits)  # the random numbers of this step, which change nothing
        return torch.tensor(tokens, device=logits.device)

    def note_ends(self, is_open: torch.Tensor) -> None:
        """Choose no more for the rows that have ended, false in `is_open` (B,)."""
        self.is_open = is_open.tolist()
        rows = zip(self.states, self.is_open, strict=True)
        self.states[:] = [state if still_open else None for state, still_open in rows]


def chooser(processors: LogitsProcessorList, rows: "Rows", do_sample: bool) -> Freely | Asking:
    """Return what chooses the tokens: by asking, if one processor can be and the rest allow it."""
    asked = [each for each in processors if hasattr(each, "choose")]
    others = [each for each in processors if not hasattr(each, "choose")]
    kinds = [type(each) for each in others]
    if (
        len(asked) == 1
        and processors[0] is asked[0]
        and kinds == [kind for kind in WARPERS if kind in kinds]
        and all(getattr(each, "min_tokens_to_keep", 1) == 1 for each in others)
        # after its end a row is free, but not of what cuts the scores
        and (rows.end_ids >= asked[0].end_ids or {*kinds} <= {TemperatureLogitsWarper})
    ):
        return Asking(asked[0], others, rows.input_ids, do_sample)
    return Freely(processors, do_sample)


class Rows:
    """The rows of one call as they grow, and when they end.

    Args:
        input_ids: (B, T) prompts.
        stopping_criteria: Decide which rows have ended.
        pad: The token that fills up a row that has ended; a tensor.
        streamer: Receives each token.
    """

    def __init__(
        self,
        input_ids: torch.Tensor,
        stopping_criteria: StoppingCriteriaList,
        pad: torch.Tensor | None,
        streamer: BaseStreamer | None,
    ) -> None:
        self.input_ids, self.criteria, self.pad = input_ids, stopping_criteria, pad
        self.streamer = streamer
        # Criteria of these two classes change nothing before an end token or the last step.
        kinds = {type(each) for each in stopping_criteria}
        self.is_plain = kinds <= {EosTokenCriteria, MaxLengthCriteria}
        ends = [each.eos_token_id for each in stopping_criteria if hasattr(each, "eos_token_id")]
        self.may_end = bool(ends)
        self.end_ids = {token for end in ends for token in end.tolist()} if self.is_plain else set()
        self.is_open = torch.ones_like(input_ids[:, 0], dtype=torch.bool)  # (B,)
        self.all_open = True

    def add(self, tokens: torch.Tensor) -> bool:
        """Append tokens (B,); return whether a row may have ended."""
        if self.may_end and not self.all_open:
            tokens = torch.where(self.is_open, tokens, self.pad)
        self.input_ids = torch.cat([self.input_ids, tokens[:, None]], dim=1)
        is_last = self.input_ids.shape[1] == self.criteria.max_length
        may_have_ended = (
            not self.is_plain or is_last or not self.end_ids.isdisjoint(tokens.tolist())
        )
        if may_have_ended:
            self.is_open = self.is_open & ~self.criteria(self.input_ids, None)
            self.all_open = bool(self.is_open.all())
        if self.streamer is not None:
            self.streamer.put(tokens.cpu())
        return may_have_ended

    @property
    def are_over(self) -> bool:
        """Whether all rows have ended."""
        return not self.all_open and not bool(self.is_open.any())


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
    rows = Rows(input_ids, stopping_criteria, generation_config._pad_token_tensor, streamer)
    others = {type(each) for each in logits_processor if not hasattr(each, "choose")}
    # Inference mode is a tenth faster, but callers must get ordinary tensors.
    is_private = rows.is_plain and streamer is None and others <= {*WARPERS}
    with torch.inference_mode() if is_private else torch.no_grad():
        choose = chooser(logits_processor, rows, generation_config.do_sample)
        logits, n_unread = decoder.read(input_ids, attention_mask), 0
        while not rows.are_over:
            tokens = choose.forced(logits) if rows.is_plain else None
            if tokens is None:
                if n_unread:
                    logits, n_unread = decoder.step(rows.input_ids, n_unread), 0
                tokens = choose(rows.input_ids, logits)
            n_unread += 1
            if rows.add(tokens) and rows.may_end:
                choose.note_ends(rows.is_open)
    if streamer is not None:
        streamer.end()
    return rows.input_ids.clone() if is_private else rows.input_ids
