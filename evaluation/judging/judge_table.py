"""The judges: independent readers of ABC, one entry each in `JUDGES`.

A judge is a program that runs in its own process (`judge_process`). It reads JSON lines,
{"text": ...}, from stdin. To stdout it writes a first line {"sandbox": ..., "version": ...}, with
"missing" in place of the version if it is missing, and then one line per text:

    midi      whether it wrote a readable MIDI file
    notes     its notes: [onset in quarters, onset in quarters of the first tempo, MIDI pitch]
    seconds   end of the last note
    file      instead of these three: the MIDI file in base64, which is then read in the sandbox
    played    [onset in quarters of the first tempo, pitch]: see `Judge.follows_tempo`
    messages  its complaints; `error`, `failure`: why there is no MIDI

and anything else that its fields are computed from. To add a judge, add an entry here and its
program; verdicts, rates, tables and pages pick it up from this table.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import symusic

from .sandbox import SYSTEM_PATHS

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
# The joint verdict of all judges. Published files contain this name, from when there were three.
VALID = "valid3"
RAW = "raw_"  # prefix for fields of judges that also read the raw model output

Answer = dict[str, Any]


@dataclass(frozen=True)
class Program:
    """How a judge is started.

    Attributes:
        command: The program and its arguments.
        read: Paths that it may read, besides those of the system and of Python.
        limits: `memory_bytes` of address space; none for node, which reserves more than it uses.
        variables: Environment variables.
    """

    command: list[str]
    read: list[str]
    limits: dict[str, int] = field(default_factory=lambda: {"memory_bytes": 2 << 30})
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Judge:
    """An independent reader, and everything specific to it.

    Attributes:
        name: Its name in verdict fields, messages and files.
        origin: How to install it; reported if it is missing.
        find: Returns where it is installed, None if it is not.
        program: Returns how to start it, given the result of `find`; None if it cannot be started.
        fields: Its verdict fields: name -> function of the answer, which is {} if the reader did
            not get the text. Counts are ints; all fields are None if the judge is missing.
        columns: The fields that tables show -> their heading.
        needed: The fields that must be true for a text to be valid.
        agreement: Lowest F1 of its notes with any other judge's for a text to be valid; for a pair
            of judges, the lower threshold applies.
        timeout_seconds: Timeout per text.
        reads_raw: Whether it also reads the raw model output, for fields `raw_...`.
        follows_tempo: Whether its MIDI file contains tempo changes. If not, lengths after them are
            stretched, and its notes are taken from `played`.
        joins_chord_ties: Whether it plays tied chords as one.
        keeps_time: Whether its notes are at the right times, across tempo changes too.
    """

    name: str
    origin: str
    find: Callable[[], str | None]
    program: Callable[[str | None], Program | None]
    fields: dict[str, Callable[[Answer], bool | int]]
    columns: dict[str, str]
    needed: tuple[str, ...]
    agreement: float
    timeout_seconds: float
    reads_raw: bool = False
    follows_tempo: bool = True
    joins_chord_ties: bool = True
    keeps_time: bool = True


# ---------------------------------------------------------------- where they are installed


def find_abc2midi() -> str | None:
    """Returns Debian's abc2midi (package abcmidi), or the one bundled with symusic."""
    bundled = Path(symusic.__file__).parent / "bin" / "abc2midi"
    found = shutil.which("abc2midi") or (str(bundled) if bundled.is_file() else None)
    return os.path.realpath(found) if found else None


def node_modules() -> list[Path]:
    """Returns the folders of NODE_PATH, and this project's node_modules."""
    named = os.environ.get("NODE_PATH", "").split(os.pathsep)
    return [*(Path(place) for place in named if place), ROOT / "node_modules"]


def find_abcjs() -> str | None:
    """Returns the node_modules folder that contains abcjs.

    It is searched for in NODE_PATH, in this project's folder (where `npm install abcjs` puts it),
    and where `npm install --global` puts it.
    """
    global_ones = ("/usr/local/lib/node_modules", "/usr/lib/node_modules", "/usr/share/nodejs")
    places = [*node_modules(), *map(Path, global_ones)]
    found = (place for place in places if (place / "abcjs" / "package.json").is_file())
    return next((str(place.resolve()) for place in found), None)


# ---------------------------------------------------------------- how they start


