import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_model_card import PIPELINE, WEIGHTS_AND_TEXT, add_checkpoint, make_run, names
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel

from model_cards.publish import main, publish
from model_cards.stock_export import LARGEST_DIFFERENCE, export_stock, largest_difference


def load_both(run, folder):
    ours = AutoModelForCausalLM.from_pretrained(run / "checkpoint")
    stock = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
    assert type(stock) is GPT2LMHeadModel
    return ours.eval(), stock.eval()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False},
        {"intermediate_size": 40, "max_position_embeddings": 17, "layer_norm_epsilon": 0.01},
    ],
)
def test_stock_model_has_the_same_logits(changes, tmp_path):
    run = make_run(tmp_path, **changes)
    difference = export_stock(run / "checkpoint", tmp_path / "stock")
    ours, stock = load_both(run, tmp_path / "stock")
    assert difference == largest_difference(ours, stock) <= LARGEST_DIFFERENCE
    context = changes.get("max_position_embeddings", 256)
    ids = torch.randint(ours.config.vocab_size, (2, context))
    assert ours(ids).logits.abs().max() > 0.1
    torch.testing.assert_close(stock(ids).logits, ours(ids).logits, atol=1e-5, rtol=0)


def test_stock_model_writes_the_same_with_padding_on_the_left(tmp_path):
    run = make_run(tmp_path)
    (folder,) = publish(run, "someone/tiny", True, False, True)
    ours, stock = load_both(run, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokenizer.padding_side = "left"
    inputs = tokenizer(["X:1\nM:6/8\nL:1/16\n", "X:1\n"], padding=True, return_tensors="pt")
    assert inputs["attention_mask"].sum() < inputs["attention_mask"].numel()
    options = {"max_new_tokens": 60, "do_sample": False, "eos_token_id": None}
    assert torch.equal(stock.generate(**inputs, **options), ours.generate(**inputs, **options))


def test_stock_folder_needs_no_code_but_for_the_own_pipeline(tmp_path, capsys):
    run = make_run(tmp_path)
    assert main([str(run), "someone/tiny", "--dry-run", "--stock"]) == 0
    assert "logits of the stock export differ by at most 0" in capsys.readouterr().out
    folder = run / "publish"
    assert names(folder) == WEIGHTS_AND_TEXT | PIPELINE
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "gpt2"
    assert "auto_map" not in config
    original = AutoTokenizer.from_pretrained(run / "checkpoint")
    loaded = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    text = "X:1\nM:3/4\n"
    assert loaded(text)["input_ids"] == [loaded.bos_token_id, *original(text)["input_ids"]]
    assert loaded.padding_side == "right"  # see publish._set_tokenizer
    assert loaded.special_tokens_map == original.special_tokens_map
    # With token_type_ids, the default of transformers 4, GPT-2 reads other embeddings: checked with
    # 4.57.6, whose loss of a text is that of 5.24 to all digits, and another without the key.
    tokenizer_config = json.loads((folder / "tokenizer_config.json").read_text())
    assert tokenizer_config["model_input_names"] == ["input_ids", "attention_mask"]
    text = (folder / "README.md").read_text()
    assert 'pipeline("text-generation", model="someone/tiny")' in text
    assert "GPT2LMHeadModel" in text


def test_checkpoints_become_stock_revisions(tmp_path):
    run = make_run(tmp_path)
    add_checkpoint(run, 4)
    _, folder = publish(run, "someone/tiny", True, True, True)
    weights = load_file(folder / "model.safetensors")
    assert (weights["transformer.wte.weight"] == 4).all()


def test_half_precision_stays_what_it_is(tmp_path):
    run = make_run(tmp_path)
    checkpoint = run / "checkpoint"
    half = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16)
    half.save_pretrained(checkpoint)
    assert export_stock(checkpoint, tmp_path / "stock") <= LARGEST_DIFFERENCE
    weights = load_file(tmp_path / "stock/model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}


def test_lstm_is_refused_in_one_line(tmp_path, capsys):
    run = make_run(tmp_path, "abc_lstm")
    assert main([str(run), "someone/tiny", "--dry-run", "--stock"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "abc_lstm, expected abc_gpt, the only type with a stock export" in line
    assert names(run) == {"checkpoint", "record.json"}


def test_export_whose_logits_cannot_be_compared_is_refused(tmp_path):
    run = make_run(tmp_path)
    file = run / "checkpoint/model.safetensors"
    weights = load_file(file)
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="logits of the stock export differ by nan"):
        export_stock(run / "checkpoint", tmp_path / "stock")


def test_difference_is_seen_in_padded_and_late_places(tmp_path):
    run = make_run(tmp_path)
    export_stock(run / "checkpoint", tmp_path / "stock")
    ours, stock = load_both(run, tmp_path / "stock")
    with torch.no_grad():
        stock.transformer.wpe.weight[-1, 0] += 1
    assert largest_difference(ours, stock) > 100 * LARGEST_DIFFERENCE
