"""Pieces as they are played -> one page with their scores and players, self-contained."""

import base64
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from modeling.header_abc import INSTRUMENTS
from modeling.plan_abc import read_bars
from scaling.writing.files import write_atomically

from ..pages.page_template import page_template
from ..samples.engraving import coloured, engrave_all
from .played import Played

PAGE = "index.html"
_MEASURE = 'data-class="measure"'

logger = logging.getLogger(__name__)


def write_page(
    model: str, seed: int, played: Sequence[Played], sounds: Sequence[bytes], folder: Path
) -> Path:
    """Writes index.html into the folder with the pieces' files.

    Args:
        model: Its name, as it was given.
        seed: Of the pieces.
        played: The pieces.
        sounds: Their sound, as MP3.
        folder: Where the files are.
    """
    scores = engrave_all([each.abc for each in played])
    views = [_view(*each) for each in zip(played, scores, sounds, strict=True)]
    html = page_template("play.html.j2").render(model=model, seed=seed, pieces=views)
    write_atomically(folder / PAGE, html)
    return folder / PAGE


def _view(played: Played, score: str | None, sound: bytes) -> dict[str, Any]:
    piece, seconds = played.piece, played.bar_seconds()
    if score is None:
        logger.warning("%s: music21 or verovio does not take it; the page has no score", piece.name)
    elif score.count(_MEASURE) != len(seconds) - 1:
        logger.warning("%s: its score has other bars; none is marked as it plays", piece.name)
        seconds = []
    return {
        "name": piece.name,
        "title": piece.title,
        "about": piece.about,
        "instruments": instruments(played.abc),
        "is_marked": bool(written := marks(played.conditions)),
        "score": Markup(coloured(score, **written) if written else score) if score else None,
        "seconds": [round(at, 3) for at in seconds],
        "audio": _data_uri("audio/mpeg", sound),
        "files": {
            "ABC": _data_uri("text/plain;charset=utf-8", played.abc.encode()),
            "MIDI": _data_uri("audio/midi", played.midi()),
        },
        "written": played.written,
    }


def marks(conditions: dict[str, Any]) -> dict[str, Any]:
    """Returns which bars or staves of a score the model wrote, if not all, as `coloured` takes it.

    Args:
        conditions: As the pipeline took them.
    """
    if "fill" in conditions:
        first, last = conditions["fill"]
        return {"bars": range(first, last + 1)}
    if "accompany" in conditions:
        return {"first_staff": 1 + read_bars(conditions["accompany"]).n_voices}
    if "prompt" in conditions:
        return {"bars": range(1 + conditions["prompt"].count("\n[V:"), sys.maxsize)}
    return {}


def instruments(abc: str) -> str:
    """Returns the instruments of a tune in a few words: `Violin, Violin, Viola, Cello`."""
    names = []
    for line in abc.splitlines():
        if line.startswith("%%MIDI program "):
            names.append(INSTRUMENTS[int(line.rsplit(" ", 1)[1])])
        elif line == "%%MIDI channel 10":
            names.append("drums")
    counted = [(name, names.count(name)) for name in dict.fromkeys(names)]
    return ", ".join(f"{n} x {name}" if n > 1 else name for name, n in counted)


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
