"""Stage 3: the drop reason of a tune, if any; and the selection of its informative voices."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..dialect.tune import print_tune
from ..dialect.tune_parser import parse_tune
from ..storage.drop_reasons import DropReason
from .clean import gzip_ratio


@dataclass(frozen=True)
class FilterSettings:
    """Conditions for keeping a tune.

    Attributes:
        min_notes: Tunes with fewer notes are dropped.
        min_gzip_ratio: Size after gzip over size before, of the text without whitespace; lower
            means that the tune mostly repeats itself. 0 for no limit. Study A uses 0.24.
        min_voice_gzip_ratio: The same for single voices: voices below are removed from the tune,
            which is dropped only if none is left. 0 for no limit.
        drop_duplicates: Whether to keep only one of the tunes with the same fingerprint.
    """

    min_notes: int = 16
    min_gzip_ratio: float = 0.0
    min_voice_gzip_ratio: float = 0.0
    drop_duplicates: bool = True

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 0:
            raise ValueError(f"{self}: expected no number below 0")


def drop_reason(row: Mapping[str, Any], settings: FilterSettings) -> DropReason | None:
    """Returns the drop reason of a tune, or None to keep it.

    Args:
        row: A row of stage 2: the text in the layout `bars`, and its counts by `clean.measured`.
        settings: Conditions for keeping the tune.
    """
    if row["n_notes"] < settings.min_notes:
        return DropReason.TOO_FEW_NOTES
    if row["gzip_ratio"] < settings.min_gzip_ratio:
        return DropReason.TOO_REPETITIVE
    return None


def keep_informative_voices(abc: str, min_ratio: float) -> str:
    """Returns the tune without the voices whose own text compresses too well; "" if none is left.

    Study A drops four of five files for being repetitive as a whole; mostly only the accompaniment
    repeats, and this keeps the rest.

    Args:
        abc: A tune in either layout.
        min_ratio: The lowest gzip ratio of a voice that is kept.
    """
    tune = parse_tune(abc)
    voices = [voice for voice in tune.voices if gzip_ratio("|".join(voice.bars)) >= min_ratio]
    if len(voices) == len(tune.voices):
        return abc
    return print_tune(replace(tune, voices=voices, origins={}), "bars") if voices else ""
