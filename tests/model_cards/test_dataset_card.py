import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset

from model_cards.publish_data import build_folder, main


@pytest.fixture
def dataset(tmp_path):
    """What data_prep leaves of two songs a split."""
    folder = tmp_path / "data" / "fiddle" / "char"
    (folder / "3_filtered").mkdir(parents=True)
    (folder / "4_split").mkdir()
    filtered = {
        "stage": "3_filtered",
        "settings": {"min_notes": 16},
        "rows_in": 9,
        "rows_out": 6,
        "dropped": {"duplicate": 3},
    }
    (folder / "3_filtered" / "stage.json").write_text(json.dumps(filtered))
    counts = {"n_songs": 2, "n_chars": 8, "n_notes": 4, "n_bars": 2, "n_seconds": 7200.0}
    splits = ("train", "validation", "test")
    split = {"stage": "4_split", "settings": {}, "rows_in": 6, "rows_out": 6, "digest": "d" * 64}
    split["splits"] = dict.fromkeys(splits, counts)
    (folder / "4_split" / "stage.json").write_text(json.dumps(split))
    for name in splits:
        table = pa.table({"abc": [f"{name} 1", f"{name} 2"], "cluster_id": ["a", "b"]})
        pq.write_table(table, folder / "4_split" / f"{name}.parquet")
    return folder


def test_published_dataset_loads_and_its_card_tells_counts_and_drops(dataset, tmp_path):
    folder = build_folder(dataset, "someone/fiddle", "cc0-1.0")
    card = (folder / "README.md").read_text("utf-8")
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "cc0-1.0"
    assert "| train | 2 | 8 | 4 | 2 | 2.0 |" in card
    assert "| 3_filtered | 9 | 6 | duplicate 3 |" in card
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: rows["abc"][0] for name, rows in loaded.items()} == {
        name: f"{name} 1" for name in ("train", "validation", "test")
    }


def test_dataset_that_is_not_split_or_has_no_licence_is_refused(dataset, tmp_path, capsys):
    assert main([str(tmp_path), "someone/fiddle", "--licence", "cc0-1.0", "--dry-run"]) == 2
    assert "made by make data" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(dataset), "someone/fiddle"])
    assert "--licence" in capsys.readouterr().err
