"""Round trip MIDI -> ABC -> MIDI: how much of the music survives, compared with midi2abc.

    python benchmarks/conversion.py FOLDER_OR_ZIP [...] [--files 500] [--seed 0] [--workers 2]

A note is (group, pitch, onset, offset); its group is `drum` or its General MIDI program. Notes are
matched one to one within each (group, pitch), with onsets within a tolerance, as many as possible.
F1 is 2 matched / (notes of the original + notes that came back), per file, averaged over files.

    on16   onset within a sixteenth (0.25 quarter), groups ignored    on16i  the same, by group
    on64i  within 0.0625 quarter: the grid    on50i  within 50 ms: the tempo map too
    off16i and off50i: the offset as well, within the tolerance or 20 % of the note's length
    present     share of the original's notes that came back with any instrument (on16)
    instrument  share of these with the right instrument; drums: the same for drums alone

A file's notes are read event by event with mido (`midi_truth.py`), which shares nothing with the
converter. `symusic_on16i` is measured against symusic, on which the converter was once based: it
does not carry a channel's program over to other tracks, and drops notes without a note-off.

Our text is measured in the layout `bars`, read by our own reader, and in `voices`, read by
abc2midi, which also reads the texts of midi2abc and, if it is installed, lytk. Speeds are in CPU
time on one core, per file; for midi2abc, CPU time of its process.

`raw` counts all notes; `u` removes duplicate notes (same group, pitch, onset to 1/24 quarter) from
the original; `uu` removes them from both sides, which is fair to all and decides the comparison.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import symusic
from pebble import ProcessExpired
from symusic import Score

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.midi_truth import DRUMS, TruthError, read_truth
from data_prep.collections.sources import Source, open_source
from data_prep.dialect.abc_to_midi import abc_to_midi
from data_prep.dialect.tune import print_tune
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.storage.stages import worker_pool
from scaling.reporting.blocks import fill_blocks

BINARIES = Path(symusic.__file__).parent / "bin"
TIMEOUT_SECONDS = 60
MIDI2ABC_FLAGS = {"midi2abc": [], "midi2abc -sr 2": ["-sr", "2"]}
TOLERANCES = {"16": ("quarters", 0.25), "64": ("quarters", 0.0625), "50": ("seconds", 0.05)}
GATE = 0.98


@dataclass
class Notes:
    """Notes of a file: (n,) arrays; the times are (n, 2), onset and offset."""

    group: np.ndarray
    pitch: np.ndarray
    quarters: np.ndarray
    seconds: np.ndarray

    def __len__(self) -> int:
        return len(self.pitch)

    def unique(self) -> Notes:
        """Returns the notes without duplicates of group, pitch and onset (to 1/24 quarter)."""
        slots = np.round(self.quarters[:, 0] * 24).astype(np.int64)
        _, first = np.unique(np.stack([self.group, self.pitch, slots]), axis=1, return_index=True)
        return self.of(np.sort(first))

    def of(self, chosen: np.ndarray) -> Notes:
        """Returns some of the notes."""
        return Notes(*(part[chosen] for part in vars(self).values()))


Tempos = list[tuple[int, int]]  # (tick, microseconds per quarter note)


def read_notes(midi: bytes) -> tuple[Notes, Tempos]:
    """Reads a MIDI file's notes and tempos.

    Raises:
        TruthError: If mido cannot read it.
    """
    truth = read_truth(midi)
    rows = [(note.group, note.pitch, note.onset, note.offset) for note in truth.notes]
    table = np.array(rows, np.int64).reshape(-1, 4)
    clock = np.array(truth.seconds(table[:, 2:].ravel().tolist())).reshape(-1, 2)
    quarters = table[:, 2:] / truth.ticks_per_quarter
    return Notes(table[:, 0], table[:, 1], quarters, clock), truth.tempos


def first_tempo(tempos: Tempos) -> int:
    """Returns the tempo at the start of the music: of several at time 0, the last one applies."""
    at_start = [mspq for tick, mspq in tempos if tick == 0]
    return at_start[-1] if at_start else 500_000


def read_by_symusic(midi: bytes) -> Notes | None:
    """Reads the notes with symusic, without seconds; None if it cannot read the file."""
    try:
        score = Score.from_midi(midi, sanitize_data=True)
    except RuntimeError:
        return None
    rows = [np.empty((0, 4))]
    for track in score.tracks:
        notes = track.notes.numpy()
        onset = notes["time"] / score.tpq
        group = np.full(len(onset), DRUMS if track.is_drum else track.program)
        rows.append(
            np.stack([group, notes["pitch"], onset, onset + notes["duration"] / score.tpq], 1)
        )
    table = np.concatenate(rows)
    group, pitch = table[:, :2].astype(np.int64).T
    return Notes(group, pitch, table[:, 2:], np.zeros((len(table), 2)))


def matched(ours: Notes, theirs: Notes, unit: str, tolerance: float, by_group: bool) -> np.ndarray:
    """Returns the number of matched notes, and of those whose offsets match too: (2,)."""
    lists: dict[tuple[int, int], tuple[list[tuple], list[tuple]]] = defaultdict(lambda: ([], []))
    for side, notes in enumerate((ours, theirs)):
        groups = notes.group if by_group else np.zeros_like(notes.group)
        times = getattr(notes, unit)
        keys = zip(groups.tolist(), notes.pitch.tolist(), strict=True)
        for key, (onset, offset) in zip(keys, times.tolist(), strict=True):
            lists[key][side].append((onset, offset))
    total = np.zeros(2, np.int64)
    for left, right in lists.values():
        left.sort()
        right.sort()
        i = j = 0
        while i < len(left) and j < len(right):
            difference = left[i][0] - right[j][0]
            if abs(difference) <= tolerance + 1e-9:
                allowed = max(tolerance, 0.2 * (left[i][1] - left[i][0])) + 1e-9
                total += (1, abs(left[i][1] - right[j][1]) <= allowed)
                i, j = i + 1, j + 1
            elif difference < 0:
                i += 1
            else:
                j += 1
    return total


def compare(midi: bytes, back: bytes) -> dict[str, float]:
    """Returns all figures of one file."""
    (notes, tempos), (notes_back, tempos_back) = read_notes(midi), read_notes(back)
    figures: dict[str, float] = {}
    sides = {
        "raw": (notes, notes_back),
        "u": (notes.unique(), notes_back),
        "uu": (notes.unique(), notes_back.unique()),
    }
    for label, (left, right) in sides.items():
        size = max(1, len(left) + len(right))
        for name, (unit, tolerance) in TOLERANCES.items():
            onset, offset = matched(left, right, unit, tolerance, by_group=True)
            figures[f"{label}_on{name}i"] = 2 * onset / size
            figures[f"{label}_off{name}i"] = 2 * offset / size
        figures[f"{label}_on16"] = 2 * matched(left, right, "quarters", 0.25, False)[0] / size
    unique = sides["uu"]
    figures |= _shares(*sides["u"])
    if (other := read_by_symusic(midi)) is not None and len(other):
        other = other.unique()
        both = 2 * matched(other, unique[1], *TOLERANCES["16"], by_group=True)[0]
        figures["symusic_on16i"] = both / (len(other) + len(unique[1]))
    groups, groups_back = set(notes.group.tolist()), set(notes_back.group.tolist())
    figures["programs"] = len(groups & groups_back) / len(groups | groups_back)
    figures["tempo_ok"] = float(abs(first_tempo(tempos) / first_tempo(tempos_back) - 1) <= 0.01)
    end, end_back = notes.seconds[:, 1].max(), notes_back.seconds[:, 1].max(initial=0)
    figures["duration_error"] = abs(end - end_back) / end
    figures["n_ratio"] = len(notes_back) / len(notes)
    figures["raw_ceiling"] = 2 * len(sides["uu"][0]) / (len(notes) + len(sides["uu"][0]))
    return {name: float(value) for name, value in figures.items()}


def _shares(notes: Notes, back: Notes) -> dict[str, float]:
    """Returns the shares of notes present, with the right instrument, and of drums kept as drums.

    Instruments and drums are shares of the notes present; drums is 1 if there are none to compare.
    """
    present, right = (
        int(matched(notes, back, *TOLERANCES["16"], by_group)[0]) for by_group in (False, True)
    )
    shares = {"present": present / max(1, len(notes)), "instrument": right / max(1, present)}
    drums, drums_back = (side.of(side.group == DRUMS) for side in (notes, back))
    found = int(matched(drums, back, *TOLERANCES["16"], False)[0])
    right = int(matched(drums, drums_back, *TOLERANCES["16"], False)[0])
    return shares | {"drums": right / found if found else 1.0}


def run_tool(tool: str, *arguments: str | Path) -> str:
    """Runs a program of abcmidi and returns all of its output."""
    binary = shutil.which(tool) or BINARIES / tool  # Debian's, if installed
    done = subprocess.run(
        [binary, *arguments], capture_output=True, timeout=30, check=False, errors="replace"
    )
    return done.stdout + done.stderr


def by_abc2midi(abc: str) -> tuple[bytes | None, list[str]]:
    """Returns the MIDI that abc2midi writes for a text, or None, and its messages."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "tune.abc"), Path(folder, "tune.mid")
        source.write_text(abc, "utf-8")
        messages = run_tool("abc2midi", source, "-o", target).splitlines()
        return target.read_bytes() if target.exists() else None, messages


