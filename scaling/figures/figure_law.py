"""The figure of the laws: loss over N, every run, each family's chosen law with its band.

Runs at one D share one panel. With several D, each family has its own panel, and each D its own
shade, marker and line.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..fitting.diagnostics import CURVATURE_P
from ..laws.registry import LAWS
from ..runs_table import Run, RunsTable
from ..writing.wording import crossover_in_figure, in_words, quantity, short_count
from .figure_style import FamilyStyle, add_notes, handle, row_of_panels, set_log_axes, styles_of

N_LABELS = {
    "n_params": "Non-embedding parameters $N$",
    "n_params_total": "Parameters $N$, with embeddings",
}
LOSS_LABEL = "Validation loss $L$ (nats per token)"
Y_MARGIN = 1.05
Y_BAND = 1.1
MOST_BUDGETS = 6  # distinguished by shade and marker; runs at further D are gray dots


def draw_scaling_law(table: RunsTable, fits: dict) -> Figure:
    """Loss over parameters, log-log, with the laws; see the docstring of this file."""
    styles = styles_of(fits["laws"])
    has_panels = any("curves" in chosen_law(laws) for laws in fits["laws"].values())
    if has_panels:
        figure, panels = row_of_panels(len(styles), (4.3 * len(styles) + 0.5, 4.8))
    else:
        figure, panels = row_of_panels(1, (6.4, 4.6))
        panels = [panels[0]] * len(styles)
    for axes, (arch, style) in zip(panels, styles.items(), strict=True):
        runs = [run for run in table.runs if run.arch == arch]
        draw = _draw_ladder if has_panels else _draw_family
        draw(axes, style, runs, fits["laws"][arch])
    limits = _loss_limits(table.runs, fits)
    sizes = [run.n_params for run in table.runs]
    for axes in panels:
        ends = min(sizes) / 1.35, max(sizes) * 1.35
        axes.set(ylim=limits, xlim=ends, xlabel=size_label(fits))
        set_log_axes(axes)
    panels[0].set_ylabel(LOSS_LABEL)
    if not has_panels:
        panels[0].legend(title="Fit and 95 % interval", alignment="left", handlelength=3.2)
    add_notes(figure, *_law_notes(fits))
    return figure


def size_label(fits: dict) -> str:
    """Axis label of N in these fits."""
    column = fits["settings"]["columns"].get("n_params", "n_params")
    return N_LABELS.get(column, f"Parameters $N$ (column {column})")


def chosen_law(laws: dict) -> dict:
    """The entry of the family's chosen law; empty if it has none."""
    return laws.get(laws["chosen"]) or {}


def _curves(law: dict) -> list[dict]:
    return law["curves"] if law.get("curves") else [law["curve"]] if law else []


def _loss_limits(runs: Sequence[Run], fits: dict) -> tuple[float, float]:
    """Limits that include the runs and the bands; bands are cut off at Y_BAND beyond the runs."""
    losses = [run.loss for run in runs]
    low, high = min(losses) / Y_MARGIN, max(losses) * Y_MARGIN
    curves = [curve for laws in fits["laws"].values() for curve in _curves(chosen_law(laws))]
    bands = [edge for curve in curves for edges in curve["band_95"] or [] for edge in edges]
    return max(min([low, *bands]), low / Y_BAND), min(max([high, *bands]), high * Y_BAND)


def _draw_family(axes: Axes, style: FamilyStyle, runs: Sequence[Run], laws: dict) -> None:
    """Draws a family's runs and its law at one D; runs at other D are small and open."""
    law = chosen_law(laws)
    if law:
        _draw_curve(axes, law["curve"], style.colour, style.line)
    for run in runs:
        look = style.mark | {"mew": 1.4, "ms": 6.5}
        if law and run.n_tokens != law["n_tokens"]:
            look |= {"mfc": "none", "ms": 4, "alpha": 0.4}
        axes.plot(run.n_params, run.loss, ls="none", **look)
    line = style.line if law else "none"
    axes.add_line(handle(_title(style, laws, ", "), ls=line, mew=1.4, ms=6.5, **style.mark))


