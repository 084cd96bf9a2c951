"""The figure of the sweep: loss over learning rate, from learning_rates.json."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..families import name_of
from ..writing.wording import short_count
from .figure_style import FamilyStyle, handle, set_ticks, styles_of


def draw_learning_rates(rates: dict) -> Figure:
    """One panel per family, one line per size; a ring marks the best rate, an arrow the rule's."""
    families = rates["families"]
    figure = Figure(figsize=(3.9 * len(families) + 0.6, 4.2), layout="constrained")
    panels = figure.subplots(1, len(families), sharey=True, squeeze=False)[0]
    styles = styles_of(map(name_of, families)).values()
    ticks = [m * 10.0**power for power in range(-6, 1) for m in (1, 2, 5)]
    for axes, style, family in zip(panels, styles, families.values(), strict=True):
        _draw_family(axes, style, family)
        axes.set(xscale="log", xlabel="Learning rate")
        set_ticks(axes, ticks, "g")
    panels[0].set_ylabel("Validation loss (nats per token)")
    counts = {size["n_tokens"] for family in families.values() for size in family["sizes"]}
    tokens = " or ".join(short_count(count) for count in sorted(counts))
    look = {"color": "#444444", "ls": "none", "ms": 9}
    marks = [
        handle("best rate, by a parabola", marker="o", mfc="none", mew=1.4, **look),
        handle("rate by the rule", marker="$\\uparrow$", **look),
    ]
    title = f"{tokens} tokens per run"
    figure.legend(handles=marks, loc="outside upper center", ncols=2, title=title)
    return figure


def _draw_family(axes: Axes, style: FamilyStyle, family: dict) -> None:
    sizes = sorted(family["sizes"], key=lambda size: size["n_params"])
    rule = family.get("rule")
    for rank, size in enumerate(sizes):
        look = style.of_rank(rank, len(sizes))
        swept = zip(size["rates"], size["losses"], strict=True)
        points = [at for at in swept if at[1] is not None and math.isfinite(at[1])]
        if not points:
            continue
        label = short_count(size["n_params"]) + (" (best at the edge)" * size["at_edge"])
        axes.plot(*zip(*points, strict=True), lw=1.5, ms=5, label=label, **look)
        lowest, colour = min(loss for _, loss in points), look["color"]
        axes.plot(size["best_rate"], lowest, marker="o", ms=12, mfc="none", mec=colour, mew=1.4)
        if rule is not None:
            arrow = {"arrowstyle": "->", "color": colour, "lw": 1.6, "shrinkB": 8}
            below = {"xytext": (0, -24), "textcoords": "offset points"}
            axes.annotate("", (size["rate_by_rule"], lowest), arrowprops=arrow, **below)
    axes.margins(y=0.14)
    title = style.name
    if rule is not None:
        title += rf", rule: $e^{{{rule['c']:.2f}}}\,N^{{-{rule['g']:.2f}}}$".replace("--", "")
    axes.set_title(title)
    axes.legend(title="Parameters $N$", alignment="left", loc="best")
