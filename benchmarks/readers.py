"""How three independent readers take the converter's text: abc2midi, abcjs and music21.

    python benchmarks/readers.py FOLDER_OR_ZIP [...] [--files 50] [--seed 0] [--max-voices 15]
        [--timeout 60] [--node node] [--abcjs NODE_MODULES] [--out runs/benchmark_readers.json]

Each sampled file is converted to the layout `voices`; every reader makes a MIDI file of that text,
and its notes are compared with those of our own reader (one-to-one matching and F1 as in
conversion.py). `on16` is by onset within a sixteenth, `on50` within 50 ms, `..i` by instrument too,
the others by pitch only. What the table calls agreement is

    abc2midi   on16i; original_on16i is the same against the original file, without doubled notes
    abcjs      on16; where the tempo changes, played_on16: abcjs writes no tempo changes but
               stretches lengths, and its file has each distance between two events rounded, which
               adds up, so the notes are taken as its player gets them, in quarters of the first
               tempo
    music21    on16: it ignores programs and %%MIDI

A reader that is not installed gets one line that says so. abcjs comes from `npm install abcjs`;
`--abcjs` names the node_modules folder it went to.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import re
import select
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from conversion import Notes, by_abc2midi, matched, read_notes, run_tool, sample
from pebble import ProcessExpired, ProcessPool
from symusic import Score
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_prep.abc_to_midi import abc_to_midi
from data_prep.explain import explain
from data_prep.midi_to_abc import midi_to_abc
from data_prep.stages import worker_pool

READERS = ("abc2midi", "abcjs", "music21")
ABCJS_SCRIPT = Path(__file__).with_name("abcjs_reader.js")
SIXTEENTH = ("quarters", 0.25)
FIFTY_MS = ("seconds", 0.05)
GATE = 0.98
MESSAGE_CHARS = 300
GROUPS_SHOWN = 12


class MissingReaderError(RuntimeError):
    """A reader that is not installed here."""


@dataclass
class Verdict:
    """What a reader made of a text. One that writes MIDI in spite of errors has both.

    Attributes:
        parses: Whether it took the text for music.
        midi: The MIDI file that it wrote.
        errors: What it calls errors, or why there is no MIDI.
        warnings: What it calls warnings.
        played: (n, 3) onset and end in quarters of the first tempo, and pitch; abcjs only.
        timed_out: Whether it was stopped; then the text may be good or bad.
    """

    parses: bool
    midi: bytes | None
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    played: np.ndarray | None = None
    timed_out: bool = False


Reader = Callable[[str], Verdict]


# ---------------------------------------------------------------- abc2midi


def read_by_abc2midi(abc: str) -> Verdict:
    """Returns abc2midi's verdict: its MIDI, and the lines that it calls Error or Warning."""
    try:
        midi, lines = by_abc2midi(abc)
    except subprocess.TimeoutExpired as error:
        return Verdict(False, None, [f"no result after {error.timeout:.0f} s"], timed_out=True)
    errors = [line for line in lines if line.startswith("Error")]
    if midi is None:
        errors.append("no MIDI written")
    warnings = [line for line in lines if line.startswith("Warning")]
    return Verdict(midi is not None, midi, errors, warnings)


def abc2midi_version() -> str:
    """Returns the number of the version, as abc2midi says it."""
    return run_tool("abc2midi", "-ver").split()[0]


# ---------------------------------------------------------------- abcjs


