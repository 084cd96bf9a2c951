import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_data import TINY, make_dataset, train_tiny

from scaling.families import FAMILIES
from training import failure
from training.run import spikes
from training.run.progress import RunLog
from training.run.run_folder import RUNS
from training.run.spikes import JudgedStep
from training.trainer import BudgetTrainer

SIZES = tuple(f"{family}_tiny" for family in FAMILIES)
RUN = RUNS / "single" / "gpt_tiny"
SETTINGS = (*TINY, "data.dataset=tiny", "training.save_steps=1", "training.eval_strategy='no'")


@pytest.fixture
def place(tmp_path, monkeypatch):
    make_dataset(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=["read at once", "read with the log"])
def reading(request, monkeypatch):
    """Both ways of the rule; the second is that of accelerators."""
    answers_later = request.param == "read with the log"
    monkeypatch.setattr(spikes, "answers_later", lambda loss: answers_later)


def spoil(monkeypatch, spoiled):
    """Multiply the losses, and so the gradients, of some steps."""
    original = BudgetTrainer.compute_loss

    def compute_loss(self, *args, **kwargs):
        loss = original(self, *args, **kwargs)
        return loss * spoiled.get(self.state.global_step + 1, 1.0)

    monkeypatch.setattr(BudgetTrainer, "compute_loss", compute_loss)


def weights(run=RUN):
    return load_file(run / "checkpoint" / "model.safetensors")


