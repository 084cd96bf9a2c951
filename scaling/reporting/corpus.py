"""results/corpus.json and related files -> the tables of the corpus.

The benchmark files beside corpus.json (`data_prep.describe`) are optional: duplicates.json,
selection.json, tokens.json.
"""

from typing import Any

from ..writing.markdown import markdown_table


def corpus_table(corpus: dict[str, Any], others: dict[str, Any]) -> list[str]:
    """Lines of Markdown: what went in, what came out, and at what cost."""
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
        ("songs with a near duplicate", f"{last['n_songs_with_near_duplicates']:,}"),
        *((f"{name}, songs", f"{split['n_songs']:,}") for name, split in splits.items()),
        ("training tokens", f"{corpus['5_tokens']['splits']['train']['n_tokens']:,}"),
        ("files per second, conversion only", f"{whole['files_per_second_conversion']:,.0f}"),
        ("files per second, all stages", f"{whole['files_per_second']:,.1f}"),
        ("peak memory, all processes", f"{whole['peak_memory_mb'] / 1000:.2f} GB"),
        (
            f"minutes for the {whole['n_files_lakh']:,} files of Lakh MIDI, extrapolated",
            f"{whole['minutes_lakh_extrapolated']:,.0f}",
        ),
    ]
    tables = {"duplicates": _duplicates, "selection": _selection, "tokens": _tokens}
    lines = markdown_table(("development corpus", ""), rows)
    for name, table in tables.items():
        lines += table(others[name]) if others.get(name) else []
    return lines


def _duplicates(found: dict[str, Any]) -> list[str]:
    """What `benchmarks/duplicates.py` found: recall, precision, and leakage across a split."""
    agreement, leakage = found["agreement"], found["leakage"]
    header = ["validation songs with this in train, split by", *leakage]
    rows = []
    for key, what in _LEAKS.items():
        shares = {way: 100 * of[key] / of["validation_songs"] for way, of in leakage.items()}
        rows.append((what, *(f"{leakage[way][key]:,} ({shares[way]:.1f} %)" for way in leakage)))
    return [
        "",
        f"Near duplicates: {100 * agreement['recall']:.1f} % of the marked pairs share a "
        f"cluster; {100 * agreement['precision']:.1f} % of the pairs in clusters are marked.",
        *("", *markdown_table(header, rows)),
    ]


_LEAKS = {
    "exact": "an exact copy (including transposed ones)",
    "near": "a song in their cluster",
    "marked": "a song in their marked group",
}


def _selection(found: dict[str, Any]) -> list[str]:
    """What `benchmarks/selection.py` found when dropping whole files, or single tracks."""
    header = (
        *(f"dropped below a gzip ratio, of {found['n_files']:,} files", "threshold", "files kept"),
        *("notes kept", "voices kept", "median ratio of kept items"),
    )
    rows = []
    for row in found["selections"]:
        shares = (row[f"{name}_share"] for name in ("files", "notes", "voices"))
        cells = (f"{100 * share:.1f} %" for share in shares)
        what = {"file": "whole files", "track": "single tracks"}[row["filter"]]
        bound, median = (f"{row[f'{name}_gzip_ratio']:.2f}" for name in ("min", "median"))
        rows.append((what, bound, *cells, median))
    return ["", *markdown_table(header, rows)]


def _tokens(found: dict[str, Any]) -> list[str]:
    """What `benchmarks/tokens.py` found, by tokenizer."""
    header = (
        *("tokenizer", "vocabulary", "characters per token, held out", "tokens per note"),
        *("unknown", "round-trip rate", "MB encoded per CPU second"),
    )
    rows = []
    for peer, of in (("", found["tokenizers"]), ("peer: ", found["peers"])):
        for name, row in of.items():
            counts = (row["chars_per_token"], row["tokens_per_note"])
            unknown = f"{100 * row['unknown_share']:.3g} %"
            come_back = "" if peer else f"{100 * row['round_trip_share']:.4g} %"
            speed = f"{row['encode_mb_per_second']:.1f}"
            cells = (*(f"{count:.2f}" for count in counts), unknown, come_back, speed)
            rows.append((f"{peer}{name}", f"{row['vocab_size']:,}", *cells))
    return ["", *markdown_table(header, rows)]
