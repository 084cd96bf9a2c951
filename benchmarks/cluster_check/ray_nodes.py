"""A Ray of two nodes on this machine, each with one core; nodes differ by their raylet process."""

import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .commands import environment, wait_until
from .processes import Daemon, command_of, kill, parent_of, with_environment
from .slurm_host import free_ports

STARTED = "Ray runtime started"
# Above what a task asks for in convert_datatrove.py; only counted, nothing is set aside.
NODE = ("--num-cpus=1", "--memory=5000000000", "--object-store-memory=100000000")


@dataclass(frozen=True)
class Ray:
    """A running Ray.

    Attributes:
        env: Environment of commands that use it.
    """

    env: dict[str, str]

    def processes(self) -> list[int]:
        """Returns all its processes, which are the ones that know its token."""
        return with_environment(RAY_AUTH_TOKEN=self.env["RAY_AUTH_TOKEN"])

    def tasks(self) -> dict[int, int]:
        """Returns the processes of datatrove's tasks that run now, each with that of its node."""
        found = {}
        for number in self.processes():
            node = parent_of(number)
            if b"RankWorker" in command_of(number) and b"raylet" in command_of(node):
                found[number] = node
        return found


@contextmanager
def start_ray(folder: Path) -> Iterator[Ray]:
    """Starts two nodes; ends them, and all their processes, afterwards.

    Raises:
        CheckError: If they do not start.
    """
    folder.mkdir()
    (port,) = free_ports(1)
    ray = Ray(
        environment(
            RAY_ADDRESS=f"127.0.0.1:{port}",
            RAY_AUTH_MODE="token",  # else anyone who reaches the port may run code
            RAY_AUTH_TOKEN=secrets.token_hex(32),
        )
    )
    head = ("--head", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false")
    with ExitStack() as nodes:
        nodes.callback(lambda: kill(ray.processes()))
        for name, options in (("head", head), ("second", (f"--address=127.0.0.1:{port}",))):
            command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
            command += ["--node-ip-address=127.0.0.1", "--disable-usage-stats", *NODE, *options]
            node = Daemon(command, folder / f"{name}.log", ray.env)
            nodes.callback(node.stop)
            wait_until(partial(node.has_said, STARTED), f"the start of Ray ({name})")
        yield ray
