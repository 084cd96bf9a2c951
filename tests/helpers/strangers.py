"""Programs of users who have transformers but not this project, without the import time.

They run as forks of a process that has imported transformers and nothing from this project.
"""

import json
import os
import subprocess
import sys
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path

LIMIT_SECONDS = 300
SERVER = """
import json, os, sys, traceback
from transformers import (
    AutoModel, AutoModelForCausalLM, AutoTokenizer, dynamic_module_utils, pipeline, utils
)

for line in sys.stdin:
    task = json.loads(line)
    if not os.fork():
        os.chdir(task["place"])
        os.environ.clear()
        os.environ.update(task["environment"])
        for module in (utils, utils.hub, dynamic_module_utils):  # it was read from there
            module.HF_MODULES_CACHE = task["environment"]["HF_MODULES_CACHE"]
        for number, name in ((0, os.devnull), (1, task["out"]), (2, task["err"])):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
        sys.stdin, sys.argv, code = open(0), ["-c", *task["arguments"]], 1
        try:
            exec(compile(task["program"], "<program>", "exec"), {"__name__": "__main__"})
            code = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    _, status = os.wait()
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


def run_stranger(program: str, place: Path, *arguments: str, **more: str) -> str:
    """The output of a program that runs offline in a folder, as with `python -c`.

    Args:
        program: Python code.
        place: Its working directory; the code of models is copied there.
        arguments: Its command-line arguments.
        **more: Additional environment variables.
    """
    server, out, err = _server(), place / "stranger.out", place / "stranger.err"
    environment = {**_environment(), "HF_MODULES_CACHE": str(place / "modules"), **more}
    task = {"program": program, "arguments": arguments, "environment": environment}
    task |= {"place": str(place), "out": str(out), "err": str(err)}
    print(json.dumps(task), file=server.stdin, flush=True)
    assert wait([server.stdout], LIMIT_SECONDS), "the program hangs"
    assert server.stdout.readline() == "0\n", err.read_text("utf-8")
    return out.read_text("utf-8")


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}


@cache
def _server() -> "subprocess.Popen[str]":
    """The server process; it ends with this process, which closes the server's stdin."""
    command = [sys.executable, "-c", SERVER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=_environment(), cwd="/", **pipes)
