"""Two processes that train one model, on gloo: same blocks, losses and weights, killed or not."""

import hashlib
import json
import multiprocessing
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

import pytest
import torch
from training_data import CONFIGS, PROJECT, TINY, make_dataset, train_tiny
from transformers import AutoModelForCausalLM
from warm_processes import forkserver

from scaling.families import FAMILIES
from training.config import load_config
from training.data.blocks import load_blocks
from training.data.validation import SongEvaluator
from training.run.progress import RunLog
from training.run.run_folder import RUNS
from training.trainer import BudgetTrainer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forkserver")

STEP = 256  # tokens
SETTINGS = (
    *(text for text in TINY if not text.startswith("training.max_steps")),
    *("data.dataset=tiny", "training.lr_scheduler_type=warmup_stable_decay"),
    *("training.lr_scheduler_kwargs={decay_type: 1-sqrt}", "budget.decay_share=0.25"),
    *("training.warmup_steps=1", f"budget.tokens={8 * STEP}", f"budget.branches=[{4 * STEP}]"),
    *("training.per_device_train_batch_size=2", "training.save_steps=2", "name=run"),
    *("training.logging_steps=2", "model.dropout=0.1", "training.use_cpu=true"),
)
RUN_NAMES = ("run", "run_t1024")
WAIT_SECONDS = 300


