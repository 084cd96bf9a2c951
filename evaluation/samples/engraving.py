"""ABC -> its engraved score, as SVG.

music21 reads the voices export and writes MusicXML, which verovio engraves: verovio's own ABC
reader supports only one voice.
"""

import re
import tempfile
from collections.abc import Container
from concurrent.futures import TimeoutError as FutureTimeoutError
from importlib.metadata import version
from pathlib import Path

from pebble import ProcessExpired
from tqdm import tqdm

from data_prep.storage.code_identity import code_digest
from data_prep.storage.stages import worker_pool

TIMEOUT_SECONDS = 60.0
_OPTIONS = {
    "pageWidth": 2400,
    "pageHeight": 60000,
    "adjustPageHeight": True,
    "scale": 35,
    "footer": "none",
    "header": "none",
    "breaks": "auto",
    "svgViewBox": True,
    "svgHtml5": True,
    "xmlIdSeed": 1,
}
WRITTEN_COLOUR = "#b5179e"


def engraver_key() -> str:
    """Cache key for what pictures depend on besides their text: our code, music21, verovio."""
    return " ".join([code_digest(engrave), *map(version, ("music21", "verovio"))])


def engrave(abc: str) -> str:
    """Returns the score of one tune in the voices layout, as SVG on a single page of any length.

    Raises:
        ValueError: If music21 or verovio rejects it.
    """
    import verovio
    from music21 import converter

    try:
        score = converter.parseData(abc, format="abc")
        with tempfile.TemporaryDirectory() as folder:
            xml = Path(score.write("musicxml", Path(folder) / "tune.musicxml")).read_text("utf-8")
    except Exception as error:  # music21's parsers raise anything
        raise ValueError(f"music21: {type(error).__name__}: {error}"[:200]) from None
    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    toolkit.setOptions(_OPTIONS)
    if not toolkit.loadData(xml):
        raise ValueError("verovio does not take the MusicXML")
    return toolkit.renderToSVG(1)


def coloured(svg: str, bars: Container[int] | None = None, first_staff: int = 1) -> str:
    """Returns a score in which some bars are in another colour.

    Args:
        svg: From `engrave`.
        bars: Their numbers, from 1; None for all.
        first_staff: Of these bars, the staves from this one on.
    """
    bar = staff = 0

    def mark(match: re.Match[str]) -> str:
        nonlocal bar, staff
        if match[1] == "measure":
            bar, staff = bar + 1, 0
            return match[0]
        staff += 1
        is_marked = staff >= first_staff and (bars is None or bar in bars)
        colours = f'color="{WRITTEN_COLOUR}" fill="{WRITTEN_COLOUR}"'
        return f"{match[0][:-1]} {colours}>" if is_marked else match[0]

    return re.sub(r'<g [^>]*data-class="(measure|staff)"[^>]*>', mark, svg)


def engrave_all(texts: list[str | None]) -> list[str | None]:
    """Engraves tunes in child processes; None if there is no text or engraving fails."""
    pictures: list[str | None] = []
    with worker_pool(2) as pool:
        futures = [
            pool.schedule(engrave, args=[text], timeout=TIMEOUT_SECONDS) if text else None
            for text in texts
        ]
        for future in tqdm(futures, "engrave", unit="tune"):
            try:
                pictures.append(future.result() if future else None)
            except (ValueError, FutureTimeoutError, ProcessExpired):
                pictures.append(None)  # the page states that there is no score, and shows the text
    return pictures
