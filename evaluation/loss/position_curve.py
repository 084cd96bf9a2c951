"""Losses by position -> a binned curve with its slope, T90 and where it stops falling.

Array letters: n songs, P positions, K bins, B draws of songs.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise, permutations
from typing import Any

import numpy as np

from ..loading.finished_run import interval

SHARE_LEFT = 0.1  # of l(1) - l_end, at T90
RANGE_ENDS = (256, 1024)
TOKENS_TOLERANCE = 0.05
SIGNIFICANT_DIGITS = 6


def log_bins(n_positions: int) -> np.ndarray:
    """Ends of half-octave bins, (K + 1,): bin k covers t = ends[k] + 1 ... ends[k + 1]."""
    halves = np.arange(0, 2 * int(np.log2(n_positions)) + 1)
    ends = np.unique(np.round(2 ** (halves / 2)).astype(int))
    return np.unique([0, *ends[ends < n_positions], n_positions])


def describe_curve(nll: np.ndarray, ends: np.ndarray, draws: np.ndarray) -> dict[str, Any]:
    """The curve of one run and way to read.

    Args:
        nll: (n, P) nats.
        ends: (K + 1,) from log_bins.
        draws: (B, n), song weights; each row sums to 1.
    """
    means = np.stack([nll[:, a:b].mean(1) for a, b in pairwise(ends)], axis=1)  # (n, K)
    log_t = 0.5 * (np.log(ends[:-1] + 1) + np.log(ends[1:]))
    loss, drawn = means.mean(0), draws @ means  # (K,), (B, K)
    slopes = _slope(drawn, log_t)  # (B, K)
    slope_ends = np.array(interval(slopes))  # (2, K)
    flat = np.flatnonzero(slope_ends[1] >= 0)  # bins whose slope may be 0 or higher
    t90 = [_t90(row, log_t) for row in (loss, *drawn)]
    return {
        "from": (ends[:-1] + 1).tolist(),
        "to": ends[1:].tolist(),
        "t": _rounded(np.exp(log_t)),
        "loss": _rounded(loss),
        "interval_95": [_rounded(end) for end in np.array(interval(drawn))],
        "slope": _rounded(_slope(loss[None], log_t)[0]),
        "slope_interval_95": [_rounded(end) for end in slope_ends],
        "t90": {"value": t90[0], "interval_95": None if None in t90 else interval(t90[1:])},
        "stops_at": int(ends[flat[0]] + 1) if len(flat) else None,
    }


def _slope(loss: np.ndarray, log_t: np.ndarray) -> np.ndarray:
    """dl/dln t over the neighboring bins, (B, K), one-sided at both ends. loss: (B, K)."""
    left = np.maximum(np.arange(len(log_t)) - 1, 0)
    right = np.minimum(np.arange(len(log_t)) + 1, len(log_t) - 1)
    return (loss[:, right] - loss[:, left]) / (log_t[right] - log_t[left])


def _t90(loss: np.ndarray, log_t: np.ndarray) -> float | None:
    """T90 of one curve, (K,); None if it does not fall."""
    share = loss[0] - loss[-1]
    if share <= 0:
        return None
    left = (loss - loss[-1]) / share
    first = int(np.argmax(left <= SHARE_LEFT))
    before, after = left[first - 1], left[first]
    place = (before - SHARE_LEFT) / (before - after)
    return float(np.exp(log_t[first - 1] + place * (log_t[first] - log_t[first - 1])))


def range_means(nll: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """(from, to) -> mean loss per song, (n,), over ranges of t and over all t. nll: (n, P)."""
    n_positions = nll.shape[1]
    ends = [0, *(end for end in RANGE_ENDS if end < n_positions), n_positions]
    ranges = dict.fromkeys([*pairwise(ends), (0, n_positions)])
    return {(a + 1, b): nll[:, a:b].mean(1) for a, b in ranges}


def paired_differences(
    rows: Sequence[dict[str, Any]],
    means_of: Mapping[tuple[str, int], dict[str, dict[tuple[int, int], np.ndarray]]],
    draws: np.ndarray,
) -> list[dict[str, Any]]:
    """Loss differences (longer minus shorter) of runs that differ only in training context.

    Args:
        rows: Rows of the runs.
        means_of: (run, context) -> way -> range -> (n,) losses of the songs.
        draws: (B, n), song weights.
    """
    found = []
    for row, other in permutations(rows, 2):
        if not _differ_in_context(row, other):
            continue
        long_one, short_one = (means_of[r["run"], r["context_length"]] for r in (row, other))
        keys = {key: row[key] for key in ("arch", "size", "seed")}
        keys["contexts"] = [other["context_length"], row["context_length"]]
        for way, ranges in long_one.items():
            for low, high in (span for span in ranges if span in short_one[way]):
                difference = ranges[low, high] - short_one[way][low, high]
                means = {"difference": float(difference.mean())}
                means["interval_95"] = interval(draws @ difference)
                found.append(keys | {"way": way, "from": low, "to": high} | means)
    return found


def _differ_in_context(row: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two runs differ only in that the first has the longer training context."""
    same = all(row[key] == other[key] for key in ("arch", "size", "seed"))
    # the first token of a block is not a target, so equal budgets give slightly different counts
    as_many = abs(row["n_tokens"] / other["n_tokens"] - 1) < TOKENS_TOLERANCE
    return same and as_many and row["context_length"] > other["context_length"]


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.{SIGNIFICANT_DIGITS}g}") for value in values]
