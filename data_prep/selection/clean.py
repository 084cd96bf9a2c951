"""Stage 2: ABC text -> canonical ABC text, and the counts for later denominators.

Our converter writes canonical text already; what remains to be cleaned is musical: a model should
not spend tokens on silence before the first and after the last note.
"""

import gzip
import hashlib
import itertools
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..dialect.abc_to_midi import Performance
from ..dialect.tune import Tune, print_tune
from ..dialect.tune_parser import parse_tune


@dataclass(frozen=True)
class CleanSettings:
    """What is removed.

    Attributes:
        trim_silence: Remove silent bars at both ends.
        max_chars: Cut longer tunes at the last bar line within this many characters; 0 for no
            limit. So a corpus of few characters still contains many songs.
        strip_directives: Remove all lines that begin with `%`, and the fields `X:` and `Q:`, as in
            phase 1 of study A: programs, drums and tempo are lost, which it names as its error.
    """

    trim_silence: bool = True
    max_chars: int = 0
    strip_directives: bool = False

    def __post_init__(self) -> None:
        if self.max_chars < 0:
            raise ValueError(f"max_chars is {self.max_chars}, expected 0 (no limit) or more")


def clean_abc(abc: str, settings: CleanSettings = CleanSettings()) -> str:
    """Returns the tune in the bars layout, without silent voices; "" if all is silent.

    Raises:
        AbcError: If the text is not in the dialect.
    """
    tune = clean_tune(parse_tune(abc), settings)
    return print_tune(tune, "bars") if tune.n_bars else ""


def clean_tune(tune: Tune, settings: CleanSettings) -> Tune:
    """Returns the tune as set by `settings`, except for its length; no bars if all is silent."""
    if settings.trim_silence or not any(any(voice.bars) for voice in tune.voices):
        return trim_silence(tune)
    return tune


def strip_directives(abc: str) -> str:
    """Returns the text with only the fields `M:`, `L:`, `K:` and `V:`."""
    lines = [line for line in abc.splitlines(keepends=True) if line[:1] not in "%XQ"]
    return _INLINE_TEMPO.sub("", "".join(lines))


_INLINE_TEMPO = re.compile(r"\[Q:[^\]]*\]")


def trim_silence(tune: Tune) -> Tune:
    """Removes bars in which all voices rest from both ends, and voices that never sound."""
    voices = [voice for voice in tune.voices if any(voice.bars)]
    sounding = [bar for bar in range(tune.n_bars) if any(voice.bars[bar] for voice in voices)]
    first, stop = (sounding[0], sounding[-1] + 1) if sounding else (0, 0)
    return Tune(
        tune.key,
        _cut_changes(tune.meters, first, stop),
        _cut_changes(tune.tempos, first, stop),
        [replace(voice, bars=voice.bars[first:stop]) for voice in voices],
        tune.pickup if not first else None,
    )


def _cut_changes(changes: dict[int, Any], first: int, stop: int) -> dict[int, Any]:
    """Shifts bar -> value changes so that bar `first` is bar 0; its value applies from 0 on."""
    before = max(bar for bar in changes if bar <= first)
    later = {bar - first: value for bar, value in changes.items() if first < bar < stop}
    return {0: changes[before]} | later


def cut_tune(tune: Tune, max_chars: int) -> Tune:
    """Returns the first bars of a tune: as many as fit in `max_chars` characters, maybe none.

    Notes that are tied over the cut end there.
    """
    lines = print_tune(tune, "bars").splitlines(keepends=True)
    head, bars = lines[: -tune.n_bars], lines[-tune.n_bars :]
    ends = itertools.accumulate((len(bar) for bar in bars), initial=sum(map(len, head)))
    # The last bar line is one character longer.
    n_bars = sum(end + 1 <= max_chars for end in itertools.islice(ends, 1, None))
    return trim_silence(
        replace(
            tune,
            meters={bar: meter for bar, meter in tune.meters.items() if bar < max(n_bars, 1)},
            tempos={bar: tempo for bar, tempo in tune.tempos.items() if bar < max(n_bars, 1)},
            voices=[replace(v, bars=_without_last_tie(v.bars[:n_bars])) for v in tune.voices],
            origins={},
        )
    )


def _without_last_tie(bars: list[str]) -> list[str]:
    return [*bars[:-1], *(bar.removesuffix("-") for bar in bars[-1:])]


def measured(performance: Performance, abc: str) -> dict[str, Any]:
    """Counts the denominators of losses, and computes the music's fingerprint.

    Args:
        performance: The performance of the text.
        abc: The text, in the layout `bars`.

    Returns:
        `n_chars`, `n_notes` (note onsets; each note of a chord counts), `n_bars` (bars summed
        over the voices), `n_seconds` (by the tempo map), `gzip_ratio` (see `gzip_ratio`), and
        `fingerprint` (exact duplicates).
    """
    tune = performance.tune
    return {
        "n_chars": len(abc),
        "n_notes": performance.n_notes,
        "n_bars": tune.n_bars * len(tune.voices),
        "n_seconds": performance.n_seconds,
        "gzip_ratio": gzip_ratio(abc),
        "fingerprint": fingerprint(performance),
    }


def gzip_ratio(text: str) -> float:
    """Returns size after gzip over size before, of the text without whitespace, in (0, 1+].

    Source: study A, which drops files below 0.24 as too repetitive.
    """
    plain = re.sub(r"\s", "", text).encode()
    return len(gzip.compress(plain, mtime=0)) / max(1, len(plain))


def fingerprint(performance: Performance) -> str:
    """Returns a digest that is equal exactly for tunes of the same music.

    It covers onset, length and pitch of all notes, drums separately; the whole tune may be
    transposed, played at another tempo, or on other instruments.
    """
    voices = zip(performance.tune.voices, performance.voices, strict=True)
    tables = [(voice.is_drums, _note_table(chords)) for voice, chords in voices]
    notes = [table for is_drums, table in tables if not is_drums]
    drums = [table * (1, 0, 1) for is_drums, table in tables if is_drums]  # lengths mean nothing
    music = np.concatenate([np.empty((0, 3), np.int64), *notes, *drums])
    n_notes = sum(map(len, notes))
    music[:, 0] -= music[:, 0].min(initial=np.iinfo(np.int64).max)
    pitches = music[:n_notes, 2]
    pitches -= pitches.min(initial=np.iinfo(np.int64).max)
    digest = hashlib.sha256()
    for part in (music[:n_notes], music[n_notes:]):
        # One number per note; ticks are below 2^27, which is MIDI's limit (see abc_to_midi).
        keys = np.unique(part @ np.array([1 << 34, 1 << 7, 1]))
        digest.update(keys.astype("<i8").tobytes() + b"|")
    return digest.hexdigest()[:32]


def _note_table(chords: list[tuple[int, int, tuple[int, ...]]]) -> np.ndarray:
    """Returns onset, length in ticks and pitch of each note: (n, 3) int64."""
    sizes = [len(pitches) for _, _, pitches in chords]
    times = np.array([(onset, end - onset) for onset, end, _ in chords], np.int64).reshape(-1, 2)
    pitches = np.fromiter(itertools.chain.from_iterable(c[2] for c in chords), np.int64)
    return np.column_stack([np.repeat(times, sizes, axis=0), pitches])
