import gzip
import hashlib
import itertools
import json
import os
import re
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import modeling
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.tokens.tokenizers import TokenSettings, train_tokenizer
from evaluation.judging.judge_table import VALID
from evaluation.metrics import rate, validity, wilson_interval
from evaluation.pages.tune_view import tune_views
from evaluation.samples import sampling
from evaluation.samples.engraving import engrave
from evaluation.samples.grammar_overhead import speed
from evaluation.samples.prompts import beginning, read_prompt
from scaling.writing.files import write_json


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([], TokenSettings(), 64)


@pytest.fixture(scope="module", params=["gpt", "lstm", "llama"])
def tiny_model(request, tokenizer):
    torch.manual_seed(0)
    size = {"vocab_size": len(tokenizer), "hidden_size": 8, "num_hidden_layers": 1}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    if request.param == "llama":
        attention = {"num_attention_heads": 1, "max_position_embeddings": 64}
        config = LlamaConfig(**size, **ids, **attention, intermediate_size=16)
        return LlamaForCausalLM(config).eval()
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


def writer(model, tokenizer):
    return modeling.AbcMusicPipeline(model=model, tokenizer=tokenizer, device="cpu")


def sampled(write, n_done=0, **settings):
    settings = sampling.SamplingSettings(**{"n": 10, "seed": 5, "max_new_tokens": 150} | settings)
    return list(itertools.chain(*sampling.sample_batches(write, settings, [""], n_done)))


def test_time_of_the_grammar_is_measured_with_the_loop_that_writes(tiny_model, tokenizer):
    measured = speed(writer(tiny_model, tokenizer), 160, seed=1, rows=2, rounds=1)
    assert measured["n_tokens"] > 0
    assert 0 < measured["forced_share"] < 1
    assert 0 < measured["resampled_share"] < 1


def test_samples_are_repeated_by_their_seed_and_longer_than_the_context(tiny_model, tokenizer):
    write = writer(tiny_model, tokenizer)
    first = sampled(write)
    assert first == sampled(write) != sampled(write, seed=6)
    assert first[8:] == sampled(write, n_done=8)  # each eight have a seed of their own
    assert any(row["n_tokens"] > 64 for row in first)
    assert all(row["n_tokens"] <= 150 and row["ended"] for row in first)
    free = sampled(write, grammar=False)
    assert [row["seed"] for row in free] == [row["seed"] for row in first]
    assert not all(row["ended"] for row in free)


def test_samples_folder_is_filled_from_where_it_was_left(
    tmp_path, tiny_model, tokenizer, monkeypatch
):
    model = tmp_path / "run" / "checkpoint"
    tiny_model.save_pretrained(model)
    tokenizer.save_pretrained(model)
    out = tmp_path / "out"
    command = [str(tmp_path / "run"), "--n", "10", "--out", str(out), "--max-new-tokens", "150"]
    assert sampling.main(command) == 0
    rows = sampling.read_samples(out / "samples.jsonl")
    assert [row["sample"] for row in rows] == [*range(1, 11)]
    assert len(list(out.glob("tune_*.abc"))) == len(list(out.glob("tune_*.mid"))) == 10
    whole = (out / "samples.jsonl").read_text()
    (out / "samples.jsonl").write_text(whole[: whole.rfind('"sample": 10')])  # killed in a line
    real, begun = sampling.sample_batches, []
    monkeypatch.setattr(sampling, "sample_batches", lambda *a: begun.append(a[3]) or real(*a))
    assert sampling.main(command) == 0
    assert begun == [8]
    assert (out / "samples.jsonl").read_text() == whole
    assert sampling.main(command) == 0
    assert begun == [8]
    assert sampling.main([*command, "--seed", "2"]) == 0
    assert begun == [8, 0]


def test_conditions_and_own_music_reach_the_tunes(tmp_path, tiny_model, tokenizer, chorale, capsys):
    model = tmp_path / "checkpoint"
    tiny_model.save_pretrained(model)
    tokenizer.save_pretrained(model)
    command = [str(model), "--n", "1", "--max-new-tokens", "700", "--out"]

    def write(name, *options):
        assert sampling.main([*command, str(tmp_path / name), *options]) == 0
        (row,) = sampling.read_samples(tmp_path / name / "samples.jsonl")
        return row["abc"]

    given = write("w", "--meter", "3/4", "--key", "G", "--instruments", "Violin, drums")
    assert "\nM:3/4\n" in given
    assert "\nK:G\nV:1\n%%MIDI program 40\nV:2\n%%MIDI channel 10\n[V:" in given
    (tmp_path / "own.mid").write_bytes(chorale)
    bars = midi_to_abc(chorale)
    assert write("m", "--prompt", str(tmp_path / "own.mid"), "--bars", "2").startswith(
        bars[: [m.start() for m in re.finditer(r"\n\[V:1\]", bars)][2] + 1]
    )
    (tmp_path / "own.abc").write_text("X:1\nT:Ours\nM:6/8\nL:1/8\nK:D\n" + "A2d dAF|" * 3)
    continued = write("a", "--prompt", str(tmp_path / "own.abc"), "--bars", "2")
    assert continued.count("[V:1]A4d2d2A2F2|\n") >= 2
    assert sampling.main([*command, str(tmp_path / "b"), "--prompt", "x.abc", "--key", "G"]) == 2
    assert "expected one or the other" in capsys.readouterr().err
    (tmp_path / "bad.abc").write_text("no music at all")
    assert sampling.main([*command, str(tmp_path / "b"), "--prompt", f"{tmp_path}/bad.abc"]) == 2
    assert "bad.abc" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "wrapper"),
    [("a.rmi", b"RIFF\0\0\0\0RMIDdata\0\0\0\0"), ("a.mid.bin", bytes(128)), ("a.KAR", b"")],
)
def test_prompt_is_midi_by_what_the_converter_calls_midi(tmp_path, chorale, name, wrapper):
    (tmp_path / name).write_bytes(wrapper + chorale)
    assert read_prompt(tmp_path / name, 2) == beginning(midi_to_abc(chorale), 2)