@pytest.fixture
def place(tmp_path, monkeypatch):
    make_dataset(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Seen:
    """What one process saw: (steps of the run, step) -> blocks read, and weights after it."""

    def __init__(self):
        self.blocks, self.weights = {}, {}

    def watch(self, patch, spoiled=None, die=None):
        """Look on; multiply the loss of a step, or end the process by SIGKILL after one."""
        watcher, on_step_end = self, RunLog.on_step_end
        training_step, compute_loss = BudgetTrainer.training_step, BudgetTrainer.compute_loss

        def see_blocks(self, model, inputs, *args, **kwargs):
            step = (self.state.max_steps, self.state.global_step + 1)
            watcher.blocks.setdefault(step, []).append(inputs["input_ids"].tolist())
            return training_step(self, model, inputs, *args, **kwargs)

        def see_weights(self, args, state, control, model=None, **kwargs):
            on_step_end(self, args, state, control, model=model, **kwargs)
            step = (state.max_steps, state.global_step)
            content = b"".join(w.numpy().tobytes() for w in model.state_dict().values())
            watcher.weights[step] = hashlib.sha256(content).hexdigest()
            if step == die:
                os.kill(os.getpid(), signal.SIGKILL)

        def spoil(self, *args, **kwargs):
            loss = compute_loss(self, *args, **kwargs)
            is_spoiled = (self.state.max_steps, self.state.global_step + 1) == spoiled
            return loss * 10 if is_spoiled else loss

        patch.setattr(BudgetTrainer, "training_step", see_blocks)
        patch.setattr(RunLog, "on_step_end", see_weights)
        patch.setattr(BudgetTrainer, "compute_loss", spoil)


def train_as_rank(rank, port, place, arguments, watch, pipe):
    """In a new process: what torchrun starts."""
    os.chdir(place)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    # workers start as in a program of its own: by forkserver each would import torch once more
    multiprocessing.set_start_method(None, force=True)
    output = os.open(f"output{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    seen = Seen()
    with pytest.MonkeyPatch.context() as patch:
        seen.watch(patch, **watch)
        sys.argv = ["train.py", *arguments]
        try:
            runpy.run_path(str(PROJECT / "train.py"), run_name="__main__")
        except SystemExit as end:
            pipe.send((end.code, seen))
    torch.distributed.destroy_process_group()


def free_port():
    """One that no other program is given by chance before it is used: those are above 32,768."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def train_in_two(place, *overrides, family="gpt", watch=({}, {})):
    """Train in two processes; returns what each saw, and None for those that did not end well."""
    port, context, pair = free_port(), forkserver(), []
    arguments = [str(CONFIGS / f"{family}_tiny.yaml"), *SETTINGS, *overrides]
    for rank in (0, 1):
        reader, writer = multiprocessing.Pipe(duplex=False)
        process = context.Process(
            target=train_as_rank, args=(rank, port, place, arguments, watch[rank], writer)
        )
        process.start()
        writer.close()
        pair.append((process, reader))
    try:
        both = [receive(reader) for _, reader in pair]
        for process, _ in pair:
            process.join(WAIT_SECONDS)
    finally:
        for process, _ in pair:
            process.kill()
    return [seen if code == 0 else None for code, seen in both]


def receive(reader):
    assert wait([reader], WAIT_SECONDS), "the process hangs"
    try:
        return reader.recv()
    except EOFError:
        return None, None


def train_in_one(monkeypatch, *overrides, family="gpt"):
    seen = Seen()
    with monkeypatch.context() as patch:
        seen.watch(patch)
        assert train_tiny(*SETTINGS, *overrides, config=f"{family}_tiny") == 0
    return seen


def weights(name):
    return (RUNS / "single" / name / "checkpoint" / "model.safetensors").read_bytes()


def read_record(name):
    return json.loads((RUNS / "single" / name / "record.json").read_text())


def loss_in_one_process(name):
    """Of the saved weights, over the whole validation split."""
    config = load_config(CONFIGS / "gpt_tiny.yaml", SETTINGS)
    data = load_blocks(config)
    model = AutoModelForCausalLM.from_pretrained(RUNS / "single" / name / "checkpoint")
    evaluator = SongEvaluator(data.validation, data.tokenizer.eos_token_id, 32, 1024)
    return evaluator.evaluate(model).loss_nats_per_token


def in_order(*processes):
    """(steps of the run, step) -> the blocks of all processes, as one alone reads them."""
    return {
        step: [block for batches in zip(*(p.blocks[step] for p in processes), strict=True)
               for batch in batches for block in batch]
        for step in processes[0].blocks
    }  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_train_as_one_does(family, place, monkeypatch):
    one = train_in_one(monkeypatch, "name=one", family=family)
    both = train_in_two(place, family=family)
    assert in_order(*both) == in_order(one)
    assert both[0].weights == both[1].weights
    for name in RUN_NAMES:
        record, alone = read_record(name), read_record(name.replace("run", "one"))
        assert (record["machine"]["n_processes"], alone["machine"]["n_processes"]) == (2, 1)
        loss = record["loss_nats_per_token"]["validation"]
        assert loss == pytest.approx(loss_in_one_process(name), abs=1e-6)
        assert record["n_tokens_seen"] == alone["n_tokens_seen"]
        assert record["validation"] == {
            **alone["validation"], "nll_nats": record["validation"]["nll_nats"]
        }  # fmt: skip


def test_order_of_blocks_does_not_depend_on_processes_workers_or_a_stop(place, monkeypatch):
    expected = in_order(train_in_one(monkeypatch, "name=one"))
    assert in_order(train_in_one(monkeypatch, "name=w", "training.dataloader_num_workers=2")) == (
        expected
    )
    assert in_order(*train_in_two(place, "training.dataloader_num_workers=2")) == expected
    die = {"die": (8, 5)}
    assert train_in_two(place, "name=killed", watch=(die, die)) == [None, None]
    rest = in_order(*train_in_two(place, "name=killed"))
    assert min(rest) == (4, 4)
    assert (8, 5) in rest
    assert all(rest[step] == expected[step] for step in rest)


@pytest.mark.parametrize(
    ("family", "deaths"),
    [
        ("gpt", ({"die": (8, 5)}, {})),
        ("gpt", ({}, {"die": (8, 7)})),
        ("gpt", ({"die": (4, 4)}, {"die": (4, 4)})),
        ("lstm", ({"die": (8, 7)}, {"die": (8, 7)})),
    ],
    ids=["main", "other", "both in a branch", "both"],
)
def test_killed_processes_come_to_the_same_weights(family, deaths, place):
    assert None not in train_in_two(place, "name=whole", family=family)
    broken = train_in_two(place, family=family, watch=deaths)
    assert broken == [None, None]
    assert None not in train_in_two(place, family=family)
    for name in RUN_NAMES:
        assert weights(name) == weights(name.replace("run", "whole"))


def test_damaged_checkpoint_is_passed_over_by_both_with_one_warning(place):
    assert None not in train_in_two(place, "name=whole")
    die = {"die": (8, 7)}
    assert train_in_two(place, watch=(die, die)) == [None, None]
    victim = RUNS / "single" / "run" / "checkpoints" / "checkpoint-6" / "optimizer.pt"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    assert None not in train_in_two(place)
    output = (place / "output0.txt").read_text() + (place / "output1.txt").read_text()
    assert output.count("is not intact (damaged optimizer.pt)") == 1
    assert output.count("resuming from runs/single/run/checkpoints/checkpoint-4") == 2
    assert all(weights(name) == weights(name.replace("run", "whole")) for name in RUN_NAMES)


def test_step_spoiled_in_one_process_is_skipped_by_both(place):
    both = train_in_two(place, "training.logging_steps=1", watch=({}, {"spoiled": (8, 5)}))
    assert both[0].weights == both[1].weights
    is_same = {s: both[0].weights[8, s] == both[0].weights[8, s - 1] for s in range(2, 9)}
    assert [step for step, same in is_same.items() if same] == [5]
    log = (RUNS / "single" / "run" / "log.jsonl").read_text().splitlines()
    assert [line["step"] for line in map(json.loads, log) if "skipped" in line] == [5]
    assert read_record("run")["n_steps_skipped"] == 1


def test_torchrun_starts_two_processes(place):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = ["--nproc_per_node", "2", str(PROJECT / "train.py"), str(CONFIGS / "gpt_tiny.yaml")]
    done = subprocess.run(
        [*launcher, *script, *SETTINGS, "name=launched", "budget.branches=[]"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation loss") == 1  # one process writes
    assert read_record("launched")["machine"]["n_processes"] == 2
    assert None not in train_in_two(Path.cwd(), "budget.branches=[]")
    assert weights("launched") == weights("run")
