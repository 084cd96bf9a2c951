"""The small collection that is converted: public-domain tunes, and files that are none."""

import hashlib
import json
import os
import shutil
import sys
import zipfile
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
        """Checks the shards and stage.json of another conversion."""
        found = shards_in(out)
        names = sorted(self.shards.keys() | found.keys())
        others = [name for name in names if self.shards.get(name) != found.get(name)]
        text = f"{len(found)} shards, {len(others)} other than those of one process"
        checks.tell(not others, f"shards of {who}", text)
        stage = json.loads((out / "stage.json").read_text("utf-8"))
        keys = self.stage.keys() | stage.keys()
        others = sorted(k for k in keys - NOT_COMPARED if self.stage.get(k) != stage.get(k))
        counts = (
            f"{stage['rows_in']:,} files, {stage['rows_out']:,} tunes, dropped {stage['dropped']}"
        )
        checks.tell(
            not others, f"stage.json of {who}", counts + "".join(f"; other {k}" for k in others)
        )
        left = sorted(
            p.name for p in out.iterdir() if p.name not in {*found, "stage.json", ".datatrove"}
        )
        checks.tell(not left, f"files left behind by {who}", ", ".join(left) or "none")


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
