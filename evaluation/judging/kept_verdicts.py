"""Judges sets of samples, and keeps the verdicts beside them."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from data_prep.storage.code_identity import code_digest
from data_prep.storage.stages import is_fresh
from scaling.writing.files import write_atomically, write_json

from ..samples.sample_sets import Rows
from .judge_table import JUDGES
from .judge_worker import main as judge_worker
from .judges import judge_texts
from .sandbox import main as sandbox

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
    keys = {kind: {"key": _judging_key(rows)} for kind, rows in sets.items()}
    files = {
        kind: (folder / kind / "verdicts.jsonl", folder / kind / "judging.json") for kind in sets
    }
    new = {
        kind: sets[kind]
        for kind, (verdicts_file, about_file) in files.items()
        if not is_fresh(about_file, keys[kind]) or not verdicts_file.exists()
    }
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
            write_json(files[kind][1], keys[kind] | {"judges": judges}, indent=None)
    judged = {
        kind: [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for kind, (path, _) in files.items()
    }
    return judged, json.loads(next(iter(files.values()))[1].read_text("utf-8"))["judges"]


def _judging_key(rows: Rows) -> str:
    """What verdicts depend on: texts, code, and which readers are there."""
    script = Path(__file__).with_name("abcjs_judge.js").read_bytes()
    code = [code_digest(judge_sets, judge_worker, sandbox), hashlib.sha256(script).hexdigest()]
    found = [bool(judge.find()) for judge in JUDGES.values()]
    texts = [(row["abc_voices"], row["abc"]) for row in rows]
    return hashlib.sha256(json.dumps([texts, code, found]).encode()).hexdigest()
