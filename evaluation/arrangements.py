"""How well a model fills in bars and accompanies voices: written music beside the true music.

Fill-ins: in held-out songs, BARS bars drawn at random are written anew. Accompaniments: of songs
with several voices the first is given, and the others are written with their own instruments. For
both: whether what was given is untouched and the bars are as many and as long, whether the three
readers accept the tune (where they accept the true one), and how the statistics of `music.seams`
differ from those of the true music, as means over songs with intervals. `gap_loss` and
`forced_choice` are losses, see `loss.fill_in_loss` and `loss.forced_choice`. `first_bar_ms` is the
wall time from a call to the first bar of an accompaniment, on one CPU thread.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modeling.export_abc import export_tune
from modeling.notation_abc import rest_text
from modeling.pipeline_abc_music import AbcMusicPipeline
from modeling.plan_abc import Bars, read_bars
from scaling.writing.wording import bracket, quantity

from .judging.judge_table import VALID
from .judging.kept_verdicts import judge_sets
from .loading.finished_run import FinishedRun, TooFewSongsError, held_out_tunes
from .loss.fill_in_loss import WAYS, can_fill_in, score_gaps
from .loss.forced_choice import choose
from .metrics import differences, rate
from .music.seams import consonance, seam_statistics
from .samples.sampling import SamplingSettings, make_samples, write_tunes

logger = logging.getLogger(__name__)

BARS = 4
MOST_ACCOMPANIMENTS = 200
MOST_VOICES = 4  # of a song whose first voice is accompanied
MOST_CHARS = 8_000  # of a song
FIRST_BARS = 30  # calls whose time to the first bar is measured
N_WRITTEN = 8  # tunes per set, short and long, that are written to files
FILL_INS, ACCOMPANIMENTS = "fill_ins", "accompaniments"

Rows = list[dict[str, Any]]


def arrangements(
    name: str, write: AbcMusicPipeline, run: FinishedRun, n: int, seed: int, folder: Path
) -> dict[str, Any] | None:
    """Writes and measures n fill-ins and up to 300 accompaniments; None without fill-in tokens.

    Args:
        name: The model, as `models.find_model` returns it.
        write: The same, as a pipeline.
        run: The same, as a run.
        n: Number of fill-ins.
        seed: Of the samples and the intervals.
        folder: samples/<set> is written there.
    """
    if not can_fill_in(write.tokenizer):
        return None
    songs = [abc for abc in held_out_tunes(run.files.folder) if len(abc) <= MOST_CHARS]
    together = [abc for abc in songs if 2 <= read_bars(abc).n_voices <= MOST_VOICES]
    asked = {
        FILL_INS: list(islice(fill_ins(songs, seed), n)),
        ACCOMPANIMENTS: list(islice(accompaniments(together), min(n, MOST_ACCOMPANIMENTS))),
    }
    statistics = {FILL_INS: _of_seams, ACCOMPANIMENTS: _of_voices}
    content: dict[str, Any] = {"bars": BARS}
    for kind, rows in asked.items():
        content[kind] = None
        rows.sort(key=lambda row: len(row["true"]))  # a batch takes as long as its longest tune
        if rows:
            written = _written(kind, rows, name, write, seed, folder)
            content[kind] = described(kind, written, statistics[kind], seed, folder)
    content["gap_loss"] = _or_none(lambda: score_gaps(run, BARS, seed))
    content["forced_choice"] = _or_none(lambda: choose(run, seed))
    content["first_bar_ms"] = first_bar_ms(write, together) if len(together) > 1 else None
    return content


def fill_ins(songs: Sequence[str], seed: int) -> Iterator[dict[str, Any]]:
    """Yields what to fill in, without end: `true`, and `asked` as the pipeline takes it."""
    rng = np.random.default_rng(seed)
    usable = [abc for abc in songs if len(read_bars(abc).lines) >= BARS + 2]
    for true in cycle(usable):
        first = 1 + int(rng.integers(len(read_bars(true).lines) - BARS + 1))
        yield {"true": true, "asked": {"prompt": true, "fill": [first, first + BARS - 1]}}


def accompaniments(songs: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields first voices to accompany, without end: `true`, and `asked`."""
    for true in cycle(songs):
        bars = read_bars(true)
        asked = {"accompany": first_voice(bars), "instruments": instruments(bars)[1:]}
        yield {"true": true, "asked": asked}


def first_voice(bars: Bars, n_bars: int | None = None) -> str:
    """The first voice of a tune, or its first bars, as a tune of its own."""
    lines = []
    for bar in range(n_bars or len(bars.lines)):
        text = bars.voices(bar)[0] or rest_text(bars.ticks[bar])
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
    if "fill" in row["asked"]:
        first, last = row["asked"]["fill"]
        kept = [*range(first - 1), *range(last, len(true.lines))]
        return [tune.lines[n] for n in kept] == [true.lines[n] for n in kept]
    given = read_bars(row["asked"]["accompany"])
    return all(tune.voices(n)[0] == given.voices(n)[0] for n in range(len(given.lines)))


