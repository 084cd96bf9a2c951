"""The figures of two side studies: leakage between splits, and tokenizers in bits per note."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..writing.wording import quantity, short_count
from .figure_style import add_notes, family_style, handle, set_log_ticks, styles_of

# groups of songs: name, marker, and whether it is the clean one, whose markers are filled
GROUPS = {"copied": ("a copy in train", "^", False), "clean": ("no copy in train", "o", True)}


def draw_leakage(content: dict) -> Figure:
    """Left: loss of songs with and without a copy in train; right: their gap, over N."""
    runs = content["runs"]
    styles = styles_of(sorted({run["arch"] for run in runs}))
    seeds = sorted({run["seed"] for run in runs})
    figure = Figure(figsize=(8.8, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, (arch, style) in enumerate(styles.items()):
        shift = 1.14 ** (2 * index - len(styles) + 1)  # side by side, not on top of each other
        for run in (run for run in runs if run["arch"] == arch):
            size = run["n_params"] * shift * 1.06 ** seeds.index(run["seed"])
            for group, (_, marker, is_clean) in GROUPS.items():
                loss = run["loss_nats_per_token"][group]
                look = style.mark | {"marker": marker, "mfc": style.colour if is_clean else "white"}
                _mark(left, size * 1.13**is_clean, loss["loss"], loss["interval_95"], look)
            gap = run["gap_nats_per_token"]["clean_less_all"]
            _mark(right, size, gap["gap"], gap["interval_95"], style.mark)
        right.add_line(handle(style.name, ls="none", **style.mark))
    for axes in (left, right):
        axes.set(xscale="log", xmargin=0.12, xlabel="Non-embedding parameters $N$")
        set_log_ticks(axes.xaxis, axes.get_xlim(), short_count)
    right.axhline(0, color="#555555", lw=0.9)
    left.set_ylabel("Validation loss (nats per token)")
    right.set_ylabel("Loss: no copy minus all (nats per token)")
    grey = {"color": "#444444", "ls": "none"}
    handles = [
        handle(name, marker=marker, mfc="#444444" if is_clean else "white", **grey)
        for name, marker, is_clean in GROUPS.values()
    ]
    handles += [handle(style.name, color=style.colour, lw=2.5) for style in styles.values()]
    left.legend(handles=handles)
    right.legend()
    songs = runs[0]["n_songs"]
    add_notes(
        figure,
        f"Split by file: {songs['copied']} of {songs['all']} {content['split']} songs have another "
        "arrangement in train. Bars: 95 % over duplicate clusters; right: paired. The gap at the "
        "smallest size, which memorizes nothing, is a difference between the songs; its growth "
        "with size is leakage.",
    )
    return figure


def draw_tokenizers(content: dict) -> Figure:
    """Bits per note of one model shape per family, trained on equal amounts of text."""
    runs = content["runs"]
    styles = styles_of(sorted({run["arch"] for run in runs}))
    # in the order of the tokenizer table, whose labels the file repeats; default label: the name
    given = content.get("labels", {})
    names = list(dict.fromkeys([*given, *(run["tokenizer"] for run in runs)]))
    labels = {name: given.get(name, name) for name in names}
    seeds = sorted({run["seed"] for run in runs})
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for index, (arch, style) in enumerate(styles.items()):
        of_family = [run for run in runs if run["arch"] == arch]
        for run in of_family:
            shift = 0.3 * (index - (len(styles) - 1) / 2)
            shift += 0.1 * (seeds.index(run["seed"]) - (len(seeds) - 1) / 2)
            bits = run["bits_per_note"]
            place = names.index(run["tokenizer"]) + shift
            _mark(axes, place, bits["value"], bits["interval_95"], style.mark)
        shapes = ", ".join(sorted({run["size"] for run in of_family}))
        axes.add_line(handle(f"{style.name}: {shapes}", ls="none", **style.mark))
    axes.set_xticks(range(len(names)), [_tick(runs, name, labels[name]) for name in names])
    axes.set(xlim=(-0.5, len(names) - 0.5), ylabel="Validation loss (bits per note)")
    axes.grid(visible=False, axis="x")
    axes.legend()
    add_notes(
        figure,
        f"{content['n_songs']} {content['split']} songs, the same for all; each run read about "
        f"{short_count(runs[0]['n_chars_seen'])} characters of text. Bars: 95 % over songs; one "
        "marker per seed. Byte pairs give an upper bound: only one segmentation is scored.",
        _difference_note(content["differences"], labels),
    )
    return figure


def _tick(runs: Sequence[dict], name: str, label: str) -> str:
    run = next(run for run in runs if run["tokenizer"] == name)
    return (
        f"{label}\nvocabulary {run['vocab_size']:,}\ncontext {run['context_chars']:,.0f} characters"
    )


def _difference_note(differences: Sequence[dict], labels: dict[str, str]) -> str:
    """One sentence, or none: each tokenizer minus characters, one value per seed."""
    found: dict[tuple[str, str], list[str]] = {}
    for entry in differences:
        text = quantity(entry["bits_per_note"], entry["interval_95"], "+.2f")
        found.setdefault((entry["arch"], entry["tokenizer"]), []).append(text)
    parts = [
        f"{family_style(arch, 0).name}, {labels[name]} {' and '.join(values)}"
        for (arch, name), values in sorted(found.items())
    ]
    return (
        f"Difference from characters, paired, one value per seed: {'; '.join(parts)}."
        if parts
        else ""
    )


def _mark(axes: Axes, x: float, y: float, ends: Sequence[float], look: dict[str, str]) -> None:
    """Draws a value and its interval. look: color, marker and fill, as in `FamilyStyle.mark`."""
    axes.plot([x, x], ends, color=look["color"], lw=1.6)
    axes.plot(x, y, mew=1.4, ms=6.5, ls="none", **look)
