"""Stages 2 to 5 on some rows: how tunes are changed, measured, and dropped.

Each function takes a part of a table (see parts.py) and runs in a worker process.
"""

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from tokenizers import Tokenizer

from .dialect.abc_to_midi import perform
from .dialect.notation import AbcError
from .dialect.tune import instruments, print_tune
from .dialect.tune_parser import parse_tune
from .selection.clean import clean_tune, cut_tune, measured, strip_directives
from .selection.duplicates import signature
from .selection.filter_tunes import drop_reason, keep_informative_voices
from .settings import DataSettings
from .storage.drop_reasons import DropReason
from .tokens.augment import AugmentSettings, augmented
from .tokens.tokenizers import UNK, TokenSettings, load_encoder

logger = logging.getLogger(__name__)

DENOMINATORS = ("n_chars", "n_notes", "n_bars", "n_seconds")
_DROPPED = {"drop_reason": datasets.Value("string")}
_MEASURED = {
    "n_chars": datasets.Value("int64"),
    "n_notes": datasets.Value("int64"),
    "n_bars": datasets.Value("int64"),
    "n_seconds": datasets.Value("float64"),
    "gzip_ratio": datasets.Value("float32"),
    "fingerprint": datasets.Value("string"),
    "figures": datasets.List(datasets.Value("uint32")),
}
_NOTHING: dict[str, Any] = {
    **dict.fromkeys(("n_chars", "n_notes", "n_bars"), 0),
    **{"n_seconds": 0.0, "gzip_ratio": 0.0, "fingerprint": "", "figures": []},
}
_TOKENS = {"input_ids": datasets.List(datasets.Value("uint16"))}

_SONGS_AT_ONCE = 32
_NOT_READ = ("figures",)  # long; these functions write them but do not read them

Dropped = Counter[str]


def clean_rows(rows: Dataset, settings: DataSettings) -> tuple[Dataset, Dropped]:
    """Cleans and measures the converted tunes; counts the dropped ones by reason."""
    rows = without_dropped(rows).remove_columns("message")
    return _choose(rows, partial(clean_row, settings=settings), _MEASURED)


def filter_rows(rows: Dataset, settings: DataSettings) -> tuple[Dataset, Dropped]:
    """Keeps the tunes that pass the filter; counts the dropped ones by reason."""
    return _choose(rows, partial(_filter_row, settings=settings), {})


def _choose(
    rows: Dataset, change: Callable[[dict[str, Any]], dict[str, Any]], columns: dict[str, Any]
) -> tuple[Dataset, Dropped]:
    """Changes rows one by one; columns that no row changes are passed through as they are."""
    if not len(rows):
        return rows, Counter()
    table = rows.with_format("arrow")[:]
    given = table.drop_columns([name for name in _NOT_READ if name in table.column_names])
    changes = [change(row) for row in given.to_pylist()]
    features = datasets.Features({**rows.features, **columns, **_DROPPED})
    kinds = features.arrow_schema
    for name in dict.fromkeys(name for row in changes for name in row):
        values = [row.get(name) for row in changes]
        if not all(name in row for row in changes):
            old = table[name].to_pylist()
            values = [row.get(name, value) for row, value in zip(changes, old, strict=True)]
        column = pa.array(values, kinds.field(name).type)
        place = table.schema.get_field_index(name)
        add = table.append_column if place < 0 else partial(table.set_column, place)
        table = add(kinds.field(name), column)
    dropped = Counter(row["drop_reason"] for row in changes if row["drop_reason"])
    return without_dropped(Dataset(table, datasets.DatasetInfo(features=features))), dropped


def without_dropped(rows: Dataset) -> Dataset:
    """Returns the rows without a drop reason."""
    kept = pc.is_null(rows.with_format("arrow")["drop_reason"][:])
    return rows.select(np.flatnonzero(kept)).remove_columns("drop_reason")


