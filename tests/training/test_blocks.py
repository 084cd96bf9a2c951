import numpy as np
import pytest
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from training_data import CONFIGS, TINY

from training.arguments import training_arguments
from training.budget import RunPlan
from training.config import load_config
from training.data.blocks import BlockOrder, Songs
from training.data.validation import SongEvaluator
from training.run.progress import StopOnSignal, Stopwatch
from training.run.run_folder import RunFolder
from training.run.spikes import SpikeRule
from training.trainer import BudgetTrainer

N_BLOCKS, BLOCK_LENGTH, BATCH, SEED = 22, 4, 8, 3
# 8 batches over 22 blocks: the third and the sixth lie in two epochs, the budget ends in the third
PLAN = RunPlan(max_steps=8, sequences_per_step=BATCH, block_length=BLOCK_LENGTH)


@pytest.fixture
def blocks(tmp_path):
    """Blocks on disk, opened as training opens them; each row is filled with its number."""
    rows = np.arange(N_BLOCKS, dtype=np.uint16)[:, None].repeat(BLOCK_LENGTH, axis=1)
    np.save(tmp_path / "train.npy", rows)
    return np.load(tmp_path / "train.npy", mmap_mode="r")


@pytest.fixture
def loader(blocks, tmp_path):
    """The loader that the Trainer of a run makes; its model is never called."""
    config = load_config(CONFIGS / "gpt_tiny.yaml", [*TINY, "training.use_cpu=true"])
    stop = StopOnSignal()
    trainer = BudgetTrainer(
        SongEvaluator(Songs([], {}), 0, BLOCK_LENGTH, BLOCK_LENGTH),
        Stopwatch(),
        stop,
        SpikeRule(None, on_skip=print, on_stop=repr),
        model=torch.nn.Linear(1, 1),
        args=training_arguments(RunFolder(tmp_path / "run", config), PLAN),
        train_dataset=BlockOrder(blocks, PLAN, SEED),
        callbacks=[stop],
    )
    return trainer.get_train_dataloader()


def expected_rows():
    """The order as it is defined: one permutation an epoch, drawn from seed and epoch."""
    n_epochs = -(-PLAN.n_sequences // N_BLOCKS)
    epochs = [np.random.default_rng([SEED, e]).permutation(N_BLOCKS) for e in range(n_epochs)]
    return np.concatenate(epochs)[: PLAN.n_sequences].reshape(PLAN.max_steps, BATCH)


def rows_of(batches):
    """The first token of each sequence, which is the number of its row."""
    return [batch["input_ids"][:, 0].tolist() for batch in batches]


@pytest.mark.parametrize(
    "positions",
    [
        range(8),
        list(range(16, 24)),  # the end of an epoch and the start of the next
        [45, 3, 30, 3],  # three epochs, not in order
        range(0, 64),
        [63],
    ],
)
def test_positions_give_the_rows_of_their_epochs(blocks, positions):
    flat = expected_rows().ravel()
    assert BlockOrder(blocks, PLAN, SEED).rows(positions).tolist() == flat[positions].tolist()


def test_blocks_that_follow_each_other_may_be_read_in_a_row(blocks):
    rows = BlockOrder(blocks, PLAN, SEED, consecutive=4).rows(range(N_BLOCKS))
    whole = N_BLOCKS - N_BLOCKS % 4
    assert sorted(rows) == list(range(N_BLOCKS))
    groups = rows[:whole].reshape(-1, 4)
    assert (groups == groups[:, :1] + np.arange(4)).all()
    assert (groups[:, 0] % 4 == 0).all()
    assert groups[:, 0].tolist() != sorted(groups[:, 0])


def test_trainer_reads_the_blocks_in_their_order(loader):
    batches = list(loader)
    assert rows_of(batches) == expected_rows().tolist()
    for batch in batches:
        assert batch["input_ids"].dtype == torch.int64
        assert batch["input_ids"].shape == (BATCH, BLOCK_LENGTH)
        assert torch.equal(batch["input_ids"], batch["labels"])


def test_batches_of_two_processes_are_those_of_one_in_turn(loader):
    shares = [
        rows_of(prepare_data_loader(loader.base_dataloader, num_processes=2, process_index=rank))
        for rank in range(2)
    ]
    in_turn = [batch for step in zip(*shares, strict=True) for batch in step]
    assert in_turn == expected_rows().tolist()


def test_resumed_run_does_not_read_what_it_skips(loader):
    rest = skip_first_batches(loader, 6)
    assert rows_of(rest) == expected_rows()[6:].tolist()
    # only what a row is asked of is drawn: nothing was asked of the first two epochs
    assert set(loader.dataset._permutations) == {2}


def test_batch_is_a_copy_that_may_be_written_to(blocks):
    order = BlockOrder(blocks, PLAN, SEED)
    order.__getitems__(range(8))["input_ids"].fill_(0)
    assert rows_of([order.__getitems__(range(8))]) == expected_rows()[:1].tolist()
