"""Fuzz campaign for the judges: odd and hostile texts, and invariants for each of them.

    python benchmarks/fuzz_judges.py [--texts 2500] [--seeds 0 1 2 3] [--workers 2]
        [--out runs/fuzz/judges.json]

Texts are those of tests/helpers/fuzzing: texts close to the grammar of the dialect, mutated tunes
of tests/data, and every hostile text (`hostile_abc.py`) alone and inside a tune. Each goes through
the filter and the judges. The hostile ones, and about a tenth of the others, also bypass the filter
and go directly to each reader, so that the sandbox alone must contain them. The invariants:

- each text gets a verdict with the same fields, in bounded time, and never raises;
- no answer contains a word of a file that some texts include, or additional notes from it;
- every process started ends, and nothing is left behind.

Each seed is a separate campaign, written when it ends. Exit status 1 if an invariant was violated.
Failures of readers (crashes, timeouts) are counted but are not findings: they are verdicts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fuzzing.abc_inputs import abc_inputs
from fuzzing.hostile_abc import HOSTILE

from data_prep.midi_to_abc.converter import midi_to_abc
from evaluation.judging.judge_table import JUDGES, VALID
from evaluation.judging.judges import Jury

ROOT = Path(__file__).resolve().parent.parent
# Content of a file that must never leak; the letters are notes, in case it is read as music.
SECRET = "Hunterword GGGG|AAAA|\nW:secretpassword\n"
SECRET_WORDS = ("hunterword", "secretpassword", "gggg|aaaa")
UNFILTERED_SHARE = 0.1
# All readers of a text, with and without the filter, and their startup.
TEXT_SECONDS = 3 * sum(judge.timeout_seconds for judge in JUDGES.values()) + 60
SHOWN_CHARS = 200

Text = tuple[str, str, bool]  # name, text, and whether it also bypasses the filter


@dataclass
class Tally:
    """What one worker saw."""

    fields: set[tuple[str, ...]] = field(default_factory=set)
    rejected: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    rates: Counter[str] = field(default_factory=Counter)
    findings: list[dict[str, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    n_unfiltered: int = 0
    about: dict[str, Any] = field(default_factory=dict)
    n_restarts: Counter[str] = field(default_factory=Counter)


def hostile_texts(secret: Path, seeds: list[str]) -> list[Text]:
    """Returns each hostile text, alone and inside a tune, and texts that include the secret."""
    rng, texts = random.Random(0), []
    for name, text in HOSTILE.items():
        tune = rng.choice(seeds)
        place = tune.find("\n", len(tune) // 2) + 1
        body = text.split("%%MIDI program 0\n")[-1]
        texts.append((name, text, True))
        texts.append((f"{name}_in_a_tune", tune[:place] + body + tune[place:], True))
    tune = seeds[0]
    for number, form in enumerate(
        ("%%abc-include {}", " %%abc-include {}", "%%include {}", "I:abc-include {}",
         "%%abc-include ../../../../../../../..{}", "%%MIDI program {}", "\r%%abc-include {}",
         "%%abc-include {}\x00", "[I:abc-include {}]", "%%abc-include\t{}")
    ):  # fmt: skip
        line = form.format(secret)
        for where in ("K:", "\nV:1\n"):
            place = tune.find(where) + (len(where) if where[0] == "\n" else 0)
            texts.append((f"secret_{number}", f"{tune[:place]}{line}\n{tune[place:]}", True))
    return texts


def all_texts(n_odd: int, seed: int, secret: Path) -> list[Text]:
    """Returns the hostile texts, then odd ones."""
    tunes = sorted((ROOT / "tests" / "data").rglob("*.mid"))
    layouts = ("bars", "voices")
    seeds = [midi_to_abc(t.read_bytes(), layout=layouts[n % 2]) for n, t in enumerate(tunes)]
    texts = hostile_texts(secret, seeds[1::2])
    rng = random.Random(seed)
    share = random.Random(f"{seed} unfiltered")
    for number, text in enumerate(islice(abc_inputs(rng, seeds), n_odd)):
        texts.append((f"odd_{number}", text, share.random() < UNFILTERED_SHARE))
    return texts


def run_worker(jobs: SimpleQueue[Text], progress: tqdm) -> Tally:
    """Judges texts until none are left."""
    tally = Tally()
    with Jury() as jury:
        tally.about = jury.about()
        while True:
            try:
                name, text, unfiltered = jobs.get_nowait()
            except Empty:
                break
            start = time.monotonic()
            try:
                check(jury, name, text, unfiltered, tally)
            except Exception as error:  # nothing may raise: that would be a finding
                told(tally, name, f"{type(error).__name__}: {error}")
            tally.seconds.append(time.monotonic() - start)
            if tally.seconds[-1] > TEXT_SECONDS:
                told(tally, name, f"took {tally.seconds[-1]:.0f} s")
            progress.update()
        tally.n_restarts = Counter({r.name: r.n_restarts for r in jury.readers.values()})
    return tally


def check(jury: Jury, name: str, text: str, unfiltered: bool, tally: Tally) -> None:
    """Judges one text and checks everything that comes back."""
    verdict = jury.judge(text)
    tally.fields.add(tuple(verdict))
    if verdict["rejected"]:
        tally.rejected[verdict["rejected"]] += 1
        if verdict[VALID]:
            told(tally, name, "rejected and yet valid")
    tally.rates.update(key for key, value in verdict.items() if value is True)
    answers = {"verdict": verdict}
    tally.n_unfiltered += unfiltered
    readers = [r.name for r in jury.readers.values() if not r.missing]
    for reader in readers if unfiltered else ():
        answers[reader] = jury.read(reader, text)
        if failure := answers[reader].get("failure"):
            tally.failures[f"{reader}, past the filter: {failure}"] += 1
    for message in verdict["messages"]:
        if match := re.match(
            r"\w+: (no result|ended|more than \d+ bytes of|no readable).*", message
        ):
            tally.failures[match[0]] += 1
    for who, answer in answers.items():
        shown = json.dumps(answer).lower()
        if name.startswith("secret_") and any(word in shown for word in SECRET_WORDS):
            told(tally, name, f"{who} quotes the file")
        if name.startswith("secret_") and who == "abc2midi":
            # With the file it would have four more G and A each, or messages about its letters.
            quoted = [text for text in answer["messages"] if "reserved character h" in text.lower()]
            if quoted or answer["errors"] > 20:
                told(tally, name, "abc2midi seems to have read the file")


def told(tally: Tally, name: str, what: str) -> None:
    """Records a finding."""
    tally.findings.append({"text": name, "what": what[:SHOWN_CHARS]})


def run(n_odd: int, seed: int, n_workers: int) -> dict[str, Any]:
    """Runs a campaign and returns its summary."""
    with tempfile.TemporaryDirectory(prefix="fuzz_judges_") as folder:
        secret = Path(folder, "secret.abc")
        secret.write_text(SECRET, "utf-8")
        work = Path(folder, "work")
        work.mkdir()
        tempfile.tempdir = str(work)  # anything that the readers leave behind would be here
        texts, jobs = all_texts(n_odd, seed, secret), SimpleQueue()
        for text in texts:
            jobs.put(text)
        start = time.monotonic()
        with (
            tqdm(desc="judge", total=len(texts), unit="text") as progress,
            ThreadPoolExecutor(n_workers) as pool,
        ):
            futures = [pool.submit(run_worker, jobs, progress) for _ in range(n_workers)]
            tallies = [future.result() for future in futures]
        left = [path.name for path in work.iterdir()]
        tempfile.tempdir = None
    summary = merged(tallies) | {"seconds": round(time.monotonic() - start, 1), "n": len(texts)}
    if left:
        summary["findings"].append({"text": "all", "what": f"left behind: {left[:5]}"})
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    if children.exists() and children.read_text().strip():
        summary["findings"].append({"text": "all", "what": "processes are left"})
    return summary | {"seed": seed}


def merged(tallies: list[Tally]) -> dict[str, Any]:
    """Returns the counts of all workers together."""
    seconds = sorted(value for tally in tallies for value in tally.seconds)
    findings = [finding for tally in tallies for finding in tally.findings]
    if len(set().union(*(tally.fields for tally in tallies))) > 1:
        findings.append({"text": "all", "what": "verdicts of different fields"})
    counts = {
        name: dict(sum((getattr(tally, name) for tally in tallies), Counter()).most_common())
        for name in ("rejected", "failures", "rates", "n_restarts")
    }
    return (
        tallies[0].about
        | counts
        | {
            "n_past_the_filter": sum(tally.n_unfiltered for tally in tallies),
            "seconds_a_text": {
                "median": seconds[len(seconds) // 2],
                "p99": seconds[int(len(seconds) * 0.99)],
                "longest": seconds[-1],
            },
            "findings": findings,
        }
    )


def parse_options() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=2500, help="odd texts, besides the hostile")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "fuzz" / "judges.json")
    return parser.parse_args()


def main() -> None:
    """Run the campaigns; print and write their summaries."""
    options = parse_options()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    campaigns = []
    for seed in options.seeds:
        campaigns.append(run(options.texts, seed, options.workers))
        print(json.dumps(campaigns[-1], indent=1))
        content = json.dumps({"campaigns": campaigns}, indent=1) + "\n"
        options.out.write_text(content, encoding="utf-8")
    n_texts = sum(campaign["n"] for campaign in campaigns)
    n_findings = sum(len(campaign["findings"]) for campaign in campaigns)
    print(f"{n_texts} texts, {n_findings} findings -> {options.out}")
    sys.exit(1 if n_findings else 0)


if __name__ == "__main__":
    main()
