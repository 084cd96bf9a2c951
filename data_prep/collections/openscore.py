"""OpenScore's songs and string quartets: scores by volunteers, released under CC0 1.0.

Each is a public repository; what is read are its compressed MusicXML files. It is fetched at the
commit given here, so that everybody gets the same music, or taken from a folder: the one that the
variable OPENSCORE names, with `Lieder` and `StringQuartets` in it, as folders or .zip files.

In public use, credit to OpenScore Lieder and OpenScore String Quartets is asked for.
"""

import os
from pathlib import Path
from typing import NamedTuple

from .download import download
from .members import SourceError

FOLDER_VARIABLE = "OPENSCORE"
_HOST = "https://github.com/OpenScore"


class Repository(NamedTuple):
    """A repository of OpenScore, and the commit that is read."""

    name: str
    commit: str


OPENSCORE = {
    # 1,460 songs for voice and piano
    "openscore_lieder": Repository("Lieder", "bca122458de6da362abe62dd6aec62e25d7759b1"),
    # 122 string quartets, whole works or movements
    "openscore_quartets": Repository("StringQuartets", "2c723a5b7b4ea5420826116dfa912956c6a022c2"),
}


def fetch_openscore(collection: str, downloads: Path) -> Path:
    """Returns the folder or archive of a collection; downloads it unless OPENSCORE is set.

    Args:
        collection: One of `OPENSCORE`.
        downloads: Where a download is kept.

    Raises:
        SourceError: If OPENSCORE is set, and its folder has no such repository.
        DownloadError: If the download fails.
    """
    name, commit = OPENSCORE[collection]
    file = f"{name}-{commit}.zip"
    if not (given := os.environ.get(FOLDER_VARIABLE)):
        return download(f"{_HOST}/{name}/archive/{commit}.zip", downloads / file)
    for path in (Path(given, each) for each in (name, f"{name}.zip", file)):
        if path.exists():
            return path
    raise SourceError(
        f"{FOLDER_VARIABLE} names {given}, which has no {name}, {name}.zip or {file}; expected a "
        "checkout or an archive of the repository, or the variable unset, to download it"
    )
