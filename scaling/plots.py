"""runs.csv, fits.json and each run's log.jsonl -> figures/scaling_law and loss_curves, PNG and SVG.

    python -m scaling.plots runs/demo

Draws and fits nothing: lines and bands are the curves of fits.json. The same inputs give the same
bytes of SVG.
"""

import argparse
import csv
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .diagnostics import CURVATURE_P
from .figure_style import PNG_DPI, RC, FamilyStyle, family_style, set_log_ticks, short_count
from .laws import LAWS
from .runs_table import Run, RunsTable, TableError, read_runs

N_LABELS = {
    "n_params": "Non-embedding parameters $N$",
    "n_params_total": "Parameters $N$, embeddings counted",
}
# no space inside the formulas: the notes are wrapped at spaces
LAW_LABELS = {
    "power": r"$L=C\,N^{-\alpha}$",
    "power_floor": r"$L=a\,N^{-\alpha}+c$",
    "chinchilla": r"$L=E+A/N^{\alpha}+B/D^{\beta}$",
    "chinchilla_tied": r"$L=E+A/N^{\alpha}+B/D^{\alpha}$",
    "muennighoff": r"$L=E+A/N'^{\alpha}+B/D'^{\alpha}$",
    "sms": "SMS$(N,D,U)$",
}
CROSSOVERS_AT = {"equal_params": "parameters", "equal_flops": "FLOPs", "equal_time": "time"}
Y_MARGIN = 1.05
Y_BAND = 1.1
TRAIN_FIELD, VALIDATION_FIELD = "loss_nats_per_token", "validation_loss_nats_per_token"


def read_study(folder: Path) -> tuple[RunsTable, dict]:
    """runs.csv and the fits.json that was made from it.

    Raises:
        TableError: if there is no fits.json, it is broken, or it was made from other runs.
    """
    path = folder / "fits.json"
    again = "run python -m scaling.fit again"
    if not path.is_file():
        raise TableError(f"{path}: no such file; {again}")
    try:
        fits = json.loads(path.read_text(encoding="utf-8"))
        digest, columns = fits["input"]["digest"], fits["settings"]["columns"]
    except (json.JSONDecodeError, KeyError, TypeError) as err:
        raise TableError(f"{path}: not a fits.json ({err}); {again}") from err
    table = read_runs(folder / "runs.csv", columns)
    if digest != table.digest:
        raise TableError(f"{path}: made from other runs than runs.csv beside it; {again}")
    return table, fits


def draw_scaling_law(table: RunsTable, fits: dict) -> Figure:
    """Loss over parameters, log-log: every run, and each family's chosen law with its band."""
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for index, (arch, laws) in enumerate(fits["laws"].items()):
        style = family_style(arch, index)
        runs = [run for run in table.runs if run.arch == arch]
        _draw_family(axes, style, runs, laws)
    axes.set_xscale("log")
    axes.set_yscale("log")
    losses = [run.loss for run in table.runs]
    sizes = [run.n_params for run in table.runs]
    low, high = min(losses) / Y_MARGIN, max(losses) * Y_MARGIN
    # a band of one degree of freedom may be a hundred times wider than the data: it is cut off
    bands = [edge for laws in fits["laws"].values() for edge in _band_edges(laws)]
    low = max(min([low, *bands]), low / Y_BAND)
    high = min(max([high, *bands]), high * Y_BAND)
    axes.set_ylim(low, high)
    axes.set_xlim(min(sizes) / 1.35, max(sizes) * 1.35)
    set_log_ticks(axes.xaxis, axes.get_xlim(), short_count)
    set_log_ticks(axes.yaxis, axes.get_ylim())
    column = fits["settings"]["columns"].get("n_params", "n_params")
    axes.set_xlabel(N_LABELS.get(column, f"Parameters $N$ (column {column})"))
    axes.set_ylabel("Validation loss $L$ (nats per token)")
    axes.legend(
        frameon=False, loc="best", title="Fit and 95 % interval", alignment="left", handlelength=3.2
    )
    notes = _law_notes(fits)
    if notes:
        text = "\n".join(line for note in notes for line in textwrap.wrap(note, 96))
        figure.supxlabel(text, x=0.02, ha="left", fontsize=9, color="#444444")
    return figure