def _draw_ladder(axes: Axes, style: FamilyStyle, runs: Sequence[Run], laws: dict) -> None:
    """Draws a family's runs, and its law at each D; one shade, marker and line per D."""
    law = chosen_law(laws)
    drawn = [curve.get("n_tokens", law.get("n_tokens")) for curve in _curves(law)]
    budgets = sorted({run.n_tokens for run in runs} | set(drawn))
    shown = budgets if len(budgets) <= MOST_BUDGETS else sorted(set(drawn))
    for n_tokens, curve in zip(drawn, _curves(law), strict=True):
        look = style.of_rank(shown.index(n_tokens), len(shown))
        _draw_curve(axes, curve, look["color"], style.line)
    handles = []
    for rank, n_tokens in enumerate(shown):
        look = style.of_rank(rank, len(shown)) | {"mfc": "white", "mew": 1.3, "ms": 5.5}
        here = [run for run in runs if run.n_tokens == n_tokens]
        axes.plot([r.n_params for r in here], [r.loss for r in here], ls="none", **look)
        line = style.line if n_tokens in drawn else "none"
        handles.append(handle(short_count(n_tokens), ls=line, **look))
    others = [run for run in runs if run.n_tokens not in shown]
    grey = {"color": "#777777", "marker": ".", "ms": 3, "ls": "none"}
    if others:
        axes.plot([r.n_params for r in others], [r.loss for r in others], **grey)
        handles.append(handle("other counts", **grey))
    axes.legend(handles=handles, title="Tokens $D$", alignment="left", handlelength=2.8)
    axes.set_title(_title(style, laws, "\n"))


def _draw_curve(axes: Axes, curve: dict, colour: str, line: str) -> None:
    if curve["band_95"] is not None:
        axes.fill_between(curve["n_params"], *curve["band_95"], color=colour, alpha=0.14, lw=0)
    axes.plot(curve["n_params"], curve["loss"], color=colour, ls=line, lw=1.6)


def _title(style: FamilyStyle, laws: dict, separator: str) -> str:
    """The family, its chosen law, and the law's exponents with their intervals."""
    law, texts = chosen_law(laws), []
    if not law:
        return f"{style.name}: no law fitted"
    for name in LAWS[laws["chosen"]].exponents:
        symbol = name if len(name) == 1 else rf"\{name}"
        value, ends = law["params"][name], law["interval_95"][name]
        texts.append(f"${symbol}$ = {quantity(value, ends, '.3f', '(no interval)')}")
    return f"{style.name}: {LAWS[laws['chosen']].label}{separator}{', '.join(texts)}"


def _law_notes(fits: dict) -> list[str]:
    """What a reader of the figure needs to know: D, refused laws, the crossover."""
    notes: list[str] = []
    budgets: dict[tuple[float | None, bool], list[str]] = {}
    drawn_tokens: set[float] = set()
    refusals: dict[str, list[str]] = {}
    for arch, style in styles_of(fits["laws"]).items():
        name, laws = style.name, fits["laws"][arch]
        if chosen := chosen_law(laws):
            at_one = LAWS[laws["chosen"]].is_at_one_budget
            tokens = None if len(chosen.get("curves", ())) > 1 else chosen["n_tokens"]
            budgets.setdefault((tokens, at_one), []).append(name)
            drawn_tokens.add(chosen["n_tokens"])
            p_value = chosen["curvature_p_value"]
            if p_value is not None and p_value < CURVATURE_P:
                bend = f"the points bend (p = {p_value:.2g}), so no single power law fits"
                notes.append(f"{name}: {bend}.")
        for law in fits["settings"]["laws"]:
            # laws that any table of one token count refuses need no note
            if LAWS[law].is_at_one_budget and "refused" in laws[law]:
                reason = f"{LAWS[law].label} not fitted: {laws[law]['refused'].split(':')[0]}"
                refusals.setdefault(reason, []).append(name)
    for (tokens, at_one), names in budgets.items():
        drawn = "one law for all runs, one line per $D$"
        if tokens is not None:
            drawn = "fitted" if at_one else "fitted to all runs, drawn"
            drawn += f" at $D$ = {short_count(tokens)} tokens"
        notes.append(f"{in_words(names)}: {drawn}.")
    for reason, names in refusals.items():
        notes.append(f"{in_words(names)}: {reason}.")
    return notes + _crossover_notes(fits["crossovers"], drawn_tokens)


def _crossover_notes(crossovers: Sequence[dict], drawn_tokens: set[float]) -> list[str]:
    """Where two families cross, at the D that is drawn; comparisons without data are left out."""
    found: dict[str, list[str]] = {}
    any_drawn = any(entry["n_tokens"] in drawn_tokens for entry in crossovers)
    shown = [
        entry
        for entry in crossovers
        if entry["n_tokens"] in drawn_tokens or not (any_drawn or entry["at"] != "equal_params")
    ]
    for entry in shown:
        if entry["n_params"] is not None:
            pair = in_words(style.name for style in styles_of(entry["archs"]).values())
            found.setdefault(pair, []).append(crossover_in_figure(entry))
    notes = [f"Crossover of {pair}: {'; '.join(places)}." for pair, places in found.items()]
    if shown and len(shown) > sum(map(len, found.values())):
        notes.append(f"No {'other ' * bool(found)}crossover in the measured range.")
    return notes
