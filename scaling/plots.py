"""The files of a study -> figures, PNG and SVG, in its folder figures/.

    python -m scaling.plots runs/demo
    python -m scaling.plots results

Only draws, never fits: every line, point and band is in a CSV or JSON file of the folder. A figure
whose file is missing is skipped with a one-line message. The same inputs give the same SVG bytes.
"""

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from .figures.figure_context import draw_context_length, draw_context_use
from .figures.figure_corpus import draw_corpus
from .figures.figure_curves import draw_loss_curves
from .figures.figure_isoflop import draw_isoflop
from .figures.figure_law import draw_scaling_law
from .figures.figure_music import draw_loss_and_music
from .figures.figure_rates import draw_learning_rates
from .figures.figure_side import draw_leakage, draw_tokenizers
from .figures.figure_style import PNG_DPI, RC
from .runs_table import RunsTable, TableError, read_runs
from .writing.commands import command, parser_of
from .writing.files import read_csv, read_json

FIT_AGAIN = "run python -m scaling.fit again"


@dataclass(frozen=True)
class FigureSource:
    """Which file a figure is drawn from, which command makes the file, and what draws it.

    Attributes:
        file: in the study's folder.
        made_by: command that makes it.
        draw: folder -> figure.
    """

    file: str
    made_by: str
    draw: Callable[[Path], Figure]


def read_study(folder: Path) -> tuple[RunsTable, dict]:
    """runs.csv and the fits.json made from it.

    Raises:
        TableError: if fits.json is missing, malformed, or was made from other runs.
    """
    path = folder / "fits.json"
    if not path.is_file():
        raise TableError(f"{path}: no such file; {FIT_AGAIN}")
    try:
        fits = read_json(path)
        digest, columns = fits["input"]["digest"], fits["settings"]["columns"]
    except (json.JSONDecodeError, KeyError, TypeError) as err:
        raise TableError(f"{path}: not a fits.json ({err}); {FIT_AGAIN}") from err
    table = read_runs(folder / "runs.csv", columns)
    if digest != table.digest:
        raise TableError(f"{path}: made from other runs than the runs.csv beside it; {FIT_AGAIN}")
    return table, fits


def _json_source(
    name: str, made_by: str, draw: Callable[[Any], Figure], holds: str | None = None
) -> FigureSource:
    """Source of a figure drawn from one JSON file, which may have been edited by hand.

    holds: key of what is drawn, "runs" or "families"; empty is an error that names the command.
    """

    def read_and_draw(folder: Path) -> Figure:
        path = folder / f"{name}.json"
        try:
            content = read_json(path)
            if holds and not content[holds]:
                what = {"runs": "run", "families": "family"}[holds]
                raise TableError(f"{path.name} has no {what}; run {made_by} again")
            return draw(content)
        except (json.JSONDecodeError, KeyError, TypeError, IndexError) as err:
            raise TableError(f"{path}: malformed or incomplete ({err!r}); make it again") from err

    return FigureSource(f"{name}.json", made_by, read_and_draw)


def _draw_loss_curves(folder: Path) -> Figure:
    return draw_loss_curves(read_csv(folder / "curves.csv"), read_csv(folder / "runs.csv"))


FITS = ("fits.json", "scaling.fit")
FIGURES: dict[str, FigureSource] = {
    "scaling_law": FigureSource(*FITS, lambda folder: draw_scaling_law(*read_study(folder))),
    "isoflop": FigureSource(*FITS, lambda folder: draw_isoflop(read_study(folder)[1])),
    "loss_curves": FigureSource("curves.csv", "scaling.loss_curves", _draw_loss_curves),
} | {
    name: _json_source(name, *source)
    for name, *source in (
        ("learning_rates", "make sweep", draw_learning_rates, "families"),
        ("context_use", "evaluation.loss.context_use", draw_context_use, "runs"),
        ("context_length", "evaluation.loss.context_use", draw_context_length),
        ("leakage", "evaluation.loss.leakage", draw_leakage, "runs"),
        ("tokenizers", "evaluation.loss.compare_tokenizers", draw_tokenizers, "runs"),
        ("loss_and_music", "evaluation.loss_and_music", draw_loss_and_music, "runs"),
        ("corpus", "make describe", draw_corpus),
    )
}
# The corpus figure does not belong to a study: `--only corpus`.
STUDY_FIGURES = [name for name in FIGURES if name != "corpus"]
# not drawn if fits.json has no law in N and D
MAY_BE_EMPTY = ("isoflop",)


def draw_figure(name: str, folder: Path) -> Figure | str:
    """A figure of FIGURES, or one line with the reason why it is missing.

    Raises:
        TableError: if its files exist and are unusable.
    """
    source = FIGURES[name]
    if not (folder / source.file).is_file():
        return f"{name}: no {source.file}, which {source.made_by} makes"
    with matplotlib.rc_context(RC):
        try:
            return source.draw(folder)
        except TableError as err:
            if name in MAY_BE_EMPTY:
                return f"{name}: {err}"
            raise


def draw_figures(folder: Path, names: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Draws figures of a folder. Returns the files written, and a line for each figure left out."""
    written, left_out = [], []
    for name in names:
        figure = draw_figure(name, folder)
        if isinstance(figure, str):
            left_out.append(figure)
            continue
        (folder / "figures").mkdir(exist_ok=True)
        png, svg = (folder / "figures" / f"{name}.{kind}" for kind in ("png", "svg"))
        with matplotlib.rc_context(RC):
            # without date or version, so that equal figures are equal files
            figure.savefig(png, dpi=PNG_DPI, metadata={"Software": None})
            figure.savefig(svg, metadata={"Date": None, "Creator": None})
        written += [png, svg]
    return written, left_out


@command(TableError, OSError)
def main(argv: Sequence[str] | None = None) -> None:
    """Draws a study's figures; 2 on an error the user can fix."""
    parser = parser_of("scaling.plots", __doc__)
    parser.add_argument("study", type=Path, help="folder with runs.csv, fits.json and more")
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), metavar="FIGURE")
    arguments = parser.parse_args(argv)
    if not arguments.only:
        read_study(arguments.study)  # without runs and fits it is not a study
    # a font of a fallback list that is not installed changes nothing
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    written, left_out = draw_figures(arguments.study, arguments.only or STUDY_FIGURES)
    if arguments.only:
        print("\n".join([*left_out, *(f"-> {path}" for path in written)]))
        return
    names = sorted({path.stem for path in written})
    print(f"figures {', '.join(names)} -> {written[0].parent}" if written else "no figure drawn")
    if left_out:
        others = ", ".join(line.partition(":")[0] for line in left_out)
        print(f"  not drawn: {others}; --only <figure> says what is missing")


if __name__ == "__main__":
    sys.exit(main())
