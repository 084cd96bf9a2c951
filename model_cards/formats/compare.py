"""Whether the file for another engine computes what the published model does.

Letters in shapes: T time, V vocabulary.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from .reference import Reference, Text, loss_of

LARGEST_DIFFERENCE = 1e-4  # of a logit in float32 from the one in float64
ROUNDINGS = 2  # by how many times transformers' own rounding an engine may differ, if that is more
LARGEST_LOSS = 0.01  # nats per token that a smaller number format may cost


class Engine(Protocol):
    """Another engine with a file of the model loaded."""

    name: str

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Returns the logits (T, V) after each of the tokens (T,), read at once."""

    def greedy(self, start: int, n_tokens: int) -> list[int]:
        """Returns the greedy tune after a start token, read token by token with the cache."""


def largest_difference(engine: Engine, texts: Sequence[Text]) -> float:
    """Returns the largest absolute difference of a logit over texts from the exact one."""
    pairs = [(text.exact, engine.logits(text.ids)) for text in texts]
    # the maximum of numpy, unlike Python's, is NaN if one of them is
    return float(np.max([np.abs(theirs - exact).max() for exact, theirs in pairs]))


def loss_difference(engine: Engine, texts: Sequence[Text]) -> float:
    """Returns by how many nats per token texts are less likely in the engine."""
    n_tokens = sum(len(text.ids) - 1 for text in texts)
    theirs = sum(loss_of(engine.logits(text.ids), text.ids) for text in texts)
    return (theirs - sum(text.loss for text in texts)) / n_tokens


def count_same(engine: Engine, reference: Reference) -> int:
    """Returns after how many tokens the greedy tune differs first, or its length."""
    ours = reference.greedy[0]
    theirs = engine.greedy(reference.start, len(ours))
    pairs = enumerate(zip(ours, theirs, strict=True))
    return next((i for i, (one, other) in pairs if one != other), len(ours))


def check_same(
    engine: Engine, reference: Reference, least_bound: float = LARGEST_DIFFERENCE
) -> str:
    """Checks logits and the greedy tune of a file in full precision.

    Logits of a deep model with large activations have a rounding error in float32, in transformers
    as in each engine. So an engine may differ from the logits in float64 by `least_bound`, or by
    `ROUNDINGS` times what transformers differs from them. Where two tokens of the greedy tune are
    closer than twice this, either may follow, and the rest of the tune is not compared.

    Args:
        engine: The engine with the file.
        reference: The published model.
        least_bound: Of the logits' difference.

    Returns:
        What was found, in a few words.

    Raises:
        ValueError: If a logit differs by more, or the greedy tune is another one.
    """
    largest = max(least_bound, ROUNDINGS * reference.rounding)
    difference = largest_difference(engine, reference.texts)
    if not difference <= largest:  # also true for NaN
        raise ValueError(
            f"logits in {engine.name} differ by {difference:.2g} from those in float64, expected "
            f"at most {largest:.2g}; the file is not kept: publish without this format"
        )
    n_same, (tune, leads) = count_same(engine, reference), reference.greedy
    if n_same < len(tune) and leads[n_same] > 2 * largest:
        raise ValueError(
            f"the greedy tune in {engine.name} differs from that in transformers from token "
            f"{n_same + 1:,} on; the file is not kept: publish without this format"
        )
    return (
        f"logits within {difference:.1e} of those in float64, those of transformers within "
        f"{reference.rounding:.1e}; the greedy tune equal for {n_same:,} of {len(tune):,} tokens"
    )


def check_close(engine: Engine, reference: Reference, file: str) -> float:
    """Checks the loss of a file in a smaller number format.

    Returns:
        Nats per token by which the model's own texts are less likely.

    Raises:
        ValueError: If that is more than `LARGEST_LOSS`.
    """
    difference = loss_difference(engine, reference.texts)
    if not abs(difference) <= LARGEST_LOSS:  # also true for NaN
        raise ValueError(
            f"{file} in {engine.name} changes the loss by {difference:.4f} nats per token, "
            f"expected at most {LARGEST_LOSS:g}; the file is not kept: publish without this format"
        )
    return difference
