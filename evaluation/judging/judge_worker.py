"""The program in the sandbox: `python -I judge_worker.py music21`, or `abc2midi`.

JSON lines on stdin -> one JSON line each on stdout, after a first line with the version. {"text"}
is read by the reader that the process was started for. {"midi"}, a file in base64, is read by
symusic, and only here, so that whatever other programs make of bad text stays in the sandbox. With
{"file": true} the answer contains the MIDI file too, for callers that trust their text.

Nothing from this project is imported: the sandbox hides it from this process.
"""

import base64
import contextlib
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CPU_SECONDS = 25  # per text
ABC2MIDI_SECONDS = 10.0
MAX_NOTES = 100_000
MAX_MIDI_BYTES = 4 << 20
MAX_MESSAGE_BYTES = 1 << 20
MESSAGES_SHOWN = 5
MESSAGE_CHARS = 200

Answer = dict[str, Any]


def read_midi(midi: bytes) -> Answer:
    """Reads the notes of a MIDI file.

    Returns:
        `midi`: whether symusic can read it; `notes`: [onset in quarters, onset in quarters of the
        first tempo, pitch]; `quarter`: seconds per quarter at the first tempo; `seconds`: end of
        the last note; `error`: why it cannot be read.
    """
    from symusic import Score

    if len(midi) > MAX_MIDI_BYTES:
        return {"midi": False, "error": f"MIDI file of more than {MAX_MIDI_BYTES} bytes"}
    try:
        score = Score.from_midi(midi)
        timed = score.to("second")
        at_start = [tempo.mspq for tempo in score.tempos if tempo.time == 0]
        quarters_a_second = 1e6 / (at_start[-1] if at_start else 500_000)
    except Exception as error:  # a damaged file; symusic's messages contain paths of its build
        return {"midi": False, "error": f"its MIDI file is damaged: {type(error).__name__}"}
    if score.note_num() > MAX_NOTES:
        return {"midi": False, "error": f"more than {MAX_NOTES} notes"}
    notes, end = [], 0.0
    for track, in_seconds in zip(score.tracks, timed.tracks, strict=True):
        for note, clock in zip(track.notes, in_seconds.notes, strict=True):
            onset, played = note.time / score.tpq, clock.time * quarters_a_second
            notes.append([round(onset, 4), round(played, 4), note.pitch])
            end = max(end, clock.time + clock.duration)
    return {"midi": True, "notes": notes, "quarter": 1 / quarters_a_second, "seconds": end}


def read_by_music21(text: str) -> Answer:
    """Reads a text as the studies do; `written` is the MIDI file."""
    from music21 import converter
    from music21.midi.translate import music21ObjectToMidiFile

    answer: Answer = {"parse": False, "midi": False}
    try:
        # never `converter.parse`: it first tries the text as a path
        score = converter.parseData(text, format="abc")
        answer["parse"] = True
        midi = music21ObjectToMidiFile(score).writestr()
    except MemoryError:
        return answer | {"error": "MemoryError", "last": True}
    except Exception as error:  # its parsers raise anything; each is a verdict
        return answer | {"error": f"{type(error).__name__}: {error}"[:MESSAGE_CHARS]}
    return answer | ({"written": midi} if midi else {"error": "no MIDI written"})