def log_lines(key):
    lines = [json.loads(line) for line in (RUN / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if key in line]


@pytest.mark.parametrize("factor", [math.nan, math.inf, 10.0])
def test_bad_step_is_skipped_and_logged(place, monkeypatch, factor, reading):
    before = {}
    original = RunLog.on_step_end

    def remember(self, args, state, control, model=None, **kwargs):
        before[state.global_step] = {k: v.clone() for k, v in model.state_dict().items()}
        original(self, args, state, control, model=model, **kwargs)

    monkeypatch.setattr(RunLog, "on_step_end", remember)
    spoil(monkeypatch, {5: factor, 9: factor})
    assert train_tiny(*SETTINGS) == 0
    for step in range(2, 13):
        is_same = all(torch.equal(w, before[step - 1][k]) for k, w in before[step].items())
        assert is_same == (step in (5, 9))
    assert [line["step"] for line in log_lines("skipped")] == [5, 9]
    assert all(math.isfinite(line["loss_nats_per_token"]) for line in log_lines("learning_rate"))
    record = json.loads((RUN / "record.json").read_text())
    assert record["n_steps_skipped"] == 2
    assert record["max_steps"] == 12
    assert not (RUN / "failure").exists()


def test_what_is_read_late_decides_the_same(place, monkeypatch):
    spoil(monkeypatch, {3: 2.0, 8: 2.0, 9: math.nan})
    settings = (*SETTINGS, "training.save_strategy='no'", "training.logging_steps=100")
    for name in ("at_once", "late"):
        monkeypatch.setattr(spikes, "answers_later", lambda loss, name=name: name == "late")
        assert train_tiny(*settings, "budget.spike_factor=1.3", f"name={name}") == 0
    (at_once, late) = (RUN.with_name(name) for name in ("at_once", "late"))
    assert weights(at_once).keys() == weights(late).keys()
    assert all(torch.equal(weights(late)[key], w) for key, w in weights(at_once).items())
    skipped = [json.loads(line) for line in (late / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in skipped if "skipped" in line] == [3, 8, 9]


def test_three_bad_steps_that_are_read_late_were_the_last(place, monkeypatch, capsys):
    spoil(monkeypatch, {4: math.nan, 5: math.inf, 6: math.nan, 8: math.nan})
    monkeypatch.setattr(spikes, "answers_later", lambda loss: True)
    after_third = []
    original = RunLog.on_step_end

    def remember(self, args, state, control, model=None, **kwargs):
        if state.global_step >= 3:
            after_third.append({k: v.clone() for k, v in model.state_dict().items()})
        original(self, args, state, control, model=model, **kwargs)

    monkeypatch.setattr(RunLog, "on_step_end", remember)
    assert train_tiny(*SETTINGS, "training.save_strategy='no'", "training.logging_steps=100") == 2
    assert "3 steps in a row, up to step 6, had to be skipped" in capsys.readouterr().err
    assert len(after_third) == 10  # all were computed, up to the end of the run
    assert all(torch.equal(w, after_third[0][k]) for of in after_third for k, w in of.items())


def test_gradient_that_is_no_number_is_skipped(place, monkeypatch):
    original = BudgetTrainer._clip_grad_norm

    def clip(self, model):
        if self.state.global_step == 6:
            next(model.parameters()).grad[0, 0] = math.nan
        return original(self, model)

    monkeypatch.setattr(BudgetTrainer, "_clip_grad_norm", clip)
    assert train_tiny(*SETTINGS) == 0
    assert [line["skipped"] for line in log_lines("skipped")] == ["gradient norm nan"]
    assert all(w.isfinite().all() for w in weights().values())


def test_resumed_run_skips_the_same_steps(place, monkeypatch, reading):
    spoil(monkeypatch, {3: 2.0, 8: 2.0, 9: math.nan})
    settings = (*SETTINGS, "budget.spike_factor=1.3")
    assert train_tiny(*settings) == 0
    expected = weights()
    skipped = log_lines("skipped")
    assert {3, 8, 9} <= {line["step"] for line in skipped}
    for step in (4, 8):
        name = f"again{step}"
        original = RunLog.on_step_end

        def die(self, args, state, control, step=step, original=original, **kwargs):
            original(self, args, state, control, **kwargs)
            if state.global_step == step:
                raise RuntimeError("power cut")

        with monkeypatch.context() as patch:
            patch.setattr(RunLog, "on_step_end", die)
            with pytest.raises(RuntimeError, match="power cut"):
                train_tiny(*settings, f"name={name}")
        assert train_tiny(*settings, f"name={name}") == 0
        again = RUN.with_name(name)
        assert all(torch.equal(expected[key], w) for key, w in weights(again).items())
        record = json.loads((again / "record.json").read_text())
        assert record["n_steps_skipped"] == len(skipped)


def test_third_bad_step_in_a_row_ends_the_run_with_the_last_checkpoint_whole(
    place, monkeypatch, capsys, reading
):
    spoil(monkeypatch, {4: math.nan, 6: math.nan, 7: 10.0, 8: math.inf})
    assert train_tiny(*SETTINGS) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: 3 steps in a row, up to step 8, had to be skipped (loss ")
    assert error.count("\n") == 1
    assert "lower training.learning_rate" in error
    facts = json.loads((RUN / "failure" / "failure.json").read_text())
    assert [step["step"] for step in facts["steps"]] == [6, 7, 8]
    blocks = np.load(place / "data/tiny/char/6_blocks/train.npy")
    batches = np.load(RUN / "failure" / "batches.npy")
    for step, batch in zip(facts["steps"], batches, strict=True):
        assert (blocks[step["blocks"]] == batch).all()
    saved = load_file(RUN / "failure" / "model.safetensors")
    assert all(w.isfinite().all() for w in saved.values())
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert train_tiny(*SETTINGS) == 0  # resumes from the checkpoint at step 7
    assert failure.main([str(RUN / "failure")]) == 1  # what was spoiled from outside is not in it
    assert "not reproduced" in capsys.readouterr().out


@pytest.mark.parametrize("family", SIZES)
def test_bundle_of_a_diverged_run_reproduces_it(place, capsys, family):
    settings = (
        "training.learning_rate=1000.0",
        "training.warmup_steps=0",
        "budget.spike_factor=2.0",
    )
    assert train_tiny(*SETTINGS, *settings, config=family) == 2
    capsys.readouterr()
    bundle = RUN.with_name(family) / "failure"
    assert failure.main([str(bundle)]) == 0
    assert "reproduced" in capsys.readouterr().out
    for then, now in failure.replay(bundle):
        assert now.loss_nats_per_token == pytest.approx(then.loss_nats_per_token, rel=1e-3)


def test_weights_that_are_no_number_are_never_saved(place, monkeypatch, capsys):
    original = RunLog.on_step_end

    def overflow(self, args, state, control, model=None, **kwargs):
        original(self, args, state, control, model=model, **kwargs)
        if state.global_step == 5:
            with torch.no_grad():
                next(model.parameters())[0, 0] = math.inf

    monkeypatch.setattr(RunLog, "on_step_end", overflow)
    assert train_tiny(*SETTINGS) == 2
    assert "is not finite after step 5" in capsys.readouterr().err
    steps = sorted(int(p.name.split("-")[1]) for p in (RUN / "checkpoints").glob("checkpoint-*"))
    assert steps == [3, 4]


def test_folder_that_is_no_bundle_is_one_line(tmp_path, capsys):
    assert failure.main([str(tmp_path)]) == 2
    assert "is not the bundle of a failed run" in capsys.readouterr().err


def test_limit_is_what_decides():
    assert not JudgedStep(1, 2.0, 1.0, None).is_bad
    assert not JudgedStep(1, 2.0, 1.0, 2.0).is_bad
    assert JudgedStep(1, 2.1, 1.0, 2.0).is_bad
    assert JudgedStep(1, 2.0, math.inf, None).is_bad
