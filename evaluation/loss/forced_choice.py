"""Does a model hear which voices belong together? Its own song's voices against another song's.

From each pair of held-out songs with the same key and meter, as long as the context allows: the
first voice of each is given, bar by bar, and beside it stand the other voices of the same song, or
those of the other song. Scored is the loss of these other voices, in nats per character. The
choice is right if the song's own voices have the lower one. Both songs of a pair are the given one
once, so a model that does not listen to the given voice is right in half of the choices.

Conventions. Bars are those that both songs have from bar 2 on, since the first may be a pickup;
songs with changes of meter are left out. The header names the instruments of the voices that stand
there. The pair is the unit of the interval (Wilson's, at 95 %, on
pairs' choices); `margin` is the mean difference of the two losses, its interval from pairs drawn
with replacement.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from modeling.plan_abc import Bars, read_bars

from ..loading.finished_run import (
    FinishedRun,
    TooFewSongsError,
    interval,
    song_draws,
    split_column,
    window_nll,
)
from ..loading.models import find_model, load_tokenizer
from ..metrics import rate

LEAST_PAIRS, MOST_PAIRS = 10, 300
LEAST_BARS = 4
Kind = tuple[str, str]  # key and meter


def songs_of_kind(songs: Sequence[str]) -> dict[Kind, list[Bars]]:
    """Songs of several voices and one meter, by what they must share to be compared."""
    found: dict[Kind, list[Bars]] = defaultdict(list)
    for abc in songs:
        bars = read_bars(abc)
        end = bars.states[-1].stage
        has_changes = any("[M:" in line for line in bars.lines)
        if bars.n_voices > 1 and not has_changes and len(bars.lines) > LEAST_BARS:
            found[end.key, end.meter].append(bars)
    return found


def header_of(given: Bars, other: Bars) -> str:
    """The header of the first voice of one song and the other voices of another."""
    heads = [given.voice_heads[0], *other.voice_heads[1:]]
    shared = given.header[: given.header.find("V:1\n")]
    return shared + "".join(f"V:{number}\n{head}" for number, head in enumerate(heads, 1))


def beside(given: Bars, other: Bars, n_bars: int) -> list[list[tuple[str, bool]]]:
    """Lines of the first voice of one song and the other voices of another, from bar 2 on.

    Returns:
        For each line its parts: the text, and whether it is of the other voices.
    """
    lines = []
    for bar in range(1, n_bars + 1):
        texts = [given.voices(bar)[0], *other.voices(bar)[1:]]
        parts = [(f"[V:{voice}]{text}|", voice > 1) for voice, text in enumerate(texts, 1) if text]
        lines.append([*parts, ("\n", False)])
    return lines


def score(
    model: Any, encode: Callable[[str], list[int]], end: int, header: str, lines: list, most: int
) -> float | None:
    """Nats per character of the other voices' text; None if nothing of it fits."""
    ids, is_scored, n_chars = [end, *encode(header)], [False] * (1 + len(encode(header))), 0
    for line in lines:
        parts = [(encode(text), text, scored) for text, scored in line]
        if len(ids) + sum(len(tokens) for tokens, _, _ in parts) > most:
            break
        for tokens, text, scored in parts:
            ids += tokens
            is_scored += [scored] * len(tokens)
            n_chars += len(text) * scored
    if not n_chars:
        return None
    row = np.array([ids])
    nll = window_nll(model, row[:, :-1], row[:, 1:])[0]
    return float(nll[np.array(is_scored[1:])].sum()) / n_chars


def choose(run: FinishedRun, seed: int, split: str = "validation") -> dict[str, Any]:
    """`right`: the rate of right choices; `margin`: by how much, in nats per character.

    Args:
        run: Any run on tunes in the layout `bars`.
        seed: Of the pairs and the draws.
        split: Whose songs are taken.

    Raises:
        TooFewSongsError: If there are too few pairs of songs.
    """
    tokenizer = load_tokenizer(find_model(str(run.folder)))

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    model, end = run.load()
    choices, margins = [], []
    for first, second in _pairs(split_column(run.files.folder, split), seed):
        n_bars = min(len(first.lines), len(second.lines)) - 1
        losses = [
            score(
                *(model, encode, end, header_of(given, other)),
                *(beside(given, other, n_bars), run.files.block_length),
            )
            for given, other in itertools.product((first, second), repeat=2)
        ]
        if None in losses:
            continue
        own_first, other_first, other_second, own_second = losses
        for own, other in ((own_first, other_first), (own_second, other_second)):
            choices.append(own < other)
            margins.append(other - own)
    if len(choices) < 2 * LEAST_PAIRS:
        raise TooFewSongsError(
            f"{run.folder}: {len(choices) // 2} pairs of songs with the same key and meter, "
            f"expected {LEAST_PAIRS} or more"
        )
    of_pairs = np.array(margins).reshape(-1, 2).mean(1)
    draws = song_draws(len(of_pairs), seed) / len(of_pairs)
    margin = {"mean": float(of_pairs.mean()), "interval_95": interval(draws @ of_pairs)}
    return {"n_pairs": len(of_pairs), "right": rate(choices), "margin": margin}


def _pairs(songs: Sequence[str], seed: int) -> list[tuple[Bars, Bars]]:
    """Songs of one kind in pairs, each song once."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _, of_kind in sorted(songs_of_kind(songs).items()):
        order = rng.permutation(len(of_kind))
        pairs += [(of_kind[i], of_kind[j]) for i, j in zip(order[::2], order[1::2], strict=False)]
    return [pairs[n] for n in rng.permutation(len(pairs))[:MOST_PAIRS]]
