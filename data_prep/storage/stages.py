"""What the stages share on disk: atomically written folders, with a stage.json in each.

A stage is run again exactly when the digest of its inputs, settings or code has changed.
(The caching of `datasets` is off: it does not notice changes in imported functions.)
"""

import gc
import hashlib
import json
import logging
import os
import resource
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pebble import ProcessPool
from tqdm import tqdm

logger = logging.getLogger(__name__)

STAGES = ("1_abc", "2_clean", "3_filtered", "4_split", "5_tokens", "6_blocks")


def read_stage(folder: Path) -> dict[str, Any] | None:
    """Returns the stage.json of a finished stage; None if it is missing or damaged."""
    return read_object(folder / "stage.json")


def read_object(path: Path) -> dict[str, Any] | None:
    """Returns the object in a JSON file; None if it is missing or damaged."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def is_fresh(about: Path, expected: dict[str, Any]) -> bool:
    """Whether a result was made from the inputs it would be made from now.

    Args:
        about: The JSON file next to the result; if it is missing or damaged, nothing is fresh.
        expected: The entries that it must contain.
    """
    found = read_object(about)
    return found is not None and found | json.loads(json.dumps(expected)) == found


def run_stage(
    folder: Path,
    *,
    inputs: Sequence[str],
    settings: dict[str, Any],
    code: str,
    work: Callable[[Path], dict[str, Any]],
    keeps_names: bool = True,
) -> dict[str, Any]:
    """Runs a stage, unless its result exists already.

    If a new run gives byte-identical files, `former_digests` of stage.json lists their earlier
    digests: a model trained under one of those was trained on the same data.

    Args:
        folder: The result. It is written under another name and renamed when it is complete.
        inputs: Digests of the inputs.
        settings: The settings of this stage, as JSON.
        code: Digest of the code that determines the result.
        work: Fills the folder it is given and returns the counts for stage.json.
        keeps_names: Whether former digests remain valid if the files are the same; not if they also
            covered files of another stage, which have changed.

    Returns:
        The content of stage.json.
    """
    key = json.dumps([list(inputs), settings, code], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()
    before = read_stage(folder)
    if before and before["digest"] == digest:
        if _is_whole(folder, before):
            logger.info("%s: unchanged", folder)
            return before
        logger.warning("%s: files are missing or truncated; the stage is run again", folder)
    for broken_off in folder.parent.glob(f"{folder.name}.*.part"):
        shutil.rmtree(broken_off, ignore_errors=True)
    # Named by process: a worker that outlives a killed process writes to an unused folder.
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    fresh.mkdir(parents=True)
    stage = {"stage": folder.name, "digest": digest, "settings": settings, **work(fresh)}
    stage["files"] = describe_files(sorted(path for path in fresh.iterdir() if path.is_file()))
    if before and keeps_names and before.get("files") == stage["files"]:
        names = {before["digest"], *before.get("former_digests", [])} - {digest}
        stage |= {"former_digests": sorted(names)} if names else {}
    write_json(fresh / "stage.json", stage)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return stage


def describe_files(files: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Returns name -> `bytes` and `sha256` of files, as recorded in stage.json."""
    return {file.name: {"bytes": file.stat().st_size, "sha256": sha256_of(file)} for file in files}


def sha256_of(file: Path) -> str:
    """Returns the SHA-256 of a file, as hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def check_files(folder: Path, stage: dict[str, Any]) -> None:
    """Checks the files of a stage against its stage.json.

    Raises:
        ValueError: If one is missing or damaged; the message names it.
    """
    for name, said in stage["files"].items():
        file = folder / name
        found = sha256_of(file) if file.is_file() else "no file"
        if found != said["sha256"]:
            raise ValueError(
                f"{file} is damaged: found sha256 {found[:12]}, stage.json says "
                f"{said['sha256'][:12]}; remove it and repeat the command, which makes it again"
            )


def _is_whole(folder: Path, stage: dict[str, Any]) -> bool:
    """Checks file sizes only; the content is checked when the next stage reads the files."""
    files = ((folder / name, said["bytes"]) for name, said in stage.get("files", {}).items())
    return all(file.is_file() and file.stat().st_size == size for file, size in files)


@contextmanager
def worker_pool(
    workers: int | None, initializer: Callable[[], object] | None = None
) -> Iterator[ProcessPool]:
    """Opens a pool of worker processes that stop at once on Ctrl-C or an error.

    Args:
        workers: Number of processes; all cores if None.
        initializer: Called in each worker when it starts.
    """
    start = partial(_start_worker, initializer)
    pool = ProcessPool(workers or os.cpu_count(), initializer=start, context=get_context("spawn"))
    try:
        yield pool
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()


def _start_worker(initializer: Callable[[], object] | None) -> None:
    # Tunes are many small objects without cycles: with rarer collection, they cost a tenth less.
    gc.set_threshold(50_000, 20, 20)
    # Else the first bar makes an inter-process lock, which is reported as leaked when this ends.
    tqdm.set_lock(threading.RLock())
    if initializer:
        initializer()


def measure_resources(seconds: float, workers: int | None) -> dict[str, float]:
    """Returns the time and memory of a stage, as recorded in measured.json.

    Peak memory is that of this process so far, and that of the largest of its finished workers:
    resident set sizes in MB (10^6 bytes).
    """
    kilobyte = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes
    main, worker = (
        round(resource.getrusage(who).ru_maxrss * kilobyte / 1e6)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {
        "seconds": round(seconds, 1),
        "peak_memory_mb_main": main,
        "peak_memory_mb_worker": worker,
        "workers": workers or os.cpu_count(),
    }


def write_json(path: Path, content: Any) -> None:
    """Writes JSON atomically."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", "utf-8")
    part.rename(path)
