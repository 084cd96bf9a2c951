"""One evaluated model -> one self-contained HTML page, with scores, players and all its metrics.

    python -m evaluation.pages.model_report runs/single/gpt_tiny

Free and constrained samples are shown side by side. All numbers come from metrics.json.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from scaling.writing.commands import command
from scaling.writing.files import read_json, write_atomically

from ..arrangements import in_words
from ..judging.judge_table import VALID, field_label, shown_fields
from .page_template import page_template
from .tune_view import need, tune_views

N_TUNES = 6
COMPARED = ("constrained", "free")
PAGE = "evaluation.html"
LEAST_COMPARED = 100  # samples: with fewer, a distance or an interval means little


def build_page(folder: Path, out: Path | None = None) -> Path:
    """Writes the page of a model.

    Args:
        folder: Where `evaluate_model` wrote metrics.json and samples/.
        out: Output file; default: evaluation.html in that folder.

    Raises:
        FileNotFoundError: If a part is missing; names the command that creates it.
    """
    command = f"make evaluate MODEL={folder}"
    metrics = read_json(need(folder / "metrics.json", command))
    sets = metrics["sets"]
    kinds = [kind for kind in COMPARED if kind in sets]
    views = [tune_views(folder / "samples" / kind, N_TUNES) for kind in kinds]
    out = out or folder / PAGE
    if out.parent != folder:  # a standalone page: no files next to it to link to
        views = [[view | {"files": []} for view in own] for own in views]
    html = page_template("model_report.html.j2").render(
        name=Path(metrics["model"]).parent.name or metrics["model"],
        metrics=metrics,
        headlines=headlines(metrics),
        verdicts=verdicts_of(metrics),
        compared=kinds if "real" in sets else [],
        statistics=list(sets["real"]["statistics"]) if "real" in sets else [],
        kinds=kinds,
        pairs=list(zip(*views, strict=True)),
        arranged=in_words(metrics["arrangements"]) if metrics.get("arrangements") else [],
    )
    write_atomically(out, html)
    return out


def verdicts_of(metrics: dict[str, Any]) -> dict[str, str]:
    """The verdicts that are present -> their labels on pages."""
    given = [own["validity"] for own in metrics["sets"].values()]
    names = (*shown_fields(), "bar_perfect", "playable", VALID)
    return {
        name: field_label(name) for name in names if any(name in validity for validity in given)
    }


def headlines(metrics: dict[str, Any]) -> list[str]:
    """The results in a few plain sentences."""
    lines = []
    for kind, label in (("constrained", "within the grammar"), ("free", "without the grammar")):
        rate = metrics["sets"].get(kind, {}).get("validity", {}).get(VALID)
        if rate:
            low, high = (100 * end for end in rate["interval_95"])
            text = f"Valid for all three readers, {label}: {rate['successes']:,} of {rate['n']:,}"
            interval = f" (95 % interval {low:.1f} to {high:.1f} %)"
            lines.append(text + interval * (rate["n"] >= LEAST_COMPARED))
    for name, reason in metrics["judges"].get("missing", {}).items():
        lines.append(f"Judge unavailable, {name}: {reason}")
    for kind, own in metrics["sets"].items():
        is_enough = kind in COMPARED and own["n"] >= LEAST_COMPARED
        distance = is_enough and own.get("distance")
        if distance and (frechet := distance["frechet"]["frechet_distance"]):
            value, floor = (frechet[each]["mean"] for each in ("value", "floor"))
            lines.append(
                f"Distance of music statistics to real music, {kind}: {value:.2f}; between real "
                f"pieces {floor:.2f}"
            )
    if test := metrics["test"]:
        lines.append(
            f"Loss on the test songs: {test['loss_nats_per_token']:.3f} nats per token, "
            f"{test['bits_per_char']:.3f} bits per character, {test['bits_per_note']:.2f} per note"
        )
    return lines


@command(ValueError, OSError)
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="evaluation.pages.model_report", description=__doc__)
    parser.add_argument("model", type=Path, help="an evaluated run, e.g. runs/single/gpt_tiny")
    parser.add_argument("--out", type=Path, help=f"default: {PAGE} in its folder")
    options = parser.parse_args(arguments)
    print(f"page: {build_page(options.model, options.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
