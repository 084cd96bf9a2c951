"""One reader in one sandboxed process, which is restarted if a text killed it."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .judge_table import Answer, Judge
from .sandbox import SYSTEM_PATHS

FOLDER = Path(__file__).resolve().parent
MAX_ANSWER_BYTES = 32 << 20
START_SECONDS = 120.0  # imports are slow on a loaded machine


class ReaderFailedError(Exception):
    """A reader gave no answer; the message gives the reason in a few words."""


def _checked(line: bytes) -> Answer:
    """Returns an answer in the expected form: a reader may misbehave in its sandbox."""
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
    """A reader.

    Attributes:
        name: Its name.
        timeout: Timeout per text, in seconds.
        version: Its version, as it reports it; None if it is missing.
        missing: Why it is missing; None if it is not.
        sandbox: Whether `files` and `network` are blocked.
        n_restarts: How often the process was restarted after a text.
    """

    def __init__(self, judge: Judge) -> None:
        self.name, self.timeout = judge.name, judge.timeout_seconds
        self.version: str | None = None
        self.missing: str | None = None
        self.sandbox: dict[str, bool] = {}
        self.n_restarts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._judge, self._folder = judge, None
        self._program = judge.program(judge.find())
        if self._program is None:
            self.missing = f"not found: {judge.origin}"
        else:
            try:
                self._start()
            except ReaderFailedError as error:
                self.missing = str(error)

    def ask(self, request: dict[str, str | bool]) -> Answer:
        """Returns the answer to a text or a MIDI file.

        Raises:
            ReaderFailedError: If the reader times out, answers too much, or its process ended.
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
        """Kills the process and its children; another thread may be waiting for it."""
        process = self._process
        if process and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends the process and removes its folder."""
        if self._process:
            with self._process:  # closes its pipes and waits for it
                self.kill()
            self._process = None
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _start(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="judge_")
        rules = {
            "read": [*SYSTEM_PATHS, sys.prefix, sys.base_prefix, *self._program.read],
            "write": self._folder,
            "file_bytes": 16 << 20,
            "leave_network": True,
        } | self._program.limits
        launcher = [sys.executable, "-I", "-S", str(FOLDER / "sandbox.py"), json.dumps(rules)]
        # The environment is not inherited: no access tokens, no library settings.
        environment = dict.fromkeys(("HOME", "TMPDIR", "MPLCONFIGDIR"), self._folder)
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment |= {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        environment["OPENSSL_CONF"] = "/dev/null"  # node stops if it may not read its own
        self._process = subprocess.Popen(
            [*launcher, *self._program.command],
            cwd=self._folder,
            env=environment | self._program.variables,
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
        self.version = greeting.get("version")
        if "missing" in greeting:
            self.missing = f"not found: {self._judge.origin}"
        self.sandbox = greeting["sandbox"]

    def _exchange(self, request: bytes, seconds: float) -> Answer:
        """Writes a request and reads the one-line answer."""
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
