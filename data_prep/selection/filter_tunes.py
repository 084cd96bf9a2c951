"""Stage 3: keep a tune, or the reason to drop it; keep its informative voices."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..dialect.tune import print_tune
from ..dialect.tune_parser import parse_tune
from ..storage.drop_reasons import DropReason
from .clean import gzip_ratio


@dataclass(frozen=True)
class FilterSettings:
    """What a tune must have to be kept.

    Attributes:
        min_notes: Fewer notes are no tune.
        min_gzip_ratio: Size after gzip over size before, of the text without white space; lower
            means that the tune mostly repeats itself. 0 for no limit. Study A takes 0.24.
        min_voice_gzip_ratio: The same of single voices: those below are left out of the tune, which
            is dropped only if none is left. 0 for no limit.
        drop_duplicates: Whether one tune of each cluster stays.
    """

    min_notes: int = 16
    min_gzip_ratio: float = 0.0
    min_voice_gzip_ratio: float = 0.0
    drop_duplicates: bool = True

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 0:
            raise ValueError(f"{self}: expected no number below 0")


def drop_reason(row: Mapping[str, Any], settings: FilterSettings) -> DropReason | None:
    """Returns why the tune is dropped, or None to keep it.

    Args:
        row: Of stage 2: the text in the layout `bars`, and what `clean.measured` counts in it.
        settings: What it must have.
    """
    if row["n_notes"] < settings.min_notes:
        return DropReason.TOO_FEW_NOTES
    if row["gzip_ratio"] < settings.min_gzip_ratio:
        return DropReason.TOO_REPETITIVE
    return None


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
