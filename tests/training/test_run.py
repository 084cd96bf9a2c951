import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from training_data import CONFIGS, PROJECT, TINY, make_dataset, train_tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.budget import RunPlan
from training.config import load_config
from training.data.blocks import BlockOrder, Songs, load_blocks
from training.data.data_files import locate_data
from training.data.validation import SongEvaluator, SongLoss, cut_song
from training.record import code_digest
from training.run.checkpoints import newest_checkpoint
from training.run.progress import RunLog
from training.run.run_folder import RUNS, choose_run_folder
from training.trainer import BudgetTrainer, mean_loss_at_end


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory with a data set, and data/latest that points to it."""
    make_dataset(tmp_path / "data")
    (tmp_path / "data" / "latest").symlink_to("tiny")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run."""
    place = tmp_path_factory.mktemp("finished")
    make_dataset(place / "data", "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert train_tiny(*TINY, "data.dataset=tiny", "training.eval_steps=5") == 0
    return place / "runs" / "single" / "gpt_tiny"


def read_record(name, study="single"):
    return json.loads((RUNS / study / name / "record.json").read_text())


def weights(name):
    return (RUNS / "single" / name / "checkpoint" / "model.safetensors").read_bytes()


def break_off_at(step, monkeypatch, action):
    """Do `action` at the end of a step, once."""
    original, is_done = RunLog.on_step_end, []

    def on_step_end(self, args, state, control, **kwargs):
        original(self, args, state, control, **kwargs)
        if state.global_step == step and not is_done:
            is_done.append(True)
            action()

    monkeypatch.setattr(RunLog, "on_step_end", on_step_end)


def fail():
    raise RuntimeError("power cut")


def test_record_of_a_run_is_consistent(finished):
    record = json.loads((finished / "record.json").read_text())
    songs = pq.read_table(finished.parents[2] / "data/tiny/char/5_tokens/validation.parquet")
    n_targets = sum(len(ids) + 1 for ids in songs["input_ids"].to_pylist())
    assert record["name"] == record["size"] == "gpt_tiny"
    assert (record["dataset"], record["preset"], record["context_length"]) == ("tiny", "char", 32)
    assert record["max_steps"] == 12
    assert record["n_tokens_seen"] == 12 * 8 * 31
    assert record["n_tokens_unique"] == 92 * 31
    assert record["epochs"] == pytest.approx(12 * 8 / 92)
    assert record["n_params_total"] == record["n_params_non_embedding"] + (64 + 32) * 16
    assert record["flops_6nd"] == 6 * record["n_params_non_embedding"] * record["n_tokens_seen"]
    assert record["flops_train"] > record["flops_6nd"]
    validation = record["validation"]
    assert validation["n_tokens"] == n_targets
    assert validation["n_songs"] == songs.num_rows
    assert validation["n_chars"] == sum(songs["n_chars"].to_pylist())
    loss = record["loss_nats_per_token"]["validation"]
    assert loss == pytest.approx(validation["nll_nats"] / n_targets)
    assert 0 < record["loss_standard_error_nats_per_token"]["validation"] < loss
    assert record["tokens_per_second"] * record["train_seconds"] == pytest.approx(12 * 8 * 31)


def test_log_has_losses_by_step(finished):
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    validated = [line["step"] for line in lines if "validation_loss_nats_per_token" in line]
    assert validated == [5, 10, 12]
    assert [line["step"] for line in lines if "loss_nats_per_token" in line] == [12]
    assert all(line["n_tokens"] == line["step"] * 8 * 31 for line in lines)
    record = json.loads((finished / "record.json").read_text())
    assert (
        lines[-1]["validation_loss_nats_per_token"] == record["loss_nats_per_token"]["validation"]
    )


def test_saved_model_gives_the_recorded_loss_token_by_token(finished):
    model = AutoModelForCausalLM.from_pretrained(finished / "checkpoint").eval()
    tokenizer = AutoTokenizer.from_pretrained(finished / "checkpoint")
    tokens = finished.parents[2] / "data/tiny/char/5_tokens/validation.parquet"
    eos, context, total, count = tokenizer.eos_token_id, 32, 0.0, 0
    for ids in pq.read_table(tokens)["input_ids"].to_pylist():
        sequence = [eos, *ids, eos]
        for t in range(1, len(sequence)):
            start = (t - 1) // context * context
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([sequence[start:t]])).logits[0, -1]
            total -= torch.log_softmax(logits.double(), -1)[sequence[t]].item()
            count += 1
    record = json.loads((finished / "record.json").read_text())
    assert record["validation"]["n_tokens"] == count
    assert record["validation"]["nll_nats"] == pytest.approx(total, rel=1e-6)
    assert model.config.use_cache
    assert not (finished / "checkpoints").exists()


