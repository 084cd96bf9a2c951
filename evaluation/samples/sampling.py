"""Checkpoint + seed -> tunes: `samples.jsonl`, and an .abc and .mid file for each tune.

    python -m evaluation.samples.sampling runs/demo --n 8 --out samples --seed 1
    python -m evaluation.samples.sampling runs/demo --meter 3/4 --key G --instruments "Violin"
    python -m evaluation.samples.sampling runs/demo --prompt my.mid --bars 4

A sample is a whole tune, even if it is longer than the model's context. Tunes are written in
batches of eight; each batch has its own seed, so that an interrupted command can resume.
"""

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tqdm import tqdm

import modeling  # registers our own families with the Auto classes
from data_prep.dialect.abc_to_midi import abc_to_midi
from data_prep.storage.code_identity import code_digest, digest_of
from data_prep.storage.explain import explain
from data_prep.storage.stages import is_fresh
from modeling.pipeline_abc_music import AbcMusicPipeline
from scaling.writing.commands import command, use_huge_pages
from scaling.writing.files import json_lines

from ..loading.models import find_model, load_writer, weights_digest
from .prompts import read_prompt

logger = logging.getLogger(__name__)

BATCH_SIZE = 8
INTERRUPTED = "interrupted; run the same command to resume"
Condition = dict[str, Any] | str  # as the pipeline takes it


@dataclass(frozen=True)
class SamplingSettings:
    """How to sample.

    Attributes:
        n: Number of tunes.
        seed: The same seed yields the same tunes on the same machine.
        max_new_tokens: Maximum length of a tune; a free tune that has not ended by then is cut at
            its last whole bar.
        temperature: 1 samples from the unmodified distribution.
        top_k: 0 samples from all tokens.
        grammar: Whether the model may write only whole tunes of the dialect.
    """

    n: int = 8
    seed: int = 1
    max_new_tokens: int = 1500
    temperature: float = 1.0
    top_k: int = 0
    grammar: bool = True

    def __post_init__(self) -> None:
        if min(self.n, self.max_new_tokens) < 1 or self.temperature <= 0 or self.top_k < 0:
            raise ValueError(
                f"{self}: expected n, max_new_tokens and temperature above 0, top_k at least 0"
            )

    def seed_of(self, first: int) -> int:
        """The seed of a batch, given the number of its first tune, from 0.

        Settings that differ only in the grammar use the same random numbers.
        """
        return int.from_bytes(hashlib.sha256(f"{self.seed} {first}".encode()).digest()[:4])


def sample_batches(
    write: AbcMusicPipeline,
    settings: SamplingSettings,
    conditions: Sequence[Condition],
    n_done: int,
) -> Iterator[list[dict[str, Any]]]:
    """Samples tunes, a batch at a time.

    Args:
        write: The pipeline, from `models.load_writer`.
        settings: How to sample.
        conditions: Conditions of the tunes, used cyclically; "" is the start token alone.
        n_done: Tunes that exist already, in whole batches.

    Yields:
        One row per tune: `sample` from 1 and the `seed` of its batch; `abc` as generated, `ended`,
        `n_tokens`; `abc_voices`, the export that other programs read, or None with the reason in
        `error`.
    """
    sampling = {"temperature": settings.temperature, "top_k": settings.top_k}
    for first in range(n_done, settings.n, BATCH_SIZE):
        numbers = range(first, min(first + BATCH_SIZE, settings.n))
        seed = settings.seed_of(first)
        written = write(
            [conditions[number % len(conditions)] for number in numbers],
            batch_size=BATCH_SIZE,
            max_new_tokens=settings.max_new_tokens,
            grammar=settings.grammar,
            seed=seed,
            **sampling,
        )
        yield [
            {"sample": number + 1, "seed": seed}
            | {name: value for name, value in tune.items() if name != "midi"}
            for number, [tune] in zip(numbers, written, strict=True)
        ]


