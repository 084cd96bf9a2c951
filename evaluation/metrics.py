"""Samples and verdicts -> numbers with intervals.

Conventions: a rate is a share of all measured samples, in [0, 1]; a crash or a timeout counts as a
failure. None or a missing name means not measured (a judge that is not installed) or undefined (a
statistic of a tune without notes): such samples are counted separately and excluded from all rates
and means.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

N_DRAWS = 1000
SEED = 1


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Returns the 95 % Wilson score interval of a rate.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001, eq. 4.

    Raises:
        ValueError: If n < 1 or successes is not in [0, n].
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}, expected 0 <= successes <= n, n >= 1")
    interval = binomtest(successes, n).proportion_ci(0.95, "wilson")
    return float(interval.low), float(interval.high)


def rate(outcomes: Sequence[bool]) -> dict[str, Any]:
    """Returns a rate with its 95 % Wilson interval and its counts.

    If no sample failed, `failure_rate_bound_95` is 3/n, else None: with 95 % confidence the
    failure rate is below it. Source: Hanley and Lippman-Hand 1983, the rule of three.
    """
    n, successes = len(outcomes), sum(outcomes)
    low, high = wilson_interval(successes, n)
    return {
        "rate": successes / n,
        "interval_95": [low, high],
        "successes": successes,
        "n": n,
        "failure_rate_bound_95": min(1.0, 3 / n) if successes == n else None,
    }


def validity(verdicts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the rate of each boolean verdict, under its name in the verdicts.

    Args:
        verdicts: One per sample, as `judges.Jury.judge` returns them: booleans under names such as
            `validity_music21` and `midi_success_music21` (the two rates of study A), `valid3`.

    Returns:
        Name -> `rate` of the samples with a verdict, and `n_not_measured`. Names without a single
        verdict are left out; no samples yield {}.
    """
    found: dict[str, list[bool]] = {}
    for verdict in verdicts:
        for name, value in verdict.items():
            if isinstance(value, bool):
                found.setdefault(name, []).append(value)
    n = len(verdicts)
    return {name: rate(said) | {"n_not_measured": n - len(said)} for name, said in found.items()}


def judged_scores(verdicts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the mean of each number in the verdicts, as `mean_interval`.

    Args:
        verdicts: As for `validity`. Numbers in a dict are prefixed with its name:
            `{"agreement": {"abc2midi_abcjs": 1.0}}` yields `agreement_abc2midi_abcjs`.
    """
    return summarise([_numbers(verdict) for verdict in verdicts])


def _numbers(verdict: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in verdict.items():
        if isinstance(value, Mapping):
            found |= _numbers(value, f"{prefix}{name}_")
        elif isinstance(value, int | float) and not isinstance(value, bool) and name != "sample":
            found[prefix + name] = float(value)
    return found


def mean_interval(values: Sequence[float | None] | np.ndarray, seed: int = SEED) -> dict[str, Any]:
    """Returns a mean with its 95 % bootstrap interval (percentiles, samples with replacement).

    Args:
        values: One per sample; None where it is undefined.
        seed: Seed of the draws; the same for all means of one table, so that they can be paired.

    Returns:
        `mean`, `interval_95`, `n` and `n_undefined`. The first two are None if n is 0, and the
        interval is None if n is 1.
    """
    known = np.array([value for value in values if value is not None], dtype=float)
    counts = {"n": len(known), "n_undefined": len(values) - len(known)}
    if not len(known):
        return {"mean": None, "interval_95": None} | counts
    ends = None
    if len(known) > 1:
        rng = np.random.default_rng(seed)
        drawn = [known[rng.integers(0, len(known), len(known))].mean() for _ in range(N_DRAWS)]
        ends = np.percentile(drawn, (2.5, 97.5)).tolist()
    return {"mean": float(known.mean()), "interval_95": ends} | counts


def summarise(rows: Sequence[Mapping[str, float | None]]) -> dict[str, dict[str, Any]]:
    """Returns `mean_interval` of each name in the rows, one row per sample.

    A name missing from a row is undefined there.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: mean_interval([row.get(name) for row in rows]) for name in names}


def differences(
    left: Sequence[Mapping[str, float | None]],
    right: Sequence[Mapping[str, float | None]],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Mean of each statistic on the left minus that on the right, with a 95 % interval.

    Args:
        left: Rows of `music_statistics.describe_tunes`.
        right: Rows of other tunes: the sides are resampled independently, with replacement.
        seed: Seed of the draws.

    Returns:
        For each statistic `difference`, `interval_95` and `in_deviations`, the difference in
        standard deviations of the right side; None if the statistic is undefined on one side.
    """
    rng = np.random.default_rng(seed)
    out = {}
    for name in dict.fromkeys(name for row in (*left, *right) for name in row):
        sides = [
            np.array([row[name] for row in rows if row.get(name) is not None], dtype=float)
            for rows in (left, right)
        ]
        if not all(map(len, sides)):
            out[name] = dict.fromkeys(("difference", "interval_95", "in_deviations"))
            continue
        drawn = [v[rng.integers(0, len(v), (N_DRAWS, len(v)))].mean(1) for v in sides]
        difference, deviation = float(sides[0].mean() - sides[1].mean()), float(sides[1].std())
        out[name] = {
            "difference": difference,
            "interval_95": np.percentile(drawn[0] - drawn[1], (2.5, 97.5)).tolist(),
            "in_deviations": difference / deviation if deviation else None,
        }
    return out
