"""Training from one file, on a machine that has little but torch and transformers."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from training_data import CONFIGS, TINY, make_dataset

from training import bundle
from training.data.blocks import load_blocks
from training.data.bundles import unpack_bundle, write_bundle

PROJECT = CONFIGS.parent
NEEDLESS = (
    "pyarrow",
    "datasets",
    "symusic",
    "music21",
    "mido",
    "pandas",
    "verovio",
    "evaluate",
    "scipy",
    "jinja2",
)
BARE = f"""
import runpy, sys

sys.modules |= dict.fromkeys({NEEDLESS})  # as if they were not installed
sys.argv[0] = "train.py"
runpy.run_path({str(PROJECT / "train.py")!r}, run_name="__main__")
"""


@pytest.fixture
def made(tmp_path, capsys):
    """A data set, and its bundle."""
    folder = make_dataset(tmp_path / "data")
    assert bundle.main([str(folder), str(tmp_path / "tiny.bundle")]) == 0
    assert f"data.root={tmp_path}/tiny.bundle data.dataset=tiny" in capsys.readouterr().out
    return tmp_path


def config(root):
    return {"data": {"root": str(root), "dataset": "tiny", "preset": "char"}}


def test_bundle_holds_the_same_data(made):
    ours, theirs = (load_blocks(config(made / name)) for name in ("data", "tiny.bundle"))
    assert np.array_equal(ours.blocks, theirs.blocks)
    assert ours.files.digests == theirs.files.digests
    assert ours.validation.totals == theirs.validation.totals
    assert all(map(np.array_equal, ours.validation.ids, theirs.validation.ids))
    assert ours.tokenizer.get_vocab() == theirs.tokenizer.get_vocab()


def test_same_data_are_the_same_bundle(made):
    before = (made / "tiny.bundle").read_bytes()
    assert bundle.main([str(made / "data/tiny/char"), str(made / "again.bundle")]) == 0
    assert (made / "again.bundle").read_bytes() == before


def test_run_from_a_bundle_in_a_bare_environment_has_the_same_weights(made):
    def train(root, *command):
        words = [str(CONFIGS / "gpt_tiny.yaml"), *TINY, f"data.root={root}", "data.dataset=tiny"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        name = f"name={root}"
        done = subprocess.run(
            [sys.executable, *command, *words, name],
            cwd=made,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        run = made / "runs" / "single" / root
        weights = (run / "checkpoint" / "model.safetensors").read_bytes()
        record = json.loads((run / "record.json").read_text())
        return hashlib.sha256(weights).hexdigest(), record["validation"], record["data_digest"]

    assert train("tiny.bundle", "-c", BARE) == train("data", str(PROJECT / "train.py"))


def test_ids_above_a_byte_come_back(tmp_path):
    folder = make_dataset(tmp_path / "data")
    blocks = np.load(folder / "6_blocks/train.npy") * 70
    np.save(folder / "6_blocks/train.npy", blocks)
    ids = [np.array([1, 300, 4095]), np.array([256])]
    write_bundle(folder, ids, {"n_chars": 4}, tmp_path / "b")
    root = unpack_bundle(tmp_path / "b")
    assert np.array_equal(np.load(root / "tiny/char/6_blocks/train.npy"), blocks)
    with np.load(root / "tiny/char/5_tokens/validation.npz") as songs:
        assert songs["ids"].tolist() == [1, 300, 4095, 256]


@pytest.mark.parametrize("member", ["bundle.json", "blocks.low.bz2", "tokenizer.json", None])
def test_damaged_bundle_is_an_error_that_names_it(made, member):
    file = made / "tiny.bundle"
    content = bytearray(file.read_bytes())
    if member:
        with tarfile.open(file) as archive:
            content[archive.getmember(member).offset_data + 12] ^= 1
    file.write_bytes(content if member else content[:5000])
    with pytest.raises(ValueError, match=r"tiny\.bundle is not a bundle, or is damaged \("):
        load_blocks(config(file))
    assert sorted(path.name for path in made.iterdir()) == ["data", "tiny.bundle"]