@pytest.mark.parametrize(
    "name", ["6_blocks/train.npy", "5_tokens/validation.parquet", "5_tokens/tokenizer.json"]
)
def test_flipped_byte_in_the_data_is_found_before_training(place, capsys, name):
    file = place / "data/tiny/char" / name
    data = bytearray(file.read_bytes())
    data[2 * len(data) // 3] ^= 1
    file.write_bytes(data)
    assert train_tiny(*TINY, "training.max_steps=2") == 2
    error = capsys.readouterr().err
    assert f"data/tiny/char/{name}" in error
    assert error.count("\n") == 1
    assert not (RUNS / "single").exists()


def test_checkpoints_stay_where_no_limit_thins_them(place):
    keep = ("training.save_total_limit=null", "training.save_steps=2", "training.logging_steps=2")
    assert train_tiny(*TINY, "training.max_steps=4", "name=kept", *keep) == 0
    left = {path.name for path in (RUNS / "single/kept/checkpoints").iterdir()}
    assert left == {"checkpoint-2", "checkpoint-4"}


def test_saved_model_comes_with_its_pipeline(finished):
    config = json.loads((finished / "checkpoint/config.json").read_text())
    implementation = config["custom_pipelines"]["abc-music"]["impl"]
    assert implementation == "pipeline_abc_music.AbcMusicPipeline"
    for name in ("pipeline_abc_music.py", "header_abc.py", "export_abc.py"):
        assert (finished / "checkpoint" / name).is_file()


def test_second_run_does_nothing_and_its_config_repeats_it(place, capsys):
    assert train_tiny(*TINY, "training.max_steps=2") == 0
    before = (RUNS / "single/gpt_tiny/record.json").stat().st_mtime_ns
    assert train_tiny(*TINY, "training.max_steps=2") == 0
    assert "is finished" in capsys.readouterr().out
    # the saved file alone names data, settings and place
    assert train_tiny(config=RUNS / "single/gpt_tiny/config.yaml") == 0
    assert "is finished" in capsys.readouterr().out
    assert (RUNS / "single/gpt_tiny/record.json").stat().st_mtime_ns == before
    saved = yaml.safe_load((RUNS / "single/gpt_tiny/config.yaml").read_text())
    assert saved["data"]["dataset"] == "tiny"


def test_run_is_found_by_any_digest_that_its_data_were_known_by(place):
    config = load_config(CONFIGS / "gpt_tiny.yaml", TINY)
    run = choose_run_folder(config, locate_data(config))
    run.save_config()
    stage_file = place / "data/tiny/char/6_blocks/stage.json"
    stage = json.loads(stage_file.read_text())
    renamed = stage | {"digest": "new", "former_digests": ["older", stage["digest"]]}
    stage_file.write_text(json.dumps(renamed))
    again = choose_run_folder(config, locate_data(config))
    assert (again.path, again.config) == (run.path, run.config)
    branch = choose_run_folder(run.config | {"name": "branch"}, locate_data(config))
    assert branch.config["data"]["digest"] == stage["digest"]  # as its trunk
    fresh = choose_run_folder(config | {"name": "fresh"}, locate_data(config))
    assert fresh.config["data"]["digest"] == "new"
    stage_file.write_text(json.dumps(renamed | {"former_digests": []}))
    other = choose_run_folder(config, locate_data(config))
    assert other.path.name == "gpt_tiny-2"
    assert "the data have changed" in other.reason


def test_code_is_recorded_and_no_part_of_what_a_run_is_known_by(finished, tmp_path):
    record = json.loads((finished / "record.json").read_text())
    assert record["code_digest"] == code_digest()
    assert record["code_digest"] not in (finished / "config.yaml").read_text()
    for package in ("training", "modeling", "scaling", "data_prep"):
        shutil.copytree(PROJECT / package, tmp_path / package)
    shutil.copy(PROJECT / "train.py", tmp_path)
    assert code_digest(tmp_path) == record["code_digest"]
    law = tmp_path / "scaling/laws/law.py"  # not imported by training
    law.write_text(law.read_text() + "unused = 1\n")
    assert code_digest(tmp_path) == record["code_digest"]
    budget = tmp_path / "training/budget.py"
    budget.write_text(budget.read_text() + "used = 1\n")
    assert code_digest(tmp_path) != record["code_digest"]


def test_other_settings_or_data_go_to_the_next_free_name(place, caplog):
    config = load_config(CONFIGS / "gpt_tiny.yaml", TINY)
    first = choose_run_folder(config, locate_data(config))
    first.save_config()
    assert choose_run_folder(config, locate_data(config)).path == first.path
    other = load_config(CONFIGS / "gpt_tiny.yaml", [*TINY, "training.seed=2"])
    second = choose_run_folder(other, locate_data(other))
    second.save_config()
    assert second.path.name == second.config["name"] == "gpt_tiny-2"
    assert "training.seed 1, now 2" in second.reason
    (place / "data" / "latest").unlink()
    make_dataset(place / "data", "latest", block_length=16)
    stage_changed = {**config, "data": {**config["data"], "dataset": "latest"}}
    assert choose_run_folder(stage_changed, locate_data(stage_changed)).path.name == "gpt_tiny-3"
    # a folder whose settings are equal is found again behind the others
    assert (
        choose_run_folder(other, locate_data({"data": {**other["data"], "dataset": "tiny"}})).path
        == second.path
    )


@pytest.mark.parametrize(
    ("config", "optim", "way"),
    [
        ("gpt_tiny", "adamw_torch_fused", "killed"),
        ("gpt_tiny", "adamw_torch_fused", "ctrl-c"),
        ("gpt_tiny", "muon", "killed"),
        ("lstm_tiny", "adamw_torch_fused", "killed"),
        ("lstm_tiny", "adamw_torch_fused", "ctrl-c"),
    ],
)
def test_resumed_run_equals_an_uninterrupted_one(config, optim, way, place, monkeypatch, capsys):
    settings = [*TINY, "model.dropout=0.1", "training.save_steps=4", "training.logging_steps=2"]
    settings.append(f"training.optim={optim}")
    assert train_tiny(*settings, "name=whole", config=config) == 0
    if way == "killed":
        break_off_at(10, monkeypatch, fail)
        with pytest.raises(RuntimeError, match="power cut"):
            train_tiny(*settings, "name=broken", config=config)
    else:
        break_off_at(5, monkeypatch, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert train_tiny(*settings, "name=broken", config=config) == 130
        assert "stopped after step 5" in capsys.readouterr().err
    assert not (RUNS / "single/broken/record.json").exists()
    assert train_tiny(*settings, "name=broken", config=config) == 0
    assert weights("broken") == weights("whole")
    whole, broken = (read_record(name)["loss_nats_per_token"] for name in ("whole", "broken"))
    assert broken["validation"] == whole["validation"]
    assert broken["train"] == pytest.approx(whole["train"], rel=1e-6)
    logs = [
        (RUNS / "single" / n / "log.jsonl").read_text().splitlines() for n in ("whole", "broken")
    ]
    steps = [[json.loads(line)["step"] for line in log] for log in logs]
    # a stop ends a window of its own
    assert [s for s in steps[1] if s != 5] == steps[0]


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "no manifest"])
def test_damaged_checkpoint_is_skipped_with_one_warning(damage, place, monkeypatch, caplog):
    settings = [*TINY, "training.save_steps=4"]
    assert train_tiny(*settings, "name=whole") == 0
    break_off_at(10, monkeypatch, fail)
    with pytest.raises(RuntimeError, match="power cut"):
        train_tiny(*settings, "name=broken")
    newest = RUNS / "single/broken/checkpoints/checkpoint-8"
    victim = newest / ("manifest.json" if damage == "no manifest" else "optimizer.pt")
    content = victim.read_bytes()
    if damage in ("missing", "no manifest"):
        victim.unlink()
    else:
        half = len(content) // 2
        flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        victim.write_bytes(content[:half] if damage == "cut" else flipped)
    caplog.clear()
    assert train_tiny(*settings, "name=broken") == 0
    assert sum("is not intact" in record.message for record in caplog.records) == 1
    assert weights("broken") == weights("whole")


