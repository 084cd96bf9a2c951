"""`transformers serve`: a free prompt to /v1/completions."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from report import report

START_SECONDS = 900
SERVE = "from transformers.cli.transformers import main; main()"  # the command `transformers`


def check(folder: str, trust: bool, context: int) -> str:
    """Starts the server on a free port, asks for a tune, and stops it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    more = ["--trust-remote-code"] if trust else []
    command = [sys.executable, "-c", SERVE, "serve", "--port", str(port), "--device", "cpu", *more]
    server = subprocess.Popen(command)
    try:
        request = {"model": str(Path(folder).resolve()), "prompt": "X:1\nM:3/4\n", "max_tokens": 16}
        answer = _ask(f"http://127.0.0.1:{port}/v1/completions", request, server)
        return f"wrote {answer['choices'][0]['text']!r}"
    finally:
        server.terminate()
        server.wait()


def _ask(address: str, request: dict, server: subprocess.Popen) -> dict:
    body = urllib.request.Request(
        address, json.dumps(request).encode(), {"Content-Type": "application/json"}
    )
    last = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(body, timeout=START_SECONDS) as answer:
                return json.load(answer)
        except ConnectionError as error:
            refused = error
        except urllib.error.HTTPError as error:
            raise ValueError(f"{error}: {error.read().decode()[:120]}") from error
        except urllib.error.URLError as error:
            refused = error  # nobody listens yet
        if server.poll() is not None or time.monotonic() > last:
            raise TimeoutError(f"the server did not answer: {refused}")
        time.sleep(1)


report(check)
