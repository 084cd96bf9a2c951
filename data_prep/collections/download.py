"""Downloads a collection over HTTP or from the Hub; an interrupted download resumes.

Over HTTP: the bytes so far are in `<target>.part`, and `<target>.part.json` identifies their file:
the rest is only appended if the server still has that very file, otherwise the download starts
over. From the Hub: its own library does this, file by file.
"""

import glob
import hashlib
import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ..storage.explain import first_line
from ..storage.stages import read_object, sha256_of, write_json
from .contents import TAKEN_SUFFIXES

logger = logging.getLogger(__name__)

# The Lakh MIDI dataset. Source: C. Raffel, "Learning-Based Methods for Comparing Sequences", 2016.
LAKH_FILES = {"lmd_full": "lmd_full.tar.gz", "lmd_matched": "lmd_matched.tar.gz"}
LAKH_URL = "http://hog.ee.columbia.edu/craffel/lmd"
LAKH_URL_VARIABLE = "LMD_URL"  # environment variable for a mirror

HUB_PREFIX = "hf://"

TRIES_WITHOUT_PROGRESS = 5
_STEP_BYTES = 1 << 18
_STALL_SECONDS = 60
_RANGE_REFUSED = 416


class DownloadError(ValueError):
    """A file that cannot be downloaded."""


def lakh_url(name: str) -> str:
    """Returns the URL of a file of `LAKH_FILES`."""
    return f"{os.environ.get(LAKH_URL_VARIABLE, LAKH_URL).rstrip('/')}/{LAKH_FILES[name]}"