class Abc2midi:
    """abc2midi, one process per text, in a stricter sandbox inside this one."""

    def __init__(self, program: str, sandbox: str, libraries: list[str]) -> None:
        rules = {
            "read": [program, *libraries],
            "write": os.getcwd(),
            "memory_bytes": 1 << 30,
            "file_bytes": 16 << 20,
            "cpu_seconds": int(ABC2MIDI_SECONDS),
            "processes": 0,
        }
        self._command = [sys.executable, "-I", "-S", sandbox, json.dumps(rules), program]
        words = re.findall(rb"[A-Za-z]{2,}", Path(program).read_bytes())
        self._words = {word.decode() for word in words}

    def version(self) -> str:
        """Returns the version that abc2midi reports."""
        self._run("-ver")
        said = Path("said").read_text("utf-8", "replace").split()
        return said[0] if said else "unknown"

    def __call__(self, text: str) -> Answer:
        """Reads a text; counts lines that begin with Error or Warning; `written` is the MIDI.

        The exit code is useless: it is 0 for any text.
        """
        source, target = Path("tune.abc"), Path("tune.mid")
        target.unlink(missing_ok=True)
        source.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            code = self._run(source.name, "-o", target.name)
        except subprocess.TimeoutExpired:
            return {"midi": False, "failure": f"no result after {ABC2MIDI_SECONDS:.0f} s"}
        with Path("said").open("rb") as file:
            said = file.read(MAX_MESSAGE_BYTES).decode("utf-8", "replace")
        errors, warnings = (
            [line for line in said.splitlines() if line.startswith(start)]
            for start in ("Error", "Warning")
        )
        answer: Answer = {"errors": len(errors), "warnings": len(warnings), "midi": False}
        answer["messages"] = [*map(self._own_words, (errors + warnings)[:MESSAGES_SHOWN])]
        if code < 0:
            return answer | {"failure": f"ended by signal {-code}"}
        if not target.exists():
            return answer | {"error": "no MIDI written"}
        with target.open("rb") as file:
            return answer | {"written": file.read(MAX_MIDI_BYTES + 1)}

    def _run(self, *arguments: str) -> int:
        with Path("said").open("wb") as said:  # a file, since the sandbox limits its size
            return subprocess.run(
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                timeout=ABC2MIDI_SECONDS,
                check=False,
            ).returncode

    def _own_words(self, message: str) -> str:
        """Returns a message without anything it quotes, which might come from a file.

        The position and the words that occur in the program itself are kept.
        """
        match = re.match(r"(\w+) in line-char (\d+)-(\d+) : ", message)
        place = f"line {match[2]}, character {match[3]}: " if match else ""
        rest = message[match.end() if match else 0 :]
        words = [w if w in self._words else "..." for w in re.findall(r"[A-Za-z]+|[^\s]", rest)]
        text = re.sub(r"(\.\.\.\s*)+", "... ", " ".join(words))
        return (place + text).strip()[:MESSAGE_CHARS]


def _allow_cpu_seconds(seconds: int) -> None:
    """Moves the limit on CPU time, which counts from the start of the process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(usage.ru_utime + usage.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def start(arguments: list[str]) -> tuple[Callable[[str], Answer], Answer]:
    """Returns the reader that the arguments name, and its greeting."""
    greeting = {"sandbox": json.loads(os.environ["SANDBOX"])}
    if arguments[0] == "music21":
        import music21
        from music21 import converter  # noqa: F401  before the clock of the first text starts

        with contextlib.suppress(ValueError, OSError):  # it needs no child processes from here on
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        return read_by_music21, greeting | {"version": music21.__version__}
    if len(arguments) < 3:  # it still reads MIDI files
        refusal = {"midi": False, "failure": "abc2midi is not installed"}
        return lambda _: dict(refusal), greeting | {"missing": True}
    reader = Abc2midi(*arguments[1:3], arguments[3:])
    return reader, greeting | {"version": reader.version()}


def main() -> None:
    """Answers requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # library output must not mix with answers
    reader, greeting = start(sys.argv[1:])
    answers.write(json.dumps(greeting).encode() + b"\n")
    answers.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _allow_cpu_seconds(CPU_SECONDS)
        if "midi" in request:
            answer = read_midi(base64.b64decode(request["midi"]))
        else:
            answer = reader(request["text"])
            if written := answer.pop("written", None):
                answer |= read_midi(written)
                if request.get("file"):
                    answer["file"] = base64.b64encode(written).decode()
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
        if answer.get("last"):
            return  # restarted after it ran out of memory


if __name__ == "__main__":
    main()
