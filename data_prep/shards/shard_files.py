"""The shards of a conversion: which are planned, which exist, and how one is written.

A shard's name, `part-<number>-<made>-<stamps>.parquet`, contains two digests. The first covers how
its rows are made: source, layout, the converter's code and the file names. The second covers the
files' sizes and times, and only tells whether they may have changed: if only it differs, the files
are read, and a shard of the same bytes is renamed. So nothing is converted again only because a
collection was copied or touched.
"""

import hashlib
import itertools
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..collections.members import Member
from ..collections.passed_over import PassedOverFiles
from ..collections.sources import Source
from ..importers.kinds import Kind
from ..storage.claims import clear, holder
from ..storage.code_identity import code_digest
from .convert_file import convert_file, row_before
from .convert_member import convert_import, kind_of_member
from .convert_pool import File, Row

SHARD_FILES = 128  # at most this many files are lost by an interruption
SCHEMA = pa.schema(
    [
        ("digest", pa.string()),  # sha256 of the bytes; "" if they could not be read
        ("source", pa.string()),
        ("path", pa.string()),
        ("abc", pa.string()),
        ("drop_reason", pa.string()),
        ("message", pa.string()),
        ("n_notes", pa.int64()),
        ("n_doubled", pa.int64()),  # notes of the file that the text leaves out
        ("n_bars", pa.int64()),
        ("n_seconds", pa.float64()),
        ("n_voices", pa.int32()),
        ("programs", pa.list_(pa.int32())),
        ("has_drums", pa.bool_()),
    ]
)
# Older shards have no second digest in their names.
_SHARD_NAME = re.compile(
    r"(part-\d{5,}-[0-9a-f]{12})(-[0-9a-f]{12})?\.(parquet|claim|[0-9a-f]{8}\.part)"
)


@dataclass(frozen=True)
class Shard:
    """One output file and its input files; it is done once it exists at its path."""

    path: Path
    source: Source
    members: list[Member]

    @property
    def claim(self) -> Path:
        """Where the process that makes it says so, see claims.py."""
        return self.path.with_suffix(".claim")

    @property
    def stem(self) -> str:
        """The part of its name that does not depend on file sizes and times."""
        return _SHARD_NAME.fullmatch(self.path.name)[1]


def converter_code(names: Iterable[str] = ()) -> str:
    """Returns the digest of the code that determines the rows of files, of MIDI files if none.

    It covers the readers of their kinds only: a change in the reader of scores does not convert a
    collection of MIDI again.
    """
    return _code_of(frozenset(kind_of_member(name) for name in names))


@cache
def _code_of(kinds: frozenset[Kind]) -> str:
    readers = [kind.read for kind in kinds if kind.read]
    imports = [convert_import, *readers] if readers else []
    return code_digest(convert_file, row_before, write_shard, *imports)


def plan_shards(
    sources: Iterable[Source],
    folder: Path,
    layout: str,
    passed_over: PassedOverFiles | None = None,
) -> list[Shard]:
    """Cuts each source into shards; a shard contains files of one source.

    Args:
        sources: What to convert.
        folder: Where the shards go.
        layout: One of `tune.LAYOUTS`.
        passed_over: Counts the files that are not taken.

    Raises:
        SourceError: If a source cannot be read or is empty.
    """
    shards: list[Shard] = []
    for source in sorted(set(sources), key=lambda source: (source.name, str(source.path))):
        members = source.members(passed_over)
        for start in range(0, len(members), SHARD_FILES):
            part = members[start : start + SHARD_FILES]
            names = [member.name for member in part]
            made = _digest([source.name, layout, converter_code(names), *names])
            stamps = _digest([member.stamp for member in part])
            path = folder / f"part-{len(shards):05d}-{made}-{stamps}.parquet"
            shards.append(Shard(path, source, part))
    return shards


def _digest(lines: list[str]) -> str:
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:12]


def missing_shards(folder: Path, shards: list[Shard]) -> list[Shard]:
    """Deletes shards of other inputs from a folder, and returns the missing ones.

    Shards of the same inputs with other file times are kept and renamed. Files of shards that
    another process is making are left alone.

    Raises:
        SourceError: If a source changed since the plan.
        ValueError: If another process is making shards of other inputs in the folder.
    """
    wanted = {shard.path for shard in shards}
    others = {
        path: match[1]
        for path in folder.iterdir()
        if (match := _SHARD_NAME.fullmatch(path.name)) and path not in wanted
    }
    claims = [path for path in others if path.suffix == ".claim"]
    being_made = _alive(claims, wanted)
    others = {
        path: stem
        for path, stem in others.items()
        if path not in claims and _shard_of(path) not in being_made
    }
    by_stem = {stem: path for path, stem in others.items() if path.suffix == ".parquet"}
    missing = [shard for shard in shards if not shard.path.exists()]
    again = [shard for shard in missing if shard.stem in by_stem]
    for shard, files in zip(again, files_of(again), strict=True):
        if _holds(by_stem[shard.stem], files):
            by_stem[shard.stem].replace(shard.path)
    for path in others:
        path.unlink(missing_ok=True)
    return [shard for shard in missing if not shard.path.exists()]


def _alive(claims: list[Path], wanted: set[Path]) -> set[Path]:
    """Removes claims of dead processes; returns the shards that living ones are making."""
    alive = [claim for claim in claims if not clear(claim)]
    for claim in alive:
        if _shard_of(claim) not in wanted:
            raise ValueError(
                f"{claim.parent}: {holder(claim)} is making shards of other inputs there; wait for "
                "it, end it, or convert into another folder"
            )
    return {_shard_of(claim) for claim in alive}


def _shard_of(path: Path) -> Path:
    """Returns the path of the shard to which a claim or an unfinished file belongs."""
    return path.with_name(path.name.partition(".")[0] + ".parquet")


def _holds(shard: Path, files: Iterable[File]) -> bool:
    """Whether the rows of a shard are those of these files."""
    found = [_content(row_before(*file)) for file in files]  # read to the end, even if not needed
    try:
        rows = pq.read_table(shard, columns=["digest", "drop_reason", "message"]).to_pylist()
    except (pa.ArrowException, OSError):  # truncated or damaged: it is made again
        return False
    return [_content(row) for row in rows] == found


def _content(row: Row) -> str | tuple[str, str]:
    """Returns the digest of a row's file, or why the file cannot be read."""
    return row["digest"] or (row["drop_reason"], row["message"])


def files_of(shards: list[Shard]) -> Iterator[Iterator[File]]:
    """Yields the files of each shard; they are read lazily, in one pass per source.

    Args:
        shards: Grouped by source, in the order of the plan.

    Raises:
        SourceError: If a source changed since the plan.
    """
    for source, group in itertools.groupby(shards, key=lambda shard: shard.source):
        ours = list(group)
        contents = source.read([member for shard in ours for member in shard.members])
        for shard in ours:
            yield (
                (member.name, content)
                for member, content in itertools.islice(contents, len(shard.members))
            )


def write_shard(shard: Shard, rows: list[Row]) -> None:
    """Writes a shard atomically.

    Raises:
        OSError: If it cannot be written.
    """
    # A separate name for each try: on a cluster, a lost task may still be writing while its
    # successor does. Both write the same bytes.
    part = shard.path.with_suffix(f".{secrets.token_hex(4)}.part")
    try:
        table = pa.Table.from_pylist([row | {"source": shard.source.name} for row in rows], SCHEMA)
        pq.write_table(table, part, compression="zstd")
        part.replace(shard.path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
