"""Muon steps the matrices of hidden layers, AdamW everything else."""

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import modeling  # noqa: F401  (registers our own families)
from scaling.families import FAMILIES
from training.muon import MuonFactory

IDS = torch.randint(0, 50, (3, 24), generator=torch.Generator().manual_seed(1))
SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-8}
LEAST_STEP, MOST_STEP = 0.5, 1.3  # of the singular values of Muon's step, of which 1 is meant


def small_model(name):
    torch.manual_seed(1)
    shape = {"model_type": FAMILIES[name].model_type, "hidden_size": 32, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2} if FAMILIES[name].context == "attention" else {}
    config = AutoConfig.for_model(**FAMILIES[name].config_keys(shape) | {"vocab_size": 50})
    return AutoModelForCausalLM.from_config(config).train()


def stepped(model, optimizer):
    """What a step adds to each weight, by name."""
    before = {name: weights.detach().clone() for name, weights in model.named_parameters()}
    model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
    optimizer.step()
    return {name: w.detach() - before[name] for name, w in model.named_parameters()}


@pytest.mark.parametrize("name", FAMILIES)
def test_hidden_matrices_take_orthogonal_steps_and_the_rest_those_of_adamw(name):
    model, twin = small_model(name), small_model(name)
    by_muon = stepped(model, MuonFactory()(model, weight_decay=0.0, **SETTINGS))
    by_adamw = stepped(twin, torch.optim.AdamW(twin.parameters(), weight_decay=0.0, **SETTINGS))
    tables = {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Embedding)
        for name, _ in module.named_parameters()
    }
    matrices = {n for n, step in by_muon.items() if step.ndim == 2} - tables
    assert tables
    assert matrices
    for each, step in by_muon.items():
        if each in matrices:
            scale = SETTINGS["lr"] * 0.2 * max(step.shape) ** 0.5
            singular = torch.linalg.svdvals(step) / scale
            assert singular.max() < MOST_STEP
            assert singular.median() > LEAST_STEP
        else:
            torch.testing.assert_close(step, by_adamw[each])


def test_vectors_are_not_decayed():
    model = small_model("gpt")
    optimizer = MuonFactory()(model, weight_decay=0.1, **SETTINGS)
    decays = [
        (w.ndim, group["weight_decay"]) for group in optimizer.param_groups for w in group["params"]
    ]
    assert set(decays) == {(2, 0.1), (1, 0.0)}
    assert len(decays) == sum(1 for _ in model.parameters())


def test_a_restored_optimizer_goes_on_as_the_first_would_have():
    model = small_model("gpt")
    optimizer = MuonFactory()(model, weight_decay=0.1, **SETTINGS)
    stepped(model, optimizer)
    twin = small_model("gpt")
    twin.load_state_dict(model.state_dict())
    restored = MuonFactory()(twin, weight_decay=0.1, **SETTINGS)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    model.zero_grad()
    first, second = stepped(model, optimizer), stepped(twin, restored)
    assert all(torch.equal(first[name], second[name]) for name in first)
