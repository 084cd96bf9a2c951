"""Files that are not taken: counted by kind, and the first of each kind named."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from .contents import EMPTY_ARCHIVE, TOO_DEEP
from .members import PassedOver, printable

_NAMED = 5
_MOST_KINDS = 12  # that a line tells; stage.json has all of them
# Kinds that may hold music. They come first, since their owner may want to convert them.
_LIKE_MUSIC = (
    *(".7z", ".rar", ".zst", ".lz", ".lzma", ".lha", ".lzh", ".arj", ".z", ".iso"),
    *(".mscz", ".mscx", ".musx", ".mus", ".sib", ".cap", ".capx", ".ly", ".nwc", ".enc"),
    *(".gp", ".gp3", ".gp4", ".gp5", ".gpx", ".ptb", ".tg", ".xmf", ".mxmf"),
    *(".mod", ".s3m", ".xm", ".it", ".sid", ".nsf", ".vgm", ".spc", ".als", ".flp", ".cpr"),
    *(TOO_DEEP, EMPTY_ARCHIVE),
)


class PassedOverFiles:
    """Counts files that are passed over."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, list[str]] = {}

    def add(self, found: PassedOver) -> None:
        """Counts a file."""
        self._counts[found.kind] += 1
        first = self._first.setdefault(found.kind, [])
        if len(first) < _NAMED:
            first.append(printable(found.name))

    def by_kind(self) -> dict[str, dict[str, Any]]:
        """Returns kind -> number of `files` and the `first` ones."""
        return {kind: {"files": n, "first": self._first[kind]} for kind, n in self._counts.items()}


def told(by_kind: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns a line for people: `passed over: 3 .rar (a.rar, b.rar, c.rar), 1 .pdf (d.pdf)`."""
    parts, counts = [], {kind: about["files"] for kind, about in by_kind.items()}
    kinds = sorted(counts, key=lambda kind: (kind not in _LIKE_MUSIC, -counts[kind], kind))
    for kind in kinds[:_MOST_KINDS]:
        about = by_kind[kind]
        names = ", ".join(_on_one_line(name) for name in about["first"])
        more = ", ..." if about["files"] > len(about["first"]) else ""
        parts.append(f"{about['files']:,} {kind} ({names}{more})")
    if len(by_kind) > _MOST_KINDS:
        parts.append(f"and {len(by_kind) - _MOST_KINDS} more kinds")
    return f"passed over: {', '.join(parts)}" if parts else ""


def _on_one_line(name: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
