"""New processes without seconds of imports: forks of a process that has done the imports."""

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver as server
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import IO

DATA = ("data_prep.convert", "data_prep.corpus")
TRAINING = (*DATA, "training.trainer", "training.pretrained", "known_code")

_loaded: set[str] = set()


def forkserver(modules: Sequence[str] = TRAINING) -> BaseContext:
    """A context like "spawn", but its processes have already imported these modules."""
    if not _loaded.issuperset(modules):
        if _loaded:
            server._forkserver._stop()
        _loaded.update(modules)
        server.set_forkserver_preload(sorted(_loaded))
        _start()
    return multiprocessing.get_context("forkserver")


def reuse_server() -> None:
    """In a process of such a context: make its child processes come from the same server."""
    server._forkserver.ensure_running = lambda: None


def _start() -> None:
    """Start the server so that it finds the modules from any working directory."""
    helpers = Path(__file__).parent
    before = os.environ.get("PYTHONPATH")
    # this project's code, even if another copy of it is installed
    places = filter(None, [str(helpers), str(helpers.parents[1]), before])
    os.environ["PYTHONPATH"] = os.pathsep.join(places)
    server.ensure_running()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


class WarmChild:
    """A program that a study starts, as a fork; it replaces the result of `start_child`.

    Args:
        command: Python, a file, and arguments.
        stdout: File for its standard output and standard error.
        env: Its environment.
        **_: Other arguments of `start_child`, which are the same for all programs of a study.
    """

    def __init__(
        self, command: Sequence[str], stdout: IO[bytes], env: Mapping[str, str], **_: object
    ) -> None:
        output = Connection(os.dup(stdout.fileno()))
        self._process = forkserver().Process(
            target=_run_program, args=(command[1:], Path.cwd(), dict(env), output)
        )
        self._process.start()
        self.kill, self.terminate = self._process.kill, self._process.terminate

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("train.py", timeout)
        return self._process.exitcode


def _run_program(
    arguments: list[str], place: Path, environment: dict[str, str], output: Connection
) -> None:
    os.setsid()
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")