def test_no_checkpoint_is_found_where_none_is_whole(tmp_path):
    (tmp_path / "checkpoint-5").mkdir()
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / "nowhere") is None


def test_full_disk_is_one_line_and_keeps_the_checkpoint_before(place, monkeypatch, capsys):
    settings = [*TINY, "training.save_steps=4"]
    original = BudgetTrainer._save_optimizer_and_scheduler

    def save(self, folder):
        if self.state.global_step == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, folder)

    monkeypatch.setattr(BudgetTrainer, "_save_optimizer_and_scheduler", save)
    assert train_tiny(*settings) == 2
    assert "the disk is full" in capsys.readouterr().err
    kept = [p.name for p in (RUNS / "single/gpt_tiny/checkpoints").iterdir()]
    assert kept == ["checkpoint-4"]
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert train_tiny(*settings) == 0


def test_loss_that_is_not_a_number_stops_the_run(place, capsys):
    assert train_tiny(*TINY, "training.learning_rate=1.0e+30", "training.logging_steps=2") == 2
    assert "lower training.learning_rate" in capsys.readouterr().err
    assert not (RUNS / "single/gpt_tiny/record.json").exists()


def test_device_batch_does_not_change_the_training(place):
    assert train_tiny(*TINY, "name=whole", "training.logging_steps=1") == 0
    pieces = ["training.per_device_train_batch_size=2", "training.logging_steps=1"]
    assert train_tiny(*TINY, *pieces, "name=pieces") == 0
    logs = [
        (RUNS / "single" / n / "log.jsonl").read_text().splitlines() for n in ("whole", "pieces")
    ]
    whole, in_pieces = ([json.loads(line) for line in log] for log in logs)
    for one, other in zip(whole, in_pieces, strict=True):
        for key in one.keys() & {"loss_nats_per_token", "validation_loss_nats_per_token"}:
            assert other[key] == pytest.approx(one[key], rel=1e-4)


