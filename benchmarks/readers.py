"""How the independent readers handle the converter's text: abc2midi, abcjs and music21.

    python benchmarks/readers.py FOLDER_OR_ZIP [...] [--files 50] [--seed 0] [--max-voices 15]
        [--out runs/benchmark_readers.json]

Each sampled file is converted to the layout `voices`; every reader turns that text into a MIDI
file, and its notes are compared with those of our own reader (one-to-one matching and F1 as in
conversion.py). `on16` is by onset within a sixteenth, `on50` within 50 ms, `..i` by instrument too,
the others by pitch only. Agreement in the table is

    abc2midi   on16i; original_on16i is the same against the original file, without duplicate notes
    abcjs      on16; if the tempo changes, played_on16: abcjs writes no tempo changes but stretches
               lengths, and its file rounds each distance between two events, which accumulates, so
               the notes are used as its player gets them, in quarters of the first tempo
    music21    on16: it ignores programs and %%MIDI

The readers are the judges of evaluation/judging/judge_table.py, in their sandbox and within their
limits; a reader that is not installed is reported in one line.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.conversion import Notes, Tempos, first_tempo, matched, read_notes, sample
from benchmarks.midi_truth import TruthError
from data_prep.dialect.abc_to_midi import abc_to_midi
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.storage.explain import explain
from evaluation.judging.judge_process import Reader, ReaderFailedError
from evaluation.judging.judge_table import JUDGES, Answer
from evaluation.judging.judges import Jury

SIXTEENTH = ("quarters", 0.25)
FIFTY_MS = ("seconds", 0.05)
GATE = 0.98
GROUPS_SHOWN = 12
WITH_INSTRUMENTS = "abc2midi"


def read(reader: Reader, abc: str) -> Answer:
    """Returns a reader's answer, including `file`; `failure` if it gave none."""
    try:
        return reader.ask({"text": abc, "file": True})
    except ReaderFailedError as error:
        return {"failure": str(error)}


# ---------------------------------------------------------------- comparison


def f1(left: Notes, right: Notes, how: tuple[str, float], by_group: bool) -> float:
    """Returns 2 matched / (notes left + notes right), in [0, 1]."""
    both = len(left) + len(right)
    return 2 * float(matched(left, right, *how, by_group)[0]) / max(1, both)


def judge(name: str, answer: Answer, own_midi: bytes, original: Notes) -> dict[str, Any]:
    """Returns a reader's answer for the table: how well its MIDI agrees.

    Returns:
        `parses`; `writes_midi`: whether it wrote a readable MIDI file; if so, the figures named in
        the module docstring, including `agreement` (otherwise 0). `errors` and `warnings`: the
        first few messages, and their number. `timed_out`: if so, the text may be good or bad.
    """
    failure, n_errors = answer.get("failure", ""), answer.get("errors", 0)
    messages = answer.get("messages", [])
    said = [answer[kind] for kind in ("failure", "error") if answer.get(kind)]
    if not answer.get("parse", True) and not said:
        said = ["no music found in the text"]
    out: dict[str, Any] = {
        "parses": bool(answer.get("parse", "file" in answer)),
        "writes_midi": False,
        "agreement": 0.0,
        "timed_out": failure.startswith("no result"),
        "errors": [*messages[:n_errors], *said],
        "n_errors": n_errors + len(said),
        "warnings": messages[n_errors:],
        "n_warnings": answer.get("warnings", 0),
    }
    if "file" not in answer:
        return out
    try:
        notes, _ = read_notes(base64.b64decode(answer["file"]))
    except TruthError as error:
        out["errors"].append(f"its MIDI is damaged: {explain(error)}")
        return out | {"n_errors": out["n_errors"] + 1}
    own, own_tempos = read_notes(own_midi)
    out["writes_midi"] = True
    for figure, how in (("on16", SIXTEENTH), ("on50", FIFTY_MS)):
        out[figure] = f1(own, notes, how, by_group=False)
        if name == WITH_INSTRUMENTS:
            out[f"{figure}i"] = f1(own, notes, how, by_group=True)
    out["agreement"] = out["on16i"] if name == WITH_INSTRUMENTS else out["on16"]
    if name == WITH_INSTRUMENTS:
        out["original_on16i"] = f1(original.unique(), notes.unique(), SIXTEENTH, by_group=True)
    elif not JUDGES[name].follows_tempo:
        out["played_on16"] = _played_on16(answer["played"], own, own_tempos)
        if len(own_tempos) > 1:
            out["agreement"] = out["played_on16"]
    return out