class AbcjsReader:
    """abcjs in one node process; started again after a tune on which it hung or died.

    Attributes:
        version: Of abcjs.
    """

    def __init__(self, node: str, node_modules: Path | None, timeout: float) -> None:
        self._command = [node, str(ABCJS_SCRIPT)]
        self._environment = dict(os.environ)
        if node_modules:
            self._environment["NODE_PATH"] = str(node_modules.resolve())
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self.version = self._start()

    def __call__(self, abc: str) -> Verdict:
        """Reads one tune."""
        if self._process is None:
            self._start()
        try:
            self._process.stdin.write(json.dumps({"abc": abc}).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._answer()
        except (BrokenPipeError, TimeoutError) as error:
            self.close()
            return Verdict(False, None, [str(error)], timed_out=isinstance(error, TimeoutError))
        midi = base64.b64decode(answer["midi"]) if answer["midi"] else None
        errors = [answer["error"]] if answer["error"] else []
        if not answer["parses"] and not errors:
            errors = ["no music found in the text"]
        played = np.array(answer["played"]).reshape(-1, 3) * (4, 4, 1)  # whole notes -> quarters
        return Verdict(answer["parses"], midi, errors, answer["warnings"], played)

    def close(self) -> None:
        """Ends the node process."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> str:
        """Starts node and returns the version of abcjs; raises `MissingReaderError`."""
        try:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise MissingReaderError(f"node does not start: {error}") from error
        try:
            answer = self._answer()
        except (BrokenPipeError, TimeoutError) as error:
            answer = {"missing": str(error)}
        if "missing" in answer:
            self.close()
            raise MissingReaderError(answer["missing"])
        return answer["version"]

    def _answer(self) -> dict[str, Any]:
        """Returns the next line of the process.

        Raises:
            TimeoutError: If it takes too long.
            BrokenPipeError: If the process ended.
        """
        line, deadline = b"", time.monotonic() + self._timeout
        stdout = self._process.stdout.fileno()
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stdout], [], [], left)[0]:
                raise TimeoutError(f"no result after {self._timeout:.0f} s")
            chunk = os.read(stdout, 1 << 20)
            if not chunk:
                raise BrokenPipeError("node died")
            line += chunk
        return json.loads(line)


# ---------------------------------------------------------------- music21


def _music21_in_child(abc: str) -> Verdict:
    from music21 import converter
    from music21.midi.translate import music21ObjectToMidiFile

    parses = False
    try:
        with redirect_stderr(io.StringIO()):  # it warns of beams, by the thousand
            score = converter.parseData(abc, format="abc")
            parses = True
            return Verdict(True, music21ObjectToMidiFile(score).writestr())
    except Exception as error:  # its parsers raise whatever they meet; each is a verdict
        stage = "writing MIDI" if parses else "parsing"
        return Verdict(parses, None, [f"{stage}: {type(error).__name__}: {error}"])


def read_by_music21(abc: str, pool: ProcessPool, timeout: float) -> Verdict:
    """Returns music21's verdict, reached in a child process that is killed after `timeout`."""
    try:
        return pool.schedule(_music21_in_child, args=[abc], timeout=timeout).result()
    except FutureTimeoutError:
        return Verdict(False, None, [f"no result after {timeout:.0f} s"], timed_out=True)
    except ProcessExpired as error:
        return Verdict(False, None, [f"died with code {error.exitcode}"])


# ---------------------------------------------------------------- comparison


def f1(left: Notes, right: Notes, how: tuple[str, float], by_group: bool) -> float:
    """Returns 2 matched / (notes left + notes right), in [0, 1]."""
    both = len(left) + len(right)
    return 2 * float(matched(left, right, *how, by_group)[0]) / max(1, both)


def judge(reader: str, verdict: Verdict, own_midi: bytes, original: Notes) -> dict[str, Any]:
    """Returns a verdict for the table: the MIDI replaced by how well it agrees.

    Returns:
        `writes_midi`: a MIDI file that can be read; with it the figures that the module's
        docstring names, `agreement` among them (0 without).
    """
    out: dict[str, Any] = {"parses": verdict.parses, "writes_midi": False, "agreement": 0.0}
    out["timed_out"] = verdict.timed_out
    out["errors"] = [text[:MESSAGE_CHARS] for text in verdict.errors]
    out["warnings"] = [text[:MESSAGE_CHARS] for text in verdict.warnings]
    if verdict.midi is None:
        return out
    try:
        notes, _ = read_notes(verdict.midi)
    except RuntimeError as error:
        out["errors"].append(f"its MIDI is damaged: {explain(error)}")
        return out
    own, own_score = read_notes(own_midi)
    out["writes_midi"] = True
    for name, how in (("on16", SIXTEENTH), ("on50", FIFTY_MS)):
        out[name] = f1(own, notes, how, by_group=False)
        if reader == "abc2midi":
            out[f"{name}i"] = f1(own, notes, how, by_group=True)
    out["agreement"] = out["on16i"] if reader == "abc2midi" else out["on16"]
    if reader == "abc2midi":
        out["original_on16i"] = f1(original.unique(), notes.unique(), SIXTEENTH, by_group=True)
    elif verdict.played is not None:
        out["played_on16"] = _played_on16(verdict.played, own, own_score)
        if len(own_score.tempos) > 1:
            out["agreement"] = out["played_on16"]
    return out


def _played_on16(played: np.ndarray, own: Notes, own_score: Score) -> float:
    quarters_a_second = 1e6 / own_score.tempos[0].mspq
    no_group = np.zeros(len(played), np.int64)
    notes = Notes(no_group, played[:, 2].astype(np.int64), played[:, :2], played[:, :2])
    stretched = Notes(own.group, own.pitch, own.seconds * quarters_a_second, own.seconds)
    return f1(stretched, notes, SIXTEENTH, by_group=False)


def measure_file(
    name: str, midi: bytes, readers: dict[str, Reader], max_voices: int
) -> dict[str, Any]:
    """Returns one file's row: reader -> verdict and figures, or why it was `skipped`."""
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
    except RuntimeError as error:
        return row | {"skipped": "no original to compare with", "reason": str(error)}
    own_midi = abc_to_midi(abc)
    own, own_score = read_notes(own_midi)
    row |= {"n_notes": len(own), "n_bytes": len(abc), "n_tempos": len(own_score.tempos)}
    for reader, read in readers.items():
        start = time.perf_counter()
        verdict = read(abc)
        seconds = round(time.perf_counter() - start, 3)
        row[reader] = judge(reader, verdict, own_midi, original) | {"seconds": seconds}
    return row


# ---------------------------------------------------------------- tables


def summary(verdicts: list[dict[str, Any]]) -> dict[str, float]:
    """Returns counts, and shares and means over the files on which the reader was not stopped.

    A file of which it wrote no MIDI agrees 0.
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
        "files_with_errors": sum(bool(v["errors"]) for v in verdicts),
        "error_lines": sum(len(v["errors"]) for v in verdicts),
        "files_with_warnings": sum(bool(v["warnings"]) for v in verdicts),
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
    """Returns a message without what differs from text to text: numbers and quoted music."""
    head = message.split(":  ")[0]  # abcjs quotes the line after two spaces
    if head.startswith("Music Line"):  # place: what is wrong: with which element
        head = ": ".join(head.split(": ")[:2])
    return re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?", "N", head)[:140]


def grouped(rows: list[dict[str, Any]], reader: str, kind: str) -> list[dict[str, Any]]:
    """Returns the groups of a reader's `errors` or `warnings`, most files first."""
    files: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for group in sorted({message_group(text) for text in row[reader][kind]}):
            files[group].append(row["name"])
    order = sorted(files.items(), key=lambda item: (-len(item[1]), item[0]))
    return [{"message": group, "files": len(names), "names": names} for group, names in order]


def print_tables(result: dict[str, Any]) -> None:
    """Prints the table of readers, and their complaints by kind."""
    print(
        f"seed {result['seed']}: {result['drawn']} files drawn, {result['read']} given to readers"
    )
    for reason, count in result["skipped"].items():
        print(f"  {count} left out: {reason}")
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
    options: argparse.Namespace,
    versions: dict[str, str],
    missing: dict[str, str],
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    """Returns what is written and printed."""
    read = [row for row in rows if "skipped" not in row]
    readers = [reader for reader in READERS if reader in versions] if read else []
    skipped = [row["skipped"] for row in rows if "skipped" in row]
    return {
        "seed": options.seed,
        "drawn": len(rows),
        "read": len(read),
        "skipped": {reason: skipped.count(reason) for reason in sorted(set(skipped))},
        "versions": versions,
        "missing": missing,
        "summary": {reader: summary([row[reader] for row in read]) for reader in readers},
        "messages": {
            kind: {reader: grouped(read, reader, kind) for reader in readers}
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
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds a tune and reader")
    parser.add_argument("--node", default="node")
    parser.add_argument("--abcjs", type=Path, help="the node_modules folder that holds abcjs")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_readers.json"))
    return parser.parse_args()


def main() -> None:
    """Print tables and write JSON."""
    options = parse_options()
    missing: dict[str, str] = {}
    readers: dict[str, Reader] = {"abc2midi": read_by_abc2midi}
    abcjs = None
    try:
        abcjs = readers["abcjs"] = AbcjsReader(options.node, options.abcjs, options.timeout)
    except MissingReaderError as error:
        missing["abcjs"] = str(error)
    try:
        with worker_pool(1) as pool:
            readers["music21"] = partial(read_by_music21, pool=pool, timeout=options.timeout)
            rows = measure(options, readers)
    finally:
        if abcjs:
            abcjs.close()
    versions = {"abc2midi": abc2midi_version(), "music21": version("music21")}
    if abcjs:
        versions["abcjs"] = abcjs.version
    result = collect(options, versions, missing, rows)
    print_tables(result)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"-> {options.out}")


if __name__ == "__main__":
    main()