def test_order_is_a_pure_function_of_seed_and_step():
    blocks = np.arange(10, dtype=np.uint16)[:, None].repeat(4, axis=1)
    plan = RunPlan(max_steps=5, sequences_per_step=4, block_length=4)
    in_order = BlockOrder(blocks, plan, seed=1)
    assert len(in_order) == 20
    steps = [in_order.rows(range(4 * s, 4 * s + 4)).tolist() for s in range(5)]
    # a later step alone, in another object, and in pieces
    assert BlockOrder(blocks, plan, seed=1).rows([16, 17, 18, 19]).tolist() == steps[4]
    assert BlockOrder(blocks, plan, seed=1).rows([9, 10]).tolist() == [steps[2][1], steps[2][2]]
    flat = [row for step in steps for row in step]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert flat[:10] != flat[10:]
    assert BlockOrder(blocks, plan, seed=2).rows(range(20)).tolist() != flat
    batch = in_order.__getitems__([0, 1])
    assert batch["input_ids"].dtype == torch.int64
    assert batch["input_ids"].tolist() == batch["labels"].tolist() == [[r] * 4 for r in flat[:2]]


def test_a_part_of_the_data_is_read_again_and_again(place):
    assert train_tiny(*TINY, "data.unique_tokens=330") == 0
    record = read_record("gpt_tiny")
    assert (record["n_tokens_unique"], record["epochs"]) == (10 * 31, 12 * 8 / 10)
    config = load_config(CONFIGS / "gpt_tiny.yaml", [*TINY, "data.unique_tokens=330"])
    whole, part = (
        load_blocks(each) for each in (load_config(CONFIGS / "gpt_tiny.yaml", TINY), config)
    )
    rows = [np.flatnonzero((whole.blocks == row).all(1)) for row in part.blocks]
    assert len(rows) == 10
    assert all(len(found) for found in rows)


def test_training_loss_is_the_mean_over_the_last_tenth():
    log = [{"step": s, "loss": float(s)} for s in (50, 90, 95, 100)] + [{"step": 100, "eval": 1.0}]
    assert mean_loss_at_end(log, 100) == pytest.approx((95 * 5 + 100 * 5) / 10)
    # a window that the stop cut in two counts by its steps
    cut = [{"step": s, "loss": loss} for s, loss in ((90, 1.0), (91, 6.0), (100, 1.0))]
    assert mean_loss_at_end(cut, 100) == pytest.approx(1.5)


def test_windows_hold_each_target_once():
    ids = np.arange(1, 11)
    windows = cut_song(0, ids, eos_id=0, context=4)
    assert np.concatenate([w.targets for w in windows]).tolist() == [*range(1, 11), 0]
    assert [len(w.inputs) for w in windows] == [4, 4, 3]
    assert windows[1].inputs.tolist() == [4, 5, 6, 7]
    empty = cut_song(0, np.array([], dtype=np.int64), eos_id=0, context=4)
    assert [w.targets.tolist() for w in empty] == [[0]]


