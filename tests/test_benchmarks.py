"""The benchmarks of tokenizers, of the selection and of training speed, on a small scale."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from measuring import measure

from benchmarks import (
    abc2midi_truth,
    conversion,
    foreign_abc,
    grammar_corpus,
    scores,
    selection,
    step_time,
    tokens,
    training,
)
from data_prep.dialect.tune import Voice, print_tune
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.selection.clean import clean_abc
from evaluation.judging.judge_table import find_abc2midi
from training.config import load_config

SCORES = Path(__file__).parent / "data" / "scores"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, tune_files, chorale):
    """Fiddle tunes and a chorale, as stages 2 and 4 leave them."""
    folder = tmp_path_factory.mktemp("dataset")
    midis = [*(file.read_bytes() for file in tune_files[:29]), chorale]
    texts = [clean_abc(midi_to_abc(midi)) for midi in midis]
    rows = [
        {"digest": f"{37 * n % 30:064x}", "abc": abc, **measure(abc)} for n, abc in enumerate(texts)
    ]
    splits = {"train": rows[:20], "validation": rows[20:], "test": rows[18:20]}
    (folder / "2_clean").mkdir()
    (folder / "4_split").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "2_clean" / "part-00000.parquet")
    for split, songs in splits.items():
        pq.write_table(pa.Table.from_pylist(songs), folder / "4_split" / f"{split}.parquet")
    return folder


@pytest.mark.parametrize("name", ["char", "note", "bpe_4096"])
def test_our_tokenizers_are_lossless_on_held_out_songs(dataset, name):
    row = tokens.measure(name, dataset, 0)
    assert row["round_trip_share"] == 1
    assert row["unknown_share"] == 0
    assert (row["chars_per_token"] == 1) == (name == "char")
    assert row["vocab_used"] <= row["vocab_size"]


def test_train_characters_are_the_songs_of_the_lowest_digests(dataset):
    songs = pq.read_table(dataset / "4_split" / "train.parquet").to_pylist()
    first = sorted(songs, key=lambda song: song["digest"])[:3]
    n_chars = sum(song["n_chars"] for song in first)
    assert sorted(tokens.learned_texts(dataset, n_chars)) == sorted(s["abc"] for s in first)
    assert len(list(tokens.learned_texts(dataset, n_chars - 1))) == 2
    assert len(list(tokens.learned_texts(dataset, 0))) == len(songs)
    with pytest.raises(ValueError, match="less than one song; expected at least"):
        list(tokens.learned_texts(dataset, 1))


def test_bound_of_zero_keeps_all_tunes(dataset):
    row = selection.select(selection.read_tunes(dataset, 0), "file", 0.0)
    assert row["files_share"] == row["notes_share"] == row["voices_share"] == 1


def test_tracks_keep_the_tune_over_a_drone_that_the_filter_of_files_drops(dataset):
    tune = parse_tune(selection.read_tunes(dataset, 1)["abc"][0].as_py())
    drone = Voice(program=19, channel=2, bars=["[C,E,G,]16"] * tune.n_bars)
    abc = print_tune(replace(tune, voices=[*tune.voices, *[drone] * 6]))
    row = {"abc": abc, **measure(abc)}
    assert selection.n_voices(abc) == 7
    assert selection.keep(row, "file", 0.15) is None
    kept = selection.keep(row, "track", 0.15)
    assert selection.n_voices(kept["abc"]) == 1
    assert kept["n_notes"] < row["n_notes"]
    assert kept["gzip_ratio"] > row["gzip_ratio"]


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a folder from make data"):
        tokens.split_file(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="expected a folder from make data"):
        selection.read_tunes(tmp_path, 0)


def test_corpus_without_tunes_leaves_the_result_as_it_was(tmp_path, capsys):
    out = tmp_path / "grammar_corpus.json"
    out.write_text("the result")
    assert grammar_corpus.main([str(tmp_path / "none"), "--out", str(out)]) == 2
    assert out.read_text() == "the result"
    assert "no tunes in" in capsys.readouterr().err


def test_member_that_cannot_be_read_does_not_end_the_benchmark(tmp_path, tune_files):
    archive = tmp_path / "tunes.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, path in (("bad.mid", tune_files[0]), ("good.mid", tune_files[1])):
            file.writestr(name, path.read_bytes())
        place = file.getinfo("bad.mid").header_offset + 60
    damaged = bytearray(archive.read_bytes())
    damaged[place : place + 20] = bytes(20)
    archive.write_bytes(damaged)
    out = tmp_path / "out.json"
    conversion.main([str(archive), "--workers", "1", "--out", str(out)])
    result = json.loads(out.read_text())
    assert result["files"] == 1
    assert [lost["name"] for lost in result["lost"]] == ["bad.mid"]


# what the benchmark asks of a checkout of nanoGPT; nothing of it is here
PEER_MODEL = """
from dataclasses import dataclass
import torch

