"""Children of a study: no signal is lost while one is being started."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]

# a hook of fork, in which Python drops exceptions, is where the signal comes: the worst moment
STOPPED_WHILE_STARTING = """
import os, signal, sys, time
from training.study.child_processes import signals_held, sigterm_as_interrupt, start_child

signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.{name}))
children = []
with sigterm_as_interrupt():
    try:
        with signals_held():
            children.append(start_child([sys.executable, "-c", "import time; time.sleep(300)"]))
        print("lost")
    except KeyboardInterrupt:
        [child] = children
        print("alive" if child.poll() is None else "dead")
        child.terminate()
        print(child.wait(300))
"""


def test_signal_while_a_child_starts_comes_when_it_is_known():
    for name in ("SIGTERM", "SIGINT"):
        program = STOPPED_WHILE_STARTING.format(name=name)
        command = [sys.executable, "-c", program]
        answer = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)
        assert answer.stdout.split() == ["alive", "-15"], answer.stderr