def described(
    kind: str, rows: Rows, statistics: Callable[[dict, str], dict], seed: int, folder: Path
) -> dict[str, Any]:
    """The metrics of fill-ins or accompaniments.

    Args:
        kind: Name of the set.
        rows: Samples with the keys of `fill_ins` or `accompaniments`.
        statistics: (row, "abc" or "true") -> statistics of that tune.
        seed: Of the intervals.
        folder: Verdicts are kept in samples/ below it.
    """
    real = [
        {"sample": row["sample"], "abc": row["true"], "abc_voices": export_tune(row["true"])}
        for row in rows
    ]
    real_kind = f"{kind}_real"
    verdicts, about = judge_sets({kind: rows, real_kind: real}, folder / "samples")
    pairs = zip(verdicts[real_kind], verdicts[kind], strict=True)
    both = [own[VALID] for true, own in pairs if true[VALID]]
    return {
        "n": len(rows),
        "untouched": rate([is_untouched(row) for row in rows]),
        "valid_where_the_true_one_is": rate(both) if both else None,
        "judges": about,
        "less_true": differences(
            *([statistics(row, side) for row in rows] for side in ("abc", "true")), seed
        ),
    }


def first_bar_ms(write: AbcMusicPipeline, songs: Sequence[str]) -> dict[str, float]:
    """Wall time to the first bar of an accompaniment, in milliseconds, on one thread."""
    times = []
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for abc in islice(cycle(songs), FIRST_BARS + 1):
        bars = read_bars(abc)
        start = time.perf_counter()
        write(accompany=first_voice(bars, 1), instruments=instruments(bars)[1:], seed=1)
        times.append(1000 * (time.perf_counter() - start))
    torch.set_num_threads(n_threads)
    median, high = np.percentile(times[1:], (50, 95))  # the first call fills caches
    return {"n": len(times) - 1, "median": float(median), "p95": float(high)}


def in_words(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What `arrangements` found, as labels and values for tables."""
    lines = []
    names = {FILL_INS: f"{found['bars']} bars filled in", ACCOMPANIMENTS: "first voice accompanied"}
    for kind, label in names.items():
        if about := found[kind]:
            lines.append((f"{label}: given music untouched", _counted(about["untouched"])))
            if about["valid_where_the_true_one_is"]:
                valid = _counted(about["valid_where_the_true_one_is"])
                lines.append((f"{label}: valid, where the true tune is", valid))
            for name, less in about["less_true"].items():
                if less["in_deviations"] is not None:
                    text = f"{less['difference']:+.3f} {bracket(less['interval_95'], '+.3f')}"
                    text += f", {less['in_deviations']:+.2f} deviations"
                    lines.append((f"{label}: {name.replace('_', ' ')}, minus the true music", text))
    if gap := found["gap_loss"]:
        nats, gain = gap["nats_per_char"], gap["gain"]["before"]
        for way, label in WAYS.items():
            text = quantity(nats[way]["mean"], nats[way]["interval_95"], ".4f")
            lines.append((f"true bars, {label}: nats per character", text))
        text = quantity(gain["mean"], gain["interval_95"], ".4f")
        label = "gain of both sides over the bars before: nats per character"
        lines.append((label, f"{text}, {100 * gain['share']:.1f} %"))
    if choice := found["forced_choice"]:
        lines.append(("own voices preferred to another song's", _counted(choice["right"])))
    if times := found["first_bar_ms"]:
        text = f"{times['median']:.0f} ({times['p95']:.0f})"
        lines.append(("first bar of an accompaniment, median (95th percentile), ms", text))
    return lines


def _counted(found: dict[str, Any]) -> str:
    ends = bracket([100 * end for end in found["interval_95"]], ".1f")
    return f"{found['successes']:,} of {found['n']:,}, {100 * found['rate']:.1f} % {ends}"


def _written(
    kind: str, rows: Rows, name: str, write: AbcMusicPipeline, seed: int, folder: Path
) -> Rows:
    settings = SamplingSettings(n=len(rows), seed=seed)
    place = folder / "samples" / kind
    samples = make_samples(name, settings, place, [row["asked"] for row in rows], write)
    write_tunes(samples[:: -(-len(samples) // N_WRITTEN)], place)
    return [row | sample for row, sample in zip(rows, samples, strict=True)]


def _or_none(measure: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """A measure; None, and a line that says why, if the data has too few songs for it."""
    try:
        return measure()
    except TooFewSongsError as error:
        logger.warning("%s", error)
        return None


def _of_seams(row: dict[str, Any], side: str) -> dict[str, float | None]:
    return seam_statistics(row[side], *row["asked"]["fill"])


def _of_voices(row: dict[str, Any], side: str) -> dict[str, float | None]:
    return {"consonance": consonance(row[side], 1)}
