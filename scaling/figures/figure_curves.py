"""The figure of training: losses over tokens, from curves.csv and runs.csv."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..loss_curves import TRAIN_FIELD, VALIDATION_FIELD
from ..runs_table import TableError
from ..writing.wording import short_count
from .figure_style import (
    FamilyStyle,
    family_style,
    rank_marker,
    set_log_ticks,
    shade_of_rank,
)

MOST_RUNS = 12  # in all panels; of more, those of one seed are drawn


def draw_loss_curves(curves: Sequence[dict[str, str]], runs: Sequence[dict[str, str]]) -> Figure:
    """Training and validation loss over tokens, a panel a family, darker for larger models.

    Args:
        curves: rows of curves.csv.
        runs: rows of runs.csv.

    Raises:
        TableError: if no run of the table has a curve.
    """
    named = {row["run"] for row in curves}
    shown = [row for row in runs if row["run"] in named]
    if not shown:
        raise TableError("curves.csv has none of the runs of runs.csv; run scaling.loss_curves")
    seeds = sorted({row["seed"] for row in shown}, key=float)
    one_seed = len(seeds) > 1 and len(shown) > MOST_RUNS
    if one_seed:
        shown = [row for row in shown if row["seed"] == seeds[0]]
    archs = sorted({row["arch"] for row in shown})
    figure = Figure(figsize=(3.9 * len(archs) + 0.6, 4.4), layout="constrained")
    panels = figure.subplots(1, len(archs), sharex=True, sharey=True, squeeze=False)[0]
    for index, (axes, arch) in enumerate(zip(panels, archs, strict=True)):
        family = [row for row in shown if row["arch"] == arch]
        _draw_panel(axes, family_style(arch, index), family, curves)
        axes.set_xlabel("Training tokens")
    panels[0].set_ylabel("Loss (nats per token)")
    for axes in panels:
        axes.set_xscale("log")
        axes.set_yscale("log")
    for axes in panels:
        set_log_ticks(axes.xaxis, axes.get_xlim(), short_count)
        set_log_ticks(axes.yaxis, axes.get_ylim())
    kinds = [
        Line2D([], [], color="#444444", lw=1.0, ls=(0, (1, 1)), label="training"),
        Line2D([], [], color="#444444", lw=1.5, marker="o", ms=4, label="validation"),
    ]
    title = f"the longest run of each size, seed {seeds[0]} only" if one_seed else None
    figure.legend(handles=kinds, loc="outside upper center", ncols=2, frameon=False, title=title)
    return figure


def _draw_panel(
    axes: Axes,
    style: FamilyStyle,
    rows: Sequence[dict[str, str]],
    curves: Sequence[dict[str, str]],
) -> None:
    sizes = sorted({float(row["n_params"]) for row in rows})
    for row in sorted(rows, key=lambda row: (float(row["n_params"]), row["run"])):
        rank = sizes.index(float(row["n_params"]))
        colour, marker = shade_of_rank(style, rank, len(sizes)), rank_marker(rank)
        training, validation = (
            [
                (float(point["n_tokens"]), float(point[field]))
                for point in curves
                if point["run"] == row["run"] and point[field]
            ]
            for field in (TRAIN_FIELD, VALIDATION_FIELD)
        )
        axes.plot(*_columns(training), color=colour, lw=1.0, ls=(0, (1, 1)))
        look = {"color": colour, "lw": 1.5, "marker": marker, "mec": "white", "mew": 0.5}
        axes.plot(*_columns(validation), ms=4.5, **look)
    handles = [
        Line2D(
            *([], []),
            color=shade_of_rank(style, rank, len(sizes)),
            marker=rank_marker(rank),
            lw=1.5,
            ms=5,
            label=short_count(size),
        )
        for rank, size in enumerate(sizes)
    ]
    axes.set_title(style.name, fontsize=10.5)
    axes.legend(handles=handles, frameon=False, title="Parameters $N$", alignment="left")


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