def _band_edges(laws: dict) -> list[float]:
    law = laws.get(laws["chosen"])
    band = law["curve"]["band_95"] if law is not None else None
    return [edge for edges in band or [] for edge in edges]


def _draw_family(axes: Axes, style: FamilyStyle, runs: Sequence[Run], laws: dict) -> None:
    law = laws.get(laws["chosen"])
    label = f"{style.name}: no law fitted"
    fitted_tokens = None
    if law is not None:
        fitted_tokens = law["n_tokens"]
        curve = law["curve"]
        label = f"{style.name}: {LAW_LABELS[laws['chosen']]}, {_exponent(law)}"
        if curve["band_95"] is not None:
            low, high = curve["band_95"]
            axes.fill_between(curve["n_params"], low, high, color=style.colour, alpha=0.14, lw=0)
        axes.plot(curve["n_params"], curve["loss"], color=style.colour, ls=style.line, lw=1.6)
    for run in runs:
        left_out = fitted_tokens is not None and run.n_tokens != fitted_tokens
        axes.plot(
            run.n_params,
            run.loss,
            marker=style.marker,
            color=style.colour,
            mfc="none" if left_out else style.fill,
            mew=1.4,
            ms=4 if left_out else 6.5,
            alpha=0.4 if left_out else 1.0,
            ls="none",
        )
    axes.plot(
        *([], []),
        label=label,
        color=style.colour,
        marker=style.marker,
        mfc=style.fill,
        mew=1.4,
        ms=6.5,
        ls="none" if law is None else style.line,
    )


def _exponent(law: dict) -> str:
    text = rf"$\alpha$ = {law['params']['alpha']:.3f}"
    ends = law["interval_95"]["alpha"]
    return text + (" (no interval)" if ends is None else f" [{ends[0]:.3f}, {ends[1]:.3f}]")


def _law_notes(fits: dict) -> list[str]:
    """What a reader of the figure has to know: D, refused laws, the crossover."""
    notes: list[str] = []
    budgets: dict[tuple[float, bool], list[str]] = {}
    refusals: dict[str, list[str]] = {}
    for index, (arch, laws) in enumerate(fits["laws"].items()):
        name = family_style(arch, index).name
        chosen = laws.get(laws["chosen"])
        if chosen is not None:
            at_one = LAWS[laws["chosen"]].is_at_one_budget
            budgets.setdefault((chosen["n_tokens"], at_one), []).append(name)
            p_value = chosen["curvature_p_value"]
            if p_value is not None and p_value < CURVATURE_P:
                notes.append(
                    f"{name}: the points bend (p = {p_value:.2g}), so no single power fits."
                )
        for law in fits["settings"]["laws"]:
            # what a table of one token count refuses by its nature needs no note
            if LAWS[law].is_at_one_budget and "refused" in laws[law]:
                reason = f"{LAW_LABELS[law]} not fitted: {laws[law]['refused'].split(':')[0]}"
                refusals.setdefault(reason, []).append(name)
    for (tokens, at_one), names in budgets.items():
        drawn = "fitted" if at_one else "fitted to all runs, drawn"
        notes.append(f"{' and '.join(names)}: {drawn} at $D$ = {short_count(tokens)} tokens.")
    for reason, names in refusals.items():
        notes.append(f"{' and '.join(names)}: {reason}.")
    return notes + _crossover_notes(fits["crossovers"], {tokens for tokens, _ in budgets})


def _crossover_notes(crossovers: Sequence[dict], drawn_tokens: set[float]) -> list[str]:
    """Where each two families meet, at the D that is drawn; comparisons without data left out."""
    found: dict[str, list[str]] = {}
    for entry in crossovers:
        is_drawn = entry["n_tokens"] in drawn_tokens
        if not is_drawn and entry["at"] != "equal_params":
            continue
        if not is_drawn and any(other["n_tokens"] in drawn_tokens for other in crossovers):
            continue
        pair = " and ".join(family_style(arch, i).name for i, arch in enumerate(entry["archs"]))
        place = "none in the measured range"
        if entry["n_params"] is not None:
            place = f"at $N$ = {short_count(entry['n_params'])}"
            if entry["interval_95"] is not None:
                ends = " to ".join(short_count(end) for end in entry["interval_95"])
                place += f" (95 % interval {ends})"
        found.setdefault(pair, []).append(f"at equal {CROSSOVERS_AT[entry['at']]} {place}")
    return [f"Crossover of {pair}: {'; '.join(places)}." for pair, places in found.items()]


