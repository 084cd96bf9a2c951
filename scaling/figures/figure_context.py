"""The figures of context: loss by token position, and a context of 1,024 compared with 256.

Both are drawn from files of evaluation.loss.context_use; its docstring says how positions count.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..families import in_order, label_of
from ..runs_table import TableError
from ..writing.wording import quantity, short_count
from .figure_style import FamilyStyle, add_notes, handle, set_ticks, styles_of

LOSS = "Loss $l(t)$ (nats per token)"
# how a run of a family reads a song from start to end, one of these ways
WHOLE_WAYS = {
    "stride": "in windows of its own context moved by half of it",
    "carried": "with its state carried over",
}
WAY_NAMES = {
    "stride": "windows moved by half",
    "carried": "state carried over",
    "reset": "reset at each window",
}
HEADER = 48  # positions up to here contain a song's header, with a loss near 0; not drawn


def draw_context_use(content: dict) -> Figure:
    """Four panels: each family's largest size, cropped and from the start; then all sizes."""
    ladders = _ladders(content["runs"])
    figure = Figure(figsize=(8.8, 7.4), layout="constrained")
    panels = figure.subplots(2, 2)
    largest = [(style, runs[-1]) for style, runs in ladders]
    _draw_largest(panels[0, 0], largest)
    _draw_from_start(panels[0, 1], largest)
    for axes, (style, runs) in zip(panels[1], ladders, strict=False):
        _draw_sizes(axes, style, runs)
    for axes in panels[1, len(ladders) :]:
        axes.set_axis_off()
    for axes in panels.flat:
        _set_axes(axes)
    below = panels[1, : len(ladders)]
    low, high = zip(*(axes.get_ylim() for axes in below), strict=True)
    for axes in below:
        axes.set_ylim(min(low), max(high))
    settings = content["settings"]
    add_notes(
        figure,
        f"{settings['n_songs']} {settings['split']} songs of more than "
        f"{settings['positions']:,} tokens; bands: 95 % over songs. "
        "T90: where 90 % of the drop from first to last position is reached. Ring: the first "
        "position where the interval of the slope reaches 0, so that more context may not help. "
        "Left and below: each crop is compared with the same tokens after the whole song before "
        "them.",
    )
    return figure


def _ladders(runs: Sequence[dict]) -> list[tuple[FamilyStyle, list[dict]]]:
    """Each family with the lowest-seed run of each size, smallest size first."""
    found: dict[str, dict[float, dict]] = {}
    for run in sorted(runs, key=lambda run: (run["arch"], run["n_params"], run["seed"])):
        found.setdefault(run["arch"], {}).setdefault(run["n_params"], run)
    return [(style, [*found[arch].values()]) for arch, style in styles_of(found).items()]


def _draw_largest(axes: Axes, largest: Sequence[tuple[FamilyStyle, dict]]) -> None:
    for style, run in largest:
        curve = run["ways"]["crops"]
        _draw_curve(axes, curve, style.colour, style.line)
        _mark_stop(axes, curve, style.colour)
        stop, last = curve["stops_at"], curve["to"][-1]
        stop = f"falls to {last:,}" if stop is None else f"flat from {stop:,}"
        label = f"{style.name}, {short_count(run['n_params'])}: {_t90(curve)}, {stop}"
        axes.add_line(handle(label, color=style.colour, ls=style.line, lw=1.6))
    axes.set(title="Largest size, from any position in a song", xlabel="Tokens of context $t$")
    axes.legend(loc="upper right", fontsize=8.5)


def _draw_from_start(axes: Axes, largest: Sequence[tuple[FamilyStyle, dict]]) -> None:
    for style, run in largest:
        ways, whole = run["ways"], _whole_way(run["ways"])
        _draw_curve(axes, _behind_header(ways[whole]), style.colour, style.line)
        label = f"{style.name}, {WAY_NAMES[whole]}"
        axes.plot([], [], color=style.colour, ls=style.line, label=label)
        reset, label = _behind_header(ways["reset"]), f"{style.name}, {WAY_NAMES['reset']}"
        look = {"color": style.colour, "ls": ":", "lw": 1.3, "marker": style.marker, "ms": 3.5}
        axes.plot(reset["t"], reset["loss"], label=label, **look)
    context = largest[0][1]["context_length"]
    axes.axvline(context, color="#777777", lw=0.9, label=f"training context {context:,}")
    axes.set(title="Largest size, from the song's start", xlabel="Position in the song $t$")
    axes.legend(loc="lower right", fontsize=8.5, frameon=True, framealpha=0.9, edgecolor="none")


