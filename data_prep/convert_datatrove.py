"""Stage 1 as datatrove tasks, for millions of files: the shards of convert.py, on Slurm or Ray.

    pip install --editable ".[datatrove]"
    python -m data_prep.convert_datatrove SOURCE ... OUT --executor local --tasks 8 --workers 2
    python -m data_prep.convert_datatrove SOURCE ... OUT --executor slurm --tasks 200 --workers 50 \
        --partition cpu --time 04:00:00

The command plans the shards once, and task r of n makes shards r, r + n, r + 2n, ... in a worker
process with the limits of convert.py. The shards are byte-identical to those of
`python -m data_prep.convert`; either engine resumes what the other began.

Progress is judged by the shards alone: datatrove only marks whole tasks. Repeating the command
starts all tasks again, and each skips existing shards. A task claims a shard before it makes it
(claims.py), so tasks that were started twice, or a task and its predecessor that still runs, share
the work. On Slurm, a last job writes stage.json; locally and on Ray, the command waits for the
tasks and writes it itself. A task reads a compressed .tar from its start: use few tasks for such a
source.
"""

import argparse
import logging
import secrets
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .collections.passed_over import PassedOverFiles
from .collections.sources import Source, open_source
from .convert import (
    Converted,
    argument_parser,
    recorded_paths,
    summary_line,
    write_summary,
)
from .shards.convert_pool import Conversion
from .shards.make_shards import make_shards
from .shards.shard_files import missing_shards, plan_shards
from .shards.shard_plan import read_plan, write_plan
from .storage.claims import lock
from .storage.explain import command

try:
    from datatrove.data import DocumentsPipeline
    from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
    from datatrove.pipeline.base import PipelineStep
except ModuleNotFoundError as error:
    _NEEDED = f'no module {error.name}; install the extra: pip install --editable ".[datatrove]"'
    if __name__ == "__main__":  # one line for the command, an exception on import
        print(f"error: {_NEEDED}", file=sys.stderr)
        sys.exit(2)
    raise ModuleNotFoundError(_NEEDED, name=error.name) from error

LOGS = ".datatrove"  # inside the folder of the shards: the plan, and the logs of each command
# One core, for the worker that converts: the task itself reads, writes and mostly waits. The
# memory is above convert_pool.WORKER_BYTES, so that a file is refused before its task is killed.
_TASK = {"cpus_per_task": 1, "mem_per_cpu_gb": 4}


@dataclass(frozen=True)
class Job:
    """A conversion as passed to its tasks; small, since it is pickled with each of them.

    Attributes:
        folder: Folder of the shards; an absolute path, since tasks start anywhere.
        plan: From `write_plan`.
        logs: Folder of this command's logs; queued tasks read their pipeline from it as well.
        recorded: Paths of the sources as stage.json records them.
        layout: One of `tune.LAYOUTS`.
        n_files: Files of the shards that were missing at the start.
        started: Seconds since the epoch.
        passed_over: As in `Converted`.
    """

    folder: Path
    plan: Path
    logs: Path
    recorded: list[str]
    layout: str
    n_files: int
    started: float
    passed_over: dict[str, dict[str, Any]]


