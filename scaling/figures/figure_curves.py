"""The figure of training: losses over tokens, from curves.csv and runs.csv."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..loss_curves import TRAIN_FIELD, VALIDATION_FIELD
from ..runs_table import TableError
from ..writing.wording import short_count
from .figure_style import FamilyStyle, handle, row_of_panels, set_log_axes, styles_of

MOST_RUNS = 12  # in all panels; if there are more, only those of one seed are drawn


def draw_loss_curves(curves: Sequence[dict[str, str]], runs: Sequence[dict[str, str]]) -> Figure:
    """Training and validation loss over tokens, one panel per family, darker for larger models.

    Args:
        curves: rows of curves.csv.
        runs: rows of runs.csv.

    Raises:
        TableError: if no run of the table has a curve.
    """
    named = {row["run"] for row in curves}
    shown = [row for row in runs if row["run"] in named]
    if not shown:
        raise TableError("curves.csv has none of the runs in runs.csv; run scaling.loss_curves")
    seeds = sorted({row["seed"] for row in shown}, key=float)
    one_seed = len(seeds) > 1 and len(shown) > MOST_RUNS
    if one_seed:
        shown = [row for row in shown if row["seed"] == seeds[0]]
    styles = styles_of(sorted({row["arch"] for row in shown}))
    figure, panels = row_of_panels(len(styles), (3.9 * len(styles) + 0.6, 4.4))
    for axes, (arch, style) in zip(panels, styles.items(), strict=True):
        _draw_panel(axes, style, [row for row in shown if row["arch"] == arch], curves)
        axes.set_xlabel("Training tokens")
    panels[0].set_ylabel("Loss (nats per token)")
    for axes in panels:
        set_log_axes(axes)
    kinds = [
        handle("training", color="#444444", lw=1.0, ls=(0, (1, 1))),
        handle("validation", color="#444444", lw=1.5, marker="o", ms=4),
    ]
    title = f"the longest run of each size, seed {seeds[0]} only" if one_seed else None
    figure.legend(handles=kinds, loc="outside upper center", ncols=2, title=title)
    return figure


def _draw_panel(
    axes: Axes, style: FamilyStyle, rows: Sequence[dict[str, str]], curves: Sequence[dict[str, str]]
) -> None:
    sizes = sorted({float(row["n_params"]) for row in rows})
    looks = [style.of_rank(rank, len(sizes)) | {"lw": 1.5} for rank in range(len(sizes))]
    for row in sorted(rows, key=lambda row: (float(row["n_params"]), row["run"])):
        look = looks[sizes.index(float(row["n_params"]))]
        points = [point for point in curves if point["run"] == row["run"]]
        training, validation = (_columns(points, f) for f in (TRAIN_FIELD, VALIDATION_FIELD))
        axes.plot(*training, color=look["color"], lw=1.0, ls=(0, (1, 1)))
        axes.plot(*validation, ms=4.5, mec="white", mew=0.5, **look)
    handles = [handle(short_count(n), ms=5, **look) for n, look in zip(sizes, looks, strict=True)]
    axes.set_title(style.name, fontsize=10.5)
    axes.legend(handles=handles, title="Parameters $N$", alignment="left")


def _columns(points: Sequence[dict[str, str]], field: str) -> tuple[list[float], list[float]]:
    """Tokens and losses of the points that have this field."""
    there = [point for point in points if point[field]]
    return [float(point["n_tokens"]) for point in there], [float(point[field]) for point in there]
