"""The figure of equal FLOPs: loss over N at several C, with the law's line and its best N."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..runs_table import TableError
from ..writing.wording import short_count
from .figure_law import LOSS_LABEL, N_LABELS, add_notes
from .figure_style import (
    FamilyStyle,
    family_style,
    rank_marker,
    set_log_ticks,
    shade_of_rank,
)

MARGIN = 1.03


def draw_isoflop(fits: dict) -> Figure:
    """A panel a family; solid where D was measured at this C, dotted where the law goes beyond.

    Raises:
        TableError: if no family has a law in N and D with runs of like FLOPs.
    """
    archs = [arch for arch, laws in fits["laws"].items() if _entries(laws)]
    if not archs:
        raise TableError(
            "no chosen law in N and D with two sizes at equal FLOPs, so no IsoFLOP lines; "
            "train several token counts, as configs/studies/cpu.yaml does"
        )
    figure = Figure(figsize=(4.8 * len(archs) + 0.5, 4.5), layout="constrained")
    panels = figure.subplots(1, len(archs), sharex=True, sharey=True, squeeze=False)[0]
    losses: list[float] = []
    for index, (axes, arch) in enumerate(zip(panels, archs, strict=True)):
        style, entries = family_style(arch, index), _entries(fits["laws"][arch])
        for rank, entry in enumerate(entries):
            _draw_entry(axes, entry, style, rank, len(entries))
            losses += entry["points"]["loss"]
            if _has_star(entry):
                losses.append(entry["loss_at_n_opt"])
        axes.set_title(f"{style.name}", fontsize=10)
    for axes in panels:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(min(losses) / MARGIN, max(losses) * MARGIN)
        set_log_ticks(axes.xaxis, axes.get_xlim(), short_count)
        set_log_ticks(axes.yaxis, axes.get_ylim())
        column = fits["settings"]["columns"].get("n_params", "n_params")
        axes.set_xlabel(N_LABELS.get(column, f"Parameters $N$ (column {column})"))
        axes.legend(
            frameon=False,
            title="FLOPs $C$",
            alignment="left",
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            handlelength=1.6,
        )
    panels[0].set_ylabel(LOSS_LABEL)
    notes = [
        "Points: the loss of a size at $C$, interpolated between its own token counts, mean over "
        "seeds. Solid lines: the token counts were measured; dotted: the law alone. "
        "Star: the best $N$ by the law, where it lies among the sizes."
    ]
    add_notes(figure, notes + [note for arch in archs if (note := _exponent(fits, arch))])
    return figure


def _entries(laws: dict) -> list[dict]:
    return (laws.get(laws["chosen"]) or {}).get("isoflop") or []


def _draw_entry(axes: Axes, entry: dict, style: FamilyStyle, rank: int, n: int) -> None:
    colour, marker = shade_of_rank(style, rank, n), rank_marker(rank)
    curve, (low, high) = entry["curve"], entry["n_params_measured"]
    inside = [low * 0.999 <= size <= high * 1.001 for size in curve["n_params"]]
    axes.plot(curve["n_params"], curve["loss"], color=colour, lw=1.0, ls=(0, (1, 2)))
    sizes = _kept(curve["n_params"], inside)
    axes.plot(sizes, _kept(curve["loss"], inside), color=colour, lw=1.6)
    if curve["band_95"] is not None:
        bands = (_kept(edge, inside) for edge in curve["band_95"])
        axes.fill_between(sizes, *bands, color=colour, alpha=0.14, lw=0)
    points = entry["points"]
    look = {"color": colour, "marker": marker, "mfc": "white", "mew": 1.3, "ms": 5.5}
    axes.plot(points["n_params"], points["loss"], ls="none", **look)
    if _has_star(entry):
        axes.plot(entry["n_opt"], entry["loss_at_n_opt"], marker="*", ms=10, color=colour, mec="w")
    axes.add_line(Line2D([], [], label=_power_of_ten(entry["flops"]), lw=1.6, **look))


def _has_star(entry: dict) -> bool:
    sizes = entry["curve"]["n_params"]
    return sizes[0] < entry["n_opt"] < sizes[-1]


def _power_of_ten(number: float) -> str:
    digits, power = f"{number:.1e}".split("e")
    return rf"${digits}\times10^{{{int(power)}}}$"


def _kept(values: list[float], keep: list[bool]) -> list[float]:
    return [value for value, is_kept in zip(values, keep, strict=True) if is_kept]


def _exponent(fits: dict, arch: str) -> str | None:
    frontier = fits["frontier"].get(arch, {})
    value = frontier.get("n_opt_exponent_6nd")
    if value is None:
        return None
    ends = frontier["n_opt_exponent_6nd_interval_95"]
    interval = (
        frontier.get("note", "no interval")
        if ends is None
        else f"95 % interval {ends[0]:.2f} to {ends[1]:.2f}"
    )
    name = family_style(arch, 0).name
    return f"{name}: best $N\\propto C^{{{value:.2f}}}$ by the law ({interval}), with $C=6ND$."
