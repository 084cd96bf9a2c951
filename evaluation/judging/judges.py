"""Independent readers judge texts: do other programs accept the music, and do they agree on it?

    python -m evaluation.judging.judges runs/demo/samples/samples.jsonl --out verdicts.jsonl

Each reader of `judge_table.JUDGES` reads a text in its own sandboxed process. If it hangs, crashes
or floods its output, that is a verdict on the text and does not stop the evaluation. A reader that
is not installed is reported, and its verdicts are null. Denominators are all texts. A verdict
contains the fields of each reader, such as `validity_music21` (it parses the text without an
exception) and `abc2midi_clean` (it writes MIDI without an Error or a Warning), and also:

    rejected              why no reader was given the text (`judge_filter`), or null; if rejected,
                          only verdicts of our own reader can be true
    own_reader            our strict reader accepts it; it also decides bar_accuracy, bar_perfect
                          and tie_ok
    playable              every reader's MIDI is music of 4 s to 10 min, see `judge_measures`
    agreement             F1 of the notes of each pair of readers, onsets in quarters
    agreement_seconds     F1 of the notes of each reader that keeps time with our own reader's,
                          onsets in seconds
    valid3                valid: all fields needed of each reader hold, playable, bar_perfect, and
                          agreement reaches the readers' thresholds, in quarters and in seconds
    raw_...               the same fields for the raw model output

The judges read the voices export, since music21 plays interleaved voices one after the other and
still calls the text valid.
"""

import argparse
import json
import logging
import os
import queue
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.dialect.notation import plain_text
from data_prep.dialect.tune import print_tune
from data_prep.importers.foreign_abc import read_book
from scaling.writing.commands import command
from scaling.writing.files import json_lines, write_atomically, write_json

from ..metrics import validity
from .judge_filter import refused
from .judge_measures import OwnVerdict, read_by_us
from .judge_process import Reader, ReaderFailedError
from .judge_table import JUDGES, MIDI_READER, RAW, Answer
from .judge_verdict import Verdict, fields_of, verdict_of

logger = logging.getLogger(__name__)

MAX_WORKERS = 8  # each with one process per reader


class Jury(AbstractContextManager):
    """All readers together. Use as a context manager."""

    def __init__(self) -> None:
        self.readers = {name: Reader(judge) for name, judge in JUDGES.items()}

    def __exit__(self, *_: object) -> None:
        for reader in self.readers.values():
            reader.close()

    def about(self) -> dict[str, Any]:
        """Returns `versions`, `missing` (reader -> reason) and `sandbox` (what is blocked)."""
        readers = self.readers.values()
        return {
            "versions": {r.name: r.version for r in readers if not r.missing},
            "missing": {r.name: r.missing for r in readers if r.missing},
            "sandbox": {r.name: r.sandbox for r in readers if not r.missing},
        }

    def judge(self, text: str, raw: str | None = None) -> Verdict:
        """Judges a text; see the module docstring for the fields.

        Args:
            text: Preferably in the voices layout, which all readers accept; with any line
                endings.
            raw: The raw model output, for the fields `raw_...`.
        """
        text, raw = plain_text(text), None if raw is None else plain_text(raw)
        reason = refused(text)
        is_too_long = (reason or "").startswith(("more than", "a line", "not UTF-8"))
        own = OwnVerdict(message="not read") if is_too_long else read_by_us(text)
        answers = {name: self._answer(name, text, reason) for name in self.readers}
        verdict = {"rejected": reason} | verdict_of(own, answers)
        if raw is not None:
            reason = verdict[f"{RAW}rejected"] = refused(raw)
            for name, judge in JUDGES.items():
                if judge.reads_raw:
                    answer = answers[name] if raw == text else self._answer(name, raw, reason)
                    verdict |= fields_of(judge, answer, RAW)
        return verdict

    def _answer(self, name: str, text: str, reason: str | None) -> Answer | None:
        """Returns a reader's answer; None if it is missing, {} if the filter rejected the text."""
        return None if self.readers[name].missing else {} if reason else self.read(name, text)

    def read(self, name: str, text: str) -> Answer:
        """Returns a reader's answer to a text, which is not filtered here.

        Returns:
            As documented in `judge_table`, with `file` read. `failure`: why there is no answer.
        """
        try:
            answer = self.readers[name].ask({"text": text})
            if "file" in answer:
                heard = self.readers[MIDI_READER].ask({"midi": str(answer.pop("file"))})
                kept = ("midi", "notes", "quarter", "seconds", "error")
                answer |= {name: heard[name] for name in kept if name in heard}
            return answer
        except ReaderFailedError as error:
            return {"midi": False, "failure": str(error)}


