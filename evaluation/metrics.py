"""Samples and verdicts -> numbers with intervals.

Conventions: a rate is a share of all samples, in [0, 1]; a crash or a time-out counts as a failure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any


def wilson_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Returns the Wilson score interval of a rate.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001, eq. 4.

    Raises:
        ValueError: If n < 1 or successes is not in [0, n].
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}, expected 0 <= successes <= n, n >= 1")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def rate(outcomes: Sequence[bool]) -> dict[str, Any]:
    """Returns a rate with its 95 % Wilson interval and its counts."""
    low, high = wilson_interval(sum(outcomes), len(outcomes))
    return {
        "rate": sum(outcomes) / len(outcomes),
        "interval_95": [low, high],
        "successes": sum(outcomes),
        "n": len(outcomes),
    }


def validity(verdicts: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the rate of each judge's verdict over all samples; see `judges.judge`."""
    names = [name for name, value in verdicts[0].items() if isinstance(value, bool)]
    return {name: rate([verdict[name] for verdict in verdicts]) for name in names}
