"""The figure of loss against music: four measures of the samples over the loss of their model."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..families import in_order
from .figure_style import FamilyStyle, add_notes, styles_of

LOSS = "validation_loss_nats_per_token"
PANELS = {
    "distance": "Distance to real music\n(0: as far as real from real)",
    "valid_without_grammar": "Valid tunes without the grammar\n(share)",
    "masked_probability": "Probability masked by the grammar\n(mean per step)",
    "memorised": "Passages from the training music\n(share above held-out music's)",
}


def draw_loss_and_music(content: dict) -> Figure:
    """Each run a point with its interval, in the color and marker of its family."""
    figure = Figure(figsize=(8.8, 7.0), layout="constrained")
    styles = styles_of(in_order(run["arch"] for run in content["runs"]))
    for axes, (name, label) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        for arch, style in styles.items():
            runs = [run for run in content["runs"] if run["arch"] == arch]
            runs = [run for run in runs if run[name]["value"] is not None]
            _draw_points(axes, runs, name, style)
        axes.set(xlabel="Validation loss (nats per token)", ylabel=label)
        axes.invert_xaxis()  # better models to the right
        correlation = content["rank_correlation"].get("all", {}).get(name)
        if correlation is not None:
            axes.set_title(f"rank correlation with the loss {correlation:+.2f}", fontsize=9)
    figure.axes[0].legend(loc="upper right")
    settings = content["settings"]
    add_notes(
        figure,
        f"{settings['n']} tunes of up to {settings['max_new_tokens']} tokens for each model and "
        "panel, at temperature 1; the first and the last panel within the grammar. Bars: 95 %; in "
        "the first panel over random halves of the real pieces.",
    )
    return figure


def _draw_points(axes: Axes, runs: list[dict], name: str, style: FamilyStyle) -> None:
    losses = [run[LOSS] for run in runs]
    values = [run[name]["value"] for run in runs]
    for loss, value, run in zip(losses, values, runs, strict=True):
        axes.plot(
            [loss, loss], run[name]["interval_95"] or [value, value], color=style.colour, lw=1
        )
    axes.plot(losses, values, ls="none", ms=5, label=style.name, **style.mark)
