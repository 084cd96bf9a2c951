"""Fuzz campaign for the ways in: odd MIDI files, texts and ABC files of others, with invariants.

    python benchmarks/fuzz_conversion.py [--midi 50000] [--abc 20000] [--foreign 20000] [--seed 0]
        [--workers 2] [--sources FOLDER_OR_ZIP ...] [--only midi:123]

Inputs and checks are those of tests/helpers/fuzzing. Files to mutate come from the bundled
collection if `make demo` or `make data MUSIC=music21` has collected it, else from tests/data, and
from --sources; ABC of others from the books of the music21 package.

Input i of a seed depends only on the seed, on i and on the files to mutate, so `--only midi:123`
reproduces it; texts also depend on the converter, whose output is mutated. One input of each kind
of finding is therefore saved in runs/fuzz/, as found and minimized for up to half a minute:
`--only <file>` checks such a file again.

A check that takes too long or too much memory is a finding, and so is a worker that hangs or dies.
Exit status 1 if there are findings.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from pebble import ProcessExpired, ProcessPool
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fuzzing.abc_inputs import abc_inputs
from fuzzing.checks import MAX_SECONDS, check_abc, check_foreign, check_midi, kind_of
from fuzzing.foreign_inputs import foreign_inputs
from fuzzing.midi_inputs import midi_inputs

from benchmarks.shrink_input import Input, shrink
from data_prep.collections.sources import open_source
from data_prep.importers.abc_book import split_book
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.storage.stages import worker_pool

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = ROOT / "data" / "music21" / "0_midi"
TUNES = ROOT / "tests" / "data"
OUT = ROOT / "runs" / "fuzz"
SUFFIXES = {"midi": ".mid", "abc": ".abc", "foreign": ".abc"}
CHECKS = {"midi": check_midi, "abc": check_abc, "foreign": check_foreign}

BATCH = 32  # inputs per task: scheduling one takes as long as a check
SINGLE_SECONDS = 30.0  # checks stop themselves; this is for code that cannot be interrupted
BATCH_SECONDS = BATCH * MAX_SECONDS + 60  # includes reading the files to mutate
SHRINK_SECONDS = 30.0
SEEDS_A_SOURCE = 200
MAX_SEED_BYTES = 65_536  # checks of larger files take too long to repeat often
DETAIL_CHARS = 150


@dataclass(frozen=True)
class Campaign:
    """What determines the inputs: the random seed, and the sources of files to mutate."""

    seed: int
    sources: tuple[str, ...]

    def make(self, kind: str, number: int) -> Input:
        """Returns input `number` of the campaign; `kind` is one of `CHECKS`."""
        rng = random.Random(f"{self.seed} {kind} {number}")
        if kind == "midi":
            return next(midi_inputs(rng, midi_seeds(self.sources)))
        if kind == "foreign":
            return next(foreign_inputs(rng, foreign_seeds()))
        return next(abc_inputs(rng, abc_seeds(self.sources)))


@dataclass(frozen=True)
class Finding:
    """An input that failed its check.

    Attributes:
        kind: One of `CHECKS`.
        number: Number of the input.
        size: Size of the input, in bytes or characters.
        description: What the check reported.
    """

    kind: str
    number: int
    size: int
    description: str

    @property
    def name(self) -> str:
        """As `--only` takes it."""
        return f"{self.kind}:{self.number}"


@lru_cache(maxsize=1)
def midi_seeds(sources: tuple[str, ...]) -> list[bytes]:
    """Reads files to mutate: small ones, spread over each source."""
    seeds: list[bytes] = []
    for name in sources:
        source = open_source(name, ROOT / "data")
        members = source.members()
        step = max(1, len(members) // SEEDS_A_SOURCE)
        contents = (content for _, content in source.read(members[::step]))
        seeds += [c for c in contents if isinstance(c, bytes) and len(c) <= MAX_SEED_BYTES]
    return seeds


@lru_cache(maxsize=1)
def abc_seeds(sources: tuple[str, ...]) -> list[str]:
    """Converts the files to mutate, alternating with the layout that other programs read."""
    texts = []
    for place, midi in enumerate(midi_seeds(sources)):
        with contextlib.suppress(Exception):  # bad files are covered by the midi inputs
            texts.append(midi_to_abc(midi, layout=("bars", "voices")[place % 2]))
    return [text for text in texts if len(text) <= MAX_SEED_BYTES]


@lru_cache(maxsize=1)
def foreign_seeds() -> list[str]:
    """Reads tunes to mutate: some of each ABC book in the music21 package."""
    corpus = Path(find_spec("music21").origin).parent / "corpus"
    paths = sorted(path for path in corpus.glob("*/*.abc") if path.stat().st_size < 10**6)
    texts = [tune.text for path in paths for tune in split_book(path.read_bytes())[1]]
    return texts[:: max(1, len(texts) // SEEDS_A_SOURCE)]


def run_batch(campaign: Campaign, kind: str, start: int, stop: int) -> list[Finding]:
    """Makes and checks inputs, in a worker."""
    findings = []
    for number in range(start, stop):
        data = campaign.make(kind, number)
        if description := CHECKS[kind](data):
            findings.append(Finding(kind, number, len(data), description))
    return findings


def run_campaign(campaign: Campaign, counts: dict[str, int], pool: ProcessPool) -> list[Finding]:
    """Checks all inputs: `counts` gives the number of each kind."""
    batches = [
        (kind, start, min(start + BATCH, count))
        for kind, count in counts.items()
        for start in range(0, count, BATCH)
    ]
    futures = [
        (batch, pool.schedule(run_batch, [campaign, *batch], timeout=BATCH_SECONDS))
        for batch in batches
    ]
    findings: list[Finding] = []
    with tqdm(desc="fuzz", total=sum(counts.values()), unit="input", smoothing=0) as progress:
        for (kind, start, stop), future in futures:
            try:
                findings += future.result()
            except (FutureTimeoutError, ProcessExpired):
                findings += _one_by_one(campaign, kind, range(start, stop), pool)
            progress.update(stop - start)
            progress.set_postfix(findings=len(findings))
    return findings


def _one_by_one(
    campaign: Campaign, kind: str, numbers: range, pool: ProcessPool
) -> Iterator[Finding]:
    """Repeats a batch on which a worker hung or died, to find the responsible input."""
    for number in numbers:
        size = len(campaign.make(kind, number))
        arguments = [campaign, kind, number, number + 1]
        try:
            yield from pool.schedule(run_batch, arguments, timeout=SINGLE_SECONDS).result()
        except FutureTimeoutError:
            yield Finding(kind, number, size, f"worker hangs, for {SINGLE_SECONDS:.0f} s")
        except ProcessExpired as error:
            yield Finding(kind, number, size, f"worker dies with code {error.exitcode}")


def grouped(findings: list[Finding]) -> dict[str, list[Finding]]:
    """Returns the findings by what failed, the most frequent first, small inputs first in each."""
    groups: dict[str, list[Finding]] = defaultdict(list)
    for finding in sorted(findings, key=lambda finding: finding.size):
        groups[f"{finding.kind}: {kind_of(finding.description)}"].append(finding)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


# ---------------------------------------------------------------- reports and files


def minimize(kind: str, data: Input) -> Input:
    """Returns a shorter input that fails in the same way, in a worker."""
    return shrink(data, lambda each: kind_of(CHECKS[kind](each) or ""), SHRINK_SECONDS)


def encoded(data: Input) -> bytes:
    """Returns an input as file content; texts may contain illegal UTF-8."""
    return data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")


def save_examples(
    campaign: Campaign, groups: dict[str, list[Finding]], pool: ProcessPool
) -> dict[str, Path]:
    """Writes one input of each group, as found and minimized; returns the minimized files."""
    OUT.mkdir(parents=True, exist_ok=True)
    jobs = []
    for group, (finding, *_) in groups.items():
        data = campaign.make(finding.kind, finding.number)
        path = OUT / f"{finding.kind}_{campaign.seed}_{finding.number}{SUFFIXES[finding.kind]}"
        path.write_bytes(encoded(data))
        timeout = SHRINK_SECONDS + BATCH_SECONDS
        future = pool.schedule(minimize, [finding.kind, data], timeout=timeout)
        jobs.append((group, path, future))
    files = {}
    for group, path, future in tqdm(jobs, desc="minimize", unit="finding"):
        with contextlib.suppress(FutureTimeoutError, ProcessExpired):  # then keep it as found
            small = path.with_stem(path.stem + "_small")
            small.write_bytes(encoded(future.result()))
            path = small
        files[group] = path
    return files


def report(campaign: Campaign, groups: dict[str, list[Finding]], files: dict[str, Path]) -> None:
    """Prints the table of findings and writes it as JSON."""
    for group, findings in groups.items():
        first, path = findings[0], files[group]
        print(f"{len(findings):6}  {group}")
        print(f"        {first.name}, {first.size:,} long; {path.stat().st_size:,} in {path}")
        detail = first.description[len(kind_of(first.description)) :].strip()
        print(f"        {detail[:DETAIL_CHARS]}")
    content = {
        "seed": campaign.seed,
        "sources": campaign.sources,
        "groups": {
            group: {"file": files[group].name, "findings": [asdict(f) for f in findings]}
            for group, findings in groups.items()
        },
    }
    (OUT / "findings.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"-> {OUT}")


def replay(campaign: Campaign, only: str) -> Finding | None:
    """Checks one input again: midi:123, abc:123, foreign:123, or a file that a campaign saved."""
    path = Path(only)
    kind, _, number = only.partition(":")
    if path.is_file():
        named = path.name.partition("_")[0]
        kind = named if named in CHECKS else "midi" if path.suffix == SUFFIXES["midi"] else "abc"
        number, content = "0", path.read_bytes()
        data = content.decode("utf-8", "surrogatepass") if kind == "abc" else content
    elif kind in SUFFIXES and number.isdecimal():
        data = campaign.make(kind, int(number))
    else:
        raise SystemExit(f"--only {only}: expected {', '.join(CHECKS)}:<number>, or a file")
    print(repr(data[:2000]))
    description = CHECKS[kind](data)
    print(description or "all is well")
    return description and Finding(kind, int(number), len(data), description)


def parse_options() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--midi", type=int, default=50_000, help="number of MIDI files")
    parser.add_argument("--abc", type=int, default=20_000, help="number of texts")
    parser.add_argument("--foreign", type=int, default=20_000, help="number of files of others")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sources", nargs="+", default=[], help="more files to mutate")
    parser.add_argument("--only", help="check one input again: midi:123, or a file")
    return parser.parse_args()


def main() -> None:
    """Run the campaign, or one input of it; print a table and save what failed."""
    options = parse_options()
    real_tunes = BUNDLED if BUNDLED.is_dir() else TUNES
    campaign = Campaign(options.seed, (str(real_tunes), *options.sources))
    if options.only:
        sys.exit(1 if replay(campaign, options.only) else 0)
    with worker_pool(options.workers) as pool:
        counts = {kind: getattr(options, kind) for kind in CHECKS}
        groups = grouped(run_campaign(campaign, counts, pool))
        files = save_examples(campaign, groups, pool)
    print(f"seed {options.seed}: {counts}; {len(groups)} kinds of findings")
    if groups:
        report(campaign, groups, files)
    sys.exit(1 if groups else 0)


if __name__ == "__main__":
    main()
