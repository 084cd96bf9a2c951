"""Rows of text that a model goes on writing: headers line by line, then the bars.

Holds what depends on the tokenizer and the model: encoding, the grammar over its tokens, how much
the model can read. Letters in shapes: B batch, T time.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PrefixConstrainedLogitsProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.generation.streamers import BaseStreamer

from .arrange_abc import Arrangement
from .grammar_abc_decoding import TokenGrammar, TuneLogitsProcessor
from .grammar_abc_plan import PLANNED
from .grammar_abc_tune_rules import State
from .header_abc import FIRST_BAR, Line
from .notation_abc import ALPHABET

PLAIN_SAMPLING = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
MAX_HEADER_LINE_TOKENS = 32


@dataclass
class Row:
    """An unfinished tune: the lines it must still get, and its tokens without the start token."""

    lines: list[Line]
    ids: list[int]
    left: int = 0  # tokens that the model may still write
    ended: bool = False
    arrangement: Arrangement | None = None
    n_read: int = 0  # of the ids, those that the model reads but does not write
    start: State | None = None  # of the grammar, if there is an arrangement


class RowWriter:
    """Writes rows with one model and its tokenizer.

    Attributes:
        streamer: What `generate` gives each token to; for one row at a time.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.streamer: BaseStreamer | None = None

    @property
    def trained_length(self) -> int:
        """Number of tokens that the model was trained to read at once."""
        longest = getattr(self.model.config, "max_position_embeddings", None)
        return min(self.tokenizer.model_max_length, longest or self.tokenizer.model_max_length)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without start and end."""
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def n_tokens(self, text: str) -> int:
        """Return the number of its tokens."""
        return len(self.encode(text))

    def can_encode(self, text: str) -> bool:
        """Return whether the tokenizer has all that a text is made of."""
        return self.tokenizer.unk_token_id not in self.encode(text)

    @functools.cached_property
    def token_texts(self) -> list[str]:
        """The text of each token; "" for special ones."""
        tokenizer = self.tokenizer
        return [tokenizer.decode([i], skip_special_tokens=True) for i in range(len(tokenizer))]

    @property
    def has_grammar(self) -> bool:
        """Whether the tokenizer has all characters of the dialect, as the grammar requires."""
        return set(self.token_texts) >= set(ALPHABET)

    @property
    def context(self) -> float:
        """Length in tokens of the longest text the model can read; inf if it can go beyond."""
        goes_on = getattr(self.model, "goes_beyond_context", False)
        if goes_on or sampler_of(self.model.config.model_type):
            return math.inf
        return getattr(self.model.config, "max_position_embeddings", math.inf)

    @functools.cached_property
    def grammar(self) -> TokenGrammar:
        """The grammar for this tokenizer; kept, since it caches its states."""
        return TokenGrammar.of(self.tokenizer)

    @functools.cached_property
    def planned_grammar(self) -> TokenGrammar:
        """The same for bars that are planned; kept, too."""
        return TokenGrammar.of(self.tokenizer, PLANNED)

    def write(
        self, rows: list[Row], tokens: TokenGrammar | None, generation: dict[str, Any]
    ) -> None:
        """Generate tunes in a batch: their headers line by line, then all the rest."""
        while any(row.lines for row in rows):
            for row in rows:
                while row.lines and row.lines[0].text is not None:
                    row.ids += self.encode(row.lines.pop(0).text + "\n")
            self._write_line([row for row in rows if row.lines], tokens, generation)
        rows = [row for row in rows if row.left > 0]
        end = self.tokenizer.eos_token_id
        for row, new in zip(rows, self._generate(rows, [end], tokens, generation), strict=True):
            row.ended = end in new
            row.ids += new[: new.index(end)] if row.ended else new

    def _write_line(
        self, rows: list[Row], tokens: TokenGrammar | None, generation: dict[str, Any]
    ) -> None:
        """Let the model write the next line of each row, with the start that line must have."""
        starts = [row.lines.pop(0).start for row in rows]
        newlines = {token for token, text in enumerate(self.token_texts) if "\n" in text}
        generated = self._generate(rows, [*newlines], tokens, generation, starts)
        for row, start, new in zip(rows, starts, generated, strict=True):
            if start != FIRST_BAR:
                new = new[:MAX_HEADER_LINE_TOKENS]
            stop = next((place for place, token in enumerate(new) if token in newlines), None)
            new = new[: len(new) if stop is None else stop + 1]
            row.ids += new
            row.left -= len(new)
            if stop is None and start == FIRST_BAR:
                row.left = 0
            elif (
                stop is None
            ):  # no header line is this long: end it here, so that the other conditions still apply
                row.ids += self.encode("\n")

    def _generate(
        self,
        rows: list[Row],
        stops: list[int],
        tokens: TokenGrammar | None,
        generation: dict[str, Any],
        starts: list[str] | None = None,
    ) -> list[list[int]]:
        """Return what the model writes after each row, at least up to one of the tokens `stops`.

        Args:
            rows: The batch.
            stops: Generation ends once all rows have one of these.
            tokens: Restricts the rows to the dialect; None does not.
            generation: The caller's options for `generate`.
            starts: The required start of each row's text, which then has no special tokens.
        """
        tokenizer = self.tokenizer
        prompts = [[tokenizer.bos_token_id, *row.ids] for row in rows]
        longest = max(map(len, prompts), default=0)
        left = [min(row.left, self.context - longest) for row in rows]
        if rows and longest >= self.context:
            raise ValueError(
                f"a prompt of {longest:,} tokens, but this model reads at most {self.context:,}; "
                "shorten the prompt, or ask for fewer instruments"
            )
        room = min(
            max(left, default=0),
            math.inf if starts is None or FIRST_BAR in starts else MAX_HEADER_LINE_TOKENS,
        )
        if room < 1:
            return [[] for _ in rows]
        inputs = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
        n_prompt = inputs["input_ids"].shape[1]  # (B, T)
        config = GenerationConfig(
            **(PLAIN_SAMPLING if generation.get("do_sample", True) else {}) | generation,
            max_new_tokens=room,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=stops,
            pad_token_id=tokenizer.pad_token_id,
        )
        token_texts = self.token_texts[: self.model.config.vocab_size]
        processors = [line_starts(token_texts, starts, n_prompt)] if starts else []
        if rows[0].start:
            starts_at = [row.start for row in rows]
            processors.append(TuneLogitsProcessor(self.planned_grammar, left, starts_at))
        elif tokens:
            processors.append(TuneLogitsProcessor(tokens, left))
        output = self.model.generate(
            **inputs.to(self.model.device),
            generation_config=config,
            logits_processor=LogitsProcessorList(processors),
            custom_generate=sampler_of(self.model.config.model_type),
            streamer=self.streamer,
        )
        new = output[:, n_prompt:].tolist()
        return [ids[:n_tokens] for ids, n_tokens in zip(new, left, strict=True)]


def line_starts(
    token_texts: list[str], starts: list[str], n_prompt: int
) -> PrefixConstrainedLogitsProcessor:
    """Return a processor that forces the start of each line and excludes special tokens."""

    @functools.cache
    def fitting(rest: str) -> torch.Tensor:
        """Return the tokens that are possible where `rest` must follow."""
        return torch.tensor(
            [
                token
                for token, text in enumerate(token_texts)
                if text and (text.startswith(rest) or rest.startswith(text))
            ]
        )

    def allowed(row: int, ids: torch.Tensor) -> torch.Tensor:
        n_written = sum(len(token_texts[token]) for token in ids[n_prompt:].tolist())
        return fitting(starts[row][n_written:])

    return PrefixConstrainedLogitsProcessor(allowed, num_beams=1)


def sampler_of(model_type: str) -> Callable[..., torch.Tensor] | None:
    """Return `custom_generate` for a class that ships with transformers; None: its own loop."""
    if model_type != "llama":
        return None
    from .decoding_abc_llama import sample_llama  # needs more of transformers than this file does

    return sample_llama
