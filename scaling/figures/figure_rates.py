"""The figure of the sweep: loss over learning rate, from learning_rates.json."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..families import name_of
from ..runs_table import TableError
from ..writing.wording import short_count
from .figure_style import (
    FamilyStyle,
    family_style,
    rank_marker,
    shade_of_rank,
)

GREY = "#444444"


def draw_learning_rates(rates: dict) -> Figure:
    """A panel a family, a line a size; the best rate is ringed, the rule's is a tick below it.

    Raises:
        TableError: if there is no family.
    """
    families = rates["families"]
    if not families:
        raise TableError("learning_rates.json has no family; run make sweep again")
    figure = Figure(figsize=(3.9 * len(families) + 0.6, 4.2), layout="constrained")
    panels = figure.subplots(1, len(families), sharey=True, squeeze=False)[0]
    for index, (axes, (name, family)) in enumerate(zip(panels, families.items(), strict=True)):
        style = family_style(name_of(name), index)
        _draw_family(axes, style, family)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        ticks = [m * 10.0**power for power in range(-6, 1) for m in (1, 2, 5)]
        ticks = [tick for tick in ticks if low <= tick <= high]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("Learning rate")
    panels[0].set_ylabel("Validation loss (nats per token)")
    counts = {size["n_tokens"] for family in families.values() for size in family["sizes"]}
    tokens = " or ".join(short_count(count) for count in sorted(counts))
    look = {"color": GREY, "ls": "none", "ms": 9}
    marks = [
        Line2D([], [], marker="o", mfc="none", mew=1.4, label="lowest, by a parabola", **look),
        Line2D([], [], marker="$\\uparrow$", label="rate by the rule", **look),
    ]
    figure.legend(
        handles=marks,
        loc="outside upper center",
        ncols=2,
        frameon=False,
        title=f"{tokens} tokens a run",
    )
    return figure


def _draw_family(axes: Axes, style: FamilyStyle, family: dict) -> None:
    sizes = sorted(family["sizes"], key=lambda size: size["n_params"])
    rule = family.get("rule")
    for rank, size in enumerate(sizes):
        colour, marker = shade_of_rank(style, rank, len(sizes)), rank_marker(rank)
        points = [
            (rate, loss)
            for rate, loss in zip(size["rates"], size["losses"], strict=True)
            if loss is not None and math.isfinite(loss)
        ]
        if not points:
            continue
        axes.plot(
            *zip(*points, strict=True),
            color=colour,
            marker=marker,
            lw=1.5,
            ms=5,
            label=short_count(size["n_params"]) + (" (best at the edge)" * size["at_edge"]),
        )
        lowest = min(loss for _, loss in points)
        axes.plot(size["best_rate"], lowest, marker="o", ms=12, mfc="none", mec=colour, mew=1.4)
        if rule is not None:
            axes.annotate(
                "",
                (size["rate_by_rule"], lowest),
                xytext=(0, -24),
                textcoords="offset points",
                arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.6, "shrinkB": 8},
            )
    axes.margins(y=0.14)
    title = style.name
    if rule is not None:
        title += rf", rule: $e^{{{rule['c']:.2f}}}\,N^{{-{rule['g']:.2f}}}$".replace("--", "")
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, title="Parameters $N$", alignment="left", loc="best")
