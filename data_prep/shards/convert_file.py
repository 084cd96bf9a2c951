"""Stage 1, one MIDI file: its bytes -> a row of the output. Worker processes run it.

Along with the text, a row contains the denominators of later losses. They are counted in the text
of the bars, which repeat a lot, so that nothing has to be performed.
"""

import hashlib
import re
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from ..collections.members import Content, printable
from ..dialect.tune import Tune, instruments, print_tune, seconds
from ..midi.limits import LIMITS, MidiError
from ..midi_to_abc.converter import check_chars, midi_to_tune
from ..storage.drop_reasons import DropReason

_CHORD = re.compile(r"\[([^\]]*)\][\d/]*(-?)|([A-Ga-g])[,'\d/]*(-?)")
_LETTER = re.compile(r"[A-Ga-g]")


def convert_file(name: str, midi: bytes, layout: str) -> dict[str, Any]:
    """Converts one file to a row; a failure is a row with its reason.

    Args:
        name: Its name in the collection.
        midi: Its bytes.
        layout: One of `tune.LAYOUTS`.
    """
    row = row_before(name, midi)
    try:
        converted = midi_to_tune(midi)
        abc = print_tune(converted.tune, layout)
        check_chars(len(abc), len(midi), LIMITS)  # as `midi_to_abc` does
    except MidiError as error:
        return failed(row, error.reason, str(error))
    except MemoryError:  # tried again alone, see convert_pool.py
        raise
    except Exception as error:  # a bug in the converter costs only this file, and is counted
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split())[:200]
        where = f"{Path(last.filename).name}, line {last.lineno}"
        return failed(row, DropReason.CRASH, f"{type(error).__name__}: {text} ({where})")
    return row | {"abc": abc, "n_doubled": converted.n_doubled, **count(converted.tune)}


def row_before(name: str, content: Content) -> dict[str, Any]:
    """Returns the row of a file before conversion; with a drop reason if it cannot be read."""
    is_read = isinstance(content, bytes)
    row = {
        "digest": hashlib.sha256(content).hexdigest() if is_read else "",
        "path": printable(name),
        "abc": None,
        "drop_reason": None,
        "message": None,
    }
    return row if is_read else failed(row, content.reason, str(content))


def failed(row: dict[str, Any], reason: DropReason, message: str) -> dict[str, Any]:
    """Returns the row of a file that was not converted."""
    return row | {"drop_reason": reason, "message": printable(message)}


def count(tune: Tune) -> dict[str, Any]:
    """Counts the denominators of losses, as `clean.measured` does for text.

    Args:
        tune: A tune by the converter: all its bars are full, and ties lead to the same pitches.

    Returns:
        `n_notes` (note onsets; each note of a chord counts), `n_bars` (bars summed over the
        voices), `n_seconds` (by the tempo map), and the result of `tune.instruments`.
    """
    bars = Counter(bar for voice in tune.voices for bar in voice.bars)
    return {
        "n_notes": sum(times * _notes_of_bar(bar) for bar, times in bars.items()),
        "n_bars": tune.n_bars * len(tune.voices),
        "n_seconds": seconds(tune, tune.bar_ticks()),
        **instruments(tune),
    }


def _notes_of_bar(bar: str) -> int:
    """Counts the notes that end in a bar: of tied notes, only the last."""
    n_notes = 0
    for chord, chord_tie, note, tie in _CHORD.findall(bar):
        if note:
            n_notes += not tie
        elif not chord_tie:
            n_notes += len(_LETTER.findall(chord))
    return n_notes
