"""Tokenized data as one file that can be read without pyarrow, for a machine with few packages.

A bundle is a tar file of what training reads: the stage files, the tokenizer, the blocks and the
validation songs. Ids are compressed as bytes by bz2 (97 M characters: 15.3 MB in 12 s; xz at its
best takes 130 s for 12.4 MB); with ids above 255, low and high bytes are separate streams. It is
unpacked once, next to itself, into a folder laid out as by `make data`, except that the songs are
NumPy arrays. Each file is then compared with the digests of its stage, as always.
"""

import bz2
import hashlib
import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

SONGS = "validation.npz"

_HEAD = "bundle.json"
_VERSION = 1
_STAGES = ("5_tokens", "6_blocks")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def write_bundle(folder: Path, ids: list[np.ndarray], totals: dict[str, Any], out: Path) -> int:
    """Write the bundle of a dataset.

    Args:
        folder: `data/<name>/<preset>`.
        ids: Its validation songs, one array each.
        totals: As in `blocks.Songs`.
        out: The file; it appears whole or not at all.

    Returns:
        Its size in bytes.
    """
    blocks = np.load(folder / "6_blocks" / "train.npy", mmap_mode="r")
    lengths = np.array([len(song) for song in ids])
    songs = np.concatenate(ids).astype(np.uint16)
    head = {"version": _VERSION, "dataset": folder.parent.name, "preset": folder.name}
    head |= {"n_blocks": len(blocks), "block_length": blocks.shape[1], "totals": totals}
    members = {
        f"{name}/stage.json": (folder / name / "stage.json").read_bytes() for name in _STAGES
    }
    members |= {name: (folder / "5_tokens" / name).read_bytes() for name in _TOKENIZER}
    members |= _compressed("blocks", blocks.ravel()) | _compressed("songs", songs)
    members["lengths.bz2"] = bz2.compress(lengths.astype("<u4").tobytes())
    head["sha256"] = {name: _sha256(content) for name, content in members.items()}
    members = {_HEAD: json.dumps(head, indent=1).encode()} | members
    temporary = out.with_name(f".{out.name}.part")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(temporary, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)  # without times, so that equal data give equal files
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    temporary.replace(out)
    return out.stat().st_size


def unpack_bundle(file: Path) -> Path:
    """Unpack a bundle next to itself, unless it already is; return the folder, a data root.

    Raises:
        ValueError: If the file is not a bundle, or is damaged.
    """
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    root = file.with_name(f"{file.name}.{digest[:12]}")
    if root.is_dir():
        return root
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as temporary:
        try:
            with tarfile.open(file, "r:") as archive:
                members = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}
            _unpack(members, Path(temporary) / "root")
        except (tarfile.TarError, KeyError, ValueError, OSError, EOFError) as err:
            raise ValueError(
                f"{file} is not a bundle, or is damaged ({err!r}); write it again with "
                "`make bundle DATASET=data/<name>/<preset> OUT=<file>`"
            ) from None
        try:
            (Path(temporary) / "root").rename(root)
        except OSError:
            if not root.is_dir():  # another process was faster
                raise
    return root


def _unpack(members: dict[str, bytes], root: Path) -> None:
    head = json.loads(members[_HEAD])
    if head["version"] != _VERSION:
        raise ValueError(f"version {head['version']}, expected {_VERSION}")
    for name, digest in head["sha256"].items():
        if _sha256(members[name]) != digest:
            raise ValueError(f"{name} does not match its sha256")
    folder = root / head["dataset"] / head["preset"]
    for name in _STAGES:
        (folder / name).mkdir(parents=True)
        (folder / name / "stage.json").write_bytes(members[f"{name}/stage.json"])
    (root / "latest").symlink_to(head["dataset"])
    for name in _TOKENIZER:
        (folder / "5_tokens" / name).write_bytes(members[name])
    shape = (head["n_blocks"], head["block_length"])
    np.save(folder / "6_blocks" / "train.npy", _ids(members, "blocks").reshape(shape))
    lengths = np.frombuffer(bz2.decompress(members["lengths.bz2"]), "<u4")
    totals = {name: np.array(value) for name, value in head["totals"].items()}
    songs = folder / "5_tokens" / SONGS
    np.savez(songs, ids=_ids(members, "songs"), lengths=lengths, **totals)
    stage = json.loads(members["5_tokens/stage.json"])
    stage["files"][SONGS] = {"sha256": _sha256(songs.read_bytes())}
    (folder / "5_tokens" / "stage.json").write_text(json.dumps(stage), "utf-8")


def read_songs(file: Path) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Return ids and totals of the songs in a bundle."""
    with np.load(file) as content:
        arrays = dict(content)
    ids, lengths = arrays.pop("ids").astype(np.int64), arrays.pop("lengths")
    totals = {name: value.item() for name, value in arrays.items()}
    return np.split(ids, np.cumsum(lengths)[:-1]), totals


def songs_file(tokens: Path, split: str) -> Path:
    """The file of a split's songs in 5_tokens: .npz if the folder came from a bundle."""
    bundled = tokens / f"{split}.npz"
    return bundled if bundled.is_file() else tokens / f"{split}.parquet"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _compressed(name: str, ids: np.ndarray) -> dict[str, bytes]:
    """Archive members for ids below 65,536."""
    low = bz2.compress((ids & 0xFF).astype(np.uint8).tobytes())
    if not len(ids) or ids.max() < 256:
        return {f"{name}.low.bz2": low}
    high = bz2.compress((ids >> 8).astype(np.uint8).tobytes())
    return {f"{name}.low.bz2": low, f"{name}.high.bz2": high}


def _ids(members: dict[str, bytes], name: str) -> np.ndarray:
    """uint16 (n,)."""
    ids = np.frombuffer(bz2.decompress(members[f"{name}.low.bz2"]), np.uint8).astype(np.uint16)
    if high := members.get(f"{name}.high.bz2"):
        ids |= np.frombuffer(bz2.decompress(high), np.uint8).astype(np.uint16) << 8
    return ids
