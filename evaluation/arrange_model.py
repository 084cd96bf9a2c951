"""How well a model fills in bars and accompanies voices: written music beside the true music.

    python -m evaluation.arrange_model runs/fill_in/gpt_tiny --fills 500 --accompaniments 300
        --out results/arrangements/gpt_tiny.json

Fill-ins: in held-out songs, BARS bars drawn at random are written anew. Accompaniments: of songs
with several voices the first is given, and the others are written with their own instruments. For
both: whether what was given is untouched and the bars are as many and as long, whether the three
readers accept the tune (where they accept the true one), and how the statistics of `music.seams`
differ from those of the true music, as means over songs with intervals. `first_bar_ms` is the wall
time from a call to the first bar of an accompaniment, on one CPU thread: median and percentile 95.
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from data_prep.storage.explain import explain
from modeling.export_abc import export_tune
from modeling.pipeline_abc_music import AbcMusicPipeline
from modeling.plan_abc import Bars, read_bars
from scaling.writing.commands import command
from scaling.writing.files import json_lines, write_atomically, write_json

from .judging.judge_table import VALID
from .judging.judges import judge_texts
from .loading.finished_run import FinishedRun, split_column
from .loading.models import find_model, load_writer
from .metrics import differences, rate
from .music.seams import consonance, seam_statistics
from .samples.sampling import INTERRUPTED

logger = logging.getLogger(__name__)

BARS = 4
MOST_VOICES = 4  # of a song whose first voice is accompanied
MOST_CHARS = 8_000  # of a song
FIRST_BARS = 30  # calls whose time to the first bar is measured
Rows = list[dict[str, Any]]


def fill_ins(write: AbcMusicPipeline, songs: Sequence[str], n: int, seed: int) -> Iterator[dict]:
    """Yields n fill-ins: `abc`, `true`, `first`, `last`; songs are used again once all were."""
    rng = np.random.default_rng(seed)
    usable = [abc for abc in songs if len(read_bars(abc).lines) >= BARS + 2]
    for number in range(n):
        true = usable[number % len(usable)]
        first = 1 + int(rng.integers(len(read_bars(true).lines) - BARS + 1))
        fill = (first, first + BARS - 1)
        (tune,) = write(prompt=true, fill=fill, seed=seed + number)
        yield {"abc": tune["abc"], "true": true, "first": fill[0], "last": fill[1]}


def accompaniments(
    write: AbcMusicPipeline, songs: Sequence[str], n: int, seed: int
) -> Iterator[dict]:
    """Yields n accompaniments of first voices: `abc`, `true`, `given`, `instruments`."""
    usable = [abc for abc in songs if 2 <= read_bars(abc).n_voices <= MOST_VOICES]
    for number in range(n):
        true = usable[number % len(usable)]
        bars = read_bars(true)
        given, others = first_voice(bars), instruments(bars)[1:]
        (tune,) = write(accompany=given, instruments=others, seed=seed + number)
        yield {"abc": tune["abc"], "true": true, "given": given, "instruments": others}


def first_voice(bars: Bars, n_bars: int | None = None) -> str:
    """The first voice of a tune, or its first bars, as a tune of its own."""
    lines = []
    for bar in range(n_bars or len(bars.lines)):
        text = bars.voices(bar)[0] or f"z{bars.ticks[bar] / 12:g}"
        lines.append(f"[V:1]{bars.fields(bar)}{text}|\n")
    lines[-1] = lines[-1].replace("-|", "|").replace("|\n", "|]\n")
    return bars.header[: bars.header.find("V:2\n")] + "".join(lines)


def instruments(bars: Bars) -> list[int | str]:
    """General MIDI programs of the voices, or "drums"."""
    programs = (head.rpartition("program ") for head in bars.voice_heads)
    return [int(number) if found else "drums" for _, found, number in programs]


def is_untouched(row: dict[str, Any]) -> bool:
    """Whether the bars or voices that were given are in the tune to the character."""
    tune, true = read_bars(row["abc"]), read_bars(row["true"])
    if tune.ticks != true.ticks:
        return False
    if "first" in row:
        first, last = row["first"] - 1, row["last"]
        kept = [*range(first), *range(last, len(true.lines))]
        return [tune.lines[n] for n in kept] == [true.lines[n] for n in kept]
    given = read_bars(row["given"])
    return all(tune.voices(n)[0] == given.voices(n)[0] for n in range(len(given.lines)))


def described(rows: Rows, statistics: Callable[[dict, str], dict], seed: int) -> dict[str, Any]:
    """The metrics of fill-ins or accompaniments.

    Args:
        rows: As yielded above.
        statistics: (row, "abc" or "true") -> statistics of that tune.
        seed: Of the intervals.
    """
    verdicts, about = judge_texts(
        [export_tune(row[side]) for side in ("true", "abc") for row in rows],
        [row[side] for side in ("true", "abc") for row in rows],
    )
    pairs = zip(verdicts[: len(rows)], verdicts[len(rows) :], strict=True)
    both = [own[VALID] for true, own in pairs if true[VALID]]
    return {
        "n": len(rows),
        "untouched": rate([is_untouched(row) for row in rows]),
        "valid_where_the_true_one_is": rate(both) if both else None,
        "judges": {name: about[name] for name in ("versions", "missing")},
        "less_true": differences(
            *([statistics(row, side) for row in rows] for side in ("abc", "true")), seed
        ),
    }


def first_bar_ms(write: AbcMusicPipeline, songs: Sequence[str]) -> dict[str, float]:
    """Wall time to the first bar of an accompaniment, in milliseconds, on one thread."""
    times = []
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for abc in songs[: FIRST_BARS + 1]:
        bars = read_bars(abc)
        start = time.perf_counter()
        write(accompany=first_voice(bars, 1), instruments=instruments(bars)[1:], seed=1)
        times.append(1000 * (time.perf_counter() - start))
    torch.set_num_threads(n_threads)
    median, high = np.percentile(times[1:], (50, 95))  # the first call fills caches
    return {"n": len(times) - 1, "median": float(median), "p95": float(high)}


def arrange(run: FinishedRun, n_fills: int, n_accompaniments: int, seed: int, out: Path) -> dict:
    """The content of the file; the tunes go beside it, as JSON lines."""
    write = load_writer(find_model(str(run.folder)))
    songs = [abc for abc in split_column(run.files.folder, "test") if len(abc) <= MOST_CHARS]
    content: dict[str, Any] = dict(run.facts) | {"seed": seed, "bars": BARS}
    for name, make, n, statistics in (
        ("fill_ins", fill_ins, n_fills, _of_seams),
        ("accompaniments", accompaniments, n_accompaniments, _of_voices),
    ):
        if not n:
            continue
        rows = list(tqdm(make(write, songs, n, seed), desc=name, total=n, unit="tune"))
        write_atomically(out.with_name(f"{out.stem}_{name}.jsonl"), json_lines(rows))
        content[name] = described(rows, statistics, seed)
    of_several = [abc for abc in songs if 2 <= read_bars(abc).n_voices <= MOST_VOICES]
    content["first_bar_ms"] = first_bar_ms(write, of_several) if len(of_several) > 1 else None
    return content


def _of_seams(row: dict[str, Any], side: str) -> dict[str, float | None]:
    return seam_statistics(row[side], row["first"], row["last"])


def _of_voices(row: dict[str, Any], side: str) -> dict[str, float | None]:
    return {"consonance": consonance(row[side], 1)}


@command(ValueError, OSError, say=explain, interrupted=INTERRUPTED)
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="evaluation.arrange_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="a finished run, trained with fill_in.share")
    parser.add_argument("--fills", type=int, default=500)
    parser.add_argument("--accompaniments", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run = FinishedRun.open(options.run)
    content = arrange(run, options.fills, options.accompaniments, options.seed, options.out)
    write_json(options.out, content)
    for name in ("fill_ins", "accompaniments"):
        if name in content:
            found = content[name]["untouched"]
            print(f"{name}: {found['successes']:,} of {found['n']:,} whole and untouched")
    print(f"-> {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