class ConvertShards(PipelineStep):
    """Makes the missing ones of the shards `rank::world_size` of the plan."""

    type = "music -> ABC"
    name = "shards"

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Makes the shards of a task; reads no documents, and passes its input through.

        Raises:
            SourceError: If a source changed since the plan.
            ValueError: If the folder was planned for other inputs since the task was queued.
            OSError: If a shard cannot be written; earlier ones are kept.
        """
        shards = read_plan(self.job.plan, self.job.folder, rank, world_size)
        ours = [shard for shard in shards if not shard.path.exists()]
        n_files = make_shards(ours, Conversion(self.job.layout), 1, lambda n_files: None)
        self.stat_update("files", value=n_files, unit="batch")
        return data


def summarize(job: Job, *_: object) -> dict[str, Any]:
    """Writes stage.json as `convert` does, with the seconds from the start of the command to now.

    Runs once all shards are made, on Slurm as a separate pipeline with one task.

    Returns:
        The content of stage.json.

    Raises:
        ValueError: If a shard is missing, or another process is writing to the folder.
    """
    paths = [shard.path for shard in read_plan(job.plan, job.folder, 0, 1)]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise ValueError(
            f"{job.folder}: {len(missing):,} of {len(paths):,} shards are missing, the first is "
            f"{missing[0]}; see the logs of the tasks in {job.logs}, and repeat the "
            "command: it makes the missing shards"
        )
    seconds = time.time() - job.started
    converted = Converted(paths, job.recorded, job.n_files, seconds, job.passed_over)
    with lock(job.folder, patience_seconds=60.0):  # of the same command, given twice
        return write_summary(job.folder, converted, job.layout)


def plan_job(sources: list[Source], folder: Path, layout: str) -> Job:
    """Plans the shards, writes the plan for the tasks, and deletes shards of other inputs.

    Args:
        sources: What to convert; their order makes no difference.
        folder: Where the shards go.
        layout: One of `tune.LAYOUTS`.

    Raises:
        SourceError: If a source cannot be read or is empty.
        ValueError: If another process is writing to the folder, or makes shards of other inputs.
    """
    started = time.time()
    folder = folder.absolute()
    absolute = [Source(source.path.absolute(), source.name) for source in sources]
    passed_over = PassedOverFiles()
    shards = plan_shards(absolute, folder, layout, passed_over)
    (folder / LOGS).mkdir(parents=True, exist_ok=True)
    with lock(folder):
        n_files = sum(len(shard.members) for shard in missing_shards(folder, shards))
        plan = write_plan(folder / LOGS, shards)
    logs = plan.with_name(f"{time.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(2)}")
    recorded = recorded_paths(sources)
    return Job(folder, plan, logs, recorded, layout, n_files, started, passed_over.by_kind())


# ---------------------------------------------------------------- executors


def _run_and_wait(job: Job, options: argparse.Namespace) -> None:
    """Makes the shards in processes on this machine or a Ray cluster."""
    executor = LocalPipelineExecutor
    if options.executor == "ray":
        executor = partial(RayPipelineExecutor, **_TASK)
    executor([ConvertShards(job)], tasks=options.tasks, **_common(job, options, "tasks")).run()


def _run_on_slurm(job: Job, options: argparse.Namespace) -> None:
    """Queues an array job that makes the shards, then a job that writes stage.json."""
    queued = partial(
        SlurmPipelineExecutor,
        time=options.time,
        partition=options.partition,
        qos=None,  # not every cluster has the default, "normal"; SBATCH_QOS sets it
        # The tasks run in this environment, whether or not it was activated.
        env_command=f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
        # Else datatrove's own last jobs would wait forever for a task that failed.
        sbatch_args={"kill-on-invalid-dep": "yes"},
        **_TASK,
    )
    tasks = queued(
        [ConvertShards(job)],
        tasks=options.tasks,
        job_name="midi_shards",
        **_common(job, options, "tasks"),
    )
    queued(
        [partial(summarize, job)],
        tasks=1,
        job_name="midi_summary",
        depends=tasks,
        # It judges by the shards: a task may have failed, and have been queued again since.
        run_on_dependency_fail=True,
        **_common(job, options, "summary"),
    ).run()


def _common(job: Job, options: argparse.Namespace, what: str) -> dict[str, Any]:
    logging_dir = str(job.logs / what)
    return {"workers": options.workers, "logging_dir": logging_dir, "skip_completed": False}


# ---------------------------------------------------------------- command line


@command(ValueError, OSError, ImportError, subprocess.CalledProcessError)
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sources = [open_source(source, options.data_root) for source in options.sources]
    job = plan_job(sources, options.out, options.layout)
    if job.n_files and options.executor == "slurm":
        _run_on_slurm(job, options)
        print(f"{job.n_files:,} files are queued; the last job writes {job.folder}/stage.json")
        return 0
    if job.n_files:
        _run_and_wait(job, options)
    print(summary_line(summarize(job), options.out))
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argument_parser("data_prep.convert_datatrove", __doc__)
    parser.add_argument("--executor", choices=["local", "slurm", "ray"], default="local")
    parser.add_argument("--tasks", type=int, required=True, help="number of tasks")
    parser.add_argument(
        "--workers", type=int, default=-1, help="tasks that run at once; default: all of them"
    )
    parser.add_argument(
        "--partition", help="Slurm partition; set account and QOS by SBATCH_ACCOUNT, SBATCH_QOS"
    )
    parser.add_argument("--time", help="time limit of a Slurm task, e.g. 04:00:00")
    options = parser.parse_args(arguments)
    if options.tasks < 1:
        parser.error(f"--tasks {options.tasks}, expected 1 or more")
    if options.executor == "slurm" and not (options.partition and options.time):
        parser.error("--executor slurm needs --partition and --time")
    return options


if __name__ == "__main__":
    # Imported by name: steps are pickled by module name, and the tasks do not have this __main__.
    from .convert_datatrove import main as command

    sys.exit(command())
