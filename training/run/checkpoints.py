"""Fault-tolerant checkpoints: a manifest, written last, marks a checkpoint as intact.

The Trainer checks only the folder name: it accepts a truncated file, and continues with a fresh
optimizer if optimizer.pt is missing. So each checkpoint gets a manifest with the size and SHA-256
of its files, and the SHA-256 of its own content.
"""

import errno
import hashlib
import json
import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from .run_folder import RunFolder, write_atomically

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
NEEDED = ("optimizer.pt", "scheduler.pt", "trainer_state.json")
WEIGHTS = ("model.safetensors", "adapter_model.safetensors")  # one of them
NEARLY_FULL_BYTES = 4 * 2**20


def write_manifest(checkpoint: Path, **facts: Any) -> None:
    """Mark a checkpoint as intact; `facts` are stored along with the file list."""
    files = {p.name: _fingerprint(p) for p in sorted(checkpoint.iterdir()) if p.is_file()}
    files.pop(MANIFEST, None)
    content = {**facts, "files": files}
    text = json.dumps({**content, "sha256": _digest(content)}, indent=1)
    write_atomically(checkpoint / MANIFEST, text)


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """The manifest of a checkpoint that `newest_checkpoint` returned."""
    return json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))


def newest_checkpoint(*folders: Path, up_to_step: float = math.inf) -> Path | None:
    """The newest intact checkpoint; damaged ones after it are removed, with one warning each.

    They are removed since the Trainer, which counts folders, would keep them instead of good ones.

    Args:
        folders: Where to look.
        up_to_step: Later ones are ignored.
    """
    found = [
        path
        for folder in folders
        for path in folder.glob("checkpoint-*")
        if path.name.rpartition("-")[2].isdigit() and step_of(path) <= up_to_step
    ]
    for checkpoint in sorted(found, key=step_of, reverse=True):
        fault = _fault(checkpoint)
        if fault is None:
            return checkpoint
        logger.warning(
            "checkpoint %s is not intact (%s); falling back to the one before", checkpoint, fault
        )
        shutil.rmtree(checkpoint, ignore_errors=True)
    return None


def step_of(checkpoint: Path) -> int:
    """The step in the name of a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


def keep_branch_points(run: RunFolder, steps: Sequence[int]) -> None:
    """Move intact checkpoints of these steps to where save_total_limit does not count them."""
    for step in steps:
        checkpoint = run.checkpoints / f"checkpoint-{step}"
        kept = run.branch_points / checkpoint.name
        if (checkpoint / MANIFEST).is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(kept, ignore_errors=True)
            checkpoint.replace(kept)


def remove_partial(checkpoint: Path) -> None:
    """Free the space of a checkpoint whose saving failed."""
    if not (checkpoint / MANIFEST).is_file():
        shutil.rmtree(checkpoint, ignore_errors=True)


@contextmanager
def disk_full_in_one_line(folder: Path) -> Iterator[None]:
    """Turn the errors of safetensors and torch.save on a full disk into an OSError.

    Both raise error types of their own.

    Raises:
        OSError: With one clear line, if an error inside came from a full disk; others propagate.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as err:
        if not _is_disk_full(err, folder):
            raise
        advice = "free some space and repeat the command to resume"
        raise OSError(errno.ENOSPC, f"the disk is full; {advice}", str(folder)) from err


def _is_disk_full(error: Exception, folder: Path) -> bool:
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
        return True
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free < NEARLY_FULL_BYTES


def _fault(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    # without these files a manifest does not count: save_only_model=true leaves them out
    missing = [name for name in NEEDED if not (checkpoint / name).is_file()]
    if not any((checkpoint / name).is_file() for name in WEIGHTS):
        missing.insert(0, WEIGHTS[0])
    if missing or not (checkpoint / MANIFEST).is_file():
        return f"no {', '.join(missing or [MANIFEST])}"
    try:
        manifest = read_manifest(checkpoint)
        is_whole = manifest.pop("sha256") == _digest(manifest)
    except (ValueError, AttributeError, TypeError, KeyError, FileNotFoundError):
        is_whole = False
    if not is_whole:
        return f"damaged {MANIFEST}"
    for name, fingerprint in manifest["files"].items():
        try:
            is_whole = _fingerprint(checkpoint / name) == fingerprint
        except FileNotFoundError:  # also if another process of the run is removing it
            return f"no {name}"
        if not is_whole:
            return f"damaged {name}"
    return None


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _fingerprint(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]
