import json

import yaml

from model_cards.publish import build_folder, main
from scaling.tables import fill, laws_table


def record() -> dict:
    return {
        "name": "gpt_tiny",
        "model_type": "abc_gpt",
        "dataset": "fiddle",
        "preset": "char",
        "n_params_total": 828_544,
        "n_params_non_embedding": 787_584,
        "n_tokens_seen": 1_000_000,
        "epochs": 0.5,
        "context_length": 256,
        "learning_rate": 0.002,
        "global_batch_tokens": 16_384,
        "max_steps": 61,
        "flops_train": 6.3e12,
        "commit": "abc",
        "data_digest": "0" * 64,
        "loss_nats_per_token": {"train": 1.0, "validation": 0.9},
        "validation": {"nll_nats": 900.0, "n_songs": 3, "n_chars": 1000, "n_notes": 250},
    }


def test_published_folder_holds_weights_code_and_card_and_no_pickle(tmp_path):
    run = tmp_path / "gpt_tiny"
    (run / "checkpoint").mkdir(parents=True)
    (run / "record.json").write_text(json.dumps(record()))
    for name in ("model.safetensors", "config.json", "modeling_abc_gpt.py", "training_args.bin"):
        (run / "checkpoint" / name).write_text("{}")
    folder = build_folder(run, "someone/gpt_tiny")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "modeling_abc_gpt.py",
    ]
    _, head, text = (folder / "README.md").read_text().split("---\n", 2)
    metrics = yaml.safe_load(head)["model-index"][0]["results"][0]["metrics"]
    assert metrics[0]["value"] == 0.9
    assert metrics[1]["value"] == 1.2984  # 900 / ln 2 / 1000
    assert "GPT of 828,544 parameters" in text


def test_unfinished_run_is_not_published(tmp_path, capsys):
    assert main([str(tmp_path), "someone/name", "--dry-run"]) == 2
    assert "record.json not found" in capsys.readouterr().err


def test_readme_tables_come_from_the_files():
    law = {
        "params": {"alpha": 0.0731},
        "interval_95": {"alpha": [0.06, 0.09]},
        "holdout_error": 0.01,
    }
    fits = {
        "laws": {"gpt": {"power": law, "power_floor": {"refused": "5 sizes"}, "chosen": "power"}}
    }
    table = laws_table(fits)
    assert table[2] == "| gpt | power | 0.073 | 0.060 to 0.090 | 1.0 % |"
    assert "not fitted: 5 sizes" in table[3]
    filled = fill("a\n<!-- results:begin -->\nold\n<!-- results:end -->\nb", table)
    assert filled == fill(filled, table)
    assert "old" not in filled