def judge_texts(
    texts: Sequence[str], raw: Sequence[str] | None = None, workers: int | None = None
) -> tuple[list[Verdict], dict[str, Any]]:
    """Judges texts with several juries in parallel.

    Args:
        texts: As `Jury.judge` takes them.
        raw: As `Jury.judge` takes them; one per text, or None.
        workers: Number of juries; None for one per core, at most 8.

    Returns:
        A verdict for each text, and `Jury.about` with `n_restarts` per reader.

    Raises:
        RuntimeError: If a reader started in one jury and not in another.
    """
    jobs = iter(range(len(texts)))  # shared by the threads: each takes the next one
    done: queue.SimpleQueue[tuple[int, Verdict] | BaseException] = queue.SimpleQueue()
    juries: list[Jury] = []

    def work() -> None:
        # Started and stopped by one thread: when it ends, the kernel kills its processes.
        try:
            with Jury() as jury:
                juries.append(jury)
                for number in jobs:
                    done.put((number, jury.judge(texts[number], raw[number] if raw else None)))
        except BaseException as error:
            done.put(error)

    workers = min(workers or min(MAX_WORKERS, os.cpu_count() or 1), max(1, len(texts)))
    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    verdicts: list[Verdict] = [{}] * len(texts)
    try:
        for _ in tqdm(texts, "judge", unit="tune"):
            result = done.get()
            if isinstance(result, BaseException):
                raise result
            verdicts[result[0]] = result[1]
    finally:
        list(jobs)  # drop the jobs that have not started
        for reader in (reader for jury in juries for reader in jury.readers.values()):
            reader.kill()
        for thread in threads:
            thread.join()
    about = juries[0].about()
    if any(jury.about()["missing"] != about["missing"] for jury in juries):
        raise RuntimeError("a reader started once and not another time; judge again")
    about["n_restarts"] = {
        name: sum(jury.readers[name].n_restarts for jury in juries) for name in JUDGES
    }
    return verdicts, about


def judge_all(texts: Sequence[str], workers: int | None = None) -> list[Verdict]:
    """Judges texts; logs which readers are missing."""
    verdicts, about = judge_texts(texts, workers=workers)
    for name, reason in about["missing"].items():
        logger.warning("judge unavailable: %s: %s", name, reason)
    return verdicts


def summary(verdicts: Sequence[Verdict], about: dict[str, Any]) -> dict[str, Any]:
    """Returns rates with intervals, means, reasons for rejection, and the readers used."""
    agreements = {
        name: [v["agreement"][name] for v in verdicts]
        for name, value in verdicts[0]["agreement"].items()
        if value is not None
    }
    fields = [name for judge in JUDGES.values() for name in judge.fields]
    counts = [name for name in fields if type(verdicts[0][name]) is int]
    return about | {
        "n": len(verdicts),
        "rates": validity(verdicts),
        "rejected": dict(Counter(v["rejected"] for v in verdicts if v["rejected"])),
        "mean": {name: sum(v[name] for v in verdicts) / len(verdicts)
                 for name in ("bar_accuracy", *counts)},
        "mean_agreement": {name: sum(f1) / len(f1) for name, f1 in agreements.items()},
    }  # fmt: skip


def read_texts(files: list[Path]) -> list[dict[str, str | None]]:
    """Reads .abc files and samples.jsonl files.

    Returns:
        Rows with `name`, `text` and `raw`. Of a sample, its voices export if it has one, else its
        raw text. Of each tune in a file, its own text if it is in our dialect or says so by its
        header, or cannot be read; else what the importer makes of it.
    """
    rows = []
    for file in files:
        if file.suffix == ".jsonl":
            for sample in map(json.loads, file.read_text("utf-8").splitlines()):
                name, raw = f"{file}:{sample['sample']}", sample["abc"]
                rows.append({"name": name, "text": sample.get("abc_voices") or raw, "raw": raw})
        else:
            for found in read_book(file.read_bytes()):
                name = str(file) if found.place == 1 else f"{file}:{found.place}"
                is_imported = found.tune and not found.is_own
                text = print_tune(found.tune, "voices") if is_imported else found.text
                rows.append({"name": name, "text": text, "raw": found.text})
    return rows


@command(ValueError, KeyError, OSError)
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="evaluation.judging.judges", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help=".abc or samples.jsonl")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, help="each runs all readers; default: cores, max. 8")
    options = parser.parse_args(arguments)
    rows = read_texts(options.files)
    if not rows:
        raise ValueError("no texts in these files")
    texts, raw = ([row[kind] for row in rows] for kind in ("text", "raw"))
    verdicts, about = judge_texts(texts, raw, options.workers)
    named = [{"name": row["name"]} | own for row, own in zip(rows, verdicts, strict=True)]
    write_atomically(options.out, json_lines(named))
    result = summary(verdicts, about)
    write_json(options.out.with_name(options.out.stem + "_summary.json"), result)
    print(table(result))
    return 0


def table(result: dict[str, Any]) -> str:
    """Returns a summary as lines of text."""
    who = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [f"{result['n']} texts, judged by {who}"]
    lines += [f"  judge unavailable: {name}: {why}" for name, why in result["missing"].items()]
    if not all(state["files"] for state in result["sandbox"].values()):
        lines.append("  the readers' file access is not restricted: this kernel has no Landlock")
    lines += [f"  rejected, {reason}: {count}" for reason, count in result["rejected"].items()]
    for name, rate in result["rates"].items():
        low, high = rate["interval_95"]
        lines.append(f"  {name:18} {rate['rate']:6.1%}  [{low:.1%}, {high:.1%}]")
    for name, mean in (result["mean"] | result["mean_agreement"]).items():
        lines.append(f"  {name:18} {mean:8.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