def draw_loss_curves(folder: Path, rows: Sequence[dict[str, str]]) -> tuple[Figure, list[str]]:
    """Training and validation loss over tokens, a panel a family, darker for larger models.

    Args:
        folder: the study's folder, with one folder a run.
        rows: rows of runs.csv.

    Returns:
        The figure and the names of runs that have no log.jsonl.

    Raises:
        TableError: if no run has one, or a log is broken.
    """
    logs = {row["run"]: _read_log(folder / row["run"] / "log.jsonl") for row in rows}
    missing = sorted(run for run, events in logs.items() if not events)
    archs = sorted({row["arch"] for row in rows if logs[row["run"]]})
    if not archs:
        raise TableError(f"{folder}: no run has a log.jsonl; train them again to draw their curves")
    figure = Figure(figsize=(3.9 * len(archs) + 0.6, 4.2), layout="constrained")
    panels = figure.subplots(1, len(archs), sharex=True, sharey=True, squeeze=False)[0]
    for index, (axes, arch) in enumerate(zip(panels, archs, strict=True)):
        family = [row for row in rows if row["arch"] == arch and logs[row["run"]]]
        _draw_panel(axes, family_style(arch, index), family, logs)
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
    figure.legend(handles=kinds, loc="outside upper center", ncols=2, frameon=False)
    return figure, missing


def _draw_panel(
    axes: Axes, style: FamilyStyle, rows: Sequence[dict[str, str]], logs: dict[str, list[dict]]
) -> None:
    sizes = sorted({float(row["n_params"]) for row in rows})
    labelled = set()
    for row in sorted(rows, key=lambda row: (float(row["n_params"]), row["run"])):
        rank = sizes.index(float(row["n_params"]))
        colour = style.shade(rank / max(len(sizes) - 1, 1))
        marker = "os^DvP"[rank % 6]
        training, validation = (
            [(e["n_tokens"], e[field]) for e in logs[row["run"]] if field in e and e["n_tokens"]]
            for field in (TRAIN_FIELD, VALIDATION_FIELD)
        )
        label = None if rank in labelled else short_count(float(row["n_params"]))
        labelled.add(rank)
        axes.plot(*_columns(training), color=colour, lw=1.0, ls=(0, (1, 1)))
        axes.plot(
            *_columns(validation), color=colour, lw=1.5, marker=marker, ms=4, mec="white", mew=0.5
        )
        axes.plot([], [], color=colour, lw=1.5, marker=marker, ms=5, label=label)
    axes.set_title(style.name, fontsize=10.5)
    axes.legend(frameon=False, title="Parameters $N$", loc="best", alignment="left")


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _read_log(path: Path) -> list[dict]:
    """Events of a run, in order; none if it has no log."""
    if not path.is_file():
        return []
    events = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
            event["n_tokens"]  # every event has it; one without is a broken log
        except (json.JSONDecodeError, KeyError, TypeError) as err:
            raise TableError(
                f"{path}, line {number}: expected a JSON object with n_tokens ({err}); "
                "run the training again"
            ) from err
        events.append(event)
    return events


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Writes name.png and name.svg without date or version: equal figures are equal files."""
    folder.mkdir(parents=True, exist_ok=True)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    figure.savefig(png, dpi=PNG_DPI, metadata={"Software": None})
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    return [png, svg]


def draw_study(folder: Path) -> tuple[list[Path], list[str]]:
    """Both figures of a study. Returns the files written and the runs without a log.jsonl."""
    table, fits = read_study(folder)
    with matplotlib.rc_context(RC):
        written = save_figure(draw_scaling_law(table, fits), folder / "figures", "scaling_law")
        with (folder / "runs.csv").open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        figure, missing = draw_loss_curves(folder, rows)
        written += save_figure(figure, folder / "figures", "loss_curves")
    return written, missing


def main(argv: Sequence[str] | None = None) -> int:
    """Draws a study's figures; 2 on an error that the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m scaling.plots",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", type=Path, help="folder with runs.csv, fits.json and the runs")
    arguments = parser.parse_args(argv)
    try:
        written, missing = draw_study(arguments.study)
    except (TableError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    if missing:
        print(f"no log.jsonl, not in the loss curves: {', '.join(missing)}")
    print("\n".join(f"-> {path}" for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
