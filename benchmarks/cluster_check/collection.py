"""The small collection that is converted: public-domain tunes, and files that are none."""

import hashlib
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data_prep.shards.shard_files import SHARD_FILES

from .checks import Checks
from .commands import PROJECT, CheckError, environment, run

N_SHARDS = 12  # of the archive; the folder is one more
TUNES = PROJECT / "tests" / "data" / "tunes"
NOT_COMPARED = {"stage", "seconds", "files_per_second"}  # of stage.json; `stage` is the folder


@dataclass(frozen=True)
class Collection:
    """An archive and a folder, and what one process on one machine makes of them.

    Attributes:
        sources: Paths of the archive and the folder, relative to the working folder.
        shards: Name of shard -> SHA-256.
        stage: Content of stage.json.
    """

    sources: str
    shards: dict[str, str]
    stage: dict[str, object]

    def compare(self, out: Path, who: str, checks: Checks) -> None:
        """Checks the shards and stage.json of another conversion, and what it has left behind."""
        shards, stage = shards_in(out), json.loads((out / "stage.json").read_text("utf-8"))
        other = differences(self.shards, shards)
        found = f"{len(shards)} shards, {len(other)} other than those of one process"
        checks.tell(not other, f"shards of {who}", found)
        other = [name for name in differences(self.stage, stage) if name not in NOT_COMPARED]
        counts = (f"{stage['rows_in']:,} files", f"{stage['rows_out']:,} tunes")
        found = ", ".join([*counts, f"dropped {stage['dropped']}"])
        checks.tell(not other, f"stage.json of {who}", "; other ".join([found, *other]))
        expected = {*shards, "stage.json", ".datatrove"}
        left = sorted(path.name for path in out.iterdir() if path.name not in expected)
        checks.tell(not left, f"files left behind by {who}", ", ".join(left) or "none")


def differences(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """Returns the keys that only one has, or with different values."""
    keys = sorted(one.keys() | other.keys())
    return [key for key in keys if key not in one or key not in other or one[key] != other[key]]


def shards_in(out: Path) -> dict[str, str]:
    """Returns name -> SHA-256 of the shards in a folder."""
    files = sorted(out.glob("part-*.parquet"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def make_collection(place: Path) -> Collection:
    """Writes the music, and converts it by one process.

    Args:
        place: The working folder of all conversions.

    Raises:
        CheckError: If the conversion fails, or a tune was not converted.
    """
    few, tunes = place / "few", sorted(TUNES.glob("*.mid"))
    few.mkdir(parents=True)
    with zipfile.ZipFile(place / "archive.zip", "w") as archive:
        for number in range(N_SHARDS * SHARD_FILES):
            archive.write(tunes[number % len(tunes)], f"{number:04d}.mid")
    shutil.copy(tunes[0], few)
    shutil.copy(tunes[1], os.fsdecode(os.fsencode(few) + b"/\xff.mid"))  # no UTF-8
    (few / "page.mid").write_text("<html>")
    sources = ["archive.zip", "few"]
    command = [sys.executable, "-m", "data_prep.convert", *sources, "alone", "--workers", "1"]
    run(command, environment(), place)
    stage = json.loads((place / "alone" / "stage.json").read_text("utf-8"))
    if stage["dropped"] != {"not_midi": 1}:
        raise CheckError(f"one process dropped {stage['dropped']}, expected the page alone")
    return Collection(" ".join(sources), shards_in(place / "alone"), stage)
