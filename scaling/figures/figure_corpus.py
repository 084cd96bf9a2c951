"""The figure of the corpus: gzip ratio and length of tunes, frequency of tokens."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..families import FAMILIES

STUDY_A_GZIP_RATIO = 0.24  # study A drops files below it
_COLOUR, _MARK = (FAMILIES[name].look.colour for name in ("gpt", "lstm"))
_LABELLED = 8


def draw_corpus(corpus: dict[str, Any]) -> Figure:
    """Histograms of gzip ratio and length of tunes, and the frequency of tokens."""
    histograms = corpus["histograms"]
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_gzip_ratio(left, **histograms["gzip_ratio"])
    _draw_lengths(middle, **histograms["n_chars"])
    _draw_token_frequency(right, histograms["token_frequency"])
    return figure


def _draw_gzip_ratio(axes: Axes, edges: list[float], counts: list[int]) -> None:
    axes.stairs(counts, edges, fill=True, color=_COLOUR)
    axes.axvline(STUDY_A_GZIP_RATIO, color=_MARK, linestyle="--", linewidth=1.2)
    below = sum(c for c, e in zip(counts, edges, strict=False) if e < STUDY_A_GZIP_RATIO)
    text = f"{100 * below / sum(counts):.0f} % below {STUDY_A_GZIP_RATIO}"
    axes.annotate(text, (STUDY_A_GZIP_RATIO, axes.get_ylim()[1]), (6, -10), color=_MARK,
                  textcoords="offset points")  # fmt: skip
    last = max(i for i, count in enumerate(counts) if count) + 1
    axes.set(xlabel="gzip ratio of the tune text", ylabel="tunes", xlim=(0, edges[last]))


def _draw_lengths(axes: Axes, edges: list[float], counts: list[int]) -> None:
    axes.stairs(counts, edges, fill=True, color=_COLOUR)
    used = [i for i, count in enumerate(counts) if count]
    ends = edges[used[0]], edges[used[-1] + 1]
    axes.set(xlabel="characters per tune", ylabel="tunes", xscale="log", xlim=ends)


def _draw_token_frequency(axes: Axes, frequency: dict[str, Any]) -> None:
    shares = np.array(frequency["shares"])
    ranks = np.arange(1, len(shares) + 1)
    axes.plot(ranks, 100 * shares, marker="o", markersize=3, linewidth=1, color=_COLOUR)
    for rank, share, token in zip(ranks, shares, frequency["tokens"][:_LABELLED], strict=False):
        text = {"\n": "↵", " ": "␣"}.get(token, token)
        axes.annotate(text, (rank, 100 * share), (0, 5), ha="center", fontsize=8,
                      textcoords="offset points")  # fmt: skip
    axes.set(xlabel="token rank", ylabel="share of the train split, %")
    axes.set(xscale="log", yscale="log")
