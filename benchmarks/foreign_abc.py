"""ABC of others: our importer, abcjs and music21 beside abc2midi, on the books in music21.

    python -m benchmarks.foreign_abc [--every 1] [--music21-every 20]
        [--out runs/benchmark_foreign_abc.json] [--results results]

The books are the Essen folk songs, O'Neill's Music of Ireland and Ryan's Mammoth Collection, as
text. abc2midi's MIDI file is the reference: a reader plays a tune the `same` if it has the same
pitches at the same times, within a twentieth of a quarter, repeats played. `f1` is 2 matched /
(notes of both), the mean over tunes. `agreed` are the tunes that abcjs plays as abc2midi does, and
`same_as_both` the share of these that our importer plays so too.

`bars` is the share of tunes whose bars begin where the text has them, see `abc2midi_truth`.

Our importer reads the file as it is. abc2midi is told to leave out chord symbols, and gets
`%%MIDI chordattack 0`; the others get the tunes without chord symbols and annotations. music21 was
the importer's predecessor, by its MIDI file; it is slow, hence a sample. A reader that is not
installed is reported.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.abc2midi_truth import (
    TOLERANCE_QUARTERS,
    Notes,
    abc2midi,
    are_bars,
    written_bars,
)
from data_prep.dialect.abc_to_midi import perform
from data_prep.dialect.notation import TICKS_PER_QUARTER
from data_prep.importers.abc_book import split_book
from data_prep.importers.foreign_abc import read_book
from evaluation.judging.judge_process import Reader, ReaderFailedError
from evaluation.judging.judge_table import JUDGES, find_abc2midi
from scaling.reporting.blocks import fill_blocks

BOOKS = ("essenFolksong", "oneills1850", "ryansMammoth")
_QUOTED = re.compile(r'"[^"\n]*"')


# ---------------------------------------------------------------- the readers


def judged(reader: Reader, text: str) -> Notes:
    """Returns what another reader plays; [] if nothing."""
    try:
        answer = reader.ask({"text": text})
    except ReaderFailedError:
        return []
    if not JUDGES[reader.name].follows_tempo:
        return [(onset, pitch) for onset, pitch in answer.get("played", [])]
    return [(onset, pitch) for onset, _, pitch in answer.get("notes", [])]


def for_others(text: str) -> str:
    """Returns a tune without chord symbols and annotations."""
    lines = text.split("\n")
    return "\n".join(
        line if re.match(r"[A-Za-z]:", line) else _QUOTED.sub("", line) for line in lines
    )


# ---------------------------------------------------------------- comparison


def matched(left: Notes, right: Notes) -> int:
    """Returns how many notes are in both: equal pitch, onsets within the tolerance."""
    found = 0
    sides: list[dict[int, list[float]]] = []
    for notes in (left, right):
        by_pitch: dict[int, list[float]] = defaultdict(list)
        for onset, pitch in sorted(notes):
            by_pitch[pitch].append(onset)
        sides.append(by_pitch)
    for pitch, onsets in sides[0].items():
        others, place = sides[1].get(pitch, []), 0
        for onset in onsets:
            while place < len(others) and others[place] < onset - TOLERANCE_QUARTERS:
                place += 1
            if place < len(others) and others[place] <= onset + TOLERANCE_QUARTERS:
                found += 1
                place += 1
    return found


def compared(notes: Notes, reference: Notes) -> dict[str, Any]:
    """Returns `same` and `f1`."""
    n_both = matched(notes, reference)
    f1 = 2 * n_both / max(1, len(notes) + len(reference))
    return {"same": len(notes) == len(reference) == n_both, "f1": f1}


def tunes_of(folder: Path, every: int) -> Iterator[tuple[str, bytes]]:
    """Yields name and text of every so many tunes of a book."""
    number = 0
    for path in sorted(folder.glob("*.abc")):
        for place, tune in enumerate(split_book(path.read_bytes())[1], start=1):
            if number % every == 0:
                yield f"{folder.name}/{path.name}#{place}", tune.text.encode()
            number += 1


def measure(name: str, content: bytes, program: str, readers: list[Reader]) -> dict[str, Any]:
    """Returns the row of a tune: per reader `same` and `f1`; `bars`; seconds of our importer."""
    row: dict[str, Any] = {"name": name}
    start = time.process_time()
    (found,) = read_book(content)
    row["seconds"] = time.process_time() - start
    row["n_warnings"] = len(found.warnings)
    text = content.decode()
    reference = abc2midi(program, text)
    if reference is None:
        return row | {"skipped": "abc2midi writes no MIDI", "read": found.tune is not None}
    own: Notes = []
    if found.tune is None:
        row["error"] = str(found.error)
    else:
        played = perform(found.tune)
        own = [
            (onset / TICKS_PER_QUARTER, pitch)
            for voice in played.voices
            for onset, _, pitches in voice
            for pitch in pitches
        ]
        bars = [tick / TICKS_PER_QUARTER for tick in played.starts]
        written = written_bars(program, text)
        row["bars"] = written and are_bars(bars, written, max(own)[0])
    row["ours"] = compared(own, reference)
    for reader in readers:
        notes = judged(reader, for_others(text))
        row[reader.name] = compared(notes, reference)
        if reader.name == "abcjs" and row["abcjs"]["same"]:
            row["same_as_both"] = row["ours"]["same"] and compared(own, notes)["same"]
    return row


# ---------------------------------------------------------------- results


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns counts, and shares over the tunes that each reader was given."""
    rows = [row for row in rows if "skipped" not in row]
    out: dict[str, Any] = {"tunes": len(rows)}
    for reader in ("ours", *JUDGES):
        given = [row[reader] for row in rows if reader in row]
        if given:
            out[reader] = {
                "tunes": len(given),
                "same": mean(float(each["same"]) for each in given),
                "f1": mean(each["f1"] for each in given),
            }
    both = [row["same_as_both"] for row in rows if "same_as_both" in row]
    barred = [row["bars"] for row in rows if row.get("bars") is not None]
    out["agreed"] = len(both)
    out["same_as_both"] = mean(map(float, both)) if both else None
    out["bars"] = mean(map(float, barred)) if barred else None
    out["tunes_per_cpu_second"] = len(rows) / sum(row["seconds"] for row in rows)
    return out


