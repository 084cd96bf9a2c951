"""The benchmarks of tokenizers and of the selection, on a small dataset."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from measuring import measure

from benchmarks import selection, tokens
from data_prep.clean import clean_abc
from data_prep.midi_to_abc import midi_to_abc
from data_prep.tune import Voice, print_tune
from data_prep.tune_parser import parse_tune


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
    with pytest.raises(ValueError, match="hold no song; expected at least"):
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
    with pytest.raises(FileNotFoundError, match="expected a folder that make data"):
        tokens.split_file(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="expected a folder that make data"):
        selection.read_tunes(tmp_path, 0)
