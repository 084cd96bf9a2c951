"""The beginning of a piece, the user's own or held out, for a model to continue."""

import logging
from pathlib import Path

from data_prep.dialect.tune import print_tune
from data_prep.importers.abc_book import count_tunes
from data_prep.importers.foreign_abc import read_book
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
        path: A MIDI or ABC file; of several tunes in an ABC file, the first. What is left out of
            ABC outside the dialect is logged.
        n_bars: Number of bars to read.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is neither MIDI nor ABC, or has no more than `n_bars` bars.
    """
    content = path.read_bytes()
    if path.suffix.lower() in MIDI_SUFFIXES or find_header(content) >= 0:
        abc = midi_to_abc(content)
    else:
        abc = _first_tune(content, path)
    try:
        return beginning(abc, n_bars)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _first_tune(content: bytes, path: Path) -> str:
    """The first tune of an ABC file, in the layout `bars`."""
    found = next(read_book(content))
    if found.tune is None:
        raise ValueError(f"{path} is neither MIDI nor readable ABC: {found.error}")
    n_tunes = count_tunes(content)
    if n_tunes > 1:
        name = f"X:{found.number} {found.title}".strip()
        logger.info("%s has %d tunes; the first is continued: %s", path, n_tunes, name)
    for warned in found.warnings:
        logger.warning("%s: %s", path, warned)
    return print_tune(found.tune)
