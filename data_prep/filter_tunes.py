"""Stage 3: keep a tune, or the reason to drop it; duplicate clusters."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass

REASONS = ("too_few_notes", "too_long", "too_repetitive")


@dataclass(frozen=True)
class FilterSettings:
    """What a tune must have to be kept.

    Attributes:
        min_notes: Fewer notes are no tune.
        max_chars: A longer text is dropped; 0 for no limit.
        min_gzip_ratio: Size after gzip over size before, of the text without white space; lower
            means that the tune mostly repeats itself. 0 for no limit. Study A takes 0.24.
    """

    min_notes: int = 16
    max_chars: int = 0
    min_gzip_ratio: float = 0.0

    def __post_init__(self) -> None:
        if min(self.min_notes, self.max_chars, self.min_gzip_ratio) < 0:
            raise ValueError(f"{self}: expected no number below 0")


def drop_reason(abc: str, n_notes: int, settings: FilterSettings) -> str | None:
    """Returns why the tune is dropped (one of `REASONS`), or None to keep it."""
    if n_notes < settings.min_notes:
        return "too_few_notes"
    if settings.max_chars and len(abc) > settings.max_chars:
        return "too_long"
    if settings.min_gzip_ratio and gzip_ratio(abc) < settings.min_gzip_ratio:
        return "too_repetitive"
    return None


def gzip_ratio(abc: str) -> float:
    """Returns size after gzip over size before, of the text without white space, in (0, 1+]."""
    plain = re.sub(r"\s", "", abc).encode()
    return len(gzip.compress(plain, mtime=0)) / max(1, len(plain))
