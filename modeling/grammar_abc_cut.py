"""What top-k, top-p and min-p keep of the legal tokens, decided with few questions to the grammar.

The library's cuts come after the mask: what they keep depends on which other tokens are legal. Most
draws are likely tokens, and few of the likelier ones need to be asked to know that such a token is
kept. All decisions are those of the whole mask; where one is too close to call, `keeps` says so.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

_MARGIN = 1e-5  # relative; sums of float32 differ by less


class Head(NamedTuple):
    """The likeliest tokens of one step.

    Attributes:
        tokens: Their ids, likeliest first.
        chances: Their probabilities, of all tokens, legal or not.
        rest: Probability of all other tokens together.
        is_legal: Asks the grammar about a token.
    """

    tokens: Sequence[int]
    chances: Sequence[float]
    rest: float
    is_legal: Callable[[int], bool]


class Cut(NamedTuple):
    """How many tokens to keep, as in transformers' GenerationConfig.

    Attributes:
        top_k: The number of likeliest tokens; 0 keeps all.
        top_p: The likeliest tokens up to this probability.
        min_p: The smallest probability, relative to the likeliest token's.
    """

    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def keeps(self, token: int, head: Head) -> bool | None:
        """Returns whether a legal token is kept; None if the whole mask must tell.

        Args:
            token: Its id.
            head: The likeliest tokens of this step.
        """
        if token not in head.tokens:
            return None
        place = head.tokens.index(token)
        chance = head.chances[place]
        if chance in (*head.chances[max(place - 1, 0) : place], *head.chances[place + 1 :][:1]):
            return None  # as likely as a neighbor
        if place == 0:
            return True
        is_within = not self.top_k or place < self.top_k
        smallest = self.min_p * head.chances[0]
        if is_within and self.top_p == 1.0 and chance > smallest * (1 + _MARGIN):
            return True
        above = [
            chance
            for token, chance in zip(head.tokens[:place], head.chances, strict=False)
            if head.is_legal(token)
        ]
        if self.top_k and len(above) >= self.top_k:
            return False
        if above and _differ(chance, self.min_p * above[0]) is not True:
            return _differ(chance, self.min_p * above[0])
        return self.top_p == 1.0 or self._is_within_p(place, above, head)

    def _is_within_p(self, place: int, above: list[float], head: Head) -> bool | None:
        """Returns whether the legal tokens above have less than `top_p` of what top-k keeps.

        Args:
            place: The token's place in the head.
            above: Probabilities of the legal tokens above it.
            head: As in `keeps`.
        """
        mass_above, least = sum(above), sum(above) + head.chances[place]
        n_left = self.top_k - len(above) - 1 if self.top_k else len(head.tokens) + 1
        unknown = head.rest + sum(head.chances[place + 1 :])
        for token, chance in zip(head.tokens[place + 1 :], head.chances[place + 1 :], strict=True):
            most = least + (min(unknown, n_left * chance) if self.top_k else unknown)
            if _differ(self.top_p * least, mass_above) is True:
                return True
            if _differ(self.top_p * most, mass_above) is False:
                return False
            unknown -= chance
            if n_left and head.is_legal(token):
                least, n_left = least + chance, n_left - 1
        return None if unknown > 0 and n_left else _differ(self.top_p * least, mass_above)


def _differ(larger: float, smaller: float) -> bool | None:
    """Returns whether the first is larger; None if that is too close to call."""
    if abs(larger - smaller) <= _MARGIN * max(larger, smaller):
        return None
    return larger > smaller
