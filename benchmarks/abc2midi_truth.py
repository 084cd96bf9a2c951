"""What abc2midi plays of a foreign tune, and where it has bar lines: the truth for the importer.

Bar lines leave no trace in a MIDI file. So abc2midi also plays the text with a very short, very
high note in front of each bar; the onsets of these, less the time they take, are where bars begin.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from itertools import pairwise
from pathlib import Path

from symusic import Score

from data_prep.dialect.notation import CHORD_ATTACK_LINE

TOLERANCE_QUARTERS = 0.05
BAR_TOLERANCE_QUARTERS = 0.125  # a marker lost in a tie or a broken rhythm moves all bars after it
SECONDS = 20
MARKER_PITCH = 127  # g''''
_MARKERS_A_WHOLE = 256  # in a whole note
_BAR_LINE = re.compile(
    r'(?P<other>"[^"\n]*"|![^!\n]*!|\[[A-Za-z]:[^\]\n]*\])'
    r"|(?:\[\||[|:]+)\]?(?:[ \t]*\[?[0-9][0-9,-]*)?"
)

Notes = list[tuple[float, int]]
"""(onset in quarters, MIDI pitch)"""


def abc2midi(program: str, text: str) -> Notes | None:
    """Returns what abc2midi plays; None if it writes no MIDI file that can be read."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "tune.abc"), Path(folder, "tune.mid")
        source.write_text(text.replace("\nK:", f"\n{CHORD_ATTACK_LINE}\nK:", 1), "utf-8")
        command = [program, source, "-NGUI", "-o", target]
        subprocess.run(command, capture_output=True, timeout=SECONDS, check=False, cwd=folder)
        if not target.exists():
            return None
        try:
            score = Score.from_midi(target.read_bytes())
        except RuntimeError:
            return None
    # Its files begin one tick late.
    return [((n.time - 1) / score.tpq, n.pitch) for track in score.tracks for n in track.notes]


def with_markers(text: str, unit: int) -> str:
    """Returns a tune with a marker in front of each of its bars; hornpipes are not swung.

    Args:
        text: A tune.
        unit: The unit lengths in a whole note.
    """
    head, key, body = re.split(r"^(K:)", text, maxsplit=1, flags=re.MULTILINE)
    marker = f"=g''''/{_MARKERS_A_WHOLE // unit}"
    head = re.sub(r"^R:.*\n", "", head, flags=re.MULTILINE)

    def mark(match: re.Match[str]) -> str:
        return match[0] if match["other"] else f"{match[0]} {marker} "

    lines = [
        line if re.match(r"[A-Za-z]:|%", line) else _BAR_LINE.sub(mark, line.partition("%")[0])
        for line in body.split("\n")
    ]
    # The first bar begins without a bar line, also when it is repeated.
    return head + key + "\n".join([lines[0], marker, *lines[1:]])


def written_bars(program: str, text: str) -> list[float] | None:
    """Returns where the bars of a tune of one voice begin, in quarters, by abc2midi's playing."""
    unit = re.search(r"^L: *1/(\d+)", text, re.MULTILINE)
    is_short = re.search(r"^M: *(2/4|3/8|5/8)", text, re.MULTILINE)  # then L: is 1/16 by default
    in_whole = int(unit[1]) if unit else 16 if is_short else 8
    notes = abc2midi(program, with_markers(text, in_whole))
    if notes is None:
        return None
    marks = sorted(onset for onset, pitch in notes if pitch == MARKER_PITCH)
    size = 4 / _MARKERS_A_WHOLE
    times = [mark - number * size for number, mark in enumerate(marks)]
    return times[:1] + [b for a, b in pairwise(times) if b - a > BAR_TOLERANCE_QUARTERS]


def are_bars(own: list[float], written: list[float], last_onset: float) -> bool:
    """Whether bars begin at the same times; bar lines after the last note begin none."""
    sides = [[t for t in side if t <= last_onset + TOLERANCE_QUARTERS] for side in (own, written)]
    return len(sides[0]) == len(sides[1]) and all(
        abs(a - b) <= BAR_TOLERANCE_QUARTERS for a, b in zip(*sides, strict=True)
    )
