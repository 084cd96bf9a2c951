"""Run the cells of a study as parallel processes of train.py, under one bar in tokens."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from tqdm import tqdm

from ..run.bar import bar_look
from ..run.run_folder import RunFolder
from .child_processes import last_line, signals_held, sigterm_as_interrupt, start_child
from .study_plan import Cell, Planned, is_finished

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
POLL_SECONDS = 0.25
STOP_SECONDS = 60.0  # for the current step and its checkpoint
LAST_LINE_BYTES = 1024


class RunningCell:
    """A process of train.py and its log file.

    Args:
        cell: The cell to run.
        run: Its folder.
        slot: Its number among the parallel processes, from 0.
        gpus: From `find_gpus`.
    """

    def __init__(self, cell: Cell, run: RunFolder, slot: int, gpus: Sequence[str]) -> None:
        self.cell = cell
        self.run = run
        self.slot = slot
        run.path.mkdir(parents=True, exist_ok=True)
        self.log = run.path / "train.log"
        # appended: the same cell may be running in another task, whose lines are not ours to lose
        self.output: IO[bytes] = self.log.open("ab")
        self.log_start = self.output.tell()
        self.process = start_child(
            [sys.executable, str(TRAIN), cell.config, *cell.overrides],
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            env=environment(slot, gpus),
        )

    def failure(self) -> str | None:
        """One line on how it failed, or None if it is finished."""
        if self.process.returncode == 0 and is_finished(self.cell, self.run):
            return None
        own = self.log.read_bytes()[self.log_start :].decode("utf-8", errors="replace")
        last = last_line(own) or "no output"
        return f"{self.cell.name} failed (exit {self.process.returncode}): {last} [{self.log}]"


def environment(slot: int, gpus: Sequence[str]) -> dict[str, str]:
    """The environment of a process: one thread, and one GPU if there are any.

    Args:
        slot: Its number among the parallel processes, from 0; with more of them than GPUs, they
            share GPUs.
        gpus: From `find_gpus`.
    """
    own = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {}
    # runs are too small to benefit from two threads; a user's own choice takes precedence
    return {"OMP_NUM_THREADS": "1", **os.environ, **own}


def n_tokens_logged(cell: Cell, run: RunFolder) -> int:
    """Tokens trained on so far, by the last lines of the logs; shared tokens count once."""
    total = _last_tokens(run.log)
    for branch in cell.branches:
        log = run.path.with_name(branch.name) / run.log.name
        total += max(0, _last_tokens(log) - branch.n_tokens_shared)
    return total


def run_cells(
    planned: Sequence[Planned],
    jobs: int,
    gpus: Sequence[str] = (),
    done_tokens: int = 0,
    on_finished: Callable[[Cell, RunFolder], None] = lambda cell, run: None,
) -> list[str]:
    """Run all cells, `jobs` at once; a failed one does not stop the others.

    Args:
        planned: Cells in the order to start them.
        jobs: Number of parallel processes.
        gpus: One for each process, round robin; the next process gets the free one.
        done_tokens: Tokens of the study's finished runs, for the bar.
        on_finished: Called with each cell whose runs are all finished.

    Returns:
        One line for each failed cell.

    Raises:
        KeyboardInterrupt: On Ctrl-C, after all processes have saved a checkpoint and stopped.
    """
    waiting, running, failures = list(planned), [], []
    free_slots = list(range(min(jobs, len(waiting))))
    total = done_tokens + sum(cell.n_tokens_trained for cell, _ in planned)
    finished_tokens = done_tokens
    begun_tokens = sum(n_tokens_logged(cell, run) for cell, run in planned)
    # runs start and end: only the mean speed of the study predicts when it is done
    bar = tqdm(total=total, initial=done_tokens + begun_tokens, smoothing=0.0, **bar_look())
    with bar, sigterm_as_interrupt():
        try:
            while waiting or running:
                while waiting and free_slots:
                    with signals_held():
                        running.append(RunningCell(*waiting.pop(0), free_slots.pop(0), gpus))
                time.sleep(POLL_SECONDS)
                for child in [c for c in running if c.process.poll() is not None]:
                    running.remove(child)
                    child.output.close()
                    free_slots.append(child.slot)
                    finished_tokens += child.cell.n_tokens_trained
                    if failure := child.failure():
                        failures.append(failure)
                    else:
                        on_finished(child.cell, child.run)
                # a resumed run may be behind the bar, which never moves back
                now = finished_tokens + sum(n_tokens_logged(c.cell, c.run) for c in running)
                bar.update(max(0, now - bar.n))
                left = len(waiting) + len(running)
                bar.set_postfix_str(f"{left} of {len(planned)} runs left", refresh=False)
        finally:
            _stop(running)
    return failures


def _last_tokens(log: Path) -> int:
    """Tokens according to the last line of a run's log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LAST_LINE_BYTES))
            return json.loads(file.read().splitlines()[-1])["n_tokens"]
    except (OSError, IndexError, ValueError, KeyError):
        return 0  # missing so far, or a half-written line


def _stop(running: list[RunningCell]) -> None:
    """Let each process save and stop; kill it if it does not."""
    for child in running:
        with suppress(ProcessLookupError):
            child.process.terminate()  # not SIGINT: a process started in the background ignores it
    deadline = time.monotonic() + STOP_SECONDS
    for child in running:
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            child.process.kill()
            child.process.wait()
        child.output.close()
