"""Judges sets of samples, and keeps the verdicts beside them."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from data_prep.corpus import DIALECT
from data_prep.stages import code_digest
from scaling.files import write_atomically, write_json

from .judge_process import find_abc2midi, find_abcjs
from .judges import judge_texts
from .sample_sets import Rows

logger = logging.getLogger(__name__)


def judge_sets(
    sets: dict[str, Rows], folder: Path
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """Judges the export of each sample, or its raw text where there is none; kept on disk.

    Args:
        sets: Rows by the name of their set.
        folder: With a folder for each set, which gets verdicts.jsonl.

    Returns:
        Verdicts by set; and of the readers `versions` and which are `missing`.
    """
    keys = {kind: _judging_key(rows) for kind, rows in sets.items()}
    files = {
        kind: (folder / kind / "verdicts.jsonl", folder / kind / "judging.json") for kind in sets
    }
    new = {}
    for kind, (verdicts_file, about_file) in files.items():
        about = json.loads(about_file.read_text("utf-8")) if about_file.exists() else {}
        if about.get("key") != keys[kind] or not verdicts_file.exists():
            new[kind] = sets[kind]
    if new:
        rows = [row for kind in new for row in new[kind]]
        texts = [row["abc_voices"] or row["abc"] for row in rows]
        verdicts, about = judge_texts(texts, [row["abc"] for row in rows])
        judges = {name: about[name] for name in ("versions", "missing")}
        for name, reason in about["missing"].items():
            logger.warning("%s does not judge: %s", name, reason)
        place = iter(verdicts)
        for kind, own in new.items():
            lines = (json.dumps({"sample": row["sample"]} | next(place)) + "\n" for row in own)
            write_atomically(files[kind][0], "".join(lines))
            write_json(files[kind][1], {"key": keys[kind], "judges": judges}, indent=None)
    judged = {
        kind: [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for kind, (path, _) in files.items()
    }
    return judged, json.loads(next(iter(files.values()))[1].read_text("utf-8"))["judges"]


def _judging_key(rows: Rows) -> str:
    """What verdicts depend on: texts, code, and which readers are there."""
    here = Path(__file__).parent
    sources = sorted([*here.glob("judge*.py"), here / "sandbox.py", here / "abcjs_judge.js"])
    judges = [hashlib.sha256(source.read_bytes()).hexdigest() for source in sources]
    judges += [str(bool(find())) for find in (find_abc2midi, find_abcjs)]
    texts = [(row["abc_voices"], row["abc"]) for row in rows]
    content = json.dumps([texts, code_digest(DIALECT), judges])
    return hashlib.sha256(content.encode()).hexdigest()
