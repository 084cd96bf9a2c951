"""Checkpoint + seed -> tunes: `samples.jsonl`, and for each tune its .abc and .mid.

    python -m evaluation.sampling runs/demo --n 8 --out samples --seed 1

A sample is a whole tune, also where it is longer than the model's context: when the context is
full, generation goes on from the tune's header and its last bars.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import logging
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

import modeling  # registers both families with the Auto classes
from data_prep.abc_to_midi import abc_to_midi, perform
from data_prep.corpus import DIALECT
from data_prep.notation import AbcError
from data_prep.stages import code_digest
from data_prep.tune import print_tune
from data_prep.tune_parser import parse_tune

logger = logging.getLogger(__name__)

BATCH_SIZE = 8


@dataclass(frozen=True)
class SamplingSettings:
    """How to sample.

    Attributes:
        n: Number of tunes.
        seed: Repeats the same tunes on the same machine.
        max_new_tokens: Longest tune; what is not ended by then is cut at its last whole bar.
        temperature: 1 samples from the model as it is.
        top_k: 0 samples from all tokens.
    """

    n: int = 8
    seed: int = 1
    max_new_tokens: int = 1500
    temperature: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        if min(self.n, self.max_new_tokens) < 1 or self.temperature <= 0 or self.top_k < 0:
            raise ValueError(f"{self}: n, max_new_tokens and temperature above 0, top_k from 0")


def find_model(model: str) -> str:
    """Returns what `from_pretrained` takes.

    Args:
        model: A study's folder (then its run of lowest validation loss), a run's folder, a model
            folder, or the name of a model on the Hub.

    Raises:
        FileNotFoundError: If a local path holds no finished model.
    """
    folder = Path(model)
    if (folder / "runs.csv").is_file():
        with (folder / "runs.csv").open(encoding="utf-8", newline="") as file:
            best = min(csv.DictReader(file), key=lambda row: float(row["loss"]))
        folder = folder / best["run"]
    if (folder / "checkpoint").is_dir():
        folder = folder / "checkpoint"
    if (folder / "config.json").is_file():
        return str(folder)
    if folder.exists() or folder.parts[:1] == ("runs",) or len(folder.parts) > 2:
        found = "holds no model" if folder.exists() else "does not exist"
        raise FileNotFoundError(
            f"{folder} {found}; expected a finished run such as runs/single/gpt_tiny, a folder "
            "with config.json, or a name on the Hub; train with: make train CONFIG=..."
        )
    return model


def load_model(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads model and tokenizer; no code that came with them is run."""
    model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    if torch.accelerator.is_available():
        model = model.to(torch.accelerator.current_accelerator())
    return model.eval(), tokenizer


def sample_tunes(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: SamplingSettings
) -> list[dict[str, Any]]:
    """Samples tunes from nothing but the start token.

    Returns:
        One row a tune: `abc` as generated, `ended` (by the end token), `n_tokens`; `abc_voices`,
        the export that other programs read, or None and in `error` why there is none.
    """
    set_seed(settings.seed)
    rows = []
    with tqdm(desc="sample", total=settings.n, unit="tune") as progress:
        while len(rows) < settings.n:
            batch = min(BATCH_SIZE, settings.n - len(rows))
            for ids, ended in _sample_batch(model, tokenizer, batch, settings):
                abc = tokenizer.decode(ids, skip_special_tokens=True)
                rows.append({"sample": len(rows) + 1, "seed": settings.seed, "ended": ended})
                rows[-1] |= {"n_tokens": len(ids), "abc": abc} | _export(abc, ended)
                progress.update()
    return rows