def test_prompt_of_abc_of_others_is_its_first_tune_and_says_what_is_left_out(tmp_path, caplog):
    book = "X:4\nT:Ours\nM:6/8\nL:1/8\nK:D\n|:A2d $dA?F:|\n\nX:5\nK:C\nC8|\n"
    (tmp_path / "book.abc").write_bytes(book.replace("\n", "\r\n").encode("utf-8-sig"))
    with caplog.at_level("INFO"):
        prompt = read_prompt(tmp_path / "book.abc", 1)
    assert prompt.endswith("\n[V:1]A4d2d2A2F2|\n")
    first, second = (record.message.removeprefix(str(tmp_path)) for record in caplog.records)
    assert first == "/book.abc has 2 tunes; the first is taken: X:4 Ours"
    assert second == "/book.abc: line 6, column 10: '?' is left out"


def test_prompt_that_cannot_be_read_is_refused_with_its_place(tmp_path):
    (tmp_path / "bad.abc").write_text("X:1\nK:C\nC9999999999|")
    with pytest.raises(
        ValueError, match=r"bad.abc is neither MIDI, nor a score, nor readable ABC: line 3, column"
    ):
        read_prompt(tmp_path / "bad.abc", 1)


def test_own_prompt_with_a_mark_and_carriage_returns_is_read_as_without(tmp_path, chorale):
    abc = midi_to_abc(chorale)
    for number, content in enumerate(
        (
            abc.encode(),
            abc.replace("\n", "\r\n").encode("utf-8-sig"),
            abc.replace("\n", "\r").encode(),
        )
    ):
        (tmp_path / f"{number}.abc").write_bytes(content)
        assert read_prompt(tmp_path / f"{number}.abc", 2) == beginning(abc, 2)


def test_reported_riff_file_is_a_prompt():
    song = Path(__file__).parents[1] / "data" / "reported" / "rmi-prompt" / "song.rmi"
    assert read_prompt(song, 1) == beginning(midi_to_abc(song.read_bytes()), 1)


@pytest.mark.parametrize("packed", [False, True])
def test_score_is_a_prompt_also_compressed(tmp_path, packed):
    scores = Path(__file__).parents[1] / "data" / "scores"
    content = (scores / "trio.musicxml").read_bytes()
    song = tmp_path / ("trio.musicxml" + ".gz" * packed)
    song.write_bytes(gzip.compress(content) if packed else content)
    assert read_prompt(song, 2) == beginning((scores / "trio.abc").read_text(), 2)


def test_score_that_cannot_be_read_is_refused_by_name(tmp_path):
    (tmp_path / "bad.musicxml").write_text("<score-partwise><part>")
    with pytest.raises(ValueError, match=r"bad.musicxml: .*line 1"):
        read_prompt(tmp_path / "bad.musicxml", 1)


@pytest.mark.parametrize(
    ("model", "found", "folder"),
    [
        ("runs/a/b", "runs/a/b/checkpoint", "runs/a/b/samples"),
        ("pretrained/llama_small/", "pretrained/llama_small", "runs/samples/llama_small"),
        ("user/name", "user/name", "runs/samples/name"),
    ],
)
def test_samples_go_into_a_run_and_never_into_other_models(model, found, folder):
    assert sampling.folder_of_samples(model, found) == Path(folder)


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


def test_picture_of_another_engraver_is_made_anew(tmp_path):
    texts = [None]
    sample = {"sample": 1, "abc": "K:C", "abc_voices": None}
    (tmp_path / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    (tmp_path / "verdicts.jsonl").write_text(json.dumps({"sample": 1, VALID: False}) + "\n")
    key = hashlib.sha256(json.dumps(texts).encode()).hexdigest()  # the texts alone
    kept = tmp_path / "pictures.json"
    kept.write_text(json.dumps({"key": key, "svg": ["<svg>old</svg>"]}))
    (view,) = tune_views(tmp_path, 1)
    assert view["svg"] is None
    assert view["lights"] == {"valid": False}
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"svg": ["<svg>own</svg>"]}))
    assert tune_views(tmp_path, 1)[0]["svg"] == "<svg>own</svg>"


def test_metrics_are_written_whole(tmp_path):
    write_json(tmp_path / "metrics.json", {"n": 1})
    os.link(tmp_path / "metrics.json", tmp_path / "read")
    write_json(tmp_path / "metrics.json", {"n": 2})  # not into the file that someone reads
    assert json.loads((tmp_path / "read").read_text()) == {"n": 1}
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"n": 2}
