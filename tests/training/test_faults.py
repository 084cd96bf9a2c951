"""kill -9, damaged checkpoints, full disks: a run that is repeated comes to the same weights."""

import contextlib
import ctypes
import io
import json
import logging
import multiprocessing
import os
import shutil
import sys
from pathlib import Path

import pytest
from training_data import TINY, make_dataset, train_tiny
from training_kills import Task
from warm_processes import forkserver

from benchmarks.kill_training import run_campaign
from scaling.families import FAMILIES
from training import trainer
from training.run import checkpoints
from training.run.checkpoints import newest_checkpoint, write_manifest
from training.run.progress import RunLog
from training.run.run_folder import RUNS

STEP = 256  # tokens
SETTINGS = (
    *(text for text in TINY if not text.startswith("training.max_steps")),
    *("data.dataset=tiny", "model.num_hidden_layers=2", "model.dropout=0.1"),
    *("training.lr_scheduler_type=warmup_stable_decay", "budget.decay_share=0.25"),
    "training.lr_scheduler_kwargs={decay_type: 1-sqrt}",
    *("training.warmup_steps=1", f"budget.tokens={8 * STEP}", "training.save_steps=2"),
    *("training.logging_steps=2", "training.eval_strategy='no'"),
)
BRANCHES = f"budget.branches=[{4 * STEP}]"  # it leaves after step 3
BRANCH = "run_t1024"
SHARED_CODE = (
    "arguments_abc.py",
    "decoding_abc.py",
    "decoding_abc_cache.py",
    "decoding_abc_loop.py",
    "saving_abc.py",
)
OWN_CODE = ("modeling_abc_{}.py", "configuration_abc_{}.py", "decoding_abc_{}.py")
FILES = (
    *OWN_CODE,
    *SHARED_CODE,
    *("config.json", "generation_config.json", "manifest.json", "model.safetensors"),
    *("optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json", "training_args.bin"),
)
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_PRIVATE_EVERYWHERE = 0x4000 | (1 << 18)


def files_of(family, names=FILES):
    """Those of names that a checkpoint of the family holds: a stock class brings no code."""
    kept = [n for n in names if not FAMILIES[family].is_stock or not n.endswith(".py")]
    if family == "lstm" and names is FILES:
        kept.append("layer_abc_lstm.py")
    return [name.format(family) for name in kept]


