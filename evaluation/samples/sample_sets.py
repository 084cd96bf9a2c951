"""The sets of samples that a model is judged by, and held-out pieces in the same form."""

import functools
import logging
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from modeling.pipeline_abc_music import AbcMusicPipeline
from scaling.writing.files import json_lines, write_atomically
from training.data.data_files import DataFiles

from ..loading.finished_run import held_out_tunes
from ..music.distance import MIN_PIECES
from .held_out import cut_as_samples, prompts
from .sampling import SamplingSettings, make_samples, write_tunes

logger = logging.getLogger(__name__)

MAX_NEW_TOKENS, STUDY_A_TOKENS = 512, 256
MOST_FREE, MOST_PROMPTED = 500, 200
N_WRITTEN = 8  # tunes per set that are written to files
REAL, REFERENCE = "real", "reference"

Rows = list[dict[str, Any]]
Begun = list[tuple[str, str]]  # the beginning of a piece, and the piece
Planned = dict[str, SamplingSettings]


def planned_sets(n: int, seed: int, has_grammar: bool) -> Planned:
    """What to sample, by the name of the set.

    Args:
        n: Number of constrained samples; the other sets have as many, up to their own maximum.
        seed: Seed of all sets.
        has_grammar: Whether the model's tokenizer can write within the grammar.
    """
    whole = SamplingSettings(n=n, seed=seed, max_new_tokens=MAX_NEW_TOKENS)
    free = {"n": min(n, MOST_FREE), "grammar": False}
    prompted = {"n": min(n, MOST_PROMPTED)}
    changed = {
        "constrained": {},
        "free": free,
        "study_a": free | {"max_new_tokens": STUDY_A_TOKENS},
        "prompted": prompted,
        "prompted_free": prompted | {"grammar": False},
    }
    sets = {name: SamplingSettings(**asdict(whole) | own) for name, own in changed.items()}
    return {name: own for name, own in sets.items() if has_grammar or not own.grammar}


def sample_all(
    name: str, write: AbcMusicPipeline, begun: Begun, sets: Planned, folder: Path
) -> dict[str, Rows]:
    """Samples each set into samples/<set>; prompted ones only if there are prompts."""
    samples = {}
    for kind, settings in sets.items():
        conditions: Sequence[str] = [""]
        if kind.startswith("prompted"):
            conditions = [prompt for prompt, _ in begun]
            if not conditions:
                logger.warning("no held-out pieces for prompts: skipping %s", kind)
                continue
        place = folder / "samples" / kind
        samples[kind] = make_samples(name, settings, place, conditions, write)
        write_tunes(samples[kind][:N_WRITTEN], place)
    return samples


def begun_pieces(write: AbcMusicPipeline, files: DataFiles | None, n: int) -> Begun:
    """Beginnings of held-out pieces that the grammar can continue, and the pieces."""
    if files is None or not write.has_grammar:
        return []
    found = prompts(held_out_tunes(files.folder), write.grammar, MAX_NEW_TOKENS)
    return list(islice(found, min(n, MOST_PROMPTED)))


def real_sets(
    write: AbcMusicPipeline, files: DataFiles | None, begun: Begun, n: int, folder: Path
) -> dict[str, Rows]:
    """Held-out pieces cut to the length of the samples, in samples/real and samples/reference."""
    if files is None:
        return {}
    tunes = held_out_tunes(files.folder)[: max(n, 2 * MIN_PIECES)]
    sets = {REAL: cut_as_samples(tunes, write.tokenizer, [MAX_NEW_TOKENS] * len(tunes))}
    encode = functools.partial(write.tokenizer, add_special_tokens=False, verbose=False)
    lengths = [len(encode(prompt)["input_ids"]) + MAX_NEW_TOKENS for prompt, _ in begun]
    sets[REFERENCE] = cut_as_samples([piece for _, piece in begun], write.tokenizer, lengths)
    if not sets[REAL]:
        logger.warning("%s has no pieces in the layout bars: nothing to compare with", files.folder)
    sets = {kind: rows for kind, rows in sets.items() if rows}
    for kind, rows in sets.items():
        write_atomically(folder / "samples" / kind / "samples.jsonl", json_lines(rows))
    return sets
