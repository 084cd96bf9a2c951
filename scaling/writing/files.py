"""Atomic file writes: a reader sees the old content or the new content, never a part."""

import csv
import io
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def write_atomically(path: Path, text: str) -> None:
    """Writes a file whole or not at all, even if the process dies in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # a process number would not do: tasks on several machines may have the same one
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Writes JSON atomically, with a final newline."""
    write_atomically(path, json.dumps(content, indent=indent) + "\n")


def json_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as JSON, one per line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a CSV with a header atomically; the same rows give the same bytes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a table with a header."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))
