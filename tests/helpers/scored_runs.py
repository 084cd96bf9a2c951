"""Tiny runs to score, trained once for the tests that share them."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from training_data import make_dataset, train_tiny

from scaling.families import FAMILIES

CONTEXT = 16


def train_runs(folder: Path) -> None:
    """Train a run of each family, and an LSTM with twice the context, for a few steps: runs/t/...

    Their data, data/tiny/char and data/tiny/long, also has parts that training does not read: the
    text of each split, and clusters, every other one of which is in train too.
    """
    for preset, length in (("char", CONTEXT), ("long", 2 * CONTEXT)):
        data = make_dataset(folder / "data", preset=preset, block_length=length, n_songs=80)
        _add_text_and_tokenizer(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for config, name, preset in (
            *((f"{family}_tiny", family, "char") for family in FAMILIES),
            ("lstm_tiny", "lstm_long", "long"),
        ):
            overrides = ["data.dataset=tiny", f"data.preset={preset}", f"name={name}", "study=t"]
            overrides += ["model.hidden_size=16", "model.num_hidden_layers=1", "size=small"]
            overrides += ["budget.global_batch_tokens=256", "training.max_steps=40"]
            overrides += ["training.per_device_train_batch_size=8", "training.learning_rate=0.02"]
            overrides += ["training.disable_tqdm=true"]
            if FAMILIES[config.partition("_")[0]].context == "attention":
                overrides.append("model.num_attention_heads=1")
            assert train_tiny(*overrides, config=config) == 0


def _add_text_and_tokenizer(data: Path) -> None:
    (data / "4_split").mkdir()
    for split in ("train", "validation", "test"):
        songs = pq.read_table(data / "5_tokens" / f"{split}.parquet")
        n_chars = songs["n_chars"].to_pylist()
        clusters = [f"{i}" if i % 2 else f"{split}{i}" for i in range(len(songs))]
        texts = ["ab" * (n // 2) + "c" * (n % 2) for n in n_chars]
        table = {"digest": songs["digest"], "cluster_id": clusters, "abc": texts}
        pq.write_table(pa.table(table), data / "4_split" / f"{split}.parquet")
    stage_file = data / "5_tokens" / "stage.json"
    stage = json.loads(stage_file.read_text()) | {"settings": {"tokenizer": "char"}}
    stage |= {"vocab_size": 64, "splits": {"train": {"n_chars": 100, "n_tokens": 100}}}
    stage_file.write_text(json.dumps(stage))
