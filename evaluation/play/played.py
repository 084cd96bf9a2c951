"""A piece as it is played: its files, and its sound for a page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.dialect.abc_to_midi import abc_to_midi
from data_prep.dialect.tune import bar_clock
from data_prep.dialect.tune_parser import parse_tune

from ..pages.audio import encode, render_midi
from .pieces import Piece

SECONDS_LIMIT = 180.0  # of sound; longer music is faded out


@dataclass(frozen=True)
class Played:
    """A piece and the tune that a model wrote for it.

    Attributes:
        piece: What was asked for.
        conditions: As the pipeline took them.
        written: The text as generated, in the layout `bars`.
        abc: The tune as it is played, in the layout `voices`.
    """

    piece: Piece
    conditions: dict[str, Any]
    written: str
    abc: str

    def midi(self) -> bytes:
        """Returns it as a MIDI file."""
        return abc_to_midi(self.abc)

    def bar_seconds(self) -> list[float]:
        """Returns the start of each bar and the end of the last."""
        tune = parse_tune(self.abc)
        return bar_clock(tune, tune.bar_ticks())


def write_files(played: Played, folder: Path) -> bytes:
    """Writes <name>.abc, .mid and .wav; returns the sound as MP3."""
    path, midi = folder / played.piece.name, played.midi()
    wav = render_midi(midi, seconds_limit=SECONDS_LIMIT)
    path.with_suffix(".abc").write_text(played.abc, "utf-8")
    path.with_suffix(".mid").write_bytes(midi)
    path.with_suffix(".wav").write_bytes(wav)
    return encode(wav, "mp3")
