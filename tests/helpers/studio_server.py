"""A studio in a process of its own, as `make studio` starts it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def running_studio(model: Path, page: Path) -> Iterator[int]:
    """Starts a studio; yields its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [str(model), str(page), "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "evaluation.serving.studio", *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        wait_for(port, process)
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def wait_for(port: int, process: subprocess.Popen) -> None:
    """Waits until somebody listens."""
    for _ in range(1200):
        assert process.poll() is None, "the studio has ended"
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.1)
    raise AssertionError("the studio does not listen")