def cut_in_half(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = (cut_in_half, empty, flip_a_bit, Path.unlink)


def fail_at(monkeypatch, max_steps, step):
    """Break off the run of that many steps at the end of a step."""
    original = RunLog.on_step_end

    def on_step_end(self, args, state, control, **kwargs):
        original(self, args, state, control, **kwargs)
        if (state.max_steps, state.global_step) == (max_steps, step):
            raise RuntimeError("power cut")

    monkeypatch.setattr(RunLog, "on_step_end", on_step_end)


def train(family, *overrides):
    return train_tiny(*SETTINGS, "name=run", *overrides, config=f"{family}_tiny")


def weights(run="run"):
    return (RUNS / "single" / run / "checkpoint" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module", params=FAMILIES)
def broken(request, tmp_path_factory):
    """Family, its final weights, and runs interrupted at step 7, with checkpoints at 4 and 6."""
    place = tmp_path_factory.mktemp("broken")
    make_dataset(place / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert train(request.param) == 0
        expected = weights()
        shutil.rmtree(RUNS)
        fail_at(patch, 8, 7)
        with pytest.raises(RuntimeError, match="power cut"):
            train(request.param)
    return request.param, expected, place


@pytest.fixture
def again(broken, tmp_path, monkeypatch, caplog):
    """A copy of an interrupted run; returns family, final weights and the newest checkpoint."""
    family, expected, place = broken
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    return family, expected, RUNS / "single" / "run" / "checkpoints" / "checkpoint-6"


def warnings_of(caplog):
    return [r.getMessage() for r in caplog.records if "is not intact" in r.getMessage()]


def started_from(caplog):
    lines = [line for line in caplog.messages if line.startswith("resuming from")]
    return [line.rpartition("/")[2] for line in lines]


@pytest.mark.skipif(sys.platform != "linux", reason="forkserver")
@pytest.mark.parametrize("family", FAMILIES)
def test_killed_processes_come_to_the_same_weights(family, tmp_path):
    """Killed at a random moment and inside a save; `make kill-training` is the longer trial."""
    task = Task(family, 48, tmp_path)
    outcome = run_campaign(task, int(os.environ.get("KILLS", "2")), 3, forkserver())
    assert outcome.clean.keys() == {"trunk", "trunk_t6144", "trunk_t9216"}
    assert not outcome.differences
    assert any(kill.in_save for kill in outcome.kills)


def test_all_files_of_a_checkpoint_are_tried(again):
    family, _, newest = again
    assert {path.name for path in newest.iterdir()} == set(files_of(family))


@pytest.mark.parametrize("name", [name for name in FILES if name not in SHARED_CODE])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_checkpoint_is_named_and_the_one_before_taken(again, caplog, name, damage):
    family, expected, newest = again
    if not files_of(family, [name]):
        pytest.skip("a stock class brings no code")
    name = name.format(family)
    damage(newest / name)
    assert train(family) == 0
    (warning,) = warnings_of(caplog)
    assert f"{newest} is not intact (" in warning
    assert name in warning
    assert started_from(caplog) == ["checkpoint-4"]
    assert weights() == expected


def test_flipped_bit_of_the_manifest_is_found_or_changes_nothing(again, caplog):
    _, _, newest = again
    manifest = newest / "manifest.json"
    content = manifest.read_bytes()
    kept = newest.with_name("kept")
    newest.rename(kept)
    for place in range(0, 8 * len(content), 61):
        shutil.copytree(kept, newest, copy_function=os.link)
        manifest.unlink()
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        manifest.write_bytes(flipped)
        if newest_checkpoint(newest.parent) == newest:  # the last digit of a number of seconds
            assert json.loads(flipped) == json.loads(content)
            shutil.rmtree(newest)
    assert len(warnings_of(caplog)) > 100


def test_fresh_optimizer_would_give_other_weights(again, monkeypatch):
    """What the tests of damage would see if a checkpoint without optimizer.pt were taken."""
    family, expected, newest = again
    for name in ("optimizer.pt", "scheduler.pt"):
        (newest / name).unlink()
    monkeypatch.setattr("training.run.checkpoints.NEEDED", ())
    write_manifest(newest, train_seconds=0.0, train_cpu_seconds=0.0, trunk_seconds=0.0)
    assert train(family) == 0
    assert weights() != expected


def test_manifest_that_lists_no_optimizer_is_not_believed(again, caplog):
    family, expected, newest = again
    (newest / "optimizer.pt").unlink()
    write_manifest(newest, train_seconds=0.0, train_cpu_seconds=0.0, trunk_seconds=0.0)
    assert train(family) == 0
    assert ["no optimizer.pt" in warning for warning in warnings_of(caplog)] == [True]
    assert weights() == expected


def test_checkpoints_of_weights_alone_are_not_gone_on_from(again, monkeypatch, caplog):
    family, _, _ = again
    shutil.rmtree(RUNS)
    settings = ("training.save_only_model=true", "name=run")
    with monkeypatch.context() as patch:
        fail_at(patch, 8, 7)
        with pytest.raises(RuntimeError, match="power cut"):
            train(family, *settings)
    assert train(family, *settings) == 0
    assert started_from(caplog) == []
    assert all("no optimizer.pt" in warning for warning in warnings_of(caplog))


def test_without_a_whole_checkpoint_the_run_begins_anew(again, caplog):
    family, expected, newest = again
    flip_a_bit(newest / "optimizer.pt")
    empty(newest.with_name("checkpoint-4") / "model.safetensors")
    assert train(family) == 0
    assert len(warnings_of(caplog)) == 2
    assert started_from(caplog) == []
    assert weights() == expected


@pytest.mark.parametrize("left", [(), ("model.safetensors",), FILES])
def test_leftover_of_a_broken_off_save_is_passed_over(again, caplog, left):
    family, expected, newest = again
    partial = newest.with_name("checkpoint-7")
    partial.mkdir()
    for name in files_of(family, left):
        shutil.copy(newest / name, partial)
    if "manifest.json" in left:  # written, but not yet moved into its place
        (partial / "manifest.json").rename(partial / ".manifest.json.1")
    assert train(family) == 0
    assert len(warnings_of(caplog)) == 1
    assert started_from(caplog) == ["checkpoint-6"]
    assert weights() == expected


@pytest.mark.parametrize("name", ["optimizer.pt", "model.safetensors", "manifest.json"])
def test_branch_with_a_damaged_start_is_trained_alone(again, monkeypatch, caplog, name):
    family, expected, _ = again
    shutil.rmtree(RUNS)
    assert train(family, f"budget.tokens={4 * STEP}", "name=alone") == 0
    with monkeypatch.context() as patch:
        fail_at(patch, 4, 4)
        with pytest.raises(RuntimeError, match="power cut"):
            train(family, BRANCHES)
    assert weights() == expected
    flip_a_bit(RUNS / "single/run/branch_points/checkpoint-3" / name)
    shutil.rmtree(RUNS / "single" / BRANCH / "checkpoints", ignore_errors=True)
    caplog.clear()
    assert train(family, BRANCHES) == 0
    (warning,) = warnings_of(caplog)
    assert f"branch_points/checkpoint-3 is not intact (damaged {name})" in warning
    assert weights(BRANCH) == weights("alone")


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system of its own")
def test_full_disk_keeps_the_checkpoint_before_and_the_run_goes_on_with_more_room(broken):
    family, expected, place = broken
    reader, writer = multiprocessing.Pipe(duplex=False)
    process = forkserver().Process(target=train_on_full_disks, args=(family, place, writer))
    process.start()
    writer.close()
    outcomes = reader.recv()
    process.join()
    if isinstance(outcomes, str):
        pytest.skip(outcomes)
    for code, error, whole, reached, final in outcomes:
        assert code == 2
        assert error.startswith("error: [Errno 28] the disk is full; free some space and repeat")
        assert error.count("\n") == 1
        assert all(whole)
        assert final == expected
        assert reached
    # the disk was full in each of the large files, with a checkpoint before
    ends = [reached for _, _, whole, reached, _ in outcomes if whole]
    assert any("optimizer.pt" not in reached for reached in ends)
    assert any("optimizer.pt" in reached and "scheduler.pt" not in reached for reached in ends)


def train_on_full_disks(family, place, pipe):
    """In a process of its own: fill a file system of 64 MB, train, make room, train again.

    Sends, for each size of what is left free: exit code, error, which of the checkpoints left are
    whole, the files of the save that failed, and the weights that the repeated command comes to.
    """
    os.chdir(place)
    try:
        mount(RUNS)
    except OSError as err:
        pipe.send(f"no file system can be mounted here: {err}")
        return
    reached = []
    remove = trainer.remove_partial
    trainer.remove_partial = lambda folder: (reached.append(os.listdir(folder)), remove(folder))
    outcomes = []
    for free in range(150_000, 400_000, 40_000):
        reached.clear()
        ballast = RUNS / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(RUNS).free - free))
        error = io.StringIO()
        with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
            code = train(family)
        left = list(RUNS.glob("single/run/checkpoints/checkpoint-*"))
        whole = [checkpoints._fault(checkpoint) is None for checkpoint in left]
        ballast.unlink()
        with contextlib.redirect_stdout(io.StringIO()):
            assert train(family) == 0
        names = [name for folder in reached for name in folder]
        outcomes.append((code, error.getvalue(), whole, names, weights()))
        shutil.rmtree(RUNS / "single")
    pipe.send(outcomes)


def mount(folder):
    """Mount 64 MB of memory at a folder, seen by this process alone.

    Raises:
        OSError: If that is not allowed here.
    """
    folder.mkdir(exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    is_root = os.geteuid() == 0
    user = f"0 {os.geteuid()} 1"
    if libc.unshare(CLONE_NEWNS if is_root else CLONE_NEWNS | CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    if not is_root:
        Path("/proc/self/uid_map").write_text(user)
    for source, target, kind, flags, options in (
        (b"none", b"/", None, MS_PRIVATE_EVERYWHERE, None),
        (b"tmpfs", os.fsencode(folder), b"tmpfs", 0, b"size=64m"),
    ):
        if libc.mount(source, target, kind, ctypes.c_ulong(flags), options):
            raise OSError(ctypes.get_errno(), "mount")