def _played_on16(played: list[list[float]], own: Notes, own_tempos: Tempos) -> float:
    """F1 by onset within a sixteenth; played: (n, 2) quarters of the first tempo, and pitch."""
    quarters_a_second = 1e6 / first_tempo(own_tempos)
    onset, pitch = np.array(played, float).reshape(-1, 2).T
    times = np.stack([onset, onset], 1)  # their ends are not compared
    notes = Notes(np.zeros(len(onset), np.int64), pitch.astype(np.int64), times, times)
    stretched = Notes(own.group, own.pitch, own.seconds * quarters_a_second, own.seconds)
    return f1(stretched, notes, SIXTEENTH, by_group=False)


def measure_file(
    name: str, midi: bytes, readers: dict[str, Reader], max_voices: int
) -> dict[str, Any]:
    """Returns one file's row: reader -> verdict and figures, or the reason it was `skipped`."""
    row: dict[str, Any] = {"name": name}
    try:
        abc = midi_to_abc(midi, layout="voices")
    except ValueError as error:
        return row | {"skipped": "not converted", "reason": str(error)}
    row["n_voices"] = abc.count("\nV:")
    if row["n_voices"] > max_voices:
        return row | {"skipped": f"more than {max_voices} voices"}
    try:
        original, _ = read_notes(midi)
    except TruthError as error:
        return row | {"skipped": "no original to compare with", "reason": str(error)}
    own_midi = abc_to_midi(abc)
    own, own_tempos = read_notes(own_midi)
    row |= {"n_notes": len(own), "n_bytes": len(abc), "n_tempos": len(own_tempos)}
    for reader, process in readers.items():
        start = time.perf_counter()
        answer = read(process, abc)
        seconds = round(time.perf_counter() - start, 3)
        row[reader] = judge(reader, answer, own_midi, original) | {"seconds": seconds}
    return row


# ---------------------------------------------------------------- tables


def summary(verdicts: list[dict[str, Any]]) -> dict[str, float]:
    """Returns counts, and shares and means over the files on which the reader did not time out.

    A file for which it wrote no MIDI has agreement 0.
    """
    n_timed_out = sum(verdict["timed_out"] for verdict in verdicts)
    verdicts = [verdict for verdict in verdicts if not verdict["timed_out"]]
    if not verdicts:
        return {"files": 0, "timed_out_besides": n_timed_out}
    agreements = [verdict["agreement"] for verdict in verdicts]
    out = {
        "files": len(verdicts),
        "timed_out_besides": n_timed_out,
        "parses": mean(float(v["parses"]) for v in verdicts),
        "writes_midi": mean(float(v["writes_midi"]) for v in verdicts),
        "files_with_errors": sum(v["n_errors"] > 0 for v in verdicts),
        "error_lines": sum(v["n_errors"] for v in verdicts),
        "files_with_warnings": sum(v["n_warnings"] > 0 for v in verdicts),
        "agreement_mean": mean(agreements),
        "agreement_median": median(agreements),
        "agreement_lowest": min(agreements),
        f"agreement_share_at_least_{GATE}": mean(float(value >= GATE) for value in agreements),
        "seconds_a_file": mean(v["seconds"] for v in verdicts),
    }
    if any("original_on16i" in v for v in verdicts):
        out["original_on16i_mean"] = mean(v.get("original_on16i", 0.0) for v in verdicts)
    return out


