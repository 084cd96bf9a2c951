"""Files for other engines, checked by the engines themselves where they are installed."""

import json
import shutil

import numpy as np
import pytest
import torch
from test_model_card import make_run, names
from transformers import LlamaConfig, LlamaForCausalLM

from model_cards.formats import formats
from model_cards.formats.compare import check_close, check_same, loss_difference
from model_cards.formats.reference import Reference, loss_of
from model_cards.publish import main, publish

WITHOUT = "the extra [{}] is not installed: pip install --editable '.[{}]'"


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A published stock GPT-2 with random weights."""
    run = make_run(tmp_path_factory.mktemp("stock"), max_position_embeddings=48)
    (folder,) = publish(run, "someone/tiny", True, False, True)
    return folder


@pytest.fixture(scope="module")
def reference(stock):
    return Reference(stock)


class Echo:
    """An engine that answers as the reference does, with a difference."""

    name = "Echo"

    def __init__(self, reference, difference=0.0, tune=None):
        self.reference, self.difference, self.tune = reference, difference, tune

    def logits(self, ids):
        (text,) = [text for text in self.reference.texts if text.ids == ids]
        changed = text.logits.copy()
        changed[:, 0] += self.difference
        return changed

    def greedy(self, start, n_tokens):
        return self.reference.greedy[0] if self.tune is None else self.tune


def test_reference_texts_end_at_the_context_and_start_with_the_start_token(reference):
    assert reference.texts
    for text in reference.texts:
        assert text.ids[0] == reference.start
        assert len(text.ids) == len(text.logits) <= 48
        expected = torch.nn.functional.cross_entropy(
            torch.tensor(text.logits[:-1]), torch.tensor(text.ids[1:]), reduction="sum"
        )
        assert loss_of(text.logits, text.ids) == pytest.approx(expected.item(), rel=1e-5)
    assert len(reference.greedy[0]) == 47  # a table of positions ends


def test_logits_of_a_llama_in_float64_are_those_of_transformers_but_for_rounding(stock, tmp_path):
    shutil.copytree(stock, tmp_path, dirs_exist_ok=True)
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    ids = {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 0}
    config = LlamaConfig(
        vocab_size=len(Reference(stock).tokenizer),
        num_attention_heads=4,
        max_position_embeddings=200,
        **size,
        **ids,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    llama = Reference(tmp_path)
    assert llama.texts[0].exact.dtype == np.float64
    assert 0 < llama.rounding < 1e-5


def test_an_engine_that_computes_the_same_passes(reference):
    found = check_same(Echo(reference), reference)
    assert f"those of transformers within {reference.rounding:.1e}" in found
    assert "the greedy tune equal for 47 of 47 tokens" in found
    assert 0 < reference.rounding < 1e-5  # that of a small model
    assert check_close(Echo(reference), reference, "a file") == 0


def test_a_difference_above_the_bound_is_a_clear_error(reference):
    with pytest.raises(ValueError, match=r"logits in Echo differ by 0.01 .* at most 0.0001"):
        check_same(Echo(reference, 0.01), reference)
    with pytest.raises(ValueError, match="logits in Echo differ by nan"):
        check_same(Echo(reference, np.nan), reference)
    tune = [*reference.greedy[0]]
    tune[5] = (tune[5] + 1) % 10
    with pytest.raises(ValueError, match=r"greedy tune in Echo differs .* from token 6 on"):
        check_same(Echo(reference, tune=tune), reference, 1e-9)


def test_an_engine_may_round_twice_as_much_as_transformers_does(reference, monkeypatch):
    rounding = 1e-3
    monkeypatch.setitem(reference.__dict__, "rounding", rounding)
    assert "within 1.9e-03" in check_same(Echo(reference, 1.9 * rounding), reference)
    with pytest.raises(ValueError, match=r"differ by 0.0021 .* at most 0.002;"):
        check_same(Echo(reference, 2.1 * rounding), reference)


def test_a_small_number_format_may_cost_little(reference):
    assert abs(loss_difference(Echo(reference, 9.0), reference.texts)) > 0.01
    with pytest.raises(ValueError, match=r"a file in Echo changes the loss by .* at most 0.01"):
        check_close(Echo(reference, 9.0), reference, "a file")


def test_own_classes_and_missing_engines_are_refused_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda module: None)
    run = make_run(tmp_path, "abc_lstm")
    capsys.readouterr()  # progress bars
    arguments = [str(run), "someone/tiny", "--dry-run", "--formats", "onnx"]
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "onnx, onnxruntime, onnxscript, which is not installed: pip install" in line
    assert '".[onnx]"' in line
    monkeypatch.setattr(formats, "find_spec", lambda module: True)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "type abc_lstm, expected gpt2 or llama" in line
    assert "an LSTM has no such form" in line
    assert not (run / "publish").exists()


def test_onnx_files_compute_the_same_and_pad(stock, reference, tmp_path):
    for module in formats.FORMATS["onnx"].modules:
        pytest.importorskip(module, reason=WITHOUT.format("onnx", "onnx"))
    from model_cards.formats.onnx_export import FULL, INT8, OnnxEngine, write_onnx

    found = write_onnx(reference, tmp_path)
    assert found.keys() == {FULL, INT8}
    assert "logits within" in found[FULL]
    engine, ids = OnnxEngine(tmp_path / FULL), reference.texts[0].ids
    padded = np.array([[0, 0, *ids[:9]], ids[:11]])
    mask = np.ones_like(padded)
    mask[0, :2] = 0
    logits, _ = engine.run(padded, mask, None)
    np.testing.assert_allclose(logits[0, 2:], reference.texts[0].logits[:9], atol=1e-4)


def test_gelu_of_llama_cpp_is_the_approximation_in_steps_of_half_precision():
    for module in formats.FORMATS["gguf"].modules:
        pytest.importorskip(module, reason=WITHOUT.format("gguf", "gguf"))
    from model_cards.formats.gguf_export import TableGelu

    x = torch.linspace(-12, 12, 1001, dtype=torch.float64)
    expected, found = torch.nn.functional.gelu(x, approximate="tanh"), TableGelu()(x)
    assert found.dtype == x.dtype
    assert 1e-4 < (found - expected).abs().max() < 1e-2
    assert torch.equal(found[x >= 10], x[x >= 10])
    assert (found[x <= -10] == 0).all()


def test_gguf_files_hold_the_tokenizer_and_compute_the_same(stock, reference, tmp_path):
    for module in formats.FORMATS["gguf"].modules:
        pytest.importorskip(module, reason=WITHOUT.format("gguf", "gguf"))
    from model_cards.formats.gguf_export import write_gguf
    from model_cards.formats.llama_cpp_engine import LlamaCppEngine

    found = write_gguf(reference, tmp_path, "tiny")
    assert names(tmp_path) == {"tiny-F16.gguf", "tiny-Q8_0.gguf"} == found.keys()
    engine = LlamaCppEngine(tmp_path / "tiny-Q8_0.gguf", 48)
    text = "X:1\nM:3/4\n[V:1]^A,2 |]"
    assert engine.encode(text) == reference.encode(text)
    assert engine.encode(text, has_start=True) == [reference.start, *reference.encode(text)]
    assert engine.decode(reference.encode(text)) == text


def test_card_names_the_files_and_their_checks(tmp_path, monkeypatch):
    def write(reference, folder, name):
        (folder / f"{name}.json").write_text("{}")
        return {f"{name}.json": "as expected"}

    made = formats.Format((), write)
    monkeypatch.setitem(formats.FORMATS, "gguf", made)
    run = make_run(tmp_path)
    (folder,) = publish(run, "someone/tiny", True, False, True, formats=["gguf"])
    assert json.loads((folder / "tiny.json").read_text()) == {}
    card = (folder / "README.md").read_text()
    assert "| `tiny.json` | as expected |" in card
    assert "from llama_cpp import Llama" in card
    assert "js" not in card.partition("## Other engines")[2].partition("## ")[0].split("```")[1]
