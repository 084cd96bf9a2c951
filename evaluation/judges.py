"""Independent readers judge samples: is it music text that other programs take?

    python -m evaluation.judges runs/demo/samples/samples.jsonl --out verdicts.jsonl

Each sample is judged in a child process with a time limit: a reader that hangs or crashes on a
text is a verdict on the text, and never the end of the evaluation.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import TimeoutError as FutureTimeoutError
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool
from tqdm import tqdm

from data_prep.abc_to_midi import perform
from data_prep.notation import AbcError
from data_prep.tune_parser import parse_tune

TIMEOUT_SECONDS = 30.0
# music21 needs seconds for long texts, and none of ours is longer.
MAX_TEXT_BYTES = 64 * 1024


def judge(text: str) -> dict[str, Any]:
    """Judges one ABC text, best in the voices layout, which all readers take.

    Returns:
        `own_reader`: our strict reader takes it; `bars_exact`: and every bar is as long as its
        metre says; `music21_parse`: music21 parses it without an exception; `music21_midi`: and
        writes MIDI of it; `messages`: what the readers complained of.
    """
    verdict: dict[str, Any] = {"own_reader": False, "bars_exact": False}
    messages: list[str] = []
    try:
        performance = perform(parse_tune(text))
        verdict |= {"own_reader": True, "bars_exact": not performance.bar_errors}
        if performance.bar_errors:
            messages.append(f"own: {len(performance.bar_errors)} bars of wrong length")
    except AbcError as error:
        messages.append(f"own: {error}")
    return verdict | _judge_music21(text, messages) | {"messages": messages}


def _judge_music21(text: str, messages: list[str]) -> dict[str, bool]:
    from music21 import converter
    from music21.midi.translate import music21ObjectToMidiFile

    verdict = {"music21_parse": False, "music21_midi": False}
    if len(text.encode()) > MAX_TEXT_BYTES:
        messages.append(f"text of more than {MAX_TEXT_BYTES} bytes")
        return verdict
    try:
        score = converter.parseData(text, format="abc")
        verdict["music21_parse"] = True
        verdict["music21_midi"] = bool(music21ObjectToMidiFile(score).writestr())
    except Exception as error:  # its parsers raise whatever they meet; each is a verdict
        messages.append(f"music21: {type(error).__name__}: {error}"[:300])
    return verdict


def _failed(message: str) -> dict[str, Any]:
    names = ("own_reader", "bars_exact", "music21_parse", "music21_midi")
    return dict.fromkeys(names, False) | {"messages": [message]}


def judge_all(texts: list[str], workers: int | None = None) -> list[dict[str, Any]]:
    """Judges texts in child processes; a time-out or a crash fails all judges."""
    verdicts = []
    with ProcessPool(workers or 2, context=get_context("spawn")) as pool:
        futures = [pool.schedule(judge, args=[text], timeout=TIMEOUT_SECONDS) for text in texts]
        for future in tqdm(futures, "judge", unit="tune"):
            try:
                verdicts.append(future.result())
            except FutureTimeoutError:
                verdicts.append(_failed(f"not done after {TIMEOUT_SECONDS:.0f} s"))
            except ProcessExpired as error:
                verdicts.append(_failed(f"reader died with code {error.exitcode}"))
    return verdicts


def read_texts(files: list[Path]) -> list[dict[str, str]]:
    """Reads .abc files (one tune each) and samples.jsonl files.

    Returns:
        Rows of `name` and `text`: the voices export where a sample has one, else its raw text.
    """
    rows = []
    for file in files:
        if file.suffix == ".jsonl":
            for line in file.read_text("utf-8").splitlines():
                sample = json.loads(line)
                text = sample["abc_voices"] or sample["abc"]
                rows.append({"name": f"{file}:{sample['sample']}", "text": text})
        else:
            rows.append({"name": str(file), "text": file.read_text("utf-8", "replace")})
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="evaluation.judges", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help=".abc or samples.jsonl")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        rows = read_texts(options.files)
        verdicts = judge_all([row["text"] for row in rows])
        lines = [
            json.dumps({"name": row["name"]} | verdict) + "\n"
            for row, verdict in zip(rows, verdicts, strict=True)
        ]
        options.out.write_text("".join(lines), "utf-8")
    except (ValueError, KeyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
