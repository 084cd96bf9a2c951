"""A trained model -> tunes, a filled-in passage, an accompaniment: files, and a page that plays.

    python -m evaluation.play pretrained/llama_small --out runs/play
    python -m evaluation.play pretrained/llama_small --out runs/play --prompt own.mid --bars 8

Each piece becomes .abc, .mid and .wav; index.html has their scores and players, and needs nothing
beside it. What is asked for stands in pieces.py. With --prompt, the model continues a file of one's
own, several times, instead.
"""

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import Any

from data_prep.storage.explain import explain
from modeling.pipeline_abc_music import AbcMusicPipeline
from scaling.writing.commands import command, use_huge_pages

from ..loading.models import find_model, load_writer
from ..pages.midi_player import INSTALL, optional
from ..samples.prompts import read_prompt
from .pieces import ACCOMPANIED, FILLED_IN, TUNES, Piece
from .play_page import write_page
from .played import Played, write_files

N_CONTINUED = 3
TEMPERATURE = 0.8  # calmer than the model's own distribution, at 1: rhythms stay with a piece

logger = logging.getLogger(__name__)


def continued(path: Path, n_bars: int) -> list[Piece]:
    """Returns the pieces that begin with the first bars of one's own."""
    prompt = read_prompt(path, n_bars)
    about = f"The first {n_bars} bars are those of {path.name}; the model wrote the others."
    return [
        Piece(f"continued_{number}", f"{path.stem}, continued ({number})", {"prompt": prompt},
              about=about)
        for number in range(1, N_CONTINUED + 1)
    ]  # fmt: skip


def write_pieces(write: AbcMusicPipeline, pieces: list[Piece], **settings: Any) -> list[Played]:
    """Writes pieces with a model, all together.

    Args:
        write: The model, from `models.load_writer`.
        pieces: The pieces.
        settings: Of the pipeline, such as `seed` and `temperature`.

    Raises:
        ValueError: If the model cannot write one of them.
    """
    conditions = [piece.conditions() for piece in pieces]
    written = write(conditions, batch_size=len(pieces), **settings)
    played = []
    for piece, asked, [tune] in zip(pieces, conditions, written, strict=True):
        if tune["error"]:
            raise ValueError(f"{piece.name}: {tune['error']}; try another --seed")
        played.append(Played(piece, asked, tune["abc"], piece.played(tune["abc_voices"])))
    return played


@command(ValueError, OSError, ImportError, say=explain)
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="evaluation.play",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="a study, a finished run, a model folder, or a Hub name")
    parser.add_argument("--out", type=Path, default=Path("runs/play"), help="folder of the files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=TEMPERATURE)
    parser.add_argument("--prompt", type=Path, help="a file of MIDI, ABC or a score to continue")
    parser.add_argument("--bars", type=int, default=8, help="bars of the prompt, from its start")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    start = time.monotonic()
    for package in INSTALL:  # before the model writes for half a minute
        optional(package)
    if options.prompt:
        pieces = continued(options.prompt, options.bars)
    else:
        pieces = [*TUNES, FILLED_IN, ACCOMPANIED]
    name = find_model(options.model)
    logger.info("%s writes %d pieces", options.model, len(pieces))
    settings = {"seed": options.seed, "temperature": options.temperature}
    played = write_pieces(load_writer(name), pieces, **settings)
    options.out.mkdir(parents=True, exist_ok=True)
    sounds = [write_files(each, options.out) for each in played]
    page = write_page(options.model, options.seed, played, sounds, options.out)
    print(f"{len(played)} pieces in {time.monotonic() - start:.0f} s -> {page}")
    return 0


if __name__ == "__main__":
    use_huge_pages()
    sys.exit(main())
