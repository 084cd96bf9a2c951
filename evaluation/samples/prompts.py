"""The beginning of a piece, the user's own or held out, for a model to continue."""

import logging
from pathlib import Path

from data_prep.dialect.abc_to_midi import perform
from data_prep.dialect.notation import AbcError
from data_prep.dialect.tune import print_tune
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi.midi_file import MIDI_SUFFIXES, find_header
from data_prep.midi_to_abc.converter import midi_to_abc

logger = logging.getLogger(__name__)


def beginning(abc: str, n_bars: int) -> str:
    """Returns the header and first bars of a tune in the layout `bars`, ready to be continued.

    Raises:
        ValueError: If it has no more than `n_bars` bars, so that nothing is left to continue.
    """
    header, mark, bars = abc.partition("\n[V:")
    lines = (mark[1:] + bars).splitlines(keepends=True)
    if not 0 < n_bars < len(lines):
        raise ValueError(
            f"{n_bars} bars of a tune with {len(lines)}, expected at least 1 and fewer than it has"
        )
    return header + "\n" + "".join(lines[:n_bars])


def read_prompt(path: Path, n_bars: int) -> str:
    """Reads the beginning of a piece.

    Args:
        path: A MIDI or ABC file; ABC outside the dialect is read by music21 and converted, which
            is logged.
        n_bars: Number of bars to read.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is neither MIDI nor ABC, or has no more than `n_bars` bars.
    """
    content = path.read_bytes()
    if path.suffix.lower() in MIDI_SUFFIXES or find_header(content) >= 0:
        abc = midi_to_abc(content)
    else:
        abc = _as_bars(content.decode("utf-8", "replace"), path)
    try:
        return beginning(abc, n_bars)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _as_bars(text: str, path: Path) -> str:
    """An ABC tune in the layout `bars`."""
    try:
        tune = parse_tune(text)
        perform(tune)
    except AbcError as error:
        reason = str(error)
    else:
        if tune.n_bars:
            return print_tune(tune)
        reason = "it has no bars"
    from music21 import converter  # imported here: it takes a second
    from music21.midi.translate import music21ObjectToMidiFile

    try:
        midi = music21ObjectToMidiFile(converter.parseData(text, format="abc")).writestr()
    except Exception as error:  # music21 raises anything
        raise ValueError(
            f"{path} is neither MIDI nor readable ABC: the strict reader reports {reason}; "
            f"music21 reports {type(error).__name__}: {error}"
        ) from None
    logger.info("%s is not in the dialect (%s): converted through music21's MIDI", path, reason)
    return midi_to_abc(midi)
