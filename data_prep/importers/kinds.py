"""What counts as music: the kinds of files, their names, and who reads them. The only such list.

A new kind is one entry of `KINDS`: its suffixes, its limit of bytes, and a function from bytes to a
tune.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from ..midi.limits import LIMITS
from ..midi.midi_file import MIDI_SUFFIXES
from .abc_tunes import abc_to_tune
from .imported import Imported
from .scores import score_to_tune
from .verovio_scores.score_file import MOST_SCORE_BYTES, SCORE_SUFFIXES, is_score

COMPRESSED_SUFFIXES = (".gz", ".xz", ".bz2")  # of a single file, after its own suffix
TUNE_MARK = "#X"  # in a path, before the number of a tune of a book


@dataclass(frozen=True)
class Kind:
    """A kind of files.

    Attributes:
        name: For people.
        suffixes: In lower case.
        most_bytes: Larger files are refused.
        read: The bytes of a file -> its tune; raises `MidiError`, and may even end the process.
            None for MIDI, which the converter itself reads.
        files_a_task: How many files a worker process gets at once, at most.
        patience: Times the usual seconds, after which a file is given up. A whole string quartet
            takes 10 s.
    """

    name: str
    suffixes: tuple[str, ...]
    most_bytes: int
    read: Callable[[bytes], Imported] | None
    files_a_task: int = 8
    patience: int = 1


MIDI = Kind("MIDI", MIDI_SUFFIXES, LIMITS.bytes, None)
ABC = Kind("ABC", (".abc",), 64_000_000, abc_to_tune)  # a book; its tunes have LIMITS.bytes
SCORE = Kind("score", SCORE_SUFFIXES, MOST_SCORE_BYTES, score_to_tune, files_a_task=1, patience=4)
KINDS = (MIDI, ABC, SCORE)
SUFFIXES = tuple(suffix for kind in KINDS for suffix in kind.suffixes)
# Other files have these suffixes, too: they are music only if their first bytes say so.
SHARED_SUFFIXES = {".xml": is_score}
START_BYTES = 65_536

_TUNE_OF_BOOK = re.compile(rf"{TUNE_MARK}[^/]*\Z")


def kind_of(path: str) -> Kind | None:
    """Returns the kind of a file, or of a tune of a book, by its path; None if it is no music."""
    suffix = suffix_of(path)
    return next((kind for kind in KINDS if suffix in kind.suffixes), None)


def suffix_of(path: str) -> str:
    """Returns the suffix of a file in lower case, below its compression; "" if it has none."""
    name = _TUNE_OF_BOOK.sub("", path.rpartition("/")[2]).lower()
    if name.startswith("._"):  # resource forks that macOS adds
        return ""
    for suffix in COMPRESSED_SUFFIXES:
        name = name.removesuffix(suffix)
    return "".join(name.rpartition(".")[1:]) if "." in name else ""
