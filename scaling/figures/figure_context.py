"""The figures of context: loss by token position, and a context of 1,024 beside one of 256.

Both are drawn from files of evaluation.loss.context_use; its head says how positions are counted.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..families import in_order, label_of
from ..runs_table import TableError
from ..writing.wording import quantity, short_count
from .figure_law import add_notes
from .figure_style import (
    FamilyStyle,
    family_style,
    rank_marker,
    shade_of_rank,
)

LOSS = "Loss $l(t)$ (nats per token)"
# each run is read in one of these ways from the song's start to its end, as its family can
WHOLE_WAYS = {
    "stride": "by windows of its own context moved by half of it",
    "carried": "with its state carried on",
}
WAY_NAMES = {
    "stride": "windows moved by half",
    "carried": "state carried on",
    "reset": "anew at each window",
}
HEADER = 48  # positions up to here hold a song's header, whose loss is near 0; not drawn


def draw_context_use(content: dict) -> Figure:
    """Four panels: the largest size of each family, cropped and from the start; all the others.

    Raises:
        TableError: if there is no run.
    """
    runs = _one_seed(content["runs"])
    archs = sorted({run["arch"] for run in runs})
    if not archs:
        raise TableError("context_use.json has no run; run evaluation.loss.context_use again")
    ladders = {arch: [run for run in runs if run["arch"] == arch] for arch in archs}
    figure = Figure(figsize=(8.8, 7.4), layout="constrained")
    panels = figure.subplots(2, 2)
    _draw_largest(panels[0, 0], ladders)
    _draw_from_start(panels[0, 1], ladders)
    for index, (axes, arch) in enumerate(zip(panels[1], archs, strict=False)):
        _draw_sizes(axes, family_style(arch, index), ladders[arch])
    for axes in panels[1, len(archs) :]:
        axes.set_axis_off()
    for axes in panels.flat:
        _set_axes(axes)
    _share_loss_axis([*panels[1]][: len(archs)])
    settings = content["settings"]
    add_notes(
        figure,
        [
            f"{settings['n_songs']} {settings['split']} songs of more than "
            f"{settings['positions']:,} tokens; bands: 95 % over songs. "
            "T90: a tenth of the fall from the first to the last position is left. Ring: the first "
            "position where the interval of the slope reaches 0, so that more context may be of no "
            "use. Left and below: each crop is held against the same tokens with all of the song "
            "before them.",
        ],
    )
    return figure


def _one_seed(runs: Sequence[dict]) -> list[dict]:
    """The lowest seed of each size, smallest first."""
    found: dict[tuple, dict] = {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        found.setdefault((run["arch"], run["n_params"]), run)
    return [found[key] for key in sorted(found)]


def _draw_largest(axes: Axes, ladders: dict[str, list[dict]]) -> None:
    for index, (arch, runs) in enumerate(ladders.items()):
        style, run = family_style(arch, index), runs[-1]
        curve = run["ways"]["crops"]
        _draw_curve(axes, curve, style.colour, style.line)
        _mark_stop(axes, curve, style.colour)
        label = f"{style.name}, {short_count(run['n_params'])}: {_t90(curve)}, {_stop(curve)}"
        axes.plot([], [], color=style.colour, ls=style.line, lw=1.6, label=label)
    axes.set_title("Largest size, from any place of a song", fontsize=10)
    axes.set_xlabel("Tokens of context $t$")
    axes.legend(frameon=False, loc="upper right", fontsize=8.5)


def _draw_from_start(axes: Axes, ladders: dict[str, list[dict]]) -> None:
    for index, (arch, runs) in enumerate(ladders.items()):
        style, ways = family_style(arch, index), runs[-1]["ways"]
        whole = _whole_way(ways)
        _draw_curve(axes, _behind_header(ways[whole]), style.colour, style.line)
        axes.plot(
            *([], []),
            color=style.colour,
            ls=style.line,
            label=f"{style.name}, {WAY_NAMES[whole]}",
        )
        reset = _behind_header(ways["reset"])
        look = {"color": style.colour, "ls": ":", "lw": 1.3, "marker": style.marker, "ms": 3.5}
        axes.plot(
            *(reset["t"], reset["loss"]),
            label=f"{style.name}, {WAY_NAMES['reset']}",
            **look,
        )
    context = next(iter(ladders.values()))[-1]["context_length"]
    axes.axvline(context, color="#777777", lw=0.9, label=f"training context {context:,}")
    axes.set_title("Largest size, from the song's start", fontsize=10)
    axes.set_xlabel("Position in the song $t$")
    axes.legend(loc="lower right", fontsize=8.5, framealpha=0.9, edgecolor="none")


def _draw_sizes(axes: Axes, style: FamilyStyle, runs: Sequence[dict]) -> None:
    for rank, run in enumerate(runs):
        colour, curve = shade_of_rank(style, rank, len(runs)), run["ways"]["crops"]
        axes.plot(curve["t"], curve["loss"], color=colour, lw=1.4)
        look = {"color": colour, "marker": rank_marker(rank), "ms": 4, "lw": 1.4}
        every = max(1, len(curve["t"]) // 5)
        axes.plot(
            curve["t"][rank % every :: every], curve["loss"][rank % every :: every],
            **look | {"ls": "none"},
        )  # fmt: skip
        _mark_stop(axes, curve, colour)
        axes.plot(*([], []), label=f"{short_count(run['n_params'])}: {_t90(curve, False)}", **look)
    axes.set_title(f"{style.name}, all sizes, from any place of a song", fontsize=10)
    axes.set_xlabel("Tokens of context $t$")
    axes.legend(frameon=False, title="Parameters $N$", alignment="left", fontsize=8.5)


def _draw_curve(axes: Axes, curve: dict, colour: str, line: str) -> None:
    axes.fill_between(curve["t"], *curve["interval_95"], color=colour, alpha=0.15, lw=0)
    axes.plot(curve["t"], curve["loss"], color=colour, ls=line, lw=1.6)


def _behind_header(curve: dict) -> dict:
    """t, loss and interval of a curve from the song's start, without the song's header."""
    first = next((i for i, t in enumerate(curve["t"]) if t > HEADER), 0)
    low, high = curve["interval_95"]
    return {
        "t": curve["t"][first:],
        "loss": curve["loss"][first:],
        "interval_95": [low[first:], high[first:]],
    }


def _mark_stop(axes: Axes, curve: dict, colour: str) -> None:
    if curve["stops_at"] is not None:
        place = curve["from"].index(curve["stops_at"])
        look = {"marker": "o", "ms": 9, "mfc": "none", "mec": colour, "mew": 1.5}
        axes.plot(curve["t"][place], curve["loss"][place], **look)


def _t90(curve: dict, with_interval: bool = True) -> str:
    value, ends = curve["t90"]["value"], curve["t90"]["interval_95"]
    if value is None:
        return "no T90"
    return f"T90 {quantity(value, ends if with_interval else None, '.0f', '')}"


def _stop(curve: dict) -> str:
    if curve["stops_at"] is None:
        return f"falls to {curve['to'][-1]:,}"
    return f"flat from {curve['stops_at']:,}"


def _set_axes(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_ylabel(LOSS)
    low, high = axes.get_xlim()
    ticks = [2**power for power in range(0, 15) if low <= 2**power <= high]
    ticks = ticks if len(ticks) < 8 else ticks[::2]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()


def _share_loss_axis(panels: Sequence[Axes]) -> None:
    limits = [axes.get_ylim() for axes in panels]
    for axes in panels:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def draw_context_length(content: dict) -> Figure:
    """Left: loss by position of both training contexts; right: the longer one's loss less.

    Raises:
        TableError: if no two runs differ in their context only.
    """
    differences = content["context_differences"]
    if not differences:
        raise TableError(
            "context_length.json has no two runs that differ in their context only; give "
            "evaluation.loss.context_use those of the studies cpu_context and cpu"
        )
    archs = sorted({entry["arch"] for entry in differences})
    seed = min(entry["seed"] for entry in differences)
    figure = Figure(figsize=(8.8, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, arch in enumerate(archs):
        style = family_style(arch, index)
        sizes = {entry["size"] for entry in differences if entry["arch"] == arch}
        runs = [r for r in content["runs"] if r["size"] in sizes and r["seed"] == seed]
        runs.sort(key=lambda run: run["context_length"])
        for rank, run in enumerate(runs):
            colour = shade_of_rank(style, rank + 1, len(runs) + 1)
            line = style.line if rank else (0, (1, 1))
            curve = _behind_header(run["ways"][_whole_way(run["ways"])])
            _draw_curve(left, curve, colour, line)
            look = {"color": colour, "ls": line, "lw": 1.6}
            left.plot([], [], label=f"{style.name}, context {run['context_length']:,}", **look)
    _set_axes(left)
    left.set_xlabel("Position in the song $t$")
    left.legend(frameon=False)
    _draw_differences(right, archs, differences)
    settings = content["settings"]
    size_names = ", ".join(sorted({entry["size"] for entry in differences}))
    add_notes(
        figure,
        [
            f"{size_names}; {settings['n_songs']} {settings['split']} songs, all read in one way: "
            f"{_readings(content['runs'])}. Right: 95 % over songs, paired; a mark a seed; below 0 "
            "the longer context is better.",
            "The plain validation losses, in windows of each one's own context: "
            f"{_plain_losses(content['runs'])}.",
        ],
    )
    return figure


def _whole_way(ways: dict) -> str:
    return next(way for way in WHOLE_WAYS if way in ways)


def _readings(runs: Sequence[dict]) -> str:
    ways = {run["arch"]: _whole_way(run["ways"]) for run in runs}
    readings = (f"the {label_of(arch)} {WHOLE_WAYS[ways[arch]]}" for arch in in_order(ways))
    return ", ".join(readings)


def _plain_losses(runs: Sequence[dict]) -> str:
    return ", ".join(
        f"{run['run']} at {run['context_length']:,} {run['validation_loss_nats_per_token']:.4f}"
        for run in runs
    )


def _draw_differences(axes: Axes, archs: Sequence[str], differences: Sequence[dict]) -> None:
    ranges = {(e["from"], e["to"]) for e in differences if e["way"] in WHOLE_WAYS}
    ranges = sorted(ranges, key=lambda ends: (ends[1] - ends[0], ends))
    seeds = sorted({entry["seed"] for entry in differences})
    for index, arch in enumerate(archs):
        style = family_style(arch, index)
        for entry in differences:
            if entry["arch"] != arch or entry["way"] not in WHOLE_WAYS:
                continue
            shift = 0.28 * index - 0.14 + 0.1 * (seeds.index(entry["seed"]) - (len(seeds) - 1) / 2)
            place = ranges.index((entry["from"], entry["to"])) + shift
            low, high = entry["interval_95"]
            axes.plot([place, place], [low, high], color=style.colour, lw=1.6)
            look = {"marker": style.marker, "mfc": style.fill, "mec": style.colour, "ms": 6}
            axes.plot(place, entry["difference"], **look)
        axes.add_line(
            Line2D(
                [], [], color=style.colour, marker=style.marker, mfc=style.fill, label=style.name
            )
        )
    axes.axhline(0, color="#555555", lw=0.9)
    axes.set_xticks(range(len(ranges)), [f"{low:,} to\n{high:,}" for low, high in ranges])
    axes.set_xlabel("Positions in the song")
    contexts = differences[0]["contexts"]
    axes.set_ylabel(f"Loss at {contexts[1]:,} less at {contexts[0]:,} (nats/token)")
    axes.legend(frameon=False)