def test_every_third_window_is_of_all_parts_of_the_songs():
    songs = Songs([np.arange(1, n) for n in (3, 9, 20, 33)], {})
    whole, third = (SongEvaluator(songs, 0, 4, 16, every=k) for k in (1, 3))
    read, of = (
        {(w.song, *w.targets) for batch in each.batches for w in batch} for each in (third, whole)
    )
    assert read < of
    assert whole.n_targets.tolist() == [3, 9, 20, 33]
    assert third.n_targets.tolist() == [3, 4, 4, 12]  # from the first, second, third, first on
    loss = SongLoss(np.array([3.0, 0.0, 4.0]), np.array([3, 0, 4]))
    assert (loss.n_songs, loss.loss_nats_per_token) == (2, 1.0)


def test_shares_of_several_processes_add_up_to_the_loss():
    songs = Songs([np.arange(1, n) for n in (3, 9, 20, 33)], {})
    evaluator = SongEvaluator(songs, eos_id=0, context=8, batch_tokens=16)

    class Uniform(torch.nn.Linear):
        def forward(self, input_ids, use_cache):
            logits = torch.zeros(*input_ids.shape, 5)
            return type("Output", (), {"logits": torch.cat([logits, logits.repeat(1, 1, 7)], -1)})

    model = Uniform(1, 1)
    whole = evaluator.evaluate(model)
    shares = [evaluator.evaluate(model, rank, 3).nll_nats for rank in range(3)]
    assert sum(shares) == pytest.approx(whole.nll_nats)
    assert whole.n_targets.tolist() == [3, 9, 20, 33]
    assert whole.loss_nats_per_token == pytest.approx(np.log(40), rel=1e-6)
    assert whole.standard_error_nats_per_token == pytest.approx(0, abs=1e-6)


def test_standard_error_of_one_song_is_unknown():
    assert SongLoss(np.array([2.0]), np.array([4])).standard_error_nats_per_token is None
    pair = SongLoss(np.array([2.0, 6.0]), np.array([4, 4]))
    assert pair.standard_error_nats_per_token == pytest.approx(0.5)  # sd(0.5, 1.5) / sqrt(2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "data.unique_tokens=9_000",
            "unique_tokens is 9,000, but .* has 2,944 tokens in blocks of 32",
        ),
        ("data.dataset=nowhere", "data/nowhere not found.*make data MUSIC="),
        ("data.preset=bpe9", "make data MUSIC=.* DATA=configs/data/bpe9.yaml"),
        ("model.max_position_embeddings=16", "blocks of 32 tokens, but .* is 16"),
        ("budget.global_batch_tokens=8192", "92 blocks of 32 tokens in .*, but one step needs 256"),
        (
            "budget.global_batch_tokens=100",
            "expected a multiple of the block length 32; set it to 96",
        ),
        ("training.per_device_train_batch_size=3", "global batch of 8 blocks.*set it to 2"),
        ("model.num_attention_heads=3", "heads"),
        ("training.lr_scheduler_type=cosin", "cosin is not a valid"),
    ],
)
def test_impossible_run_is_one_line(override, message, place, capsys):
    assert train_tiny(*TINY, override) == 2
    captured = capsys.readouterr().err.strip()
    line = captured.splitlines()[-1]
    assert line.startswith("error: ")
    with pytest.raises(ValueError, match=message):
        raise ValueError(line)
    assert not (RUNS / "single/gpt_tiny/config.yaml").exists()


def test_vocabulary_that_does_not_fit_the_tokenizer_is_refused(place, capsys):
    stage_file = place / "data/tiny/char/6_blocks/stage.json"
    stage_file.write_text(json.dumps({**json.loads(stage_file.read_text()), "vocab_size": 65}))
    assert train_tiny(*TINY) == 2
    assert "vocabulary of 65, the tokenizer has 64" in capsys.readouterr().err


def test_accelerate_launch_trains(place):
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--cpu"]
    script = [str(PROJECT / "train.py"), str(CONFIGS / "gpt_tiny.yaml")]
    settings = [*TINY, "training.disable_tqdm=false", "training.max_steps=2"]
    done = subprocess.run(
        [*command, *script, *settings],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "validation loss" in done.stdout
    assert "make samples MODEL=runs/single/gpt_tiny" in done.stdout
    assert "496/496" in done.stderr  # the bar, in tokens
    assert read_record("gpt_tiny")["n_tokens_seen"] == 2 * 8 * 31
