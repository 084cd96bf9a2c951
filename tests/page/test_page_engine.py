"""The page's engine beside transformers, with the same rounded weights in single precision."""

import json

import pytest
import torch
from node_page import compile_kernels, needs_node, run_node
from transformers import AutoConfig, AutoModelForCausalLM

import modeling  # noqa: F401  (registers our own families)
from model_cards.page_files import write_weights
from scaling.families import FAMILIES

N_TOKENS = 500
SHAPES = {  # widths and heads that are no multiples of four, too; char and note vocabularies
    "gpt char": ("gpt", 61, {"hidden_size": 40, "num_attention_heads": 4}),
    "gpt note": ("gpt", 403, {"hidden_size": 36, "num_attention_heads": 6}),
    "llama char": ("llama", 61, {"hidden_size": 40, "num_attention_heads": 4}),
    "llama note": ("llama", 403, {"hidden_size": 36, "num_attention_heads": 6}),
    "lstm char": ("lstm", 61, {"hidden_size": 30}),
    "lstm note": ("lstm", 403, {"hidden_size": 37}),
}


def model_of(family, vocab_size, shape):
    settings = {"model_type": FAMILIES[family].model_type, "num_hidden_layers": 2, **shape}
    if FAMILIES[family].context == "attention":
        settings["max_position_embeddings"] = 512
    config = FAMILIES[family].config_keys(settings) | {"initializer_range": 0.3}
    torch.manual_seed(1)
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 2}
    made = AutoConfig.for_model(**config, **ids, vocab_size=vocab_size)
    model = AutoModelForCausalLM.from_config(made).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half().float())
    return model


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    file = tmp_path_factory.mktemp("kernels") / "kernels.wasm"
    compile_kernels(file)
    return file


@needs_node
def test_greedy_tokens_equal_those_of_transformers_with_and_without_simd(tmp_path, kernels):
    folders, expected = [], []
    for name, case in SHAPES.items():
        model = model_of(*case)
        folder = tmp_path / name
        model.save_pretrained(folder)
        write_weights(folder, folder, model.config.to_dict())
        folders.append(folder)
        options = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        ids = model.generate(torch.tensor([[2]]), max_new_tokens=N_TOKENS, **options)
        expected.append(ids[0].tolist())
    found = json.loads(run_node("tests/greedy.mjs", kernels, N_TOKENS, *folders))
    for name, ids, case in zip(SHAPES, expected, found, strict=True):
        assert len(set(ids)) > 3, name
        assert case["ids"] == ids, name
        assert case["plainIds"] == ids, name
        assert (case["isPlainSame"], case["areRunsSame"]) == (True, True), name


@needs_node
@pytest.mark.parametrize("damage", ["cut", "noise", "name"])
def test_broken_weights_are_one_clear_error(tmp_path, kernels, damage):
    model = model_of(*SHAPES["gpt char"])
    model.save_pretrained(tmp_path)
    write_weights(tmp_path, tmp_path, model.config.to_dict())
    file = tmp_path / "model.safetensors"
    content = file.read_bytes()
    changed = {
        "cut": content[:-10],
        "noise": b"\xff" * 100,
        "name": content.replace(b"model.norm.weight", b"model.mroN.weight"),
    }[damage]
    file.write_bytes(changed)
    with pytest.raises(AssertionError, match=r"weights .*(cut off|no safetensors|expected)"):
        run_node("tests/greedy.mjs", kernels, 3, tmp_path)
