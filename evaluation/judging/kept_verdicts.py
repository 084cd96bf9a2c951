"""Judges sets of samples, and stores the verdicts next to them."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from data_prep.storage.code_identity import code_digest
from data_prep.storage.stages import is_fresh, sha256_of
from scaling.writing.files import json_lines, read_json, write_atomically, write_json

from ..samples.sample_sets import Rows
from ..samples.sampling import read_samples
from .judge_table import JUDGES
from .judge_worker import main as judge_worker
from .judges import judge_texts
from .sandbox import main as sandbox

logger = logging.getLogger(__name__)


def judge_sets(sets: dict[str, Rows], folder: Path) -> tuple[dict[str, Rows], dict[str, Any]]:
    """Judges the export of each sample, or its raw text if there is none; cached on disk.

    Args:
        sets: Rows by the name of their set.
        folder: Contains a folder for each set, where verdicts.jsonl is written.

    Returns:
        Verdicts by set, and the readers' `versions` and which are `missing`.
    """
    keys = {kind: {"key": _judging_key(rows)} for kind, rows in sets.items()}
    verdict_files = {kind: folder / kind / "verdicts.jsonl" for kind in sets}
    about_files = {kind: folder / kind / "judging.json" for kind in sets}
    new = [
        kind
        for kind, key in keys.items()
        if not is_fresh(about_files[kind], key) or not verdict_files[kind].exists()
    ]
    if new:
        rows = [row for kind in new for row in sets[kind]]
        texts = [row["abc_voices"] or row["abc"] for row in rows]
        verdicts, about = judge_texts(texts, [row["abc"] for row in rows])
        judges = {name: about[name] for name in ("versions", "missing")}
        for name, reason in about["missing"].items():
            logger.warning("judge unavailable: %s: %s", name, reason)
        place = iter(verdicts)
        for kind in new:
            own = [{"sample": row["sample"]} | next(place) for row in sets[kind]]
            write_atomically(verdict_files[kind], json_lines(own))
            write_json(about_files[kind], keys[kind] | {"judges": judges}, indent=None)
    judged = {kind: read_samples(file) for kind, file in verdict_files.items()}
    # sets that were judged at another time may have had other readers
    about = [read_json(file)["judges"] for file in about_files.values()]
    merged = {
        name: {reader: text for each in about for reader, text in each[name].items()}
        for name in ("versions", "missing")
    }
    return judged, merged


def _judging_key(rows: Rows) -> str:
    """Digest of what verdicts depend on: texts, code, and which readers are installed."""
    script = sha256_of(Path(__file__).with_name("abcjs_judge.js"))
    code = [code_digest(judge_sets, judge_worker, sandbox), script]
    found = [bool(judge.find()) for judge in JUDGES.values()]
    texts = [(row["abc_voices"], row["abc"]) for row in rows]
    return hashlib.sha256(json.dumps([texts, code, found]).encode()).hexdigest()
