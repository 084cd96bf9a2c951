"""Stage 4: train / validation / test by hash of the duplicate cluster.

A whole cluster lies in one split, always, and where a song goes depends on nothing but its own
cluster: adding or removing files moves no other song.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitSettings:
    """Shares of the songs, in (0, 1); the rest is train."""

    validation: float = 0.05
    test: float = 0.05


def split_of(cluster_id: str, settings: SplitSettings) -> str:
    """Returns the split of a cluster, one of `SPLITS`."""
    digest = hashlib.sha256(f"split {cluster_id}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < settings.validation:
        return "validation"
    return "test" if place < settings.validation + settings.test else "train"