def clean_row(row: dict[str, Any], settings: DataSettings) -> dict[str, Any]:
    """Cleans and measures the tune of a row, or gives its drop reason."""
    try:
        tune = clean_tune(parse_tune(row["abc"]), settings.clean)
        if not tune.n_bars:
            return _NOTHING | {"drop_reason": DropReason.SILENT}
        performance = perform(tune)
        # Of the whole song even if it is cut: other arrangements may be longer.
        figures = signature(performance, settings.duplicates).tolist()
        abc = print_tune(tune, "bars")
        if settings.clean.max_chars and len(abc) > settings.clean.max_chars:
            tune = cut_tune(tune, settings.clean.max_chars)
            if not tune.n_bars:
                return _NOTHING | {"drop_reason": DropReason.FIRST_BAR_TOO_LONG}
            performance, abc = perform(tune), print_tune(tune, "bars")
    except AbcError as error:
        logger.warning("%s: %s", row["path"], error)
        return _NOTHING | {"drop_reason": DropReason.UNREADABLE_ABC}
    counts = measured(performance, abc) | {"figures": figures} | instruments(tune)
    if settings.clean.strip_directives:
        abc = strip_directives(abc)
        counts["n_chars"] = len(abc)
    return {"abc": abc, "drop_reason": None} | counts


def _filter_row(row: dict[str, Any], settings: DataSettings) -> dict[str, Any]:
    """Keeps the informative voices of a row's tune, if so set, or gives its drop reason."""
    changed: dict[str, Any] = {}
    if least := settings.filter.min_voice_gzip_ratio:
        abc = keep_informative_voices(row["abc"], least)
        if abc == "":
            return {"drop_reason": DropReason.TOO_REPETITIVE}
        if abc != row["abc"]:
            changed = clean_row(row | {"abc": abc}, settings)
    reason = changed.get("drop_reason") or drop_reason(row | changed, settings.filter)
    return changed | {"drop_reason": reason}


def encode_rows(
    rows: Dataset, tokenizer_file: Path, tokens: TokenSettings, augment: AugmentSettings
) -> tuple[Dataset, Counter[str]]:
    """Encodes tunes and their augmented copies; leaves out those with too few or too many tokens.

    Returns:
        Rows of `digest`, the denominators and `input_ids`; and counts: `n_copies`, `n_tokens` and
        `n_unknown` of the rows that are kept, `n_too_few_tokens` and `n_too_many_tokens` of the
        others.
    """
    kept = ("digest", "abc", *DENOMINATORS)
    rows = rows.remove_columns([name for name in rows.column_names if name not in kept])
    n_songs = len(rows)
    if augment.copies:
        rows = rows.map(
            partial(_with_copies, settings=augment), batched=True, batch_size=_SONGS_AT_ONCE
        )
    n_copies = len(rows) - n_songs
    table = rows.with_format("arrow")[:]
    songs = [*load_encoder(tokenizer_file)(table["abc"].to_pylist())]
    offsets = pa.array(np.cumsum([0, *map(len, songs)]), pa.int32())
    flat = pa.array(np.concatenate([np.empty(0, np.uint16), *songs]))
    ids = pa.ListArray.from_arrays(offsets, flat)
    table = table.drop_columns("abc").append_column("input_ids", ids)
    features = {name: kind for name, kind in rows.features.items() if name != "abc"}
    rows = Dataset(table, datasets.DatasetInfo(features=datasets.Features(features | _TOKENS)))
    lengths = np.asarray(pc.list_value_length(ids))
    too_few = lengths < tokens.min_tokens
    too_many = lengths > (tokens.max_tokens or np.inf)
    stay = ~(too_few | too_many)
    kept_ids = np.asarray(pc.list_flatten(ids.filter(pa.array(stay))))
    unknown = Tokenizer.from_file(str(tokenizer_file)).token_to_id(UNK)
    counts = Counter(
        n_copies=n_copies,
        n_tokens=len(kept_ids),
        n_unknown=int(np.count_nonzero(kept_ids == unknown)),
        n_too_few_tokens=int(too_few.sum()),
        n_too_many_tokens=int(too_many.sum()),
    )
    return (rows if stay.all() else rows.select(np.flatnonzero(stay))), counts


def _with_copies(batch: dict[str, list[Any]], settings: AugmentSettings) -> dict[str, list[Any]]:
    """Inserts the augmented copies of each tune after it, with their own measurements."""
    rows = []
    for values in zip(*batch.values(), strict=True):
        rows.append(row := dict(zip(batch, values, strict=True)))
        for abc in augmented(row["abc"], row["digest"], settings):
            rows.append(row | measured(perform(parse_tune(abc)), abc) | {"abc": abc})
    return {name: [row[name] for row in rows] for name in batch}