def make_samples(
    name: str,
    settings: SamplingSettings,
    folder: Path,
    conditions: Sequence[Condition] = ("",),
    write: AbcMusicPipeline | None = None,
) -> list[dict[str, Any]]:
    """Samples into a folder; samples that exist there for the same settings and weights are kept.

    Args:
        name: As `models.find_model` returns it.
        settings: How to sample.
        folder: Where samples.jsonl and sampling.json are written; tunes and verdicts of earlier
            samplings are removed from it.
        conditions: As `sample_batches` takes them.
        write: The pipeline, if it is already loaded.

    Returns:
        The rows of samples.jsonl.
    """
    about = {
        "model": name,
        "weights": weights_digest(name),
        "code": _code(),
        "conditions": conditions,
    }
    key = asdict(settings) | about
    settings_file, samples_file = folder / "sampling.json", folder / "samples.jsonl"
    is_same = is_fresh(settings_file, key)
    rows = read_samples(samples_file) if is_same and samples_file.exists() else []
    if len(rows) == settings.n:
        logger.info("%s: unchanged", folder)
        return rows
    if not is_same:
        folder.mkdir(parents=True, exist_ok=True)
        for pattern in ("tune_*.*", "samples.jsonl", "verdicts.jsonl", "judging.json"):
            for stale in folder.glob(pattern):
                stale.unlink()
        settings_file.write_text(json.dumps(key, indent=2) + "\n", "utf-8")
    rows = rows[: len(rows) // BATCH_SIZE * BATCH_SIZE]
    samples_file.write_text(json_lines(rows), "utf-8")
    write = write or load_writer(name)
    progress = tqdm(desc=folder.name, total=settings.n, initial=len(rows), unit="tune")
    with progress, samples_file.open("a", encoding="utf-8") as file:
        for batch in sample_batches(write, settings, conditions, len(rows)):
            rows += batch
            file.write(json_lines(batch))
            file.flush()
            progress.update(len(batch))
    return rows


def read_samples(path: Path) -> list[dict[str, Any]]:
    """Reads a samples.jsonl; a truncated last line is skipped."""
    lines = path.read_text("utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def write_tunes(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """Writes each tune as .abc (the export, if there is one) and the export as .mid."""
    for row in rows:
        path = folder / f"tune_{row['sample']:03d}"
        path.with_suffix(".abc").write_text(row["abc_voices"] or row["abc"], "utf-8")
        if row["abc_voices"]:
            path.with_suffix(".mid").write_bytes(abc_to_midi(row["abc_voices"]))


def _code() -> str:
    """Digest of the code that writes a tune, the models that `from_pretrained` finds included."""
    models = [getattr(modeling, name) for name in modeling.__all__]
    return code_digest(load_writer, *models) + digest_of({(__spec__.name, "sample_batches")})


def folder_of_samples(model: str, found: str) -> Path:
    """Where samples go by default: into the folder of a run; of other models, into runs/samples/.

    Args:
        model: What was asked for.
        found: What `models.find_model` makes of it: a run's checkpoint, or the model itself.
    """
    folder = Path(model)
    return Path("runs", "samples", folder.name) if str(folder) == found else folder / "samples"


def instrument_names(text: str) -> list[int | str]:
    """Reads "Violin, 32, drums"."""
    names = map(str.strip, text.split(","))
    return [int(name) if name.isdecimal() else name for name in names]


def _condition(options: argparse.Namespace) -> Condition:
    """The condition given on the command line."""
    conditions = {name: getattr(options, name) for name in ("meter", "key", "tempo")}
    if options.instruments:
        conditions["instruments"] = instrument_names(options.instruments)
    conditions = {name: value for name, value in conditions.items() if value is not None}
    if options.prompt is None:
        return conditions or ""
    if conditions:
        raise ValueError(f"--prompt and --{min(conditions)}: expected one or the other")
    return read_prompt(options.prompt, options.bars)


@command(ValueError, OSError, say=explain, interrupted=INTERRUPTED)
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="evaluation.samples.sampling", description=__doc__)
    parser.add_argument("model", help="a study, a finished run, a model folder, or a Hub name")
    parser.add_argument("--out", type=Path, help="default: samples/ in the run's folder")
    for field in fields(SamplingSettings):
        if field.name != "grammar":
            option = f"--{field.name.replace('_', '-')}"
            parser.add_argument(option, type=type(field.default), default=field.default)
    parser.add_argument("--free", action="store_true", help="sample without the grammar")
    parser.add_argument("--meter", help="such as 3/4")
    parser.add_argument("--key", help="the major key of the signature, such as G or Bb")
    parser.add_argument("--tempo", type=float, help="quarters per minute")
    parser.add_argument("--instruments", help='one per voice: "Violin, Cello, drums", "0, 32"')
    parser.add_argument("--prompt", type=Path, help="an .abc or MIDI file to continue")
    parser.add_argument("--bars", type=int, default=4, help="bars of the prompt, from its start")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    name = find_model(options.model)
    folder = options.out or folder_of_samples(options.model, name)
    given = {f.name: getattr(options, f.name, None) for f in fields(SamplingSettings)}
    settings = SamplingSettings(**given | {"grammar": not options.free})
    rows = make_samples(name, settings, folder, [_condition(options)])
    write_tunes(rows, folder)
    readable = sum(row["abc_voices"] is not None for row in rows)
    print(f"{folder}: {len(rows)} tunes from {name}; {readable} readable, as .abc and .mid")
    return 0


if __name__ == "__main__":
    use_huge_pages()
    sys.exit(main())
