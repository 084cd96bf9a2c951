"""One reader in one sandboxed process, which is started again after a text that ended it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import symusic

from .sandbox import SYSTEM_PATHS

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
MAX_ANSWER_BYTES = 32 << 20
START_SECONDS = 120.0  # a loaded machine imports slowly
TIMEOUT_SECONDS = {"music21": 20.0, "abc2midi": 15.0, "abcjs": 10.0}
READERS = tuple(TIMEOUT_SECONDS)

Answer = dict[str, Any]


class ReaderFailedError(Exception):
    """A reader gave no answer; says why in a few words."""


def find_abc2midi() -> str | None:
    """Returns Debian's abc2midi (package abcmidi), or the one that symusic brings along."""
    bundled = Path(symusic.__file__).parent / "bin" / "abc2midi"
    found = shutil.which("abc2midi") or (str(bundled) if bundled.is_file() else None)
    return os.path.realpath(found) if found else None


def find_abcjs() -> str | None:
    """Returns the node_modules folder that holds abcjs.

    It is looked for in NODE_PATH, in this project's folder, where `npm install abcjs` puts it, and
    where `npm install --global` does.
    """
    places = [Path(place) for place in os.environ.get("NODE_PATH", "").split(os.pathsep) if place]
    places += [ROOT / "node_modules", Path("/usr/local/lib/node_modules"),
               Path("/usr/lib/node_modules"), Path("/usr/share/nodejs")]  # fmt: skip
    found = (place for place in places if (place / "abcjs" / "package.json").is_file())
    return next((str(place.resolve()) for place in found), None)


def _libraries(program: str) -> list[str]:
    """Returns the files that a program loads, so that nothing else need be open to it."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(
            ["ldd", program], capture_output=True, text=True, timeout=10, check=False
        )
        if found := re.findall(r"(/\S+) \(0x", told.stdout):
            return [*found, "/etc/ld.so.cache"]
    return list(SYSTEM_PATHS)


def _program(name: str) -> tuple[list[str] | None, dict[str, Any], dict[str, str]]:
    """Returns a reader's command (None where it is missing), its rules, and its variables."""
    rules: dict[str, Any] = {"file_bytes": 16 << 20, "leave_network": True}
    rules["read"] = [*SYSTEM_PATHS, sys.prefix, sys.base_prefix]
    if name == "abcjs":
        node, modules = shutil.which("node") or shutil.which("nodejs"), find_abcjs()
        if not node or not modules:
            return None, rules, {}
        script = FOLDER / "abcjs_judge.js"
        rules["read"] += [str(script), modules, str(Path(node).resolve().parent.parent)]
        return [node, "--max-old-space-size=512", str(script)], rules, {"NODE_PATH": modules}
    script, sandbox = FOLDER / "judge_worker.py", FOLDER / "sandbox.py"
    rules["read"] += [str(script), str(sandbox)]
    rules["memory_bytes"] = 2 << 30  # not for node, which reserves more than it uses
    command = [sys.executable, "-I", str(script), name]
    if name == "abc2midi" and (program := find_abc2midi()):
        rules["read"].append(program)
        command += [program, str(sandbox), *_libraries(program)]
    return command, rules, {}


def _checked(line: bytes) -> Answer:
    """Returns an answer of the form that is expected: a reader may have gone mad in its sandbox."""
    try:
        answer = json.loads(line)
        answer["notes"] = [
            [float(onset), float(played), int(pitch)]
            for onset, played, pitch in answer.get("notes", [])
        ]
        answer["played"] = [[float(onset), int(pitch)] for onset, pitch in answer.get("played", [])]
        answer["seconds"] = float(answer.get("seconds", 0.0))
        answer["messages"] = [str(message) for message in answer.get("messages", [])]
        for count in ("errors", "warnings"):
            answer[count] = int(answer.get(count, 0))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise ReaderFailedError("no readable answer") from None
    return answer


class Reader:
    """A reader: music21, abc2midi or abcjs.

    Attributes:
        name: Its name.
        version: What it says of itself; None where it is missing.
        missing: Why it is missing; None where it is not.
        sandbox: What is shut off: `files`, `network`.
        n_restarts: How often a text ended the process.
    """

    def __init__(self, name: str) -> None:
        self.name, self.timeout = name, TIMEOUT_SECONDS[name]
        self.version: str | None = None
        self.missing: str | None = None
        self.sandbox: dict[str, bool] = {}
        self.n_restarts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._command, self._rules, self._variables = _program(name)
        self._folder: str | None = None
        if self._command is None:
            self.missing = "not found: npm install abcjs, with node"
        else:
            try:
                self._start()
            except ReaderFailedError as error:
                self.missing = str(error)

    def ask(self, request: dict[str, str]) -> Answer:
        """Returns the answer to a text or a MIDI file.

        Raises:
            ReaderFailedError: If there is none in time, or too much, or the process ended.
        """
        if self._process is None:
            self.n_restarts += 1
            self._start()
        try:
            return self._exchange(json.dumps(request).encode() + b"\n", self.timeout)
        except ReaderFailedError:
            self.close()
            raise

    def kill(self) -> None:
        """Ends the process with all that it started; another thread may be waiting for it."""
        process = self._process
        if process and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends the process and removes its folder."""
        self.kill()
        if self._process:
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _start(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="judge_")
        rules = json.dumps(self._rules | {"write": self._folder})
        launcher = [sys.executable, "-I", "-S", str(FOLDER / "sandbox.py"), rules]
        # Nothing of the surroundings goes along: no tokens, no settings of libraries.
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": self._folder,
            "TMPDIR": self._folder,
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MPLCONFIGDIR": self._folder,
            "OPENSSL_CONF": "/dev/null",
        }  # fmt: skip  node stops if it may not read its own
        self._process = subprocess.Popen(
            [*launcher, *self._command],
            cwd=self._folder,
            env=environment | self._variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.set_blocking(self._process.stdin.fileno(), False)
        try:
            greeting = self._exchange(b"", START_SECONDS)
        except ReaderFailedError as error:
            self.close()
            raise ReaderFailedError(f"does not start in its sandbox: {error}") from error
        self.version, self.missing = greeting.get("version"), greeting.get("missing")
        self.sandbox = greeting["sandbox"]

    def _exchange(self, request: bytes, seconds: float) -> Answer:
        """Writes a request and reads the line that answers it."""
        stdin, stdout = self._process.stdin.fileno(), self._process.stdout.fileno()
        answer, deadline = bytearray(), time.monotonic() + seconds
        while not answer.endswith(b"\n"):
            left = deadline - time.monotonic()
            writing = [stdin] if request else []
            readable, writable, _ = select.select([stdout], writing, [], max(0.0, left))
            if not readable and not writable:
                raise ReaderFailedError(f"no result after {seconds:.0f} s")
            try:
                if writable:
                    request = request[os.write(stdin, request[:65536]) :]
                chunk = os.read(stdout, 1 << 20) if readable else None
            except BrokenPipeError:
                chunk = b""
            if chunk == b"":
                raise ReaderFailedError(self._how_it_ended())
            answer += chunk or b""
            if len(answer) > MAX_ANSWER_BYTES:
                raise ReaderFailedError(f"more than {MAX_ANSWER_BYTES} bytes of answer")
        return _checked(answer)

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return "closed its output"
        return f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