def download(url: str, target: Path, *, wait_seconds: float = 2.0) -> Path:
    """Downloads a file unless it exists; shows the progress, the size and the digests.

    Args:
        url: URL of the file.
        target: Path of the file; it appears once it is complete.
        wait_seconds: Wait before a retry; doubled each time without progress.

    Returns:
        The target.

    Raises:
        DownloadError: If the download fails. The bytes so far are kept for the next call.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    logger.info("%s -> %s", url, target)
    failures = 0
    while True:
        before = _size(part)
        try:
            _fetch_rest(url, part)
            break
        except _LocalError as error:
            raise error.__cause__ from None
        except (OSError, http.client.HTTPException) as error:
            of_server = isinstance(error, urllib.error.HTTPError)  # its filename is the URL
            if not of_server and getattr(error, "filename", None) is not None:
                raise
            failures = 1 if _size(part) > before else failures + 1
            if failures >= TRIES_WITHOUT_PROGRESS:
                raise DownloadError(
                    f"{url}: {first_line(error)}; {_size(part):,} bytes are kept, repeat the "
                    "command to resume"
                ) from error
            time.sleep(wait_seconds * 2 ** (failures - 1))
    part.replace(target)
    _state_of(part).unlink(missing_ok=True)
    _show_digests(target)
    return target


class _LocalError(Exception):
    """Writing failed, not reading: a retry does not help."""


def _fetch_rest(url: str, part: Path) -> None:
    """Downloads the missing rest of a file.

    Raises:
        DownloadError: If the server refuses permanently.
        OSError: If the connection broke, or the server or the disk fails.
        http.client.HTTPException: If the connection broke or the server fails.
    """
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    state, have = read_object(_state_of(part)) or {}, _size(part)
    if have and state.get("validator"):
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", state["validator"])
    try:
        response = urllib.request.urlopen(request, timeout=_STALL_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code < 500 and error.code != _RANGE_REFUSED:  # missing file, no permission
            raise DownloadError(f"{url}: {error}") from error
        if error.code == _RANGE_REFUSED:  # we have all bytes, or the file is shorter now
            if have == state.get("size"):
                return
            part.unlink(missing_ok=True)
        raise
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            have = 0
        length = response.headers.get("Content-Length")
        size = have + int(length) if length else None
        # A weak ETag does not guarantee the same bytes.
        tag = response.headers.get("ETag", "")
        validator = tag if tag.startswith('"') else response.headers.get("Last-Modified")
        if not have:  # delete the old bytes before the state describes new ones
            part.unlink(missing_ok=True)
        write_json(_state_of(part), {"url": url, "size": size, "validator": validator})
        _append(response, part, have, size)
    if size is not None and _size(part) != size:
        raise ConnectionError(f"interrupted after {_size(part):,} of {size:,} bytes")


def _append(response: http.client.HTTPResponse, part: Path, have: int, size: int | None) -> None:
    with (
        part.open("r+b" if have else "wb") as file,
        tqdm(
            desc="download", total=size, initial=have, unit="B", unit_scale=True, unit_divisor=1024
        ) as progress,
    ):
        file.seek(have)
        while step := response.read(_STEP_BYTES):
            try:
                file.write(step)
                file.flush()  # so that a killed download can resume here
            except OSError as error:
                raise _LocalError from error
            progress.update(len(step))


def _state_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _show_digests(path: Path) -> None:
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
    size = f"{path.stat().st_size:,}"
    logger.info("%s: %s bytes, sha256 %s, md5 %s", path, size, sha256_of(path), md5)


# ---------------------------------------------------------------- the Hub


def fetch_dataset(uri: str, downloads: Path) -> tuple[Path, str]:
    """Downloads the music of a dataset on the Hub: MIDI files, archives and tables.

    The Hub library takes the token (`hf auth login`), HF_ENDPOINT and HF_HUB_OFFLINE from its own
    settings. Files of a commit are downloaded only once.

    Args:
        uri: `hf://datasets/<user>/<name>[@<revision>][/<path inside>]`, the path of a folder or
            file; the default branch without a revision.
        downloads: The folder that gets `<user>--<name>/<commit>/`. The path names the commit, so
            that recording the path records the revision, and files of two commits never mix.

    Returns:
        The folder or file inside, and the dataset's name.

    Raises:
        DownloadError: If the download is not complete. Files so far are kept for the next call.
        OSError: If the disk fails.
    """
    import huggingface_hub  # here, because it is slow to import, and few sources need it
    from huggingface_hub.errors import HTTPError, RevisionResolutionError

    name, branch, inside = _dataset_place(uri)
    try:
        revision = huggingface_hub.HfApi().resolve_revision(
            name, repo_type="dataset", revision=branch
        )
        folder = downloads / name.replace("/", "--") / revision.resolved
        logger.info("%s -> %s", uri, folder)
        # By commit, not branch: for a branch, the library would take an existing folder for
        # complete when the Hub does not answer.
        huggingface_hub.snapshot_download(
            name,
            repo_type="dataset",
            revision=revision.resolved,
            local_dir=folder,
            allow_patterns=_music_patterns(inside),
        )
    except (HTTPError, RevisionResolutionError, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DownloadError(f"{uri}: {_hub_reason(error)}") from error
    path = folder / inside
    if not path.exists():
        raise DownloadError(
            f"{uri}: commit {revision.resolved} has no such file, nor a folder with files ending "
            f"in {' '.join(TAKEN_SUFFIXES)}; check the path inside"
        )
    return path, name.split("/")[-1]


def _dataset_place(uri: str) -> tuple[str, str | None, str]:
    """Returns the name, revision and inner path of a URI of a dataset on the Hub."""
    from huggingface_hub.utils import parse_hf_uri

    expected = f"expected {HUB_PREFIX}datasets/<user>/<name>[@<revision>][/<path inside>]"
    try:
        place = parse_hf_uri(uri)
    except ValueError as error:
        raise DownloadError(f"{uri} names no dataset; {expected}") from error
    if place.type != "dataset" or ".." in place.path_in_repo.split("/"):
        raise DownloadError(f"{uri} names no place in a dataset; {expected}")
    return place.id, place.revision, place.path_in_repo


def _music_patterns(inside: str) -> list[str]:
    """Returns wildcards for the files that a source can read; the Hub's are case-sensitive."""
    kinds = [
        "*" + "".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in suffix)
        for suffix in TAKEN_SUFFIXES
    ]
    if not inside:
        return kinds
    start = glob.escape(inside)
    return [start, *(f"{start}/{kind}" for kind in kinds)]


def _hub_reason(error: Exception) -> str:
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return (
            "its owners grant access on request; ask for it on the dataset's page, then log in "
            "with `hf auth login`"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such dataset, or a private one; check the name, or log in with `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return "no such revision; expected a branch, a tag or the 40 digits of a commit"
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set, and not all files were downloaded before; unset it"
    # Without the query of a URL: it may contain a signature that opens the file.
    text = re.sub(r"\?\S+", "", first_line(error))
    return f"{text}; the files so far are kept, repeat the command to resume"
