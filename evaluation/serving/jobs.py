"""Jobs of clients over a loaded model: one at a time, within a time limit, in other processes.

The model, the readers of music and the judges each have a process of their own: a file that brings
down its reader does not cost the loaded model. A process that crashed or took too long is replaced;
the model is then loaded again. Whatever serves a model to others is built on this.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from data_prep.shards.convert_pool import WORKER_BYTES, bound_memory
from data_prep.storage.explain import first_line
from data_prep.storage.stages import worker_pool

from .work import load

logger = logging.getLogger(__name__)

MOST_WAITING = 8
Process = Literal["model", "reader", "judge"]
T = TypeVar("T")


class JobError(Exception):
    """A job without a result; the message is one line for the client."""


class Jobs:
    """Runs the jobs of one model; made by `open_jobs`.

    Args:
        model: As `models.find_model` takes it.
        pools: The processes.
        seconds: Time limit of a job.
    """

    def __init__(self, model: str, pools: dict[Process, ProcessPool], seconds: float) -> None:
        self.model, self.seconds = model, seconds
        self._pools, self._turn, self._n_jobs = pools, asyncio.Lock(), 0

    async def run(self, process: Process, job: Callable[..., T], *arguments: Any) -> T:
        """Returns the result of a job, once those before it are done.

        Args:
            process: Where it runs.
            job: A function that a new process can import.
            *arguments: Of the function.

        Raises:
            JobError: If too many are waiting, it takes too long, its process dies, or it fails.
        """
        if self._n_jobs > MOST_WAITING:
            raise JobError(f"{MOST_WAITING} jobs are waiting already; ask again later")
        self._n_jobs += 1
        try:
            async with self._turn:
                task = self._pools[process].schedule(job, arguments, timeout=self.seconds)
                return await asyncio.wrap_future(task)  # if it is cancelled, so is the task
        except Exception as error:
            raise JobError(self._explain(error)) from error
        finally:
            self._n_jobs -= 1

    def _explain(self, error: Exception) -> str:
        """Returns the error of a job in one line; one that is nobody's fault but ours is logged."""
        match error:
            case TimeoutError():
                return f"not done after {self.seconds:g} s; ask for less, or start with more time"
            case ProcessExpired():
                return f"its process died with code {error.exitcode}; it was replaced"
            case MemoryError():
                return f"more than {WORKER_BYTES >> 30} GiB of memory"
            case ValueError() | OSError():
                return first_line(error)
        logger.error("a job failed", exc_info=error)
        return f"a fault of this program: {type(error).__name__}: {first_line(error)}"


@contextlib.contextmanager
def open_jobs(model: str, seconds: float) -> Iterator[Jobs]:
    """Starts the processes.

    The model is loaded meanwhile, since clients do not wait long for an answer to their greeting.
    If that fails, it is logged, and every job that needs the model says so.

    Args:
        model: As `models.find_model` takes it.
        seconds: Time limit of a job; loading has none.
    """
    with (
        worker_pool(1, _redirect_output) as own,
        worker_pool(1, _prepare_reader) as reader,
        worker_pool(1, _redirect_output) as judge,  # without bound: node reserves more than it uses
    ):
        own.schedule(load, [model]).add_done_callback(_tell_failure)
        yield Jobs(model, {"model": own, "reader": reader, "judge": judge}, seconds)


def _tell_failure(loading: ProcessFuture) -> None:
    if not loading.cancelled() and (error := loading.exception()):
        logger.error("error: %s", first_line(error))


def _redirect_output() -> None:
    """Sends what libraries print to the standard error: the standard output may be a protocol."""
    os.dup2(2, 1)


def _prepare_reader() -> None:
    _redirect_output()
    bound_memory()
