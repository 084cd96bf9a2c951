"""Colors, markers and ticks of the figures.

Colors are from the color-blind-safe palette of Okabe and Ito; marker and line style repeat what the
color says, for grayscale print.
"""

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..families import FAMILIES, Look, label_of
from ..writing.wording import short_count

PNG_DPI = 200
RC = {
    "font.size": 10,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9,
    "legend.title_fontsize": 9,
    "legend.frameon": False,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e2e2e2",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "svg.hashsalt": "scaling",  # otherwise the ids inside an SVG are random
}
MOST_TICKS = 8
NOTE_WIDTH = 90  # characters of a note in 6.4 inches
# a range smaller than this factor gets ticks at equal steps, a larger one at 1, 2, 5 times 10^k
SMALL_RANGE = 4.0


@dataclass(frozen=True)
class FamilyStyle(Look):
    """How a family is drawn, and its name in figures."""

    name: str

    def shade(self, share: float) -> str:
        """Color at a position in [0, 1] from the smallest size to the largest."""
        colours = (self.light, self.colour, self.dark)
        return to_hex(LinearSegmentedColormap.from_list(self.name, colours)(share))

    def of_rank(self, rank: int, n: int) -> dict[str, str]:
        """Color and marker of the rank-th of n sizes or token counts.

        Larger is darker; the marker repeats the shade for grayscale print.
        """
        return {"color": self.shade(rank / max(n - 1, 1)), "marker": "os^DvP"[rank % 6]}

    @property
    def mark(self) -> dict[str, str]:
        """Keywords of a line with the family's color and marker."""
        return {"color": self.colour, "marker": self.marker, "mfc": self.fill}


# for families without a look, and for tables with other families
FURTHER = (
    Look("#009E73", "^", "-.", "#009E73", "#8FD9C3", "#003326"),
    Look("#CC79A7", "D", ":", "white", "#EBC6DB", "#5C2746"),
    Look("#E69F00", "v", "-", "#E69F00", "#F7D68F", "#5C3F00"),
    Look("#56B4E9", "P", "--", "white", "#BFE2F7", "#1B4A66"),
)


def family_style(arch: str, index: int) -> FamilyStyle:
    """The style of a family; one without a look takes a look of FURTHER by its index."""
    look = FAMILIES[arch].look if arch in FAMILIES else None
    name = "all runs" if arch == "all" else label_of(arch)
    return FamilyStyle(**vars(look or FURTHER[index % len(FURTHER)]), name=name)


def styles_of(archs: Iterable[str]) -> dict[str, FamilyStyle]:
    """The style of each family; those without a look take one of FURTHER by position."""
    return {arch: family_style(arch, index) for index, arch in enumerate(archs)}


def log_ticks(low: float, high: float) -> list[float]:
    """Round tick values in [low, high] for a logarithmic axis, at most MOST_TICKS of them."""
    if high / low < SMALL_RANGE:
        power = 10.0 ** math.floor(math.log10(high - low) - 1)
        for step in (power * factor for factor in (1, 2, 2.5, 5, 10, 20, 25, 50)):
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first + 1 <= MOST_TICKS:
                return [round(k * step, 12) for k in range(first, last + 1)]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for mantissas in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        values = [mantissa * 10.0**decade for decade in decades for mantissa in mantissas]
        ticks = [value for value in values if low <= value <= high]
        if len(ticks) <= MOST_TICKS:
            return ticks
    return ticks


def set_log_ticks(
    axis: Axis, limits: tuple[float, float], label: Callable[[float], str] | None = None
) -> None:
    """Sets only labeled ticks: matplotlib leaves a range within one decade without labels.

    Without a label function, all ticks have as many decimals as the longest one needs.
    """
    ticks = log_ticks(*sorted(limits))
    decimals = max((len(f"{tick:.6g}".partition(".")[2]) for tick in ticks), default=0)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: label(value) if label else f"{value:.{decimals}f}")
    )
    axis.set_minor_locator(NullLocator())


def set_log_axes(axes: Axes) -> None:
    """Makes both axes logarithmic, with ticks: counts on x, losses on y."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    set_log_ticks(axes.xaxis, axes.get_xlim(), short_count)
    set_log_ticks(axes.yaxis, axes.get_ylim())


def set_ticks(axes: Axes, candidates: Sequence[float], form: str) -> None:
    """Sets only those x ticks that are in the axis's range. form: format of labels, e.g. `,`."""
    low, high = axes.get_xlim()
    ticks = [tick for tick in candidates if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:{form}}" for tick in ticks])
    axes.minorticks_off()


def row_of_panels(n: int, size: tuple[float, float]) -> tuple[Figure, Sequence[Axes]]:
    """A figure of that size in inches, and its n panels side by side, with shared axes."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(1, n, sharex=True, sharey=True, squeeze=False)[0]


def handle(label: str, **look: Any) -> Line2D:
    """A line that appears only in a legend."""
    return Line2D([], [], label=label, **look)


def add_notes(figure: Figure, *notes: str) -> None:
    """Sentences below a figure, wrapped to its width."""
    width = round(NOTE_WIDTH * (figure.get_figwidth() / 6.4) ** 0.9)
    text = "\n".join(line for note in notes for line in textwrap.wrap(note, width))
    if text:
        figure.supxlabel(text, x=0.02, ha="left", fontsize=9, color="#444444")
