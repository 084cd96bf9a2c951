"""results/corpus.json and its neighbours -> figures/corpus.png and .svg, and the README's table.

    python -m scaling.corpus results README.md

Beside corpus.json (`data_prep.describe`) there may be what the benchmarks wrote: duplicates.json,
selection.json, tokens.json. No number of the table is typed by hand.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .families import FAMILIES
from .figure_style import RC
from .plots import save_figure
from .tables import fill

STUDY_A_GZIP_RATIO = 0.24  # files below are dropped there
_COLOUR, _MARK = (FAMILIES[name].look.colour for name in ("gpt", "lstm"))
_LABELLED = 8


def draw_corpus(corpus: dict[str, Any]) -> Figure:
    """Histograms of gzip ratio and length of the tunes, and the frequency of the tokens."""
    histograms = corpus["histograms"]
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_gzip_ratio(left, **histograms["gzip_ratio"])
    _draw_lengths(middle, **histograms["n_chars"])
    _draw_token_frequency(right, histograms["token_frequency"])
    return figure


def _draw_gzip_ratio(axes: Axes, edges: list[float], counts: list[int]) -> None:
    axes.stairs(counts, edges, fill=True, color=_COLOUR)
    axes.axvline(STUDY_A_GZIP_RATIO, color=_MARK, linestyle="--", linewidth=1.2)
    below = sum(c for c, e in zip(counts, edges, strict=False) if e < STUDY_A_GZIP_RATIO)
    text = f"{100 * below / sum(counts):.0f} % below {STUDY_A_GZIP_RATIO}"
    axes.annotate(text, (STUDY_A_GZIP_RATIO, axes.get_ylim()[1]), (6, -10), color=_MARK,
                  textcoords="offset points")  # fmt: skip
    last = max(i for i, count in enumerate(counts) if count) + 1
    axes.set(xlabel="gzip ratio of a tune's text", ylabel="tunes", xlim=(0, edges[last]))


def _draw_lengths(axes: Axes, edges: list[float], counts: list[int]) -> None:
    axes.stairs(counts, edges, fill=True, color=_COLOUR)
    used = [i for i, count in enumerate(counts) if count]
    axes.set_xscale("log")
    axes.set(
        xlabel="characters of a tune", ylabel="tunes", xlim=(edges[used[0]], edges[used[-1] + 1])
    )


def _draw_token_frequency(axes: Axes, frequency: dict[str, Any]) -> None:
    shares = np.array(frequency["shares"])
    ranks = np.arange(1, len(shares) + 1)
    axes.plot(ranks, 100 * shares, marker="o", markersize=3, linewidth=1, color=_COLOUR)
    for rank, share, token in zip(ranks, shares, frequency["tokens"][:_LABELLED], strict=False):
        text = {"\n": "↵", " ": "␣"}.get(token, token)
        axes.annotate(text, (rank, 100 * share), (0, 5), ha="center", fontsize=8,
                      textcoords="offset points")  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(xlabel="rank of the token", ylabel="share of the train split, %")


# ---------------------------------------------------------------- table


def corpus_table(corpus: dict[str, Any], others: dict[str, Any]) -> list[str]:
    """Lines of Markdown: what went in and came out, and what it took."""
    whole, splits = corpus["whole"], corpus["4_split"]["splits"]
    stages = [corpus[name] for name in ("1_abc", "2_clean", "3_filtered")]
    reasons = [f"{why} {n:,}" for stage in stages for why, n in stage["dropped"].items()]
    last = corpus["3_filtered"]
    rows = [
        ("MIDI files", f"{corpus['1_abc']['rows_in']:,}"),
        ("songs kept", f"{last['rows_out']:,}"),
        ("dropped", ", ".join(reasons) or "none"),
        ("characters", f"{last['n_chars']:,}"),
        ("notes", f"{last['n_notes']:,}"),
        ("hours", f"{last['n_seconds'] / 3600:,.0f}"),
        ("duplicate clusters", f"{last['n_clusters']:,}, the largest of {last['largest_cluster']}"),
        ("songs that have a near duplicate", f"{last['n_songs_with_near_duplicates']:,}"),
        *((f"{name}, songs", f"{split['n_songs']:,}") for name, split in splits.items()),
        ("tokens to train on", f"{corpus['5_tokens']['splits']['train']['n_tokens']:,}"),
        ("files a second, conversion alone", f"{whole['files_per_second_conversion']:,.0f}"),
        ("files a second, all stages", f"{whole['files_per_second']:,.1f}"),
        ("peak memory, all processes", f"{whole['peak_memory_mb'] / 1000:.2f} GB"),
        (
            f"minutes for the {whole['n_files_lakh']:,} files of Lakh MIDI, extrapolated",
            f"{whole['minutes_lakh_extrapolated']:,.0f}",
        ),
    ]
    lines = ["| development corpus | |", "|---|---:|", *(f"| {a} | {b} |" for a, b in rows)]
    return [*lines, *_duplicates(others), *_selection(others), *_tokens(others)]


def _duplicates(others: dict[str, Any]) -> list[str]:
    """What `benchmarks/duplicates.py` found: recall, precision, and what leaks over a split."""
    found = others.get("duplicates")
    if not found:
        return []
    agreement, leakage = found["agreement"], found["leakage"]
    ways = list(leakage)
    return [
        "",
        f"Near duplicates: {100 * agreement['recall']:.1f} % of the marked pairs lie in one "
        f"cluster; {100 * agreement['precision']:.1f} % of the pairs in clusters are marked.",
        "",
        "| validation songs that have in train, split by | " + " | ".join(ways) + " |",
        "|---|" + "---:|" * len(ways),
        *(
            f"| {what} | " + " | ".join(_share(leakage[way], key) for way in ways) + " |"
            for key, what in _LEAKS.items()
        ),
    ]


_LEAKS = {
    "exact": "an exact copy (transposed ones included)",
    "near": "a song of their cluster",
    "marked": "a song of their marked group",
}


def _share(leaks: dict[str, int], key: str) -> str:
    return f"{leaks[key]:,} ({100 * leaks[key] / leaks['validation_songs']:.1f} %)"


def _selection(others: dict[str, Any]) -> list[str]:
    """What `benchmarks/selection.py` found: whole files dropped, or tracks."""
    found = others.get("selection")
    if not found:
        return []
    lines = [
        "",
        f"| dropped below a gzip ratio, of {found['n_files']:,} files | bound | files kept "
        "| notes kept | voices kept | median ratio of what is kept |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in found["selections"]:
        shares = (row[f"{name}_share"] for name in ("files", "notes", "voices"))
        cells = " | ".join(f"{100 * share:.1f} %" for share in shares)
        what = {"file": "whole files", "track": "single tracks"}[row["filter"]]
        lines.append(
            f"| {what} | {row['min_gzip_ratio']:.2f} | {cells} | {row['median_gzip_ratio']:.2f} |"
        )
    return lines


def _tokens(others: dict[str, Any]) -> list[str]:
    """What `benchmarks/tokens.py` found, tokenizer by tokenizer."""
    found = others.get("tokens")
    if not found:
        return []
    lines = [
        "",
        "| tokenizer | vocabulary | characters a token, held out | tokens a note | unknown "
        "| songs that come back | MB encoded a CPU second |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in found["tokenizers"].items():
        come_back = f"{100 * row['round_trip_share']:.4g} %"
        lines.append(_tokenizer_row(name, row, come_back))
    lines += [_tokenizer_row(f"peer: {name}", row, "") for name, row in found["peers"].items()]
    return lines


def _tokenizer_row(name: str, row: dict[str, float], come_back: str) -> str:
    return (
        f"| {name} | {row['vocab_size']:,} | {row['chars_per_token']:.2f} "
        f"| {row['tokens_per_note']:.2f} | {100 * row['unknown_share']:.3g} % "
        f"| {come_back} | {row['encode_mb_per_second']:.1f} |"
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("readme", type=Path)
    arguments = parser.parse_args(argv)
    try:
        corpus = json.loads((arguments.results / "corpus.json").read_text("utf-8"))
        others = {
            name: json.loads(file.read_text("utf-8"))
            for name in ("duplicates", "selection", "tokens")
            if (file := arguments.results / f"{name}.json").exists()
        }
        with rc_context(RC):
            save_figure(draw_corpus(corpus), arguments.results / "figures", "corpus")
        text = fill(arguments.readme.read_text("utf-8"), corpus_table(corpus, others), "corpus")
        arguments.readme.write_text(text, "utf-8")
    except (ValueError, KeyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
