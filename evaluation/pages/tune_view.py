"""Samples as shown on a page: score, audio, verdicts, text."""

import base64
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from markupsafe import Markup
from tqdm import tqdm

from data_prep.dialect.abc_to_midi import abc_to_midi
from data_prep.storage.explain import explain
from data_prep.storage.stages import is_fresh
from scaling.writing.files import write_atomically

from ..judging.judge_table import VALID, field_label, shown_fields
from ..samples.engraving import engrave_all, engraver_key
from ..samples.sampling import read_samples
from .audio import SAMPLE_RATES, encode, render_midi

logger = logging.getLogger(__name__)

FORMAT = "mp3"  # all browsers play it
SECONDS = 60.0


def need(path: Path, command: str) -> Path:
    """Returns a file that a page needs.

    Raises:
        FileNotFoundError: If it is missing; names the command that creates it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; make it with `{command}`")
    return path


def tune_views(folder: Path, n: int) -> list[dict[str, Any]]:
    """The first n samples of a set.

    Args:
        folder: `samples/<set>` as written by `evaluate_model`.
        n: Maximum number of samples.

    Returns:
        The rows of samples.jsonl, each with `lights` (the main fields of its verdict, by their
        labels on pages), `svg` (None if there is no picture), `audio` (a data URI, or None) and
        `files`, the paths of its .abc and .mid relative to the folder two levels up. Pictures are
        cached, since they take seconds.
    """
    command = "make evaluate MODEL=..."
    samples = read_samples(need(folder / "samples.jsonl", command))[:n]
    verdicts = read_samples(need(folder / "verdicts.jsonl", command))[:n]
    texts = [sample["abc_voices"] for sample in samples]
    key = hashlib.sha256(json.dumps([engraver_key(), texts]).encode()).hexdigest()
    kept = folder / "pictures.json"
    if not is_fresh(kept, {"key": key}):
        write_atomically(kept, json.dumps({"key": key, "svg": engrave_all(texts)}))
    pictures = json.loads(kept.read_text("utf-8"))
    sounds = play_all(texts)
    return [
        sample
        | {
            "lights": {
                field_label(name): verdict[name]
                for name in (VALID, "bar_perfect", *shown_fields())
                if verdict.get(name) is not None  # of an installed reader
            },
            "svg": Markup(svg) if svg else None,  # verovio's, from parsed music: no raw text
            "audio": sound,
            "files": [
                f"samples/{folder.name}/{path.name}"
                for path in sorted(folder.glob(f"tune_{sample['sample']:03d}.*"))
            ],
        }
        for sample, verdict, svg, sound in zip(
            samples, verdicts, pictures["svg"], sounds, strict=True
        )
    ]


def play_all(texts: list[str | None]) -> list[str | None]:
    """Audio as data URIs; None if there is no text, or this machine cannot play it.

    The reason is logged once: a page without players is still useful.
    """
    sounds: list[str | None] = []
    for text in tqdm(texts, "play", unit="tune"):
        sound = None
        if text:
            try:
                wav = render_midi(abc_to_midi(text), None, SAMPLE_RATES[FORMAT], SECONDS)
                encoded = base64.b64encode(encode(wav, FORMAT)).decode()
                sound = f"data:audio/mpeg;base64,{encoded}"
            except ValueError as error:  # this tune only: silence, or too large
                logger.info("no player for a tune: %s", error)
            except (ImportError, FileNotFoundError) as error:  # all tunes
                logger.warning("no players on the page: %s", explain(error))
                return [None] * len(texts)
        sounds.append(sound)
    return sounds