@dataclass
class GPTConfig:
    block_size: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float
    bias: bool

class GPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.table = torch.nn.Embedding(config.vocab_size, config.vocab_size)

    def configure_optimizers(self, weight_decay, learning_rate, betas, device_type):
        return torch.optim.AdamW(self.parameters(), learning_rate, betas)

    def forward(self, ids, targets):
        logits = self.table(ids)
        return logits, torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
"""
PEER_TRAIN = """
def get_batch(split):
    file = os.path.join(data_dir, f"{split}.bin")
    count = batch_size * block_size
    ids = np.fromfile(file, dtype=np.uint16, count=count + 1).astype(np.int64)
    ids, targets = torch.from_numpy(ids[:-1]), torch.from_numpy(ids[1:])
    return ids.view(batch_size, block_size), targets.view(batch_size, block_size)
"""
PAIRS = 4
STEPS = training.N_WARMUP_PAIRS + PAIRS


def measure_training(checkout, folder):
    settings = ["model.hidden_size=8", "model.num_attention_heads=2", "model.num_hidden_layers=1"]
    settings += ["budget.global_batch_tokens=64", "training.per_device_train_batch_size=2"]
    settings += [*training.SETTINGS, f"training.max_steps={STEPS}"]
    config = load_config(training.CONFIGS / "gpt_tiny.yaml", settings)
    return training.measure(checkout, config, folder, block_length=16, matrix_sizes=(16, 32))


TUNE = b"X:1\nM:3/4\nL:1/8\nK:G\nGA|:B2{c}c2d2|e2d4:|1 g6:|2 G2 z4|]\n"


def test_importer_is_compared_with_abc2midi_by_notes_and_bars():
    row = foreign_abc.measure("a", TUNE, find_abc2midi(), [])
    assert row["ours"] == {"same": True, "f1": 1.0}
    assert row["bars"] is True
    found = foreign_abc.summary([row, {"name": "b", "skipped": "", "seconds": 1.0}])
    assert (found["tunes"], found["bars"], found["agreed"]) == (1, 1.0, 0)


def test_bar_line_or_note_elsewhere_is_a_difference():
    program = find_abc2midi()
    bars = abc2midi_truth.written_bars(program, TUNE.decode())
    assert [round(bar, 1) for bar in bars] == [0, 1, 4, 7, 10, 13, 16, 19]
    assert abc2midi_truth.are_bars(bars, bars, 16.0)
    assert not abc2midi_truth.are_bars([*bars[:3], 7.5, *bars[4:]], bars, 16.0)
    assert not abc2midi_truth.are_bars([0.0, *bars[2:]], bars, 16.0)
    notes = abc2midi_truth.abc2midi(program, TUNE.decode())
    moved = [(onset + 0.1, pitch) for onset, pitch in notes]
    assert foreign_abc.compared(notes, notes)["same"]
    assert not foreign_abc.compared(moved, notes)["same"]
    assert not foreign_abc.compared(notes[1:], notes)["same"]


def test_text_of_a_score_is_compared_with_music21_by_notes():
    path = SCORES / "trio.musicxml"
    abc = (SCORES / "trio.abc").read_text("utf-8")
    found = scores.compare(path, abc)
    assert (found.ours, found.theirs, found.matched) == (28, 28, 28)
    assert (found.graces, found.graces_found) == (4, 4)
    assert found.same_order == {"verovio": True, "music21": True}
    other = scores.compare(path, abc.replace("[Bd]12", "[Be]12"))
    assert (other.theirs, other.matched) == (28, 26)
    assert other.only_theirs == [(0, 74, 48), (0, 74, 336)]
    flute = scores.compare(path, abc.replace("program 71", "program 73"))
    assert flute.matched < flute.matched_onsets


def test_training_alternates_with_the_peer_step_by_step(tmp_path, monkeypatch):
    monkeypatch.setattr(training.loader, "N_TOKENS", 2**12)
    (tmp_path / "model.py").write_text(PEER_MODEL)
    (tmp_path / "train.py").write_text(PEER_TRAIN)
    case = measure_training(tmp_path, tmp_path)
    assert case["pairs"] == PAIRS
    assert case["tokens_a_step"] == 64
    for turns in case["seconds"].values():
        assert [len(turns[clock]) for clock in ("wall", "cpu", "loading")] == [PAIRS] * 3
        assert all(
            0 < load < wall for load, wall in zip(turns["loading"], turns["wall"], strict=True)
        )
    against = case["speed_ratio_to_nanogpt"]
    assert 0 < against["low"] <= against["median"] <= against["high"]
    assert 0 < case["loading_share_of_time"]["ours"] < 1
    share = case["share_of_matmul_peak"]
    assert 0 < share["causal_mean"]["ours"] < share["full"]["ours"]


def test_interval_of_equal_ratios_is_a_point():
    assert training.ratio([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == {"median": 2, "low": 2, "high": 2}


def test_a_folder_that_is_no_checkout_of_the_peer_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(training.loader, "N_TOKENS", 2**12)
    with pytest.raises(FileNotFoundError, match="to a checkout of nanoGPT"):
        measure_training(tmp_path, tmp_path)


def test_law_of_step_times_recovers_its_own_terms():
    def row(n_params, layers, width, batch, before):
        seconds = 1e-4 * layers + 2e-10 * n_params + 5e-11 * batch * n_params
        seconds += 3e-10 * batch * layers * width * before
        names = ("n_params", "layers", "width", "batch", "tokens_before", "step_seconds")
        values = (n_params, layers, width, batch, before, seconds)
        return {"family": "gpt", **dict(zip(names, values, strict=True))}

    shapes = [(1e4, 2, 24), (1e5, 2, 64), (8e5, 4, 128), (5e6, 6, 256)]
    rows = [row(*shape, batch, t) for shape in shapes for batch in (1, 8) for t in (32, 900)]
    law = step_time.fit_law(rows)
    assert list(law["seconds"].values()) == pytest.approx([1e-4, 2e-10, 5e-11, 3e-10])
    assert law["relative_error"]["largest"] < 1e-6


def test_step_times_are_measured_for_every_family_in_every_case(tmp_path, monkeypatch):
    study = tmp_path / "study.yaml"
    sizes = [f"{{config: {name}, model.hidden_size: 16}}" for name in ("gpt_tiny", "lstm_tiny")]
    study.write_text(f"sizes: [{', '.join(sizes)}]\ntokens: [1000]\nseeds: [1]\n")
    monkeypatch.setattr(step_time, "LARGER", [])
    monkeypatch.setattr(step_time, "CASES", {64: ((8, 16), (1, 2))})
    monkeypatch.setattr(step_time, "STEPS", 2)
    rows = [row for size in step_time.sizes_of(study) for row in step_time.measure(size, 1)]
    assert [row["family"] for row in rows] == ["gpt"] * 4 + ["lstm"] * 4
    assert {(row["batch"], row["tokens_before"]) for row in rows} == {
        (1, 9),
        (1, 17),
        (2, 9),
        (2, 17),
    }
    assert rows[0]["n_params"] == 4 * 12 * 16**2 + 9 * 16
