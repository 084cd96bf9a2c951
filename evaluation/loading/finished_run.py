"""A finished run, opened to be scored: its facts, its model, the songs of its data.

Songs are the independent draws, so intervals are percentiles over songs drawn with replacement, the
same draws for all runs on the same songs: differences are paired.
"""

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


@dataclass(frozen=True)
class FinishedRun:
    """A run and what it was trained on.

    Attributes:
        folder: `runs/<study>/<run>`.
        facts: What result files say of a run: run, arch, size, seed, n_params, n_tokens, ...
        files: Its data.
    """

    folder: Path
    facts: dict[str, Any]
    files: DataFiles

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Reads record and config of a run.

        Raises:
            FileNotFoundError: If the folder holds no finished run, or its data are not there.
            ValueError: If the data have changed since.
        """
        record_file = folder / "record.json"
        if not record_file.is_file():
            raise FileNotFoundError(
                f"{record_file} not found; expected a finished run, as runs/demo/gpt_l1_d16_t2M_s1"
            )
        record = json.loads(record_file.read_text("utf-8"))
        config = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
        files = locate_data(config)
        if config["data"]["digest"] not in files.digests:
            raise ValueError(
                f"{files.folder} has changed since {folder} was trained: its songs may be others; "
                "make the data as they were, or train again"
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
        """The model and the id of the token that opens and ends a song."""
        model, tokenizer = load_model(find_model(str(self.folder)))
        return model, tokenizer.eos_token_id

    def eos_id(self) -> int:
        """The id of the token that opens and ends a song, without the model."""
        return load_tokenizer(find_model(str(self.folder))).eos_token_id

    def column(self, split: str, name: str) -> list[Any]:
        """One column of 5_tokens, in the order of the songs."""
        path = self.files.tokens / f"{split}.parquet"
        return pq.read_table(path, columns=[name])[name].to_pylist()

    def songs(self, split: str) -> Songs:
        """The songs of a split."""
        return load_songs(self.files, split)

    def song_nll_nats(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Negative log-likelihood and targets of each song, as validation counts them: (n,) each.

        Windows of the run's own context, which begins anew at each.
        """
        model, eos_id = self.load()
        evaluator = SongEvaluator(self.songs(split), eos_id, self.files.block_length, BATCH_TOKENS)
        with tqdm(desc=f"{split} loss", total=len(evaluator.batches), unit="batch") as progress:
            loss = evaluator.evaluate(model, on_batch=progress.update)
        return loss.nll_nats, loss.n_targets


def split_column(folder: Path, split: str, name: str = "abc") -> list[str]:
    """The tunes of a split of a data set, `data/<dataset>/<preset>`, before augmentation.

    Or another column of it, tune by tune.

    Raises:
        FileNotFoundError: If they are not there.
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
    """How often each of n songs is drawn, (draws, n) float64, each row of sum n."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws).astype(float)


def interval(values: np.ndarray | list[float]) -> list[Any]:
    """Percentiles over the first axis: two ends, each of the shape of one draw."""
    return np.percentile(values, PERCENTILES, axis=0).tolist()


@torch.inference_mode()
def window_nll(model: PreTrainedModel, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Loss of each target in nats, (n, T) float32; inputs, targets: (n, T) ids, each row anew."""
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
