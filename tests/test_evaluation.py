import json

import pytest
import torch

import modeling
from data_prep.midi_to_abc import midi_to_abc
from data_prep.tokens import TokenSettings, train_tokenizer
from evaluation import sampling
from evaluation.engraving import engrave
from evaluation.metrics import rate, validity, wilson_interval

GOOD_HEADER = "X:1\nM:4/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\nV:1\n%%MIDI program 0\n"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([], TokenSettings(), 64)


@pytest.fixture(scope="module", params=["gpt", "lstm"])
def tiny_model(request, tokenizer):
    torch.manual_seed(0)
    size = {"vocab_size": len(tokenizer), "hidden_size": 8, "num_hidden_layers": 1}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    if request.param == "gpt":
        config = modeling.AbcGPTConfig(
            **size, **ids, num_attention_heads=1, max_position_embeddings=64
        )
        return modeling.AbcGPTForCausalLM(config).eval()
    return modeling.AbcLSTMForCausalLM(modeling.AbcLSTMConfig(**size, **ids)).eval()


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Brown, Cai and DasGupta 2001 define it; the values are the closed form for p = 0, 1 and 1/2.
    [(0, 10, 0.0, 3.8415 / 13.8415), (10, 10, 10 / 13.8415, 1.0), (5, 10, 0.2366, 0.7634)],
)
def test_wilson_interval_has_its_known_values(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-4)


def test_published_rate_has_its_published_interval():
    assert wilson_interval(340, 500) == pytest.approx((0.638, 0.719), abs=1e-3)  # study A
    with pytest.raises(ValueError, match="0 <= successes <= n"):
        wilson_interval(3, 2)


def test_rate_counts_all_samples():
    assert rate([True, False, False, True])["rate"] == 0.5
    verdicts = [{"a": True, "messages": []}, {"a": False, "messages": ["x"]}]
    assert validity(verdicts)["a"]["successes"] == 1


def test_samples_are_repeated_by_their_seed_and_longer_than_the_context(tiny_model, tokenizer):
    settings = sampling.SamplingSettings(n=10, seed=5, max_new_tokens=150)
    first = sampling.sample_tunes(tiny_model, tokenizer, settings)
    again = sampling.sample_tunes(tiny_model, tokenizer, settings)
    other = sampling.sample_tunes(
        tiny_model, tokenizer, sampling.SamplingSettings(n=10, seed=6, max_new_tokens=150)
    )
    assert first == again != other
    assert any(row["n_tokens"] > 64 for row in first)
    assert all(row["n_tokens"] <= 150 for row in first)


def test_window_keeps_whole_header_lines_and_the_last_bars(tokenizer, chorale):
    abc = midi_to_abc(chorale)
    ids = tokenizer(abc, verbose=False)["input_ids"]
    for length in (128, 192, 400):
        text = tokenizer.decode(sampling._window(tokenizer, ids, length))
        assert len(text) <= length
        header, bars = text[: text.find("[V:")], text[text.find("[V:") :]
        assert abc.startswith(header)
        assert header.endswith("\n")
        assert abc.endswith(bars)
        assert len(bars) > length // 5
    assert sampling._window(tokenizer, ids[:100], 128) == ids[:100]


def test_unfinished_tune_is_cut_at_its_last_whole_bar():
    abc = GOOD_HEADER + "[V:1]C16|\n[V:1]D16|\n[V:1]E4F"
    export = sampling._export(abc, ended=False)
    assert export["error"] is None
    assert export["abc_voices"].endswith("V:1\n%%MIDI program 0\nC16|D16|]\n")
    assert sampling._export("[V:1]C16|", ended=True)["abc_voices"] is None


def test_samples_folder_holds_text_and_midi_and_is_not_made_twice(
    tmp_path, tiny_model, tokenizer, monkeypatch
):
    model = tmp_path / "run" / "checkpoint"
    tiny_model.save_pretrained(model)
    tokenizer.save_pretrained(model)
    out = tmp_path / "out"
    command = [str(tmp_path / "run"), "--n", "2", "--out", str(out), "--max-new-tokens", "80"]
    assert sampling.main(command) == 0
    rows = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert [row["sample"] for row in rows] == [1, 2]
    assert len(list(out.glob("tune_*.abc"))) == 2
    assert len(list(out.glob("tune_*.mid"))) == sum(r["abc_voices"] is not None for r in rows)
    monkeypatch.setattr(sampling, "sample_tunes", lambda *_: pytest.fail("sampled again"))
    assert sampling.main(command) == 0


def test_missing_model_is_one_clear_line(tmp_path, capsys):
    assert sampling.main([str(tmp_path)]) == 2
    assert "holds no model" in capsys.readouterr().err
    assert sampling.main(["runs/single/nowhere"]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_score_picture_shows_every_voice(chorale):
    svg = engrave(midi_to_abc(chorale, layout="voices"))
    assert svg.startswith("<svg")
    assert svg.count('class="staff"') % 4 == 0
    with pytest.raises(ValueError, match="music21"):
        engrave("no music")