def message_group(message: str) -> str:
    """Returns a message without the parts that vary by text: numbers and music elements."""
    if message.startswith("Music Line"):  # place: problem: element
        message = ": ".join(message.split(": ")[:2])
    return re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?", "N", message)[:140]


def grouped(rows: list[dict[str, Any]], reader: str, kind: str) -> list[dict[str, Any]]:
    """Returns the groups of a reader's `errors` or `warnings`, most files first."""
    files: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for group in sorted({message_group(text) for text in row[reader][kind]}):
            files[group].append(row["name"])
    order = sorted(files.items(), key=lambda item: (-len(item[1]), item[0]))
    return [{"message": group, "files": len(names), "names": names} for group, names in order]


def print_tables(result: dict[str, Any]) -> None:
    """Prints the table of readers, and their messages by kind."""
    print(
        f"seed {result['seed']}: {result['drawn']} files drawn, {result['read']} given to readers"
    )
    for reason, count in result["skipped"].items():
        print(f"  {count} skipped: {reason}")
    readers = result["summary"]
    columns = list(dict.fromkeys(name for figures in readers.values() for name in figures))
    print(f"{'':34}" + "".join(f"{reader:>12}" for reader in readers))
    for column in columns:
        cells = [figures.get(column) for figures in readers.values()]
        texts = ["" if c is None else f"{c:.4f}" if isinstance(c, float) else str(c) for c in cells]
        print(f"{column:34}" + "".join(f"{text:>12}" for text in texts))
    for reader, reason in result["missing"].items():
        print(f"{reader}: NOT MEASURED, {reason}")
    for kind, by_reader in result["messages"].items():
        for reader, groups in by_reader.items():
            for group in groups[:GROUPS_SHOWN]:
                example = group["names"][0]
                print(f"{reader} {kind}, {group['files']} files: {group['message']} ({example})")
            if len(groups) > GROUPS_SHOWN:
                print(f"{reader} {kind}: {len(groups) - GROUPS_SHOWN} more kinds in the JSON")


def collect(
    options: argparse.Namespace, readers: dict[str, Reader], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Returns the result that is written and printed."""
    read = [row for row in rows if "skipped" not in row]
    there = {name: reader for name, reader in readers.items() if not reader.missing}
    shown = there if read else {}
    skipped = [row["skipped"] for row in rows if "skipped" in row]
    return {
        "seed": options.seed,
        "drawn": len(rows),
        "read": len(read),
        "skipped": {reason: skipped.count(reason) for reason in sorted(set(skipped))},
        "versions": {name: reader.version for name, reader in there.items()},
        "missing": {name: r.missing for name, r in readers.items() if r.missing},
        "summary": {name: summary([row[name] for row in read]) for name in shown},
        "messages": {
            kind: {name: grouped(read, name, kind) for name in shown}
            for kind in ("errors", "warnings")
        },
        "files": rows,
    }


def measure(options: argparse.Namespace, readers: dict[str, Reader]) -> list[dict[str, Any]]:
    """Returns a row for each file of the sample, in its order."""
    rows = []
    for source, member in tqdm(sample(options.sources, options.files, options.seed), unit="file"):
        ((_, midi),) = source.read([member])
        if isinstance(midi, bytes):
            rows.append(measure_file(member.name, midi, readers, options.max_voices))
        else:
            rows.append({"name": member.name, "skipped": "not read", "reason": str(midi)})
    return rows


def parse_options() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--files", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-voices", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_readers.json"))
    return parser.parse_args()


def main() -> None:
    """Print tables and write JSON."""
    options = parse_options()
    with Jury() as jury:
        there = {name: r for name, r in jury.readers.items() if not r.missing}
        result = collect(options, jury.readers, measure(options, there))
    print_tables(result)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"-> {options.out}")


if __name__ == "__main__":
    main()