@torch.inference_mode()
def _sample_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: int,
    settings: SamplingSettings,
) -> list[tuple[list[int], bool]]:
    """Samples tunes side by side, window after window, until each has ended."""
    start = tokenizer.bos_token_id
    context = getattr(model.config, "max_position_embeddings", None) or settings.max_new_tokens + 1
    tunes: list[list[int]] = [[] for _ in range(batch)]
    ended = [False] * batch
    prompts = {number: [start] for number in range(batch)}
    while prompts:
        longest = max(map(len, prompts.values()))
        room = min(context - longest, settings.max_new_tokens)
        generated = _generate(model, tokenizer, list(prompts.values()), room, settings)
        for number, new in zip(list(prompts), generated, strict=True):
            if tokenizer.eos_token_id in new:
                new = new[: new.index(tokenizer.eos_token_id)]
                ended[number] = True
            tunes[number] += new
            if ended[number] or len(tunes[number]) >= settings.max_new_tokens:
                del prompts[number]
            else:
                prompts[number] = [start, *_window(tokenizer, tunes[number], 3 * context // 4)]
    limit = settings.max_new_tokens
    return [
        (tune[:limit], done and len(tune) <= limit) for tune, done in zip(tunes, ended, strict=True)
    ]


def _generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    room: int,
    settings: SamplingSettings,
) -> list[list[int]]:
    """Continues each prompt by at most `room` tokens."""
    inputs = tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(model.device)
    config = GenerationConfig(
        do_sample=True,
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=1.0,
        max_new_tokens=room,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    output = model.generate(**inputs, generation_config=config)
    return output[:, inputs["input_ids"].shape[1] :].tolist()


def _window(tokenizer: PreTrainedTokenizerBase, tune: list[int], length: int) -> list[int]:
    """Returns the tune's header and its last bars, at most `length` tokens in all.

    Key, metre and voices stand in the header; without it the model would forget them. It gets two
    thirds of the window at most, else the last voices' lines go. The bars begin with a whole line,
    or with a voice where there is no room for a line.
    """
    if len(tune) <= length:
        return tune
    text = tokenizer.decode(tune)
    header = text[: max(text.find("\n[V:") + 1, 0)]
    while len(ids := tokenizer(header, verbose=False)["input_ids"]) > 2 * length // 3:
        header = header[: header[:-1].rfind("\n") + 1]
    tail = tokenizer.decode(tune[len(ids) - length :])
    start = max(0, tail.find("\n") + 1)
    if not tail[start:]:
        start = max(0, tail.find("[V:"))
    return ids + tokenizer(tail[start:], verbose=False)["input_ids"]


def _export(abc: str, ended: bool) -> dict[str, Any]:
    """Returns the voices export of a generated text, or why there is none."""
    if not ended:
        abc = abc[: abc.rfind("\n") + 1]  # its last bar is not whole
    try:
        tune = parse_tune(abc)
        if not tune.n_bars:
            raise AbcError("no bars")
        perform(tune)
        return {"abc_voices": print_tune(tune, "voices"), "error": None}
    except AbcError as error:
        return {"abc_voices": None, "error": str(error)}


def make_samples(name: str, settings: SamplingSettings, folder: Path) -> list[dict[str, Any]]:
    """Samples into a folder, unless the same samples of the same weights lie there already.

    Args:
        name: As `find_model` returns it.
        settings: How to sample.
        folder: Gets samples.jsonl, and for each tune .abc (the export where there is one) and
            .mid; tunes of earlier samplings are removed from it.

    Returns:
        The rows of samples.jsonl.
    """
    key = asdict(settings) | {"model": name, "weights": _weights_digest(name), "code": _CODE}
    settings_file, samples_file = folder / "sampling.json", folder / "samples.jsonl"
    if settings_file.exists() and json.loads(settings_file.read_text("utf-8")) == key:
        logger.info("%s: unchanged", folder)
        return read_samples(samples_file)
    folder.mkdir(parents=True, exist_ok=True)
    if samples_file.exists():  # a folder of ours: its tunes and verdicts are of other samples
        for pattern in ("tune_*.abc", "tune_*.mid", "sampling.json", "verdicts.jsonl"):
            for stale in folder.glob(pattern):
                stale.unlink()
    rows = [row | {"model": name} for row in sample_tunes(*load_model(name), settings)]
    for row in rows:
        path = folder / f"tune_{row['sample']:03d}"
        path.with_suffix(".abc").write_text(row["abc_voices"] or row["abc"], "utf-8")
        if row["abc_voices"]:
            midi = abc_to_midi(row["abc_voices"])
            path.with_suffix(".mid").write_bytes(midi)
    samples_file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    settings_file.write_text(json.dumps(key, indent=2) + "\n", "utf-8")
    return rows


def read_samples(path: Path) -> list[dict[str, Any]]:
    """Reads a samples.jsonl."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


_CODE = code_digest(DIALECT) + "".join(
    hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    for path in (Path(__file__), *sorted(Path(modeling.__file__).parent.glob("*.py")))
)


def _weights_digest(name: str) -> str | None:
    weights = Path(name) / "model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest() if weights.exists() else None


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="evaluation.sampling", description=__doc__)
    parser.add_argument("model", help="a study, a finished run, a model folder, or a Hub name")
    parser.add_argument("--out", type=Path, help="default: samples/ in the model's folder")
    for name, default in asdict(SamplingSettings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        folder, model = options.pop("out"), options.pop("model")
        name = find_model(model)
        if folder is None and not Path(model).exists():
            raise ValueError(f"{model} is no folder here; say where the tunes go: OUT=<folder>")
        folder = folder or Path(model) / "samples"
        rows = make_samples(name, SamplingSettings(**options), folder)
    except (ValueError, OSError) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command starts the sampling again", file=sys.stderr)
        return 130
    readable = sum(row["abc_voices"] is not None for row in rows)
    print(f"{folder}: {len(rows)} tunes by {name}; {readable} of them readable, as .abc and .mid")
    return 0


if __name__ == "__main__":
    sys.exit(main())