def by_midi2abc(midi: bytes, flags: list[str]) -> tuple[str, float]:
    """Returns midi2abc's text, and the CPU seconds of its process."""
    before = _child_seconds()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "tune.mid"), Path(folder, "tune.abc")
        source.write_bytes(midi)
        run_tool("midi2abc", source, "-o", target, *flags)
        return target.read_text("utf-8", "replace"), _child_seconds() - before


def by_lytk(midi: bytes) -> tuple[str, float]:
    """Returns lytk's text, and the CPU seconds it took."""
    import lytk

    start = time.process_time()
    text = lytk.to_abc(lytk.from_midi_bytes(midi))
    return text, time.process_time() - start


def _child_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


PEERS = {label: partial(by_midi2abc, flags=flags) for label, flags in MIDI2ABC_FLAGS.items()}
if importlib.util.find_spec("lytk"):
    PEERS["lytk"] = by_lytk


def measure_file(name: str, midi: bytes) -> dict[str, Any] | None:
    """Returns converter -> figures of one file; None if mido finds no notes to compare."""
    try:
        notes, _ = read_notes(midi)
    except TruthError:
        return None
    if not len(notes):
        return None
    rows: dict[str, Any] = {"name": name, "n_notes": len(notes)}
    start = time.process_time()
    abc, rows["ours"] = None, {"ok": False}
    try:
        abc = midi_to_abc(midi)
        seconds = time.process_time() - start
        rows["ours"] = _figures(midi, len(notes), abc, lambda text: (abc_to_midi(text), []))
        rows["ours"]["cpu_seconds"] = seconds
    except ValueError as error:
        rows["ours"]["error"] = str(error)
    if abc:
        export = print_tune(parse_tune(abc), "voices")
        row = rows["ours, abc2midi"] = _figures(midi, len(notes), export, by_abc2midi)
        if row["ok"] and rows["ours"]["ok"]:
            row["differs_from_own_reader"] = abs(row["uu_on16i"] - rows["ours"]["uu_on16i"])
    for label, peer in PEERS.items():
        rows[label] = {"ok": False}
        try:
            text, seconds = peer(midi)
            rows[label] = _figures(midi, len(notes), text, by_abc2midi)
            rows[label]["cpu_seconds"] = seconds
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            rows[label]["error"] = str(error)
    return rows