def print_table(result: dict[str, Any]) -> None:
    """Prints a line per book and reader."""
    print(f"abc2midi {result['abc2midi']}; {result['skipped']} tunes that it does not play")
    print(f"{'':32}{'tunes':>8}{'same':>9}{'f1':>9}")
    for book, figures in result["summary"].items():
        for reader in ("ours", *JUDGES):
            if row := figures.get(reader):
                name = f"{book}, {reader}"
                print(f"{name:32}{row['tunes']:8}{row['same']:9.4f}{row['f1']:9.4f}")
        for name in ("bars", "agreed", "same_as_both", "tunes_per_cpu_second"):
            if figures[name] is not None:
                print(f"    {name} {figures[name]:.4f}".removesuffix(".0000"))
    for reader, reason in result["missing"].items():
        print(f"{reader}: NOT MEASURED, {reason}")


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="every so many tunes")
    parser.add_argument("--music21-every", type=int, default=20, help="of these, for music21")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_foreign_abc.json"))
    parser.add_argument("--results", type=Path, help="write foreign_abc.json and fill the tables")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Print a table and write JSON."""
    import music21  # here, because it takes a second

    options = parse_options(arguments)
    program = find_abc2midi()
    if program is None:
        raise SystemExit("abc2midi is not installed: apt install abcmidi")
    readers = {name: Reader(JUDGES[name]) for name in ("abcjs", "music21")}
    there = [reader for reader in readers.values() if not reader.missing]
    rows: dict[str, list[dict[str, Any]]] = {book: [] for book in BOOKS}
    for book in BOOKS:
        tunes = tunes_of(Path(music21.__file__).parent / "corpus" / book, options.every)
        for number, (name, content) in enumerate(tqdm(tunes, desc=book, unit="tune")):
            asked = [r for r in there if r.name != "music21" or number % options.music21_every == 0]
            rows[book].append(measure(name, content, program, asked))
    for reader in there:
        reader.close()
    every = [row for each in rows.values() for row in each]
    version = subprocess.run([program, "-ver"], capture_output=True, text=True, check=False).stdout
    result = {
        "abc2midi": version.strip().removesuffix(" abc2midi"),
        "versions": {reader.name: reader.version for reader in there},
        "missing": {name: r.missing for name, r in readers.items() if r.missing},
        "every": options.every,
        "skipped": sum("skipped" in row for row in every),
        "summary": {"all": summary(every)} | {book: summary(each) for book, each in rows.items()},
        "differ": [row["name"] for row in every if "ours" in row and not row["ours"]["same"]],
        "bars_differ": [row["name"] for row in every if row.get("bars") is False],
    }
    print_table(result)
    write(options.out, result | {"rows": every})
    if options.results:
        write(options.results / "foreign_abc.json", result)
        fill_blocks(options.results, ["foreign_abc"])


def write(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"-> {path}")


if __name__ == "__main__":
    main()
