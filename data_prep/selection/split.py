"""Stage 4: train / validation / test by hash of the duplicate cluster.

A whole cluster is always in one split, and the split of a song depends only on its own cluster:
adding or removing files moves no song outside the clusters that they belong to.
"""

import hashlib
from dataclasses import dataclass

SPLITS = ("train", "validation", "test")
SPLIT_BY = ("cluster", "file")


@dataclass(frozen=True)
class SplitSettings:
    """How songs are split.

    Attributes:
        validation: Share of the songs, in (0, 1).
        test: Share of the songs, in (0, 1); the rest is train.
        by: `cluster`; or `file`, as both studies did: copies may then be on both sides.
    """

    validation: float = 0.05
    test: float = 0.05
    by: str = "cluster"

    def __post_init__(self) -> None:
        if not (self.validation > 0 and self.test > 0 and self.validation + self.test < 1):
            raise ValueError(
                f"validation {self.validation} and test {self.test}: expected shares above 0 whose "
                "sum is below 1"
            )
        if self.by not in SPLIT_BY:
            raise ValueError(f"by is {self.by!r}, expected one of {SPLIT_BY}")


def split_of(cluster_id: str, settings: SplitSettings) -> str:
    """Returns the split of a cluster (or file), one of `SPLITS`."""
    digest = hashlib.sha256(f"split {cluster_id}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < settings.validation:
        return "validation"
    return "test" if place < settings.validation + settings.test else "train"
