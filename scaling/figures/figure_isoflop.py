"""The figure of equal FLOPs: loss over N at several C, with the law's line and its best N."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..runs_table import TableError
from .figure_law import LOSS_LABEL, chosen_law, size_label
from .figure_style import add_notes, handle, row_of_panels, set_log_axes, styles_of

MARGIN = 1.03


def draw_isoflop(fits: dict) -> Figure:
    """One panel per family; solid where D was measured at this C, dotted where it was not.

    Raises:
        TableError: if no family has a law in N and D with runs at equal FLOPs.
    """
    lines = {arch: chosen_law(laws).get("isoflop") for arch, laws in fits["laws"].items()}
    styles = styles_of(arch for arch, entries in lines.items() if entries)
    if not styles:
        raise TableError(
            "no chosen law in N and D with two sizes at equal FLOPs, so no IsoFLOP lines; "
            "train several token counts, as configs/studies/cpu.yaml does"
        )
    figure, panels = row_of_panels(len(styles), (4.8 * len(styles) + 0.5, 4.5))
    losses: list[float] = []
    for axes, (arch, style) in zip(panels, styles.items(), strict=True):
        for rank, entry in enumerate(lines[arch]):
            look = style.of_rank(rank, len(lines[arch]))
            losses += _draw_entry(axes, entry, look | {"mfc": "white", "mew": 1.3, "ms": 5.5})
        axes.set_title(style.name)
    beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "handlelength": 1.6}
    for axes in panels:
        ends = min(losses) / MARGIN, max(losses) * MARGIN
        axes.set(ylim=ends, xlabel=size_label(fits))
        set_log_axes(axes)
        axes.legend(title="FLOPs $C$", alignment="left", **beside)
    panels[0].set_ylabel(LOSS_LABEL)
    add_notes(
        figure,
        "Points: the loss of a size at $C$, interpolated between its own token counts, mean over "
        "seeds. Solid lines: within the measured token counts; dotted: the law extrapolated. "
        "Star: the best $N$ by the law, if it is within the range of sizes.",
        *(_exponent(style.name, fits["frontier"].get(arch, {})) for arch, style in styles.items()),
    )
    return figure


def _draw_entry(axes: Axes, entry: dict, look: dict) -> list[float]:
    """Draws the lines, points and star of one C; returns the losses of the latter two."""
    colour, curve, points = look["color"], entry["curve"], entry["points"]
    sizes, losses = np.array(curve["n_params"]), np.array(curve["loss"])
    low, high = entry["n_params_measured"]
    inside = (sizes >= low * 0.999) & (sizes <= high * 1.001)
    axes.plot(sizes, losses, color=colour, lw=1.0, ls=(0, (1, 2)))
    axes.plot(sizes[inside], losses[inside], color=colour, lw=1.6)
    if curve["band_95"] is not None:
        bands = np.array(curve["band_95"])[:, inside]
        axes.fill_between(sizes[inside], *bands, color=colour, alpha=0.14, lw=0)
    axes.plot(points["n_params"], points["loss"], ls="none", **look)
    digits, power = f"{entry['flops']:.1e}".split("e")
    label = rf"${digits}\times10^{{{int(power)}}}$"
    star = [entry["loss_at_n_opt"]] if sizes[0] < entry["n_opt"] < sizes[-1] else []
    if star:
        axes.plot(entry["n_opt"], *star, marker="*", ms=10, color=colour, mec="w")
    axes.add_line(handle(label, lw=1.6, **look))
    return points["loss"] + star


def _exponent(name: str, frontier: dict) -> str:
    """A sentence, or nothing if the law gives no exponent."""
    value = frontier.get("n_opt_exponent_6nd")
    if value is None:
        return ""
    interval = frontier.get("note", "no interval")
    if ends := frontier["n_opt_exponent_6nd_interval_95"]:
        interval = f"95 % interval {ends[0]:.2f} to {ends[1]:.2f}"
    return f"{name}: best $N\\propto C^{{{value:.2f}}}$ by the law ({interval}), with $C=6ND$."
