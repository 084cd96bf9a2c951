"""What the stages share on disk: folders that appear whole, and a stage.json beside each.

A stage is done again exactly when the digest of its inputs, settings or code has changed.
(The caching of `datasets` is off: it does not notice that an imported function changed.)
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pebble import ProcessPool

logger = logging.getLogger(__name__)

PACKAGE = Path(__file__).parent


def code_digest(modules: Sequence[str]) -> str:
    """Returns a digest of the source of modules of this package, e.g. `["tune", "clean"]`."""
    digest = hashlib.sha256()
    for module in sorted(modules):
        digest.update((PACKAGE / f"{module}.py").read_bytes())
    return digest.hexdigest()[:16]


def read_stage(folder: Path) -> dict[str, Any] | None:
    """Returns the stage.json of a finished stage, or None."""
    path = folder / "stage.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def run_stage(
    folder: Path,
    *,
    inputs: Sequence[str],
    settings: dict[str, Any],
    modules: Sequence[str],
    work: Callable[[Path], dict[str, Any]],
) -> dict[str, Any]:
    """Runs a stage, unless its result lies there already.

    Args:
        folder: The result. It is written under another name and renamed when it is whole.
        inputs: Digests of what goes in.
        settings: The settings of this stage, as JSON.
        modules: Modules of this package whose code decides the result.
        work: Fills the folder it is given and returns what stage.json shall say: counts.

    Returns:
        The content of stage.json.
    """
    key = json.dumps([list(inputs), settings, code_digest(modules)], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()
    done = read_stage(folder)
    if done and done["digest"] == digest:
        logger.info("%s: unchanged", folder)
        return done
    fresh = folder.with_name(folder.name + ".part")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    stage = {"stage": folder.name, "digest": digest, "settings": settings, **work(fresh)}
    write_json(fresh / "stage.json", stage)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return stage


@contextmanager
def worker_pool(
    workers: int | None, initializer: Callable[[], object] | None = None
) -> Iterator[ProcessPool]:
    """Worker processes that, on Ctrl-C or an error, do not first finish what they were given.

    Args:
        workers: How many; all cores if None.
        initializer: What each does when it starts.
    """
    pool = ProcessPool(
        workers or os.cpu_count(), initializer=initializer, context=get_context("spawn")
    )
    try:
        yield pool
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()


def explain(error: BaseException) -> str:
    """Returns an error in one line; a full disk with what to do, also when a library wrapped it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return (
                f"no space left on the disk ({cause}); what was finished is kept: make room and "
                "repeat the command"
            )
        cause = cause.__cause__
    return str(error).splitlines()[0]


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", "utf-8")
    part.rename(path)
