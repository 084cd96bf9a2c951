"""Stages 2 and 3, one row: what is done to a tune, and what it is measured by."""

from __future__ import annotations

import logging
from typing import Any

import datasets

from .clean import clean_abc, measure, strip_directives
from .filter_tunes import drop_reason, keep_informative_voices
from .notation import AbcError
from .settings import DataSettings

logger = logging.getLogger(__name__)

DROPPED = {"drop_reason": datasets.Value("string")}
MEASURED = {
    "n_chars": datasets.Value("int64"),
    "n_notes": datasets.Value("int64"),
    "n_bars": datasets.Value("int64"),
    "n_seconds": datasets.Value("float64"),
    "fingerprint": datasets.Value("string"),
    "figures": datasets.List(datasets.Value("uint32")),
}


def clean_row(row: dict[str, Any], settings: DataSettings) -> dict[str, Any]:
    """Cleans and measures the tune of a row, or says why it is dropped."""
    nothing = dict.fromkeys(("n_chars", "n_notes", "n_bars"), 0)
    nothing |= {"n_seconds": 0.0, "fingerprint": "", "figures": [], "drop_reason": None}
    try:
        abc = clean_abc(row["abc"], settings.clean)
    except AbcError as error:
        logger.warning("%s: %s", row["path"], error)
        return nothing | {"drop_reason": "unreadable_abc"}
    if not abc:
        return nothing | {"drop_reason": "silent"}
    counts = measure(abc, settings.duplicates)
    if settings.clean.strip_directives:
        abc = strip_directives(abc)
        counts["n_chars"] = len(abc)
    return {"abc": abc, "drop_reason": None} | counts


def filter_row(row: dict[str, Any], settings: DataSettings) -> dict[str, Any]:
    """Keeps the informative voices of a row's tune, if that is set, or says why it is dropped."""
    changed: dict[str, Any] = {}
    if least := settings.filter.min_voice_gzip_ratio:
        abc = keep_informative_voices(row["abc"], least)
        if abc := clean_abc(abc, settings.clean) if abc else "":
            changed = {"abc": abc} | measure(abc, settings.duplicates)
        else:
            return {"drop_reason": "too_repetitive"}
    row = row | changed
    return changed | {"drop_reason": drop_reason(row["abc"], row["n_notes"], settings.filter)}


def drop_duplicate(row: dict[str, Any], seen: set[str]) -> dict[str, Any]:
    """Drops the tune of a row if one of the same fingerprint was seen before."""
    if row["drop_reason"]:
        return {}
    if row["fingerprint"] in seen:
        return {"drop_reason": "duplicate"}
    seen.add(row["fingerprint"])
    return {}
