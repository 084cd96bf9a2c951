"""A small dataset in the layout of the pipeline, for the tests of training."""

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

SPECIALS = ("<|endoftext|>", "<pad>", "<unk>", "<mask>")
CHARACTERS = "abcdefgABCDEFGzxXTMLKVQ:|[]()/0123456789^_=,' \n%-~<>!&#+*.\"hi"


def make_dataset(
    root: Path,
    dataset: str = "tiny",
    preset: str = "char",
    block_length: int = 32,
    n_songs: int = 60,
) -> Path:
    """Write data/<dataset>/<preset>/ with repeating bars, so that there is something to learn."""
    folder = root / dataset / preset
    vocabulary = [*SPECIALS, *dict.fromkeys(CHARACTERS)][:64]
    tokens = folder / "5_tokens"
    tokens.mkdir(parents=True)
    save_tokenizer(vocabulary, tokens)
    rng = np.random.default_rng(1)
    songs = [make_song(rng) for _ in range(n_songs)]
    ids = {character: i for i, character in enumerate(vocabulary)}
    parts = {
        "train": songs[: -n_songs // 4],
        "validation": songs[-n_songs // 4 :],
        "test": songs[:2],
    }
    for split, texts in parts.items():
        rows = [[ids[c] for c in text] for text in texts]
        table = {
            "digest": [f"{split}{i:03d}" for i in range(len(texts))],
            "input_ids": pa.array(rows, pa.list_(pa.uint16())),
            "n_chars": [len(text) for text in texts],
            "n_notes": [sum(c in "abcdefgABCDEFG" for c in text) for text in texts],
            "n_bars": [text.count("|") for text in texts],
            "n_seconds": [2.0 * text.count("|") for text in texts],
        }
        pq.write_table(pa.table(table), tokens / f"{split}.parquet")
    stream = [token for text in parts["train"] for token in [*(ids[c] for c in text), 0]]
    n_blocks = len(stream) // block_length
    blocks = np.array(stream[: n_blocks * block_length], dtype=np.uint16).reshape(
        n_blocks, block_length
    )
    (folder / "6_blocks").mkdir()
    np.save(folder / "6_blocks" / "train.npy", blocks)
    stage = {
        "block_length": block_length,
        "n_blocks": n_blocks,
        "n_tokens": int(blocks.size),
        "vocab_size": len(vocabulary),
        "digest": f"digest of {block_length} {n_songs}",
    }
    write_stage(tokens, {"settings": {"tokenizer": "char"}})
    write_stage(folder / "6_blocks", stage)
    return folder


def write_stage(folder: Path, content: dict) -> None:
    """Write stage.json, with the digests of the files that exist now."""
    files = {
        file.name: {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for file in folder.iterdir()
    }
    (folder / "stage.json").write_text(json.dumps(content | {"files": files}))


def make_song(rng: np.random.Generator) -> str:
    bars = ["".join(rng.choice(list("abcdefg"), rng.integers(2, 6))) for _ in range(3)]
    body = "|".join(bars[i] for i in rng.integers(0, 3, rng.integers(6, 20)))
    return f"M:4/4\nK:C\n{body}|"


def save_tokenizer(vocabulary: list[str], folder: Path) -> None:
    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[], unk_token="<unk>", fuse_unk=False))
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="left",
    ).save_pretrained(folder)


PROJECT = Path(__file__).resolve().parents[2]
CONFIGS = PROJECT / "configs"
# a model with a few thousand weights on blocks of 32, 8 blocks per step
TINY = (
    *("model.hidden_size=16", "model.num_hidden_layers=1", "budget.global_batch_tokens=256"),
    *("training.per_device_train_batch_size=8", "training.learning_rate=1.0e-2"),
    *("training.max_steps=12", "training.disable_tqdm=true"),
)


def train_tiny(*overrides: str, config: str | Path = "gpt_tiny") -> int:
    """Run train.py in this process, as from the command line; returns the exit code."""
    import known_code  # noqa: F401  (the digest of the code is computed once)

    spec = importlib.util.spec_from_file_location("train", PROJECT / "train.py")
    train = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(train)
    path = config if isinstance(config, Path) else CONFIGS / f"{config}.yaml"
    return train.main([str(path), *overrides])
