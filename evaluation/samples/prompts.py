"""The beginning of a piece, the user's own or held out, for a model to continue."""

import logging
from pathlib import Path

from data_prep.collections.sources import Source
from data_prep.dialect.tune import print_tune
from data_prep.importers.abc_book import count_tunes
from data_prep.importers.foreign_abc import read_book
from data_prep.importers.kinds import COMPRESSED_SUFFIXES, MIDI, SCORE, kind_of
from data_prep.midi.midi_file import find_header
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.shards.convert_pool import Conversion, Converter, bound_memory
from data_prep.storage.stages import worker_pool

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
        path: As `read_tune` takes it.
        n_bars: Number of bars to read.

    Raises:
        OSError: If it cannot be read.
        ValueError: As `read_tune`, or if the piece has no more than `n_bars` bars.
    """
    abc = read_tune(path)
    try:
        return beginning(abc, n_bars)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_tune(path: Path) -> str:
    """Reads a piece as a tune in the layout `bars`.

    Args:
        path: A file of music of any kind of `importers.kinds`, also compressed; of several tunes,
            the first. What is left out of ABC outside the dialect is logged.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is neither MIDI, nor ABC, nor a score.
    """
    kind, content = kind_of(path.name), path.read_bytes()
    if kind is SCORE or (kind and path.name.lower().endswith(COMPRESSED_SUFFIXES)):
        return _first_of_source(path)
    if kind is MIDI or find_header(content) >= 0:
        return midi_to_abc(content)
    return _first_tune(content, path)


def _first_of_source(path: Path) -> str:
    """The first tune of a file, converted in a process that may crash or take too long."""
    source = Source(path, path.name)
    members = source.members()
    if len(members) > 1:
        logger.info("%s has %d tunes; the first is taken", path, len(members))
    (member, content), *_ = source.read(members[:1])
    with worker_pool(1, bound_memory) as pool:
        files = [[(member.name, content)]]
        ((row,),) = Converter(pool, Conversion()).rows(files, lambda n_files: None)
    if row["drop_reason"]:
        raise ValueError(f"{path}: {row['message']}")
    if row["message"]:
        logger.warning("%s: %s", path, row["message"])
    return row["abc"]


def _first_tune(content: bytes, path: Path) -> str:
    """The first tune of an ABC file, in the layout `bars`."""
    found = next(read_book(content))
    if found.tune is None:
        raise ValueError(f"{path} is neither MIDI, nor a score, nor readable ABC: {found.error}")
    n_tunes = count_tunes(content)
    if n_tunes > 1:
        name = f"X:{found.number} {found.title}".strip()
        logger.info("%s has %d tunes; the first is taken: %s", path, n_tunes, name)
    for warned in found.warnings:
        logger.warning("%s: %s", path, warned)
    return print_tune(found.tune)
