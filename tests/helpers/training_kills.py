"""Processes that run train.py and are killed: at a given time, or inside a save."""

import multiprocessing
import os
import runpy
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import MappingProxyType
from typing import Any

from training_data import PROJECT, make_dataset

BLOCK_LENGTH, BLOCKS_A_STEP = 32, 8
STEP = BLOCK_LENGTH * BLOCKS_A_STEP  # tokens
N_SONGS = 1200
SIZES = {
    "gpt": ("model.num_attention_heads=4",),
    "lstm": ("training.learning_rate=1.0e-2",),
    "llama": ("model.num_attention_heads=4",),
    "gpt_bf16": ("model.num_attention_heads=4", "training.bf16=true"),
}
# what a save writes; config.yaml and the log are written outside of saves
IN_A_SAVE = ("checkpoint", "branch_points", "record.json", "manifest.json")
MODES = ("before", "half", "after")
FIRST_SIGN_SECONDS = 300.0
POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Task:
    """A trunk with two branches, small enough to train many times.

    Attributes:
        family: One of SIZES.
        n_steps: Steps of the trunk; a multiple of 24.
        folder: Contains the dataset, and one folder of runs per command.
    """

    family: str
    n_steps: int
    folder: Path

    def arguments(self) -> list[str]:
        """The arguments of train.py."""
        n = self.n_steps
        return [
            str(PROJECT / "configs" / f"{self.family.partition('_')[0]}_tiny.yaml"),
            *(f"data.root={self.folder / 'data'}", "data.dataset=tiny", "name=trunk"),
            *("model.num_hidden_layers=2", "model.hidden_size=32", "model.dropout=0.1"),
            *SIZES[self.family],
            *(f"budget.global_batch_tokens={STEP}", "training.per_device_train_batch_size=4"),
            *(
                f"budget.tokens={n * STEP}",
                f"budget.branches=[{n // 2 * STEP}, {n * 3 // 4 * STEP}]",
            ),
            *("training.lr_scheduler_type=warmup_stable_decay", "budget.decay_share=0.25"),
            *("training.lr_scheduler_kwargs={decay_type: 1-sqrt}", "training.warmup_steps=4"),
            *(f"training.save_steps={n // 24}", f"training.logging_steps={n // 24}"),
            *(f"training.eval_steps={n // 4}", "training.disable_tqdm=true"),
        ]

    def make_data(self) -> None:
        """Write the dataset, once."""
        if not (self.folder / "data").exists():
            make_dataset(self.folder / "data", block_length=BLOCK_LENGTH, n_songs=N_SONGS)


