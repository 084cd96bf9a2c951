"""What the processes of `jobs` do: write with a model, read the music of others, judge a text."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.dialect.abc_to_midi import abc_to_midi
from data_prep.dialect.notation import TICKS_PER_QUARTER
from data_prep.dialect.tune import Tune, print_tune, read_bars, seconds
from data_prep.dialect.tune_parser import parse_tune
from data_prep.importers.abc_book import count_tunes
from data_prep.importers.foreign_abc import read_book
from data_prep.importers.kinds import ABC, kind_of
from data_prep.shards.convert_member import convert_member

from .progress import LineStreamer

if TYPE_CHECKING:
    from modeling.pipeline_abc_music import AbcMusicPipeline

MOST_PROBLEMS = 20


@dataclass(frozen=True)
class Music:
    """A tune that was written or read.

    Attributes:
        abc: The text that other programs read.
        bars: The same in the layout `bars`, which models read.
        midi: As a MIDI file.
        n_bars: Number of bars.
        n_voices: Number of voices.
        seconds: How long it plays.
        remarks: What was left out or changed, each in one line.
    """

    abc: str
    bars: str
    midi: bytes
    n_bars: int
    n_voices: int
    seconds: float
    remarks: tuple[str, ...] = ()


@functools.cache
def _writer(model: str) -> "AbcMusicPipeline":
    # imported here: only the process with the model needs torch
    from ..loading.models import find_model, load_writer

    return load_writer(find_model(model))


def load(model: str) -> None:
    """Loads a model for later jobs of the same process.

    Raises:
        OSError: If there is no such model.
        ValueError: If it cannot be loaded.
    """
    _writer(model)


def write(model: str, asked: dict[str, Any], settings: dict[str, Any]) -> Music:
    """Writes a tune.

    Args:
        model: As `models.find_model` takes it.
        asked: Conditions, a prompt, or what to fill in or accompany, as the pipeline takes them.
        settings: The seed and other settings of the pipeline.

    Raises:
        ValueError: If the model cannot write it, or wrote something else.
    """
    (tune,) = _writer(model)([asked], **settings)[0]
    if tune["error"]:
        raise ValueError(f"what the model wrote is no tune ({tune['error']}); try another seed")
    cut = () if tune["ended"] else ("the tune had not ended at max_tokens: cut at its last bar",)
    return _music(tune["abc_voices"], cut)


def draft(
    model: str, asked: dict[str, Any], settings: dict[str, Any], so_far: Path
) -> tuple[str, int]:
    """Writes a text, whether or not it is a tune, and shows how it grows.

    Args:
        model: As `models.find_model` takes it.
        asked: As for `write`.
        settings: As for `write`.
        so_far: An empty file, to which whole lines are appended; when it is gone, the job ends.

    Returns:
        The text in the layout `bars`, and its number of tokens.

    Raises:
        ValueError: If the model cannot write it, or the file is gone.
    """
    pipeline = _writer(model)
    is_shown = not {"fill", "accompany"} & asked.keys()
    pipeline.writer.streamer = LineStreamer(so_far, pipeline.writer.token_texts, is_shown)
    try:
        (tune,) = pipeline([asked], **settings)[0]
    finally:
        pipeline.writer.streamer = None
    return tune["abc"], tune["n_tokens"]


def probabilities(model: str, ids: list[int], temperature: float) -> list[float]:
    """Returns the probability of each token, (V,), after the tokens of a text.

    Raises:
        ValueError: If an id is not in the vocabulary.
    """
    import torch  # as in `_writer`

    from modeling.decoding_abc_gpt import first_read

    own = _writer(model).model
    if not ids or not 0 <= min(ids) <= max(ids) < own.config.vocab_size:
        raise ValueError(f"expected tokens from 0 to {own.config.vocab_size - 1}, at least one")
    if context := getattr(own.config, "max_position_embeddings", None):
        ids = ids[int(first_read(torch.tensor(len(ids)), context)) :]
    with torch.inference_mode():
        logits = own(input_ids=torch.tensor([ids], device=own.device)).logits[0, -1]
    return (logits / temperature).softmax(-1).tolist()


def read(name: str, content: bytes) -> Music:
    """Reads music of any kind of `importers.kinds`; of a book of tunes, the first.

    Args:
        name: Its suffix tells the kind.
        content: The bytes of the file.

    Raises:
        ValueError: If it cannot be read.
    """
    row = convert_member(name, content, "voices")
    if row["drop_reason"]:
        raise ValueError(row["message"])
    remarks = [row["message"]] if row["message"] else []
    if kind_of(name) is ABC:
        remarks += _passed_over(content)
    return _music(row["abc"], tuple(remarks))


def _passed_over(book: bytes) -> list[str]:
    n_tunes = count_tunes(book)
    return [f"the first of {n_tunes} tunes was read"] if n_tunes > 1 else []


def _music(abc: str, remarks: tuple[str, ...]) -> Music:
    tune = parse_tune(abc)
    if wrong := _wrong_bars(tune):
        raise ValueError(wrong[0])
    return Music(
        abc,
        print_tune(tune),
        abc_to_midi(abc),
        tune.n_bars,
        len(tune.voices),
        round(seconds(tune, tune.bar_ticks()), 1),
        remarks,
    )


def find_problems(text: str) -> tuple[list[str], list[str]]:
    """Reads the first tune of an ABC text.

    Returns:
        Why it cannot be read or which bars are too short or too long; and what is read otherwise
        than it is written. At most `MOST_PROBLEMS` each.
    """
    content = text.encode()
    found = next(read_book(content))
    problems = [str(found.error)] if found.error else _wrong_bars(found.tune)
    warnings = [*_passed_over(content), *map(str, found.warnings)]
    return problems[:MOST_PROBLEMS], warnings[:MOST_PROBLEMS]


def _wrong_bars(tune: Tune) -> list[str]:
    return [
        f"voice {error.voice}, bar {error.bar}: {error.ticks / TICKS_PER_QUARTER:g} quarter notes, "
        f"expected {error.expected_ticks / TICKS_PER_QUARTER:g}"
        for error in read_bars(tune)[1]
    ]


def judge(text: str) -> tuple[dict[str, bool | None], list[str]]:
    """Asks the independent readers.

    Returns:
        For each reader, whether it takes the text; None if it is not installed or was not asked.
        And what they complain of, at most `MOST_PROBLEMS` lines.
    """
    # imported here: they take seconds, and few clients ask
    from ..judging.judge_table import JUDGES
    from ..judging.judges import Jury

    with Jury() as jury:
        verdict = jury.judge(text)
    if verdict["rejected"]:
        return dict.fromkeys(JUDGES), [f"no program was asked: the text has {verdict['rejected']}"]
    taken = {
        name: None
        if None in (fields := [verdict[field] for field in judge.needed])
        else all(fields)
        for name, judge in JUDGES.items()
    }
    said = [line for line in verdict["messages"] if line.split(":")[0] in JUDGES]
    return taken, said[:MOST_PROBLEMS]