def _start_abc2midi(program: str | None) -> Program:
    """Starts the process without abc2midi too: it reads the MIDI files of other judges."""
    if program is None:
        return _worker("abc2midi")
    sandbox = str(FOLDER / "sandbox.py")
    return _worker("abc2midi", program, sandbox, *_libraries(program), read=(program, sandbox))


def _start_abcjs(modules: str | None) -> Program | None:
    node = shutil.which("node") or shutil.which("nodejs")
    if not node or not modules:
        return None
    script = str(FOLDER / "abcjs_judge.js")
    read = [script, modules, str(Path(node).resolve().parent.parent)]
    command = [node, "--max-old-space-size=512", script]
    return Program(command, read, limits={}, variables={"NODE_PATH": modules})


def _worker(*arguments: str, read: Sequence[str] = ()) -> Program:
    script = str(FOLDER / "judge_worker.py")
    return Program([sys.executable, "-I", script, *arguments], [script, *read])


def _libraries(program: str) -> list[str]:
    """Returns the files that a program loads, so that the sandbox can block everything else."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(
            ["ldd", program], capture_output=True, text=True, timeout=10, check=False
        )
        if found := re.findall(r"(/\S+) \(0x", told.stdout):
            return [*found, "/etc/ld.so.cache"]
    return list(SYSTEM_PATHS)


# ---------------------------------------------------------------- what they report


def _abc2midi_ok(answer: Answer) -> bool:
    return bool(answer.get("midi")) and not answer.get("errors")


def _abcjs_ok(answer: Answer) -> bool:
    return bool(answer.get("midi")) and answer.get("tunes") == 1


JUDGES = {
    judge.name: judge
    for judge in (
        Judge(
            name="music21",
            origin="pip install music21, which comes with this project",
            find=lambda: getattr(find_spec("music21"), "origin", None),
            program=lambda _: _worker("music21"),
            fields={  # the two rates of study A
                "validity_music21": lambda answer: bool(answer.get("parse")),
                "midi_success_music21": lambda answer: bool(answer.get("midi")),
            },
            columns={
                "validity_music21": "music21 parses",
                "midi_success_music21": "and writes MIDI",
                "raw_validity_music21": "raw text parses",
                "raw_midi_success_music21": "and to MIDI",
            },
            needed=("validity_music21", "midi_success_music21"),
            agreement=0.85,  # it interprets accidentals differently
            timeout_seconds=20.0,
            reads_raw=True,
            joins_chord_ties=False,
            keeps_time=False,
        ),
        Judge(
            name="abc2midi",
            origin="apt install abcmidi, or the one inside symusic",
            find=find_abc2midi,
            program=_start_abc2midi,
            fields={  # ok: a MIDI file and no Error; clean: also no Warning
                "abc2midi_ok": _abc2midi_ok,
                "abc2midi_clean": lambda answer: (
                    _abc2midi_ok(answer) and not answer.get("warnings")
                ),
                "abc2midi_errors": lambda answer: answer.get("errors", 0),
                "abc2midi_warnings": lambda answer: answer.get("warnings", 0),
            },
            columns={"abc2midi_clean": "abc2midi clean"},
            needed=("abc2midi_clean",),
            agreement=0.98,
            timeout_seconds=15.0,
        ),
        Judge(
            name="abcjs",
            origin="npm install abcjs, with node",
            find=find_abcjs,
            program=_start_abcjs,
            fields={  # ok: one tune, no exception, a MIDI file; clean: also no warning
                "abcjs_ok": _abcjs_ok,
                "abcjs_clean": lambda answer: _abcjs_ok(answer) and not answer.get("warnings"),
                "abcjs_warnings": lambda answer: answer.get("warnings", 0),
            },
            columns={"abcjs_clean": "abcjs clean"},
            needed=("abcjs_clean",),
            agreement=0.98,
            timeout_seconds=10.0,
            follows_tempo=False,
        ),
    )
}
# Its process reads MIDI files, including those of other judges.
MIDI_READER = "abc2midi"


def field_label(name: str) -> str:
    """Returns the label of a verdict field on pages."""
    return "valid" if name == VALID else name.replace("_", " ")


def shown_fields() -> dict[str, str]:
    """Verdict field -> its heading, for all judges."""
    return {name: title for judge in JUDGES.values() for name, title in judge.columns.items()}
