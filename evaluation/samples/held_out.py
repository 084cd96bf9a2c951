"""Held-out real pieces in the form of samples, so that they can be measured like samples."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from modeling.export_abc import cut_to_whole_bars, export_tune
from modeling.grammar_abc_decoding import TokenGrammar
from modeling.grammar_abc_tune import TuneGrammar

from .prompts import beginning

PROMPT_BARS = 4


def cut_as_samples(
    tunes: Sequence[str], tokenizer: PreTrainedTokenizerBase, most_tokens: Sequence[int]
) -> list[dict[str, Any]]:
    """Real pieces cut to the length of samples: rows as yielded by `sampling.sample_batches`.

    Each has at most `most_tokens` tokens. A longer piece ends at its last bar line within the
    limit, where tied notes end too. As in samples, a voice is declared even if it enters later.
    Pieces without a whole bar within the limit, and those in the voices layout, are skipped.
    """
    rows = []
    for abc, most in zip(tunes, most_tokens, strict=True):
        ids = tokenizer(abc, add_special_tokens=False, verbose=False)["input_ids"]
        kept = ids[:most]
        is_whole = len(kept) == len(ids)
        text = abc if is_whole else cut_to_whole_bars(tokenizer.decode(kept))
        if "\n[V:" not in text:
            continue
        if not is_whole:
            before, mark, last = text.rpartition("\n[V:")
            text = before + mark + last.replace("-|", "|").replace("|\n", "|]\n")
        row = {"sample": len(rows) + 1, "ended": is_whole, "abc": text, "error": None}
        rows.append(row | {"n_tokens": len(kept), "abc_voices": export_tune(text)})
    return rows


def prompts(tunes: Sequence[str], grammar: TokenGrammar, n_left: int) -> Iterator[tuple[str, str]]:
    """The first 4 bars of longer pieces, if a tune that begins so can end in time; and the pieces.

    Beginnings outside the limits of generation are skipped (a pitch that abcjs damages, tuplets on
    which readers differ): defects that a tune inherits from them say nothing about the model. They
    may contain any rests, since all readers accept those.

    Args:
        tunes: In the layout `bars`.
        grammar: The grammar of the tokenizer.
        n_left: Tokens that the model may write after the prompt.
    """
    within = TuneGrammar(replace(grammar.grammar.limits, rest_share=1.0))
    for abc in tunes:
        try:
            prompt = beginning(abc, PROMPT_BARS)
            within.read(prompt)
        except ValueError:
            continue
        if grammar.can_end(grammar.read_prompt(prompt), n_left):
            yield prompt, abc
