"""Stage 1, one file of any kind: its bytes -> a row of the output. Worker processes run it.

MIDI has its own function, whose code is all that the shards of a collection of MIDI depend on.
"""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..dialect.tune import print_tune
from ..importers.imported import Imported
from ..importers.kinds import MIDI, Kind, kind_of
from ..midi.limits import LIMITS, MidiError
from ..midi_to_abc.converter import check_chars
from ..storage.drop_reasons import DropReason
from .convert_file import convert_file, count, failed, row_before


def convert_member(name: str, content: bytes, layout: str) -> dict[str, Any]:
    """Converts one file to a row; a failure is a row with its reason.

    Args:
        name: Its name in the collection, which tells its kind.
        content: Its bytes.
        layout: One of `tune.LAYOUTS`.
    """
    kind = kind_of_member(name)
    if kind is MIDI:
        return convert_file(name, content, layout)
    return convert_import(kind.read, name, content, layout)


def kind_of_member(name: str) -> Kind:
    """Returns the kind of a member; the rows of tables are MIDI and have no suffix."""
    return kind_of(name) or MIDI


def convert_import(
    read: Callable[[bytes], Imported], name: str, content: bytes, layout: str
) -> dict[str, Any]:
    """Converts one file that is not MIDI by the reader of its kind, as `convert_file` does."""
    row = row_before(name, content)
    try:
        found = read(content)
        abc = print_tune(found.tune, layout)
        check_chars(len(abc), len(content), LIMITS)
    except MidiError as error:
        return failed(row, error.reason, str(error))
    except MemoryError:  # tried again alone, see convert_pool.py
        raise
    except Exception as error:  # a bug costs only this file, and is counted
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}, line {last.lineno}"
        return failed(row, DropReason.CRASH, f"{type(error).__name__}: {error} ({where})"[:300])
    row |= {"message": found.message, "n_doubled": found.n_left_out}
    return row | {"abc": abc, **count(found.tune)}
