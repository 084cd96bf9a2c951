"""Benchmark files in results/ -> tables of pages in docs/."""

from typing import Any

from ..writing.markdown import markdown_table
from ..writing.wording import quantity

CONVERSION_ROWS = {
    "uu_on16i": ("notes recovered (F1, onset within a sixteenth, right instrument)", "{:.4f}"),
    "uu_on16i_share_at_least_0.98": ("files with at least 98 % of them", "{:.1%}"),
    "raw_on16i": ("the same, counting doubled notes", "{:.4f}"),
    "uu_on64i": ("onset within a sixty-fourth", "{:.4f}"),
    "uu_on50i": ("onset within 50 ms", "{:.4f}"),
    "uu_off16i": ("onset and release", "{:.4f}"),
    "present": ("notes present, on any instrument", "{:.4f}"),
    "present_least": ("the same, in the worst file", "{:.3f}"),
    "instrument": ("of these, on the right instrument", "{:.4f}"),
    "drums": ("drums in the drum voice", "{:.4f}"),
    "symusic_on16i": ("the first line, with symusic's reading of the file as reference", "{:.4f}"),
    "programs": ("instruments kept", "{:.4f}"),
    "tempo_ok": ("first tempo within 1 %", "{:.1%}"),
    "duration_error": ("error of the duration", "{:.2%}"),
    "files_with_abc_errors": ("files in which abc2midi finds errors", "{:.0f}"),
    "bytes_per_note": ("bytes per note, median file", "{:.2f}"),
    "files_per_cpu_second": ("files per second on one core", "{:.0f}"),
    "notes_per_cpu_second": ("notes per second on one core", "{:,.0f}"),
}


def conversion_table(about: dict[str, Any]) -> list[str]:
    """conversion.json: one row per measure, one column per converter."""
    converters = list(about["summary"])
    rows = []
    for column, (label, pattern) in CONVERSION_ROWS.items():
        cells = [about["summary"][name].get(column) for name in converters]
        rows.append((label, *("" if cell is None else pattern.format(cell) for cell in cells)))
    return markdown_table([f"{about['files']} files, seed {about['seed']}", *converters], rows)


BOOKS = {
    "all": "all",
    "essenFolksong": "Essen folk songs",
    "oneills1850": "O'Neill's Music of Ireland",
    "ryansMammoth": "Ryan's Mammoth Collection",
}


def foreign_abc_table(about: dict[str, Any]) -> list[str]:
    """foreign_abc.json: one row per book; shares of tunes that are played as by abc2midi."""
    rows = []
    for book, title in BOOKS.items():
        found = about["summary"][book]
        shares = [found.get(reader, {}).get("same") for reader in ("ours", "abcjs", "music21")]
        shares += [found["same_as_both"], found["bars"]]
        cells = ("" if share is None else f"{share:.2%}" for share in shares)
        speed = f"{found['tunes_per_cpu_second']:.0f}"
        rows.append((title, f"{found['tunes']:,}", *cells, speed))
    header = (
        *("book", "tunes", "ours", "abcjs", "music21", "ours, where abcjs agrees"),
        *("bars as written", "tunes per second on one core"),
    )
    return markdown_table(header, rows)


def scores_table(about: dict[str, Any]) -> list[str]:
    """scores.json: one row per measure."""
    orders = about["orders"]
    rows = [
        ("notes of music21", f"{about['theirs']:,}"),
        ("the same notes: pitch, onset, instrument (F1)", f"{about['f1']:.4f}"),
        ("the same, in the worst file", f"{about['f1_least']:.4f}"),
        ("notes of music21 that are kept", f"{about['kept']:.4f}"),
        ("grace notes that are kept", f"{about['kept_graces']:.4f}"),
        *(
            (f"files with the measures in the order of {name}", f"{same} of {asked}")
            for name, (same, asked) in orders.items()
        ),
        ("seconds per file and process", f"{about['seconds_per_file']:.1f}"),
    ]
    return markdown_table([f"{about['files']} scores", "ours"], rows)