def _draw_sizes(axes: Axes, style: FamilyStyle, runs: Sequence[dict]) -> None:
    for rank, run in enumerate(runs):
        look, curve = style.of_rank(rank, len(runs)) | {"ms": 4, "lw": 1.4}, run["ways"]["crops"]
        every = max(1, len(curve["t"]) // 5)
        marked = slice(rank % every, None, every)
        axes.plot(curve["t"], curve["loss"], color=look["color"], lw=1.4)
        axes.plot(curve["t"][marked], curve["loss"][marked], **look | {"ls": "none"})
        _mark_stop(axes, curve, look["color"])
        axes.plot([], [], label=f"{short_count(run['n_params'])}: {_t90(curve, False)}", **look)
    title = f"{style.name}, all sizes, from any position in a song"
    axes.set(title=title, xlabel="Tokens of context $t$")
    axes.legend(title="Parameters $N$", alignment="left", fontsize=8.5)


def _draw_curve(axes: Axes, curve: dict, colour: str, line: str) -> None:
    axes.fill_between(curve["t"], *curve["interval_95"], color=colour, alpha=0.15, lw=0)
    axes.plot(curve["t"], curve["loss"], color=colour, ls=line, lw=1.6)


def _behind_header(curve: dict) -> dict:
    """t, loss and interval of a curve from the song's start, without the song's header."""
    first = next((i for i, t in enumerate(curve["t"]) if t > HEADER), 0)
    kept = {name: curve[name][first:] for name in ("t", "loss")}
    return kept | {"interval_95": [edge[first:] for edge in curve["interval_95"]]}


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


def _set_axes(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_ylabel(LOSS)
    low, high = axes.get_xlim()
    ticks = [2**power for power in range(0, 15) if low <= 2**power <= high]
    set_ticks(axes, ticks if len(ticks) < 8 else ticks[::2], ",")


def draw_context_length(content: dict) -> Figure:
    """Left: loss by position at both training contexts; right: longer minus shorter context.

    Raises:
        TableError: if no two runs differ only in their context.
    """
    differences = content["context_differences"]
    if not differences:
        raise TableError(
            "context_length.json has no two runs that differ only in their context; give "
            "evaluation.loss.context_use the runs of the studies cpu_context and cpu"
        )
    styles = styles_of(sorted({entry["arch"] for entry in differences}))
    seed = min(entry["seed"] for entry in differences)
    figure = Figure(figsize=(8.8, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for arch, style in styles.items():
        sizes = {entry["size"] for entry in differences if entry["arch"] == arch}
        runs = [r for r in content["runs"] if r["size"] in sizes and r["seed"] == seed]
        runs.sort(key=lambda run: run["context_length"])
        for rank, run in enumerate(runs):
            colour = style.of_rank(rank + 1, len(runs) + 1)["color"]
            line = style.line if rank else (0, (1, 1))
            curve = _behind_header(run["ways"][_whole_way(run["ways"])])
            _draw_curve(left, curve, colour, line)
            label = f"{style.name}, context {run['context_length']:,}"
            left.plot([], [], label=label, color=colour, ls=line, lw=1.6)
    _set_axes(left)
    left.set_xlabel("Position in the song $t$")
    left.legend()
    _draw_differences(right, styles, differences)
    settings = content["settings"]
    size_names = ", ".join(sorted({entry["size"] for entry in differences}))
    ways = {run["arch"]: _whole_way(run["ways"]) for run in content["runs"]}
    readings = [f"the {label_of(arch)} {WHOLE_WAYS[ways[arch]]}" for arch in in_order(ways)]
    losses = [
        f"{run['run']} at {run['context_length']:,} {run['validation_loss_nats_per_token']:.4f}"
        for run in content["runs"]
    ]
    add_notes(
        figure,
        f"{size_names}; {settings['n_songs']} {settings['split']} songs, all read the same way: "
        f"{', '.join(readings)}. Right: 95 % over songs, paired; one marker per seed; "
        "below 0 the longer context is better.",
        f"The plain validation losses, in windows of each run's own context: {', '.join(losses)}.",
    )
    return figure


def _whole_way(ways: dict) -> str:
    return next(way for way in WHOLE_WAYS if way in ways)


def _draw_differences(
    axes: Axes, styles: dict[str, FamilyStyle], differences: Sequence[dict]
) -> None:
    shown = [entry for entry in differences if entry["way"] in WHOLE_WAYS]
    ranges = {(entry["from"], entry["to"]) for entry in shown}
    ranges = sorted(ranges, key=lambda ends: (ends[1] - ends[0], ends))
    seeds = sorted({entry["seed"] for entry in differences})
    for index, (arch, style) in enumerate(styles.items()):
        for entry in (entry for entry in shown if entry["arch"] == arch):
            shift = 0.28 * index - 0.14 + 0.1 * (seeds.index(entry["seed"]) - (len(seeds) - 1) / 2)
            place = ranges.index((entry["from"], entry["to"])) + shift
            low, high = entry["interval_95"]
            axes.plot([place, place], [low, high], color=style.colour, lw=1.6)
            look = {"marker": style.marker, "mfc": style.fill, "mec": style.colour, "ms": 6}
            axes.plot(place, entry["difference"], **look)
        axes.add_line(handle(style.name, **style.mark))
    axes.axhline(0, color="#555555", lw=0.9)
    axes.set_xticks(range(len(ranges)), [f"{low:,} to\n{high:,}" for low, high in ranges])
    axes.set_xlabel("Positions in the song")
    contexts = differences[0]["contexts"]
    axes.set_ylabel(f"Loss at {contexts[1]:,} minus {contexts[0]:,} (nats/token)")
    axes.legend()
