"""A finished run, opened for scoring: its facts, its model, the songs of its data.

Songs are the independent units, so intervals are percentiles over songs drawn with replacement. All
runs on the same songs use the same draws, so differences are paired.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow.parquet as pq
import torch
import yaml
from tqdm import tqdm
from transformers import PreTrainedModel

from scaling.families import family_of
from training.data.blocks import Songs, load_songs
from training.data.data_files import DataFiles, locate_data
from training.data.validation import SongEvaluator

from .models import find_model, load_model, load_tokenizer

PERCENTILES = (2.5, 97.5)
N_DRAWS = 1000
BATCH_TOKENS = 16_384
LOGITS_AT_ONCE = 2**22  # 16 MiB


class TooFewSongsError(ValueError):
    """The data of a run has too few songs of the kind that is measured."""


@dataclass(frozen=True)
class FinishedRun:
    """A run and what it was trained on.

    Attributes:
        folder: `runs/<study>/<run>`.
        facts: What result files state about a run: run, arch, size, seed, n_params, n_tokens, ...
        files: Its data files.
    """

    folder: Path
    facts: dict[str, Any]
    files: DataFiles

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Reads the record and config of a run.

        Raises:
            FileNotFoundError: If the folder contains no finished run, or its data is missing.
            ValueError: If the data has changed since.
        """
        record_file = folder / "record.json"
        if not record_file.is_file():
            raise FileNotFoundError(
                f"{record_file} not found; expected a finished run, e.g. "
                "runs/demo/gpt_l1_d16_t2M_s1"
            )
        record = json.loads(record_file.read_text("utf-8"))
        config = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
        files = locate_data(config)
        if config["data"]["digest"] not in files.digests:
            raise ValueError(
                f"{files.folder} has changed since {folder} was trained: the songs may differ; "
                "recreate the original data, or train again"
            )
        facts = {
            "run": record["name"],
            "study": record["study"],
            "arch": family_of(record["model_type"]).name,
            "size": record["size"],
            "seed": record["seed"],
            "n_params": record["n_params_non_embedding"],
            "n_params_total": record["n_params_total"],
            "n_tokens": record["n_tokens_seen"],
            "context_length": record["context_length"],
            "validation_loss_nats_per_token": record["loss_nats_per_token"]["validation"],
            "preset": record["preset"],
        }
        return cls(folder, facts, files)

    def load(self) -> tuple[PreTrainedModel, int]:
        """The model and the id of the token that starts and ends a song."""
        model, tokenizer = load_model(find_model(str(self.folder)))
        return model, tokenizer.eos_token_id

    def eos_id(self) -> int:
        """The id of the token that starts and ends a song, without loading the model."""
        return load_tokenizer(find_model(str(self.folder))).eos_token_id

    def column(self, split: str, name: str) -> list[Any]:
        """One column of 5_tokens, in song order."""
        path = self.files.tokens / f"{split}.parquet"
        return pq.read_table(path, columns=[name])[name].to_pylist()

    def songs(self, split: str) -> Songs:
        """The songs of a split."""
        return load_songs(self.files, split)

    def song_nll_nats(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Negative log-likelihood in nats and targets of each song, as in validation: (n,) each.

        Songs are split into windows of the run's own context length, each starting with an empty
        context.
        """
        model, eos_id = self.load()
        evaluator = SongEvaluator(self.songs(split), eos_id, self.files.block_length, BATCH_TOKENS)
        with tqdm(desc=f"{split} loss", total=len(evaluator.batches), unit="batch") as progress:
            loss = evaluator.evaluate(model, on_batch=progress.update)
        return loss.nll_nats, loss.n_targets


def held_out_tunes(folder: Path) -> list[str]:
    """The tunes of the test split in the order of their digests, so that the first n are a sample.

    In the file, one collection follows the other.

    Args:
        folder: `data/<dataset>/<preset>`.

    Raises:
        FileNotFoundError: If the split is missing.
    """
    tunes = split_column(folder, "test")
    return sorted(tunes, key=lambda abc: hashlib.sha256(abc.encode()).digest())


def split_column(folder: Path, split: str, name: str = "abc") -> list[str]:
    """The tunes, or another column, of a split of a dataset, before augmentation.

    Args:
        folder: `data/<dataset>/<preset>`.
        split: Name of the split.
        name: Name of the column, with one value per tune.

    Raises:
        FileNotFoundError: If the split is missing.
    """
    path = folder / "4_split" / f"{split}.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; run `make data`")
    return pq.read_table(path, columns=[name])[name].to_pylist()


def open_runs(folders: Sequence[Path]) -> list[FinishedRun]:
    """Opens runs, the smallest of each family first.

    Raises:
        FileNotFoundError: As `FinishedRun.open`.
    """
    runs = [FinishedRun.open(folder) for folder in folders]
    keys = ("arch", "n_params", "context_length", "preset", "seed", "run")
    return sorted(runs, key=lambda run: tuple(run.facts[key] for key in keys))


def song_draws(n: int, seed: int, draws: int = N_DRAWS) -> np.ndarray:
    """How often each of n songs is drawn, (draws, n) float64; each row sums to n."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws).astype(float)


def interval(values: np.ndarray | list[float]) -> list[Any]:
    """Percentiles over the first axis: the two ends, each shaped like one draw."""
    return np.percentile(values, PERCENTILES, axis=0).tolist()


@torch.inference_mode()
def window_nll(model: PreTrainedModel, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Loss per target in nats, (n, T) float32; inputs, targets: (n, T) ids, independent rows."""
    rows = max(1, LOGITS_AT_ONCE // (inputs.shape[1] * model.config.vocab_size))
    parts = []
    for start in range(0, len(inputs), rows):
        ids, wanted = (
            torch.from_numpy(array[start : start + rows]).to(model.device)
            for array in (inputs, targets)
        )
        logits = model(input_ids=ids, use_cache=False).logits  # (B, T, V)
        nll = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), wanted.flatten(), reduction="none"
        )
        parts.append(nll.view(ids.shape).cpu().numpy())
    return np.concatenate(parts)
