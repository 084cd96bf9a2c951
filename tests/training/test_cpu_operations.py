"""What training on a CPU uses in place of the library's operations gives the same."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama import modeling_llama

import modeling  # noqa: F401  (registers our own families)
from scaling.families import FAMILIES
from training.cpu_operations import ATTENTION, quick_operations

LIBRARY_S = (modeling_llama.LlamaRMSNorm.forward, modeling_llama.apply_rotary_pos_emb)
IDS = torch.randint(0, 50, (3, 24), generator=torch.Generator().manual_seed(1))


def gradients(model: torch.nn.Module, in_bf16: bool) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=in_bf16):
        loss = model(input_ids=IDS, labels=IDS, use_cache=False).loss
    model.zero_grad()
    loss.backward()
    return torch.cat([loss[None], *(weights.grad.flatten() for weights in model.parameters())])


@pytest.mark.parametrize("name", FAMILIES)
def test_losses_and_gradients_are_those_of_the_library(name):
    torch.manual_seed(1)
    shape = {"model_type": FAMILIES[name].model_type, "hidden_size": 32, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2} if FAMILIES[name].context == "attention" else {}
    shape = FAMILIES[name].config_keys(shape) | {"vocab_size": 50}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape)).train()
    plain, plain_bf16 = gradients(model, False), gradients(model, True)
    with quick_operations(model):
        torch.testing.assert_close(gradients(model, False), plain)
        quick_bf16 = gradients(model, True)
        is_replaced = model.config._attn_implementation == ATTENTION
        assert is_replaced == (FAMILIES[name].context == "attention")
    # no further from fp32 than the library's bf16
    error, of_library = ((each - plain).norm() for each in (quick_bf16, plain_bf16))
    assert error <= 1.05 * of_library
    assert torch.equal(gradients(model, False), plain)
    assert (modeling_llama.LlamaRMSNorm.forward, modeling_llama.apply_rotary_pos_emb) == LIBRARY_S


def test_a_compiled_model_keeps_the_operations_that_the_compiler_knows():
    config = AutoConfig.for_model(
        "llama", hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    model = AutoModelForCausalLM.from_config(config)
    with quick_operations(model, is_compiled=True):
        assert model.config._attn_implementation == "sdpa"
        assert modeling_llama.LlamaRMSNorm.forward is LIBRARY_S[0]