def _figures(
    midi: bytes, n_notes: int, abc: str, read: Callable[[str], tuple[bytes | None, list[str]]]
) -> dict[str, Any]:
    bytes_per_note = len(abc.encode()) / n_notes
    try:
        back, messages = read(abc)
        if back is None:
            raise ValueError("no MIDI written")
        figures = compare(midi, back)
    except (ValueError, OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        return {"ok": False, "error": str(error), "bytes_per_note": bytes_per_note}
    errors = sum(message.startswith("Error") for message in messages)
    return figures | {"ok": True, "abc_errors": errors, "bytes_per_note": bytes_per_note}


def summary(rows: list[dict[str, Any]], converter: str) -> dict[str, Any]:
    """Returns means over all files (a failed file counts as 0), and shares of files >= .98."""
    files = [row[converter] for row in rows if converter in row]
    found = {name: None for file in files for name in file}
    names = [name for name in found if name not in ("ok", "error", "cpu_seconds")]
    out: dict[str, Any] = {"files": len(files), "ok": mean(f["ok"] for f in files)}
    for name in names:
        if name in ("bytes_per_note", "duration_error", "abc_errors", "differs_from_own_reader"):
            values = [f[name] for f in files if name in f]
            out[name] = median(values) if name == "bytes_per_note" else mean(values)
        else:
            out[name] = mean(f.get(name, 0.0) for f in files)
    for name in ("raw_on16i", "uu_on16i"):
        out[f"{name}_share_at_least_{GATE}"] = mean(f.get(name, 0) >= GATE for f in files)
    out["present_least"] = min(f.get("present", 0.0) for f in files)
    out["files_with_abc_errors"] = sum(f.get("abc_errors", 1) > 0 for f in files)
    timed = [
        (row[converter]["cpu_seconds"], row["n_notes"])
        for row in rows
        if "cpu_seconds" in row.get(converter, {})
    ]
    if timed:
        total = sum(seconds for seconds, _ in timed)
        out["files_per_cpu_second"] = len(timed) / total
        out["notes_per_cpu_second"] = sum(notes for _, notes in timed) / total
    return out


COLUMNS = (
    *("ok", "raw_on16i", "uu_on16i", "uu_on16i_share_at_least_0.98", "uu_on64i", "uu_on50i"),
    *("uu_off16i", "present", "present_least", "instrument", "drums", "symusic_on16i"),
    *("programs", "tempo_ok", "duration_error", "bytes_per_note"),
    *("differs_from_own_reader",),
    *("files_with_abc_errors", "raw_ceiling", "files_per_cpu_second", "notes_per_cpu_second"),
)


def sample(sources: list[str], count: int, seed: int) -> list[tuple[Source, Any]]:
    """Draws files across all sources, the same ones for the same seed."""
    found = [open_source(source, Path("data")) for source in sources]
    files = [(source, member) for source in found for member in source.members()]
    random.Random(seed).shuffle(files)
    return sorted(files[:count], key=lambda pair: (pair[0].name, pair[1].name))


def main(arguments: list[str] | None = None) -> None:
    """Print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_conversion.json"))
    parser.add_argument("--results", type=Path, help="write conversion.json and update the tables")
    options = parser.parse_args(arguments)
    rows, lost = [], []
    with worker_pool(options.workers) as pool:
        futures = []
        for source, member in sample(options.sources, options.files, options.seed):
            ((_, midi),) = source.read([member])
            if not isinstance(midi, bytes):
                lost.append({"name": member.name, "error": str(midi)})
                continue
            schedule = partial(pool.schedule, timeout=TIMEOUT_SECONDS)
            futures.append((member.name, schedule(measure_file, args=[member.name, midi])))
        for name, future in futures:
            try:
                rows.append(future.result())
            except (FutureTimeoutError, ProcessExpired) as error:
                lost.append({"name": name, "error": repr(error)})
    rows = [row for row in rows if row]
    converters = ["ours", "ours, abc2midi", *PEERS]
    result = {name: summary(rows, name) for name in converters}
    print(f"{len(rows)} files with notes, seed {options.seed}; no verdict on {len(lost)}")
    print(f"{'':32}" + "".join(f"{name:>16}" for name in converters))
    for column in COLUMNS:
        cells = [result[name].get(column) for name in converters]
        print(f"{column:32}" + "".join(f"{'' if c is None else f'{c:.4f}':>16}" for c in cells))
    about = {"files": len(rows), "seed": options.seed, "lost": lost, "summary": result}
    _write_json(options.out, about | {"rows": rows})
    if options.results:
        _write_json(options.results / "conversion.json", about)
        fill_blocks(options.results, ["conversion"])


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"-> {path}")


if __name__ == "__main__":
    main()
