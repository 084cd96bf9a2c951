"""Scores: the notes, onsets and instruments of MusicXML files that the conversion keeps.

    python -m benchmarks.scores FOLDER_OR_ARCHIVE [--workers 2] [--out runs/benchmark_scores.json]
        [--results results]

The files are converted as `make convert` does. The notes of the resulting text are compared with
what music21 reads in the same files (score_truth.py), one to one, measures in the same order:

    f1           2 matched / (notes of both): same pitch and instrument, onset within 1/48 quarter
    f1_onsets    the same without regard to instruments
    kept         matched / notes of music21
    kept_graces  share of grace notes that come back before their note, within 1.25 quarters

The sums are over the notes of all files; `_least` are those of the worst file. Two voices of one
instrument on one pitch and onset count once, since a text has such a note once. Drums are left out:
music21 does not read which they are. The seconds are those of the conversion alone, per file and
process.

`orders` counts the files whose measures, with repeats and jumps, are played in the same order by
verovio, and by music21, which is asked up to 200 measures: above, it may take an hour.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import verovio

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.score_truth import read_truth
from data_prep.collections.sources import open_source
from data_prep.convert import convert_collection
from data_prep.dialect.abc_to_midi import perform
from data_prep.dialect.notation import TICKS_PER_QUARTER
from data_prep.dialect.tune_parser import parse_tune
from data_prep.importers.verovio_scores.repeats import played_order
from data_prep.importers.verovio_scores.score_file import read_score_file
from data_prep.importers.verovio_scores.signs import signs_of_musicxml
from data_prep.midi.limits import LIMITS
from data_prep.storage.stages import worker_pool
from scaling.reporting.blocks import fill_blocks

_GRACE_TICKS = 60
_MOST_MEASURES = 200
_LISTED = 10  # differences per file and side
Found = tuple[int, int, int]
"""Program, pitch and onset in ticks."""


@dataclass
class Comparison:
    """Counts of one file."""

    ours: int
    theirs: int
    matched: int
    matched_onsets: int
    both_onsets: int
    graces: int
    graces_found: int
    same_order: dict[str, bool]
    only_ours: list[Found]
    only_theirs: list[Found]


def compare(path: Path, abc: str) -> Comparison:
    """Compares the notes of a text with those of its score."""
    text, _ = read_score_file(path.read_bytes())
    order = played_order(signs_of_musicxml(ET.fromstring(text)), LIMITS)
    truth = read_truth(path, order, with_order=len(set(order)) <= _MOST_MEASURES)
    orders = {"verovio": _order_of_verovio(text), "music21": truth.order}
    theirs = {_place(each) for each in truth.notes if not each.is_grace}
    graces = {_place(each) for each in truth.notes if each.is_grace} - theirs
    ours = {*_notes_of(abc)}
    matched, only_ours, only_theirs = _match(ours, theirs)
    n_found = _match_graces(only_ours, graces)
    all_onsets = [{(0, *note[1:]) for note in notes} for notes in (ours, theirs)]
    return Comparison(
        ours=len(ours),
        theirs=len(theirs) + len(graces),
        matched=matched + n_found,
        matched_onsets=_match(*all_onsets)[0] + n_found,
        both_onsets=sum(map(len, all_onsets)) + len(graces),
        graces=len(graces),
        graces_found=n_found,
        same_order={name: found == order for name, found in orders.items() if found},
        only_ours=sorted(only_ours, key=lambda note: note[2]),
        only_theirs=sorted(only_theirs, key=lambda note: note[2]),
    )


def _order_of_verovio(text: str) -> list[int]:
    """Returns the places of the measures in the order in which verovio plays them."""
    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    toolkit.setOptions({"breaks": "none", "inputFrom": "xml"})
    toolkit.loadData(text)
    ids = re.findall(r'<measure [^>]*xml:id="([^"]+)"', toolkit.getMEI())
    place_of = {name: place for place, name in enumerate(ids)}
    times = toolkit.renderToTimemap({"includeMeasures": True})
    names = (entry["measureOn"] for entry in times if "measureOn" in entry)
    return [place_of[name.partition("-rend")[0]] for name in names]


def _place(note: Any) -> Found:
    return note.program, note.pitch, round(note.quarters * TICKS_PER_QUARTER)


def _notes_of(abc: str) -> list[Found]:
    played = perform(parse_tune(abc))
    return [
        (voice.program, pitch, onset)
        for voice, chords in zip(played.tune.voices, played.voices, strict=True)
        if voice.program is not None
        for onset, _, pitches in chords
        for pitch in pitches
    ]


def _match(ours: set[Found], theirs: set[Found]) -> tuple[int, set[Found], set[Found]]:
    """Matches notes with onsets a tick apart at most: their number, and those that are left."""
    left, missing = set(ours), set()
    for program, pitch, onset in sorted(theirs):
        near = ((program, pitch, onset + by) for by in (0, -1, 1))
        if found := next((note for note in near if note in left), None):
            left.remove(found)
        else:
            missing.add((program, pitch, onset))
    return len(theirs) - len(missing), left, missing


def _match_graces(left: set[Found], graces: set[Found]) -> int:
    """Takes the notes that are grace notes out of those that are left; returns their number."""
    n_found = 0
    for program, pitch, onset in sorted(graces):
        for by in range(_GRACE_TICKS):
            if (note := (program, pitch, onset - by)) in left:
                left.remove(note)
                n_found += 1
                break
    return n_found


# ---------------------------------------------------------------- command line


def _convert(source: Path, workers: int) -> tuple[dict[str, dict[str, Any]], float]:
    """Returns path -> row of the conversion, and its seconds per file and process."""
    with tempfile.TemporaryDirectory() as folder:
        found = open_source(str(source), Path(folder))
        start = time.monotonic()
        converted = convert_collection([found], Path(folder) / "1_abc", workers=workers)
        seconds = time.monotonic() - start
        rows = [row for shard in converted.shards for row in pq.read_table(shard).to_pylist()]
    return {row["path"]: row for row in rows}, seconds * workers / len(rows)


def _compare_all(
    source: Path, rows: dict[str, dict[str, Any]], workers: int
) -> dict[str, Comparison]:
    """Compares the rows of MusicXML files; path -> counts."""
    found: dict[str, Comparison] = {}
    with tempfile.TemporaryDirectory() as folder, worker_pool(workers) as pool:
        opened = open_source(str(source), Path(folder))
        jobs = []
        for number, (member, content) in enumerate(opened.read(opened.members())):
            row = rows[member.name]
            path = Path(folder, f"{number}{Path(member.name).suffix}")
            if row["abc"] and path.suffix in (".mxl", ".musicxml", ".xml"):
                path.write_bytes(content)
                jobs.append((member.name, pool.schedule(compare, args=[path, row["abc"]])))
        for name, job in jobs:
            found[name] = job.result()
    return found


def _summary(found: list[Comparison]) -> dict[str, float]:
    total = {
        field: sum(getattr(each, field) for each in found)
        for field in (
            *("ours", "theirs", "matched", "matched_onsets", "both_onsets"),
            *("graces", "graces_found"),
        )
    }
    both = total["ours"] + total["theirs"]
    return total | {
        "f1": 2 * total["matched"] / both,
        "f1_onsets": 2 * total["matched_onsets"] / total["both_onsets"],
        "kept": total["matched"] / total["theirs"],
        "kept_graces": total["graces_found"] / max(1, total["graces"]),
        "f1_least": min(2 * each.matched / (each.ours + each.theirs) for each in found),
        "kept_least": min(each.matched / each.theirs for each in found),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="folder or archive of MusicXML")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_scores.json"))
    parser.add_argument("--results", type=Path, help="write scores.json and update the table")
    options = parser.parse_args()
    rows, seconds = _convert(options.source, options.workers)
    dropped = {path: row["message"] for path, row in rows.items() if not row["abc"]}
    found = _compare_all(options.source, rows, options.workers)
    about = {"files": len(found), "dropped": dropped, "seconds_per_file": round(seconds, 3)}
    about |= {name: round(value, 5) for name, value in _summary([*found.values()]).items()}
    about["orders"] = {
        name: [sum(each.same_order.get(name, False) for each in found.values()), len(asked)]
        for name in ("verovio", "music21")
        if (asked := [each for each in found.values() if name in each.same_order])
    }
    files = {path: asdict(each) for path, each in found.items()}
    for path, each in files.items():
        for name in ("only_ours", "only_theirs"):
            each[name] = each[name][:_LISTED]
        print(f"{path}: f1 {2 * each['matched'] / (each['ours'] + each['theirs']):.4f}")
    print(json.dumps(about, indent=2))
    _write(options.out, about | {"rows": files})
    if options.results:
        _write(options.results / "scores.json", about)
        fill_blocks(options.results, ["scores"])


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
