"""Held-out real pieces in the form of samples, to be measured as samples are."""

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
    """Real pieces as long as samples may be: rows as `sampling.sample_batches` gives them.

    Each has so many tokens at most, and a longer piece ends at its last bar line within the limit,
    where tied notes end too. As in samples, a voice is declared also if it comes in later. Pieces
    without a whole bar there, and those that are laid voice by voice, are left out.
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
    """The first 4 bars of pieces that have more, where a tune so begun can end in time; the pieces.

    Beginnings beyond the limits of generation are left out (a pitch that abcjs damages, tuplets on
    which readers differ): what a tune inherits from them says nothing of what the model wrote. They
    may rest, for that all readers take.

    Args:
        tunes: In the layout `bars`.
        grammar: Of the tokenizer.
        n_left: Tokens that the model may write behind the prompt.
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
