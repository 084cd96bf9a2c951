import re
from pathlib import Path

import pytest
import torch
import transformers
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from test_decoding import GREEDY, build, generate, tokens
from transformers import ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching.input_outputs import PagedAttentionArgs

from modeling.arguments_abc import ATTENTION_ARGUMENTS, CACHE, TRIED_TRANSFORMERS

ROOT = Path(__file__).parents[2]
FAMILIES = ("gpt", "lstm")  # of our own code


@pytest.mark.parametrize("name", ["past_key_values", "cache"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_cache_is_taken_by_either_name(family, name):
    model, ids = build(family), tokens(2, 9)
    whole = model(ids)
    first = model(ids[:, :5], use_cache=True)
    rest = model(ids[:, 5:], **{name: first[1]})
    torch.testing.assert_close(rest.logits, whole.logits[:, 5:])
    assert getattr(rest, CACHE).get_seq_length() == 9
    base = model.model(ids[:, :5], use_cache=True)
    last = model.model(ids[:, 5:], **{name: base[1]}).last_hidden_state
    torch.testing.assert_close(last, model.model(ids).last_hidden_state[:, 5:])
    with pytest.raises(ValueError, match="two names of one argument"):
        model(ids, past_key_values=first[1], cache=first[1])


@pytest.mark.parametrize("name", ["cache_position", "past", "cache_params", "memory_positions"])
@pytest.mark.parametrize("family", FAMILIES)
def test_unknown_arguments_are_refused_by_the_name_of_the_release(family, name):
    model, ids = build(family), tokens(2, 6)
    expected = f"{name}, which it does not know; transformers {transformers.__version__} is "
    for forward in (model, model.model):
        with pytest.raises(ValueError, match=f"{re.escape(expected)}.* to .* were tried"):
            forward(ids, **{name: torch.arange(6)})
    assert torch.equal(model(ids, **{name: None}).logits, model(ids).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_release_with_another_name_for_the_cache_is_an_error_and_no_noise(family, monkeypatch):
    model, ids = build(family), tokens(1, 6)
    plain = model.prepare_inputs_for_generation

    def renamed(*args, **kwargs):
        inputs = plain(*args, **kwargs)
        return {{CACHE: "memory"}.get(name, name): value for name, value in inputs.items()}

    monkeypatch.setattr(model, "prepare_inputs_for_generation", renamed)
    with pytest.raises(ValueError, match="memory, which it does not know"):
        generate(model, input_ids=ids, max_new_tokens=3, **GREEDY)


def test_arguments_of_the_attention_are_those_of_paged_batches():
    own = {"input_ids", "attention_mask", "position_ids", "cache", "use_cache"}
    library = transformers.utils.TransformersKwargs.__annotations__.keys()
    assert PagedAttentionArgs.__annotations__.keys() - own - library == (
        ATTENTION_ARGUMENTS - {"kernel_options"}
    )


@pytest.mark.slow
def test_paged_batches_are_what_each_prompt_gives():
    model, prompts = build("gpt"), [tokens(1, length, length)[0].tolist() for length in (9, 4)]
    ends = {"do_sample": False, "eos_token_id": -1, "pad_token_id": 0}
    outputs = model.generate_batch(
        prompts,
        generation_config=GenerationConfig(max_new_tokens=8, **ends),
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=32, num_blocks=8, max_batch_tokens=32
        ),
        warmup=False,
    )
    for output, prompt in zip(outputs.values(), prompts, strict=True):
        alone = generate(model, input_ids=torch.tensor([prompt]), max_new_tokens=8, **GREEDY)
        assert output.generated_tokens == alone[0, len(prompt) :].tolist()


def test_the_range_tried_is_that_of_the_project():
    lowest, newest = map(Version, TRIED_TRANSFORMERS)
    declared = transformers_of(
        (ROOT / "pyproject.toml").read_text("utf-8"), r'"(transformers[^"]*)"'
    )
    assert f">={lowest.major}.{lowest.minor}" in str(declared.specifier)
    assert {lowest, newest} <= set(declared.specifier.filter([lowest, newest]))
    pinned = transformers_of(
        (ROOT / "constraints.txt").read_text("utf-8"), "(?m)^(transformers==.*)$"
    )
    assert lowest <= Version(str(pinned.specifier).removeprefix("==")) <= newest


def transformers_of(text, pattern):
    return Requirement(re.search(pattern, text)[1])


def test_the_workflow_runs_targets_that_exist():
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text("utf-8"))
    targets = workflow["jobs"]["tests"]["strategy"]["matrix"]["target"]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert all(f"\n{target}: " in makefile for target in targets)