class Session:
    """A process that runs train.py.

    Args:
        arguments: Arguments of train.py.
        place: Working directory, which contains the runs.
        context: "spawn" for a new interpreter, or `forkserver()` from warm_processes.
        stop_at: Number of the save operation to stop in, and before, half or after; None: count.
        environment: Additional environment variables of the process.
    """

    def __init__(
        self,
        arguments: list[str],
        place: Path,
        context: BaseContext,
        stop_at: tuple[int, str] | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.before = log_times(place)
        self.output = place / f"output{environment.get('RANK', '')}.txt"
        self.reader, writer = multiprocessing.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(
            target=run_train,
            args=(arguments, self.output, stop_at, dict(environment), writer),
            daemon=True,
        )
        self.process.start()
        writer.close()

    def kill_after(self, seconds: float) -> bool:
        """Kill it `seconds` after it began to train; False if it ended before that."""
        self.wait_for_first_sign()
        if wait([self.process.sentinel], timeout=seconds):
            self._expect_success()
            return False
        self.kill()
        return True

    def kill_in_save(self) -> str | None:
        """Wait until it sleeps inside a save, then kill; returns where, None if it ended first."""
        if isinstance(where := self._receive(), str):
            self.kill()
            return where
        self._expect_success()
        return None

    def finish(self) -> int:
        """Let it finish; returns the number of save operations."""
        n_operations = self._receive()
        self._expect_success()
        return n_operations

    def wait_for_first_sign(self) -> None:
        """Wait until it writes to a log, or ends."""
        deadline = time.monotonic() + FIRST_SIGN_SECONDS
        while log_times(self.place) == self.before and time.monotonic() < deadline:
            if wait([self.process.sentinel], timeout=POLL_SECONDS):
                return

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.kill()
        self.process.join()

    def _receive(self) -> int | str | None:
        try:
            return self.reader.recv()
        except EOFError:
            return None

    def _expect_success(self) -> None:
        self.process.join()
        if self.process.exitcode != 0:
            output = self.output.read_text(encoding="utf-8")
            raise RuntimeError(f"train.py ended with {self.process.exitcode}:\n{output[-3000:]}")


def run_train(
    arguments: list[str],
    output: Path,
    stop_at: tuple[int, str] | None,
    environment: dict[str, str],
    pipe: Connection,
) -> None:
    """In the new process: `python train.py <arguments>` in the folder of the output file."""
    os.chdir(output.parent)
    os.environ.update(environment)
    file = os.open(output.name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    counter = SaveCounter(stop_at, pipe)
    counter.install()
    sys.argv = ["train.py", *arguments]
    try:
        runpy.run_path(str(PROJECT / "train.py"), run_name="__main__")
    finally:
        pipe.send(counter.n_operations)


class SaveCounter:
    """Counts a save's write, move and remove operations; sleeps in one of them."""

    def __init__(self, stop_at: tuple[int, str] | None, pipe: Connection) -> None:
        self.number, self.mode = stop_at or (0, "")
        self.pipe = pipe
        self.n_operations = 0

    def install(self) -> None:
        """Wrap the functions with which the libraries and we write files."""
        import torch
        from tqdm import tqdm
        from transformers import modeling_utils

        # its default is a system semaphore, which a killed process leaves behind
        tqdm.set_lock(threading.RLock())
        save, rmtree, replace = torch.save, shutil.rmtree, Path.replace
        save_weights = modeling_utils.safe_save_file
        torch.save = lambda what, to, *args, **kwargs: self._do(
            lambda: save(what, to, *args, **kwargs), "write", Path(to), truncate
        )
        modeling_utils.safe_save_file = lambda what, to, **kwargs: self._do(
            lambda: save_weights(what, to, **kwargs), "write", Path(to), truncate
        )
        shutil.rmtree = lambda path, *args, **kwargs: self._do(
            lambda: rmtree(path, *args, **kwargs), "remove", Path(path), remove_half
        )
        Path.replace = lambda path, to: self._do(lambda: replace(path, to), "move to", Path(to))

    def _do(
        self,
        operation: Callable[[], Any],
        verb: str,
        path: Path,
        half: Callable[[Path, Callable[[], Any]], None] | None = None,
    ) -> Any:
        is_counted = any(name in str(path) for name in IN_A_SAVE)
        is_removal_of_nothing = verb == "remove" and not path.exists()
        if not is_counted or is_removal_of_nothing:
            return operation()
        self.n_operations += 1
        if self.n_operations != self.number:
            return operation()
        mode = self.mode if self.mode != "half" or half else "before"
        if mode == "half":
            half(path, operation)
        elif mode == "after":
            operation()
        self.pipe.send(f"{mode} {verb} {'/'.join(path.parts[-3:])}")
        time.sleep(3600)
        raise AssertionError("the parent did not kill")


def truncate(path: Path, write: Callable[[], Any]) -> None:
    """Leave a file as it is halfway through being written."""
    write()
    os.truncate(path, path.stat().st_size // 2)


def remove_half(path: Path, remove: Callable[[], Any]) -> None:
    """Leave a folder as it is halfway through being removed."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    for file in files[: len(files) // 2]:
        file.unlink()


def log_times(place: Path) -> dict[Path, int]:
    """When each log was last written to, in nanoseconds."""
    times = {}
    for log in place.glob("runs/single/*/log.jsonl"):
        times[log] = log.stat().st_mtime_ns
    return times
