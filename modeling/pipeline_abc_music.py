"""Conditions for a header, or the start of a tune -> tunes: the pipeline `abc-music`.

    write = pipeline("abc-music", model="user/name", trust_remote_code=True)
    tunes = write(meter="3/4", key="G", instruments=["Violin", "drums"], seed=1)
    tunes = write(prompt=tune, fill=(5, 8))                            # bars 5 to 8 anew
    tunes = write(accompany=tune, instruments=["Acoustic Bass", "drums"])  # voices beside its own

Given fields are fixed; unspecified fields are sampled one by one, in the order of the dialect. So a
meter is chosen before the key is known, and a key once meter and tempo are.
"""

import difflib
import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LogitsProcessorList,
    Pipeline,
    PrefixConstrainedLogitsProcessor,
)
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import PipelineRegistry

from .arrange_abc import Arrangement, arrange_accompaniment, arrange_fill
from .export_abc import check_beginning, cut_after_end, cut_to_whole_bars, export_tune
from .grammar_abc_decoding import TokenGrammar, TuneLogitsProcessor
from .grammar_abc_plan import PLANNED
from .grammar_abc_tune_rules import State
from .header_abc import FIRST_BAR, Line, header_lines
from .notation_abc import ALPHABET, CHORD_ATTACK_LINE, FILL_IN_TOKENS, FIRST_LINE, plain_text

TASK = "abc-music"
CONDITIONS = ("meter", "key", "tempo", "instruments", "prompt", "fill", "accompany")
PLAIN_SAMPLING = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
GENERATION = (*PLAIN_SAMPLING, "min_p", "typical_p", "repetition_penalty", "use_cache")
COUNTS = ("max_new_tokens", "num_return_sequences")
BATCH_SIZE = 8
MAX_NEW_TOKENS = 1500
MAX_HEADER_LINE_TOKENS = 32


@dataclass
class _Row:
    """An unfinished tune: the lines it must still get, and its tokens without the start token."""

    lines: list[Line]
    ids: list[int]
    left: int = 0  # tokens that the model may still write
    ended: bool = False
    arrangement: Arrangement | None = None
    n_read: int = 0  # of the ids, those that the model reads but does not write
    start: State | None = None  # of the grammar, if there is an arrangement


