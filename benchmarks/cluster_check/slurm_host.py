"""A Slurm of one host in a temporary folder: two tasks at a time, no file outside the folder."""

import os
import platform
import pwd
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .commands import CheckError, environment, run, wait_until
from .installed import find_program
from .processes import Daemon, kill, with_environment

TASKS_AT_ONCE = 2
PARTITION = "cpu"
# cred_expire: a requeued task waits for as long, 120 s by default. linuxproc: does without cgroups,
# which a container may not grant. config_overrides: CPUs and memory are those of this file,
# whatever the machine has. MinJobAge: ended tasks are asked about later.
CONFIGURATION = """
ClusterName=check
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
PlugStackConfig={folder}/plugstack.conf
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=86400
NodeName={host} NodeAddr=127.0.0.1 CPUs={n_cpus} RealMemory=16384
PartitionName={partition} Nodes={host} Default=YES State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """A running Slurm.

    Attributes:
        env: Environment of commands that use it; `python` is the one that runs this.
    """

    env: dict[str, str]

    def tell(self, *command: str) -> str:
        """Runs one of Slurm's commands; returns its output.

        Raises:
            CheckError: If it fails.
        """
        return run(list(command), env=self.env)

    def tasks(self) -> dict[str, str]:
        """Returns `<job>_<index>` -> state, such as RUNNING, of all tasks that have not ended."""
        lines = self.tell("squeue", "-h", "-r", "-o", "%F_%K %T").splitlines()
        return dict(line.split() for line in lines)

    def first_task(self) -> str:
        """Returns the first task of the first job that has not ended."""
        return min(self.tasks(), key=lambda task: [int(number) for number in task.split("_")])

    def kill_and_requeue(self, task: str) -> None:
        """Kills all processes of a running task, as if its machine had died, and requeues it."""
        job, _, index = task.partition("_")
        kill(with_environment(SLURM_ARRAY_JOB_ID=job, SLURM_ARRAY_TASK_ID=index))
        self.tell("scontrol", "requeue", task)

    def n_restarts(self, task: str) -> int:
        """Returns how often a task was requeued."""
        words = self.tell("scontrol", "show", "job", task, "--oneliner").split()
        return int(dict(word.partition("=")[::2] for word in words)["Restarts"])

    def wait_for_all(self) -> int:
        """Waits until no task is left; returns how many ran at once, at most."""
        at_once = 0

        def is_done() -> bool:
            nonlocal at_once
            states = list(self.tasks().values())
            at_once = max(at_once, states.count("RUNNING"))
            return not states

        wait_until(is_done, "the end of all Slurm tasks")
        return at_once


@contextmanager
def start_slurm(folder: Path) -> Iterator[Slurm]:
    """Starts munged, slurmctld and slurmd; ends them, and all tasks, afterwards.

    Raises:
        CheckError: If they do not start.
    """
    _configure(folder)
    slurm = Slurm(environment(SLURM_CONF=str(folder / "slurm.conf")))
    munge = {name: folder / name for name in ("socket", "key-file", "pid-file", "seed-file")}
    with ExitStack() as daemons:

        def start(name: str, *options: str) -> Daemon:
            daemon = Daemon([find_program(name), *options], folder / f"{name}.log", slurm.env)
            daemons.callback(daemon.stop)
            return daemon

        options = (f"--{name}={path}" for name, path in munge.items())
        munged = start("munged", "--foreground", "--force", *options)
        wait_until(partial(_is_there, munge["socket"], munged), "the start of munged")
        controller, node = start("slurmctld", "-D"), start("slurmd", "-D")
        wait_until(partial(_is_ready, slurm, controller, node), "the start of Slurm")
        daemons.callback(_end_tasks, slurm)
        yield slurm


def _configure(folder: Path) -> None:
    """Writes the configuration and a new key of munge."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "plugstack.conf").touch()
    # Named, it is not looked for: a container may have no cgroups, and nothing here uses them.
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n", encoding="utf-8")
    key = os.open(folder / "key-file", os.O_WRONLY | os.O_CREAT, 0o600)
    with open(key, "wb") as file:
        file.write(secrets.token_bytes(1024))
    controller, node = free_ports(2)
    text = CONFIGURATION.format(
        folder=folder,
        host=platform.node().partition(".")[0],
        user=pwd.getpwuid(os.geteuid()).pw_name,
        partition=PARTITION,
        n_cpus=TASKS_AT_ONCE,
        controller_port=controller,
        node_port=node,
    )
    (folder / "slurm.conf").write_text(text, encoding="utf-8")


def free_ports(number: int) -> list[int]:
    """Returns ports that no process listens on now."""
    with ExitStack() as open_ones:
        sockets = [open_ones.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _is_there(file: Path, daemon: Daemon) -> bool:
    daemon.check_alive()
    return file.exists()


def _is_ready(slurm: Slurm, *daemons: Daemon) -> bool:
    """Whether the host takes tasks; raises CheckError if a daemon has ended."""
    for daemon in daemons:
        daemon.check_alive()
    try:
        return slurm.tell("sinfo", "-h", "-o", "%T").strip() == "idle"
    except CheckError:  # the controller does not answer yet
        return False


def _end_tasks(slurm: Slurm) -> None:
    """Cancels what is left, after an error or Ctrl-C, and waits until its processes are gone."""
    slurm.tell("scancel", "--partition", PARTITION)
    wait_until(lambda: not slurm.tasks(), "the end of canceled tasks")
