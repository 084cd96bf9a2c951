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
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import PipelineRegistry

from .arrange_abc import arrange_accompaniment, arrange_fill
from .export_abc import check_beginning, cut_after_end, cut_to_whole_bars, export_tune
from .grammar_abc_decoding import TokenGrammar
from .header_abc import Line, header_lines
from .notation_abc import CHORD_ATTACK_LINE, FILL_IN_TOKENS, FIRST_LINE, plain_text
from .writing_abc import PLAIN_SAMPLING, Row, RowWriter

TASK = "abc-music"
CONDITIONS = ("meter", "key", "tempo", "instruments", "prompt", "fill", "accompany")
GENERATION = (*PLAIN_SAMPLING, "min_p", "typical_p", "repetition_penalty", "use_cache")
COUNTS = ("max_new_tokens", "num_return_sequences")
BATCH_SIZE = 8
MAX_NEW_TOKENS = 1500


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
            count = kwargs.get(name, 1)
            if type(count) is not int or count < 1:
                raise ValueError(f"{name} is {count!r}, expected 1 or more")
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
                rows.append(Row(self._writable(header_lines(**given)), []))
            elif given:
                raise ValueError(f"prompt and {', '.join(given)}: expected one or the other")
            else:
                rows.append(Row([], self._encode_prompt(prompt)))
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
            row.start = self.writer.planned_grammar.planned(
                row.arrangement.before, row.arrangement.plan
            )
            # the bars are given in number, so what they take at least does not count
            row.left += self.writer.planned_grammar.n_closing_tokens(row.start) + 1
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices, enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            # In a batch, the longest prompt would use up the context of all others.
            n_rows = inputs["batch_size"] if self.writer.context == math.inf else 1
            plain = [row for row in rows if not row.arrangement]
            for some in (plain, arranged):
                for start in range(0, len(some), n_rows):
                    self.writer.write(some[start : start + n_rows], tokens, generation)
        return {"rows": rows, "n": num_return_sequences}

    @functools.cached_property
    def writer(self) -> RowWriter:
        """What goes on writing rows with this model."""
        return RowWriter(self.model, self.tokenizer)

    @property
    def has_grammar(self) -> bool:
        """Whether the tokenizer has all characters of the dialect, as the grammar requires."""
        return self.writer.has_grammar

    @property
    def grammar(self) -> TokenGrammar:
        """The grammar for this tokenizer."""
        return self.writer.grammar

    def postprocess(self, outputs: dict[str, Any]) -> list[list[dict[str, Any]]]:
        """Turn rows into tunes, grouped by condition."""
        tunes = [self._tune(row) for row in outputs["rows"]]
        return [tunes[start : start + outputs["n"]] for start in range(0, len(tunes), outputs["n"])]

    def _tune(self, row: Row) -> dict[str, Any]:
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
            if self.writer.can_encode(line.text or line.start):
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
        if not self.writer.can_encode(prompt):
            raise ValueError("the prompt has characters that this model's tokenizer cannot write")
        return self.writer.encode(prompt)

    def _arranged(self, given: dict[str, Any]) -> Row:
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
            ids = self.writer.encode(arrangement.before)
            return Row([], ids, arrangement=arrangement, n_read=len(ids))
        if "prompt" not in given:
            raise ValueError("fill without a tune, expected the whole tune as prompt")
        marks = self.tokenizer.convert_tokens_to_ids(list(FILL_IN_TOKENS))
        if self.tokenizer.unk_token_id in marks or None in marks:
            raise ValueError(
                f"this model was not trained to fill in: its tokenizer has no {FILL_IN_TOKENS[0]}; "
                "use one whose data had fill_in.share, or continue the bars before"
            )
        arrangement = arrange_fill(
            given["prompt"], given["fill"], self.writer.n_tokens, self.writer.trained_length
        )
        parts = zip(marks, map(self.writer.encode, arrangement.passage), strict=True)
        ids = [token for mark, part in parts for token in (mark, *part)]
        return Row([], ids, arrangement=arrangement, n_read=len(ids))


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
