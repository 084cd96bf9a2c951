"""One's own piece, with bars written anew or voices added: .abc, .mid and .svg of each version.

    python -m evaluation.samples.arranging runs/<study>/<run> song.mid --fill 5-8 --n 4
    python -m evaluation.samples.arranging runs/<study>/<run> tune.abc \
        --accompany "Acoustic Bass, drums"

With --fill, all bars but these stay as they are; with --accompany, all voices stay, and others are
written beside them. Each version has its own seed. Filling in needs a model trained to fill in.
In the .svg, a score, what was written has its own colour.
"""

import argparse
import logging
import re
import sys
from pathlib import Path
from typing import Any

from data_prep.storage.explain import explain
from modeling.plan_abc import read_bars
from scaling.writing.commands import command, use_huge_pages

from ..loading.models import find_model, load_writer
from .engraving import coloured, engrave_all
from .prompts import read_tune
from .sampling import INTERRUPTED, instrument_names, write_tunes

logger = logging.getLogger(__name__)


def bar_range(text: str) -> tuple[int, int]:
    """Reads `5-8`, or `5` for one bar.

    Raises:
        ValueError: If it is neither.
    """
    match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", text.strip())
    if not match:
        raise ValueError(f"--fill is {text!r}, expected a first and a last bar, such as 5-8")
    return int(match[1]), int(match[2] or match[1])


def _write_scores(rows: list[dict[str, Any]], asked: dict[str, Any], folder: Path) -> None:
    """Writes each version as a score; a version that cannot be engraved has none, and is named."""
    if "fill" in asked:
        first, last = asked["fill"]
        written = {"bars": range(first, last + 1)}
    else:
        written = {"first_staff": 1 + read_bars(asked["accompany"]).n_voices}
    scores = engrave_all([row["abc_voices"] for row in rows])
    for row, score in zip(rows, scores, strict=True):
        name = f"tune_{row['sample']:03d}"
        if score is None:
            logger.warning("%s: music21 or verovio does not take it; there is no score", name)
            continue
        (folder / f"{name}.svg").write_text(coloured(score, **written), "utf-8")


@command(ValueError, OSError, say=explain, interrupted=INTERRUPTED)
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="evaluation.samples.arranging",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="a study, a finished run, a model folder, or a Hub name")
    parser.add_argument("tune", type=Path, help="a file of MIDI, ABC or a score")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--fill", metavar="BARS", help="bars to write anew, such as 5-8")
    what.add_argument("--accompany", metavar="INSTRUMENTS", help='such as "Violin, 32, drums"')
    parser.add_argument("--n", type=int, default=1, help="number of versions")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=Path("arranged"), help="folder of the files")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.n < 1:
        raise ValueError(f"--n is {options.n}, expected 1 or more")
    tune = read_tune(options.tune)
    if options.fill:
        asked = {"prompt": tune, "fill": bar_range(options.fill)}
    else:
        asked = {"accompany": tune, "instruments": instrument_names(options.accompany)}
    write = load_writer(find_model(options.model))
    settings = {"seed": options.seed, "temperature": options.temperature}
    tunes = write(asked, num_return_sequences=options.n, **settings)
    rows = [{"sample": number} | each for number, each in enumerate(tunes, 1)]
    options.out.mkdir(parents=True, exist_ok=True)
    write_tunes(rows, options.out)
    _write_scores(rows, asked, options.out)
    print(f"{len(tunes)} versions of {options.tune} -> {options.out}")
    return 0


if __name__ == "__main__":
    use_huge_pages()
    sys.exit(main())
