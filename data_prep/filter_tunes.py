"""Stage 3: keep a tune, or the reason to drop it; keep its informative voices."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from .clean import gzip_ratio
from .tune import print_tune
from .tune_parser import parse_tune

REASONS = ("too_few_notes", "too_long", "too_repetitive", "too_many_rests", "too_many_copied_bars")
_VOICE_MARK = re.compile(r"\[V:\d+\]")


@dataclass(frozen=True)
class FilterSettings:
    """What a tune must have to be kept.

    Attributes:
        min_notes: Fewer notes are no tune.
        max_chars: A longer text is dropped; 0 for no limit.
        min_gzip_ratio: Size after gzip over size before, of the text without white space; lower
            means that the tune mostly repeats itself. 0 for no limit. Study A takes 0.24.
        min_voice_gzip_ratio: The same of single voices: those below are left out of the tune, which
            is dropped only if none is left. 0 for no limit.
        max_rest_share: Share of the bars of all voices that may be rests, in [0, 1].
        max_copied_share: Share of the bars that may be the same, in all voices, as an earlier one.
        drop_duplicates: Whether one tune of each cluster stays.
    """

    min_notes: int = 16
    max_chars: int = 0
    min_gzip_ratio: float = 0.0
    min_voice_gzip_ratio: float = 0.0
    max_rest_share: float = 1.0
    max_copied_share: float = 1.0
    drop_duplicates: bool = True

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 0:
            raise ValueError(f"{self}: expected no number below 0")


def drop_reason(abc: str, n_notes: int, ratio: float, settings: FilterSettings) -> str | None:
    """Returns why the tune is dropped (one of `REASONS`), or None to keep it.

    Args:
        abc: A tune in the layout `bars`.
        n_notes: Its number of notes.
        ratio: Its gzip ratio, see `clean.gzip_ratio`.
        settings: What it must have.
    """
    if n_notes < settings.min_notes:
        return "too_few_notes"
    if settings.max_chars and len(abc) > settings.max_chars:
        return "too_long"
    if ratio < settings.min_gzip_ratio:
        return "too_repetitive"
    if settings.max_rest_share < 1 and rest_share(abc) > settings.max_rest_share:
        return "too_many_rests"
    if settings.max_copied_share < 1 and copied_share(abc) > settings.max_copied_share:
        return "too_many_copied_bars"
    return None


def rest_share(abc: str) -> float:
    """Returns the share of the bars of all voices that are left out as rests, in [0, 1]."""
    n_voices = len(re.findall(r"^V:", abc, re.MULTILINE))
    bars = _bars(abc)
    n_written = sum(len(_VOICE_MARK.findall(bar)) for bar in bars)
    return 1 - n_written / max(1, n_voices * len(bars))


def copied_share(abc: str) -> float:
    """Returns the share of the bars that are, in all voices, the same as an earlier one."""
    bars = _bars(abc)
    return 1 - len(set(bars)) / max(1, len(bars))


def _bars(abc: str) -> list[str]:
    return [line.removesuffix("]") for line in abc.splitlines() if line.startswith("[V:")]


def keep_informative_voices(abc: str, min_ratio: float) -> str:
    """Returns the tune without the voices whose own text compresses too well; "" if none is left.

    Study A drops four of five files for being repetitive as a whole; mostly it is the accompaniment
    that repeats, and this keeps the rest.

    Args:
        abc: A tune in either layout.
        min_ratio: The lowest gzip ratio of a voice that stays.
    """
    tune = parse_tune(abc)
    voices = [voice for voice in tune.voices if gzip_ratio("|".join(voice.bars)) >= min_ratio]
    if len(voices) == len(tune.voices):
        return abc
    return print_tune(replace(tune, voices=voices, origins={}), "bars") if voices else ""
