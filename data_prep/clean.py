"""Stage 2: ABC text -> canonical ABC text, and what later denominators need.

Our converter writes canonical text already; what is left to do is musical: silence before the
first and after the last note is not something a model should learn to spend tokens on.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Any

from .abc_to_midi import Performance, perform
from .duplicates import DuplicateSettings, signature
from .tune import Tune, print_tune
from .tune_parser import parse_tune


@dataclass(frozen=True)
class CleanSettings:
    """What is taken off.

    Attributes:
        trim_silence: Silent bars at both ends.
        strip_directives: All lines that begin with `%`, and the fields `X:` and `Q:`, as in phase 1
            of study A: programs, drums and tempo are lost, which it names as its error.
    """

    trim_silence: bool = True
    strip_directives: bool = False


def clean_abc(abc: str, settings: CleanSettings = CleanSettings()) -> str:
    """Returns the tune in the bars layout, without silent voices; "" if all is silent.

    Raises:
        AbcError: If the text is not in the dialect.
    """
    tune = parse_tune(abc)
    if settings.trim_silence or not any(any(voice.bars) for voice in tune.voices):
        tune = trim_silence(tune)
    return print_tune(tune, "bars") if tune.n_bars else ""


def strip_directives(abc: str) -> str:
    """Returns the text with the fields `M:`, `L:`, `K:` and `V:` alone."""
    lines = [line for line in abc.splitlines(keepends=True) if line[:1] not in "%XQ"]
    return _INLINE_TEMPO.sub("", "".join(lines))


_DUPLICATES = DuplicateSettings()
_INLINE_TEMPO = re.compile(r"\[Q:[^\]]*\]")


def trim_silence(tune: Tune) -> Tune:
    """Cuts bars in which all voices rest off both ends, and drops voices that never sound."""
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
    """Moves bar -> value changes so that bar `first` is bar 0; what held there holds from 0."""
    before = max(bar for bar in changes if bar <= first)
    later = {bar - first: value for bar, value in changes.items() if first < bar < stop}
    return {0: changes[before]} | later


def measure(abc: str, duplicates: DuplicateSettings = _DUPLICATES) -> dict[str, Any]:
    """Counts what losses are divided by, and tells the music's fingerprint and figures.

    Returns:
        `n_chars`, `n_notes` (note onsets; each note of a chord counts), `n_bars` (bars summed
        over the voices), `n_seconds` (by the tempo map), `fingerprint` (exact duplicates), and
        `figures` (near duplicates; see `duplicates.signature`).
    """
    performance = perform(parse_tune(abc))
    tune = performance.tune
    return {
        "n_chars": len(abc),
        "n_notes": performance.n_notes,
        "n_bars": tune.n_bars * len(tune.voices),
        "n_seconds": performance.n_seconds,
        "fingerprint": fingerprint(performance),
        "figures": signature(performance, duplicates),
    }


def fingerprint(performance: Performance) -> str:
    """Returns a digest that tunes share exactly if they are the same music.

    Compared are onset, length and pitch of all notes, drums apart; the whole tune may be
    transposed, played at another tempo, or on other instruments.
    """
    notes, drums = set(), set()
    for voice, chords in zip(performance.tune.voices, performance.voices, strict=True):
        (drums if voice.is_drums else notes).update(
            (onset, end - onset, pitch) for onset, end, pitches in chords for pitch in pitches
        )
    lowest = min((pitch for _, _, pitch in notes), default=0)
    start = min((onset for onset, _, _ in notes | drums), default=0)
    music = (
        sorted((onset - start, length, pitch - lowest) for onset, length, pitch in notes),
        sorted({(onset - start, pitch) for onset, _, pitch in drums}),
    )
    return hashlib.sha256(repr(music).encode()).hexdigest()[:32]