class AbcMusicPipeline(Pipeline):
    """Generates tunes with a model of ABC text; task `abc-music`."""

    _load_tokenizer = True
    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False

    def __call__(
        self,
        conditions: dict[str, Any] | str | Iterable[dict[str, Any] | str] | None = None,
        *,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> list:
        """Generate tunes.

        Args:
            conditions: A dict of the conditions below, or a prompt; or a list of them.
            batch_size: Tunes generated together; with the same seed, another size gives other
                tunes. A model that stops at its context generates them one at a time.
            **kwargs: Settings for all tunes, here or when the pipeline is created:
                meter: Such as "3/4".
                key: The major key of the signature, such as "G" or "Bb"; for a minor key, its
                    relative major.
                tempo: Quarters per minute, in steps of 0.25.
                instruments: One per voice: General MIDI programs (0-127), their names, or "drums".
                prompt: The start of a tune in the layout `bars`, instead of conditions.
                fill: With a whole tune as `prompt`: the first and the last bar to write anew,
                    numbered from 1. All other bars stay as they are; the new ones have the same
                    lengths. The model must have been trained to fill in.
                accompany: A whole tune whose voices stay as they are; the model writes further
                    ones, of the `instruments`, beside them.
                num_return_sequences: Number of tunes for each condition.
                seed: Gives the same tunes on the same machine; leaves the global random state
                    unchanged.
                max_new_tokens: Maximum number of tokens generated per tune; default 1,500. Beyond
                    its context a GPT continues from the last half, see `generate` of its class; a
                    class of another library, such as GPT-2, stops there.
                grammar: Whether to restrict the model to whole tunes of the dialect; by default yes
                    if its tokenizer has all characters of the dialect.
                do_sample, temperature, top_k, ...: As in `generate` (`GENERATION`). By default
                    tunes are sampled from the model's unmodified distribution.

        Returns:
            A list of tunes, or a list of such lists if a list was given. A tune is a dict: `abc`,
            the text as generated; `ended`, whether it is complete; `abc_voices`, the text for other
            programs, without an incomplete last bar; `error`, the reason if there is none; `midi`,
            the bytes of a MIDI file, None if this project's data_prep is not installed; `n_tokens`,
            the number of its tokens.

        Raises:
            ValueError: If the dialect or this model cannot write a condition, or if with the
                grammar `max_new_tokens` or the context is too small for a whole tune.
        """
        one = conditions is None or isinstance(conditions, (dict, str))
        inputs = {
            "tunes": [conditions] if one else list(conditions),
            "batch_size": batch_size or self._batch_size or BATCH_SIZE,
        }
        tunes = super().__call__(inputs, **kwargs)
        return tunes[0] if one else tunes

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict, dict, dict]:
        """Split the arguments into conditions and generation; the last step has none."""
        _check_names(kwargs, (*CONDITIONS, *COUNTS, "seed", "grammar", *GENERATION))
        for name in COUNTS:
            if name in kwargs and kwargs[name] < 1:
                raise ValueError(f"{name} is {kwargs[name]}, expected 1 or more")
        conditions = {name: kwargs.pop(name) for name in CONDITIONS if name in kwargs}
        return conditions, kwargs, {}

    def preprocess(self, inputs: dict[str, Any], **conditions: Any) -> dict[str, Any]:
        """Turn conditions into the lines that a tune must have."""
        rows = []
        for own in inputs["tunes"]:
            own = {"prompt": own} if isinstance(own, str) else own or {}
            _check_names(own, CONDITIONS)
            given = {name: value for name, value in (conditions | own).items() if value is not None}
            if "fill" in given or "accompany" in given:
                rows.append(self._arranged(given))
                continue
            prompt = given.pop("prompt", None)
            if prompt is None:
                rows.append(_Row(self._writable(header_lines(**given)), []))
            elif given:
                raise ValueError(f"prompt and {', '.join(given)}: expected one or the other")
            else:
                rows.append(_Row([], self._encode_prompt(prompt)))
        return {"rows": rows, "batch_size": inputs["batch_size"]}

    def _forward(
        self,
        inputs: dict[str, Any],
        num_return_sequences: int = 1,
        max_new_tokens: int = MAX_NEW_TOKENS,
        seed: int | None = None,
        grammar: bool | None = None,
        **generation: Any,
    ) -> dict[str, Any]:
        """Generate the rows, `num_return_sequences` copies of each."""
        tokens = self.grammar if grammar or (grammar is None and self.has_grammar) else None
        rows = [
            replace(row, lines=list(row.lines), ids=list(row.ids), left=max_new_tokens)
            for row in inputs["rows"]
            for _ in range(num_return_sequences)
        ]
        arranged = [row for row in rows if row.arrangement]
        if arranged and grammar is False:
            raise ValueError("fill and accompany are written within the grammar: leave grammar out")
        for row in arranged:
            row.start = self.planned_grammar.planned(row.arrangement.before, row.arrangement.plan)
            # the bars are given in number, so what they take at least does not count
            row.left += self.planned_grammar.n_closing_tokens(row.start) + 1
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices, enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            # In a batch, the longest prompt would use up the context of all others.
            n_rows = inputs["batch_size"] if self._context == math.inf else 1
            plain = [row for row in rows if not row.arrangement]
            for some in (plain, arranged):
                for start in range(0, len(some), n_rows):
                    self._write(some[start : start + n_rows], tokens, generation)
        return {"rows": rows, "n": num_return_sequences}

    def postprocess(self, outputs: dict[str, Any]) -> list[list[dict[str, Any]]]:
        """Turn rows into tunes, grouped by condition."""
        tunes = [self._tune(row) for row in outputs["rows"]]
        return [tunes[start : start + outputs["n"]] for start in range(0, len(tunes), outputs["n"])]

    def _tune(self, row: _Row) -> dict[str, Any]:
        text = self.tokenizer.decode(row.ids[row.n_read :], skip_special_tokens=True)
        if row.arrangement:
            text = row.arrangement.before + text + row.arrangement.after
        abc, has_end = cut_after_end(text)
        tune = {"abc": abc, "ended": row.ended or has_end, "n_tokens": len(row.ids) - row.n_read}
        tune |= {"abc_voices": None, "error": None, "midi": None}
        try:
            voices = export_tune(abc if tune["ended"] else cut_to_whole_bars(abc))
            return tune | {"midi": _midi(voices), "abc_voices": voices}
        except ValueError as error:
            return tune | {"error": str(error)}

    def _writable(self, lines: list[Line]) -> list[Line]:
        """Leave out lines that the model's text never has; study A's has no X:, Q: or %%MIDI.

        Raises:
            ValueError: If such a line is requested.
        """
        kept = []
        for line in lines:
            if self._can_encode(line.text or line.start):
                kept.append(line)
            elif line.text not in (None, FIRST_LINE, CHORD_ATTACK_LINE):
                raise ValueError(
                    f"{line.text!r} is unavailable with this model: its tokenizer cannot write it, "
                    "since the training music had no such line; leave the condition out"
                )
        return kept

    def _encode_prompt(self, prompt: str) -> list[int]:
        if not isinstance(prompt, str):
            raise ValueError(f"prompt is {prompt!r}, expected ABC text")
        prompt = plain_text(prompt)
        try:
            check_beginning(prompt)
        except ValueError as error:
            message = f"the prompt does not start a tune in the layout bars: {error}"
            raise ValueError(message) from None
        if cut_after_end(prompt)[1]:
            raise ValueError("the prompt is a whole tune; leave out its end, |]")
        if not self._can_encode(prompt):
            raise ValueError("the prompt has characters that this model's tokenizer cannot write")
        return self._encode(prompt)

    def _arranged(self, given: dict[str, Any]) -> _Row:
        """Return the row of bars to fill in, or of voices to accompany."""
        name = "fill" if "fill" in given else "accompany"
        if not self.has_grammar:
            raise ValueError(
                f"{name} needs the grammar, but this model's tokenizer has no whole dialect"
            )
        with_it = "prompt" if name == "fill" else "instruments"
        if others := given.keys() - {name, with_it}:
            raise ValueError(
                f"{name} and {', '.join(sorted(others))}: expected only {with_it} with it"
            )
        if name == "accompany":
            arrangement = arrange_accompaniment(given["accompany"], given.get("instruments"))
            ids = self._encode(arrangement.before)
            return _Row([], ids, arrangement=arrangement, n_read=len(ids))
        if "prompt" not in given:
            raise ValueError("fill without a tune, expected the whole tune as prompt")
        marks = self.tokenizer.convert_tokens_to_ids(list(FILL_IN_TOKENS))
        if self.tokenizer.unk_token_id in marks or None in marks:
            raise ValueError(
                f"this model was not trained to fill in: its tokenizer has no {FILL_IN_TOKENS[0]}; "
                "use one whose data had fill_in.share, or continue the bars before"
            )
        arrangement = arrange_fill(
            given["prompt"], given["fill"], self._n_tokens, self._trained_length
        )
        parts = zip(marks, map(self._encode, arrangement.passage), strict=True)
        ids = [token for mark, part in parts for token in (mark, *part)]
        return _Row([], ids, arrangement=arrangement, n_read=len(ids))

    @property
    def _trained_length(self) -> int:
        """Number of tokens that the model was trained to read at once."""
        longest = getattr(self.model.config, "max_position_embeddings", None)
        return min(self.tokenizer.model_max_length, longest or self.tokenizer.model_max_length)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _n_tokens(self, text: str) -> int:
        return len(self._encode(text))

    def _can_encode(self, text: str) -> bool:
        return self.tokenizer.unk_token_id not in self._encode(text)

    @functools.cached_property
    def _token_texts(self) -> list[str]:
        """The text of each token; "" for special ones."""
        tokenizer = self.tokenizer
        return [tokenizer.decode([i], skip_special_tokens=True) for i in range(len(tokenizer))]

    @property
    def has_grammar(self) -> bool:
        """Whether the tokenizer has all characters of the dialect, as the grammar requires."""
        return set(self._token_texts) >= set(ALPHABET)

    @property
    def _context(self) -> float:
        """Length in tokens of the longest text the model can read; inf if it can go beyond."""
        goes_on = getattr(self.model, "goes_beyond_context", False)
        if goes_on or _sampler_of(self.model.config.model_type):
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

    def _write(
        self, rows: list[_Row], tokens: TokenGrammar | None, generation: dict[str, Any]
    ) -> None:
        """Generate tunes in a batch: their headers line by line, then all the rest."""
        while any(row.lines for row in rows):
            for row in rows:
                while row.lines and row.lines[0].text is not None:
                    row.ids += self._encode(row.lines.pop(0).text + "\n")
            self._write_line([row for row in rows if row.lines], tokens, generation)
        rows = [row for row in rows if row.left > 0]
        end = self.tokenizer.eos_token_id
        for row, new in zip(rows, self._generate(rows, [end], tokens, generation), strict=True):
            row.ended = end in new
            row.ids += new[: new.index(end)] if row.ended else new

    def _write_line(
        self, rows: list[_Row], tokens: TokenGrammar | None, generation: dict[str, Any]
    ) -> None:
        """Let the model write the next line of each row, with the start that line must have."""
        starts = [row.lines.pop(0).start for row in rows]
        newlines = {token for token, text in enumerate(self._token_texts) if "\n" in text}
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
                row.ids += self._encode("\n")

    def _generate(
        self,
        rows: list[_Row],
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
        left = [min(row.left, self._context - longest) for row in rows]
        if rows and longest >= self._context:
            raise ValueError(
                f"a prompt of {longest:,} tokens, but this model reads at most {self._context:,}; "
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
        token_texts = self._token_texts[: self.model.config.vocab_size]
        processors = [_line_starts(token_texts, starts, n_prompt)] if starts else []
        if rows[0].start:
            starts_at = [row.start for row in rows]
            processors.append(TuneLogitsProcessor(self.planned_grammar, left, starts_at))
        elif tokens:
            processors.append(TuneLogitsProcessor(tokens, left))
        output = self.model.generate(
            **inputs.to(self.device),
            generation_config=config,
            logits_processor=LogitsProcessorList(processors),
            custom_generate=_sampler_of(self.model.config.model_type),
        )
        new = output[:, n_prompt:].tolist()
        return [ids[:n_tokens] for ids, n_tokens in zip(new, left, strict=True)]


def _line_starts(
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


def _sampler_of(model_type: str) -> Callable[..., torch.Tensor] | None:
    """Return `custom_generate` for a class that ships with transformers; None: its own loop."""
    if model_type != "llama":
        return None
    from .decoding_abc_llama import sample_llama  # needs more of transformers than this file does

    return sample_llama


def _check_names(given: Iterable[str], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1, 0)[0]
            raise ValueError(f"unknown argument {name!r}; the nearest known one is {near!r}")


def _midi(abc: str) -> bytes | None:
    """Return a tune as a MIDI file; None if data_prep is not installed, as on the Hub."""
    try:
        from data_prep.dialect.abc_to_midi import abc_to_midi
    except ImportError:
        return None
    return abc_to_midi(abc)


# A second copy of this file in one process, from another model's folder, leaves the task to the
# first copy, but must know the task's name to be saved.
_is_taken = TASK in PIPELINE_REGISTRY.get_supported_tasks()
_registry = PipelineRegistry({}, {}) if _is_taken else PIPELINE_REGISTRY
_registry.register_pipeline(TASK, AbcMusicPipeline, pt_model=AutoModelForCausalLM, type="text")
# Goes to config.json, for readers who find the task there but not its code: `save_pretrained` of a
# class that ships with transformers copies none.
AbcMusicPipeline._registered_impl[TASK]["note"] = (
    "needs the .py files of the folder that the model was loaded from; copy them next to this file"
)