def sampling_table(result: dict[str, Any]) -> list[str]:
    """sampling.json: one row per case and family."""
    rows = []
    for case in result["cases"]:
        best = {name: min(times) for name, times in case["cpu_milliseconds_a_step"].items()}
        for family, ratio in case["speed_ratio_to_nanogpt"].items():
            times = (best[family], best[f"{family}_library"], best["nanogpt"])
            cells = (family, *(f"{value:.2f}" for value in times))
            cells += (f"{case['bound_milliseconds'][family]:.2f}",)
            speedup = f"{ratio['of_bests']:.1f} ({ratio['lowest']:.1f} to {ratio['highest']:.1f})"
            rows.append((f"{case['context']:,}, {case['batch_size']}", *cells, speedup))
    header = (
        *("tokens of context, batch", "family", "ours, CPU ms per step", "the library's loop"),
        *("nanoGPT", "bound of memory", "speedup over nanoGPT (rounds)"),
    )
    return markdown_table(header, rows, left=2)


def training_speed_table(result: dict[str, Any]) -> list[str]:
    """training_speed.json: one row per size, precision and number of threads."""
    rows = []
    for case in result["cases"]:
        speed, against = case["tokens_per_second"], case["speed_ratio_to_nanogpt"]
        share = case["share_of_matmul_peak"]["full"]
        rows.append(
            (
                f"{case['size']}, {case.get('precision', 'fp32')}, {case['n_threads']}",
                *(f"{speed[name]:,.0f}" for name in ("ours", "nanogpt")),
                quantity(against["median"], (against["low"], against["high"]), ".3f"),
                *(f"{share[name]:.0%}" for name in ("ours", "nanogpt")),
                f"{case['loading_share_of_time']['ours']:.2%}",
            )
        )
    header = (
        *("size, precision, threads", "ours, tokens/s", "nanoGPT", "ratio [95 % interval]"),
        *("share of the matrix-multiply peak: ours", "nanoGPT", "waiting for data"),
    )
    return markdown_table(header, rows)


def lark_gaps_table(result: dict[str, Any]) -> list[str]:
    """lark_masks.json: one row per rule that grammar.lark does not hold."""
    counts: dict[str, int] = {}
    for row in result["masks"]:
        for name, count in row["causes"].items():
            counts[name] = counts.get(name, 0) + count
    total = f"masks that differ, of {result['prefixes']:,}"
    # a rule about the whole tune is in no mask: the automaton has no such limit either
    rows = [
        (gap["name"], gap["about"], f"{counts.get(gap['name'], 0):,}" if gap["in_masks"] else "")
        for gap in result["not_covered"]
    ]
    return markdown_table(["case", "what it accepts", total], rows)


def lark_masks_table(result: dict[str, Any]) -> list[str]:
    """lark_masks.json: one row per tokenizer and source of beginnings."""
    rows = []
    for row in result["masks"]:
        rows.append(
            (
                f"{row['tokenizer']}, {row['vocab_size']:,} tokens",
                row["source"],
                f"{row['prefixes']:,}",
                f"{row['differing'] / row['prefixes']:.2%}",
                f"{row['gives_up_with_default_limits'] / row['prefixes']:.1%}",
            )
        )
    share = result["differing"] / result["prefixes"]
    rows.append(("all", "", f"{result['prefixes']:,}", f"{share:.2%}", ""))
    header = ("tokenizer", "beginnings of", "masks", "differ", "beyond the limits of engines")
    return markdown_table(header, rows)


def lark_samples_table(result: dict[str, Any]) -> list[str]:
    """lark_samples.json: how many tunes ended, and what those that are not valid break."""
    ended, valid = result["ended"], result["valid3"]
    rows = [
        ("tunes that ended", f"{ended:,} of {ended + result['not_ended']:,}"),
        ("of these, read by our parser", f"{result['read_by_our_parser']:,}"),
        ("valid, as the three judges have it", f"{valid:,}"),
        ("not valid, though they break no rule named below", f"{len(result['unexplained']):,}"),
    ]
    broken = result["tunes_that_break"].items()
    rows += [(f"tunes that break: {name}", f"{count:,}") for name, count in broken]
    return markdown_table(["tunes of " + result["model"].rpartition("/")[2], ""], rows)


FOLDERS = {"gpt": "GPT", "lstm": "LSTM", "stock": "stock GPT", "llama": "Llama"}


def clients_table(result: dict[str, Any]) -> list[str]:
    """clients.json: one row per program and what it found in our published folders."""
    rows = []
    for client, found in result["table"].items():
        texts: dict[str, list[str]] = {}  # what was found -> the folders
        for folder, row in found.items():
            verdict = "" if row["ok"] else "fails: "
            texts.setdefault(verdict + row["found"], []).append(FOLDERS[folder])
        for text, folders in texts.items():
            rows.append((client, ", ".join(folders), text.replace("|", "\\|")))
    return markdown_table(["program", "folder", "found"], rows, left=3)
