import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from measuring import measure
from symusic import Score
from transformers import AutoTokenizer
from warm_processes import DATA, forkserver, reuse_server

from data_prep import describe, pipeline
from data_prep.collections.sources import SourceError, open_source
from data_prep.corpus import CorpusStages
from data_prep.dialect.notation import ALPHABET
from data_prep.dialect.tune import print_tune
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi.limits import MidiError
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.selection.clean import CleanSettings, clean_abc, cut_tune
from data_prep.selection.filter_tunes import FilterSettings, drop_reason, keep_informative_voices
from data_prep.selection.split import SPLITS, SplitSettings, split_of
from data_prep.settings import load_settings
from data_prep.shards.convert_file import convert_file
from data_prep.storage.claims import lock
from data_prep.tokens.blocks import heads_then_rests, songs_end_to_end, write_blocks
from data_prep.tokens.tokenizers import TokenSettings, train_tokenizer
from data_prep.tune_rows import clean_row, clean_rows, filter_rows

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = """
split: {validation: 0.15, test: 0.15}
blocks: {block_length: 64}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, tune_files):
    """The whole pipeline's output on sixty tunes, a duplicate, and a file that is no MIDI."""
    root = tmp_path_factory.mktemp("made")
    music = root / "fiddle"
    music.mkdir()
    for file in tune_files:
        shutil.copy(file, music)
    shutil.copy(tune_files[0], music / "zz_copy.mid")
    (music / "zz_page.mid").write_text("<html>not found</html>")
    config = root / "data_tiny.yaml"
    config.write_text(CONFIG)
    command = [str(music), "--config", str(config), "--data-root", str(root / "data")]
    assert pipeline.main([*command, "--workers", "1"]) == 0
    return root, command


def stage(root, name):
    return json.loads((root / "data/fiddle/tiny" / name / "stage.json").read_text())


def rows(root, stage_name, split):
    path = root / "data/fiddle/tiny" / stage_name / f"{split}.parquet"
    return pq.read_table(path).to_pylist()


def test_every_dropped_file_is_counted_with_its_reason(made, tune_files):
    root, _ = made
    converted, kept = stage(root, "1_abc"), stage(root, "3_filtered")
    assert converted["rows_in"] == len(tune_files) + 2
    assert converted["dropped"] == {"not_midi": 1}
    assert kept["dropped"]["duplicate"] >= 1
    assert kept["rows_out"] == kept["rows_in"] - sum(kept["dropped"].values())


def test_splits_are_disjoint_and_complete(made):
    root, _ = made
    clusters = [row["cluster_id"] for split in SPLITS for row in rows(root, "4_split", split)]
    assert len(clusters) == len(set(clusters)) == stage(root, "3_filtered")["rows_out"]


def test_tokens_decode_to_the_same_abc(made):
    root, _ = made
    tokenizer = AutoTokenizer.from_pretrained(root / "data/fiddle/tiny/5_tokens")
    assert tokenizer.bos_token == tokenizer.eos_token == "<|endoftext|>"
    assert tokenizer.padding_side == "left"
    for split in SPLITS:
        for song, tokens in zip(
            rows(root, "4_split", split), rows(root, "5_tokens", split), strict=True
        ):
            assert tokenizer.decode(tokens["input_ids"]) == song["abc"]
            assert tokenizer.unk_token_id not in tokens["input_ids"]
            assert tokens["n_chars"] == len(song["abc"]) == len(tokens["input_ids"])


def test_alphabet_is_what_the_converter_can_write_and_no_more_than_it_needs(made):
    root, _ = made
    used = {c for split in SPLITS for row in rows(root, "4_split", split) for c in row["abc"]}
    assert used <= set(ALPHABET)
    assert len(ALPHABET) < 64


def test_blocks_hold_every_song_from_its_beginning(tmp_path):
    songs = [[10, 11, 12, 13, 14], [20, 21], [30, 31, 32]]
    file = tmp_path / "train.npy"
    assert write_blocks(heads_then_rests(songs, 9, 4, tmp_path), 4, file) == 4
    blocks = np.load(file, mmap_mode="r")
    assert blocks.dtype == np.uint16
    assert blocks.tolist() == [[9, 10, 11, 12], [9, 20, 21, 9], [9, 30, 31, 32], [13, 14, 9, 9]]
    with pytest.raises(ValueError, match="less than one block of 64"):
        write_blocks(heads_then_rests(songs, 9, 64, tmp_path), 64, file)


def test_songs_end_to_end_have_the_separator_between_them_and_no_end_token(tmp_path):
    file = tmp_path / "train.npy"
    songs = songs_end_to_end([[5, 6, 7], [8, 9, 10]], [1, 1])
    assert write_blocks(songs, 4, file) == 2
    assert np.load(file).tolist() == [[5, 6, 7, 1], [1, 8, 9, 10]]
    with pytest.raises(ValueError, match="less than one block"):
        write_blocks(songs_end_to_end([[5]], [1]), 4, file)


def test_study_a_presets_keep_its_rules_and_its_errors(made):
    root, command = made
    for phase in ("study_a_phase1", "study_a_phase2"):
        settings = load_settings(CONFIGS / f"data/{phase}.yaml")
        assert settings.split.by == "file"
        assert not settings.filter.drop_duplicates
    text = (CONFIGS / "data/study_a_phase1.yaml").read_text()
    for share in ("validation", "test"):
        text = text.replace(f"{share}: 0.01", f"{share}: 0.2")
    config = root / "data_phase1.yaml"
    config.write_text(text)
    command = [part if part != str(root / "data_tiny.yaml") else str(config) for part in command]
    assert pipeline.main([*command, "--workers", "1", "--dataset", "a"]) == 0
    folder = root / "data" / "a" / "phase1"
    tunes = [
        row
        for split in SPLITS
        for row in pq.read_table(folder / "4_split" / f"{split}.parquet").to_pylist()
    ]
    assert not [line for tune in tunes for line in tune["abc"].splitlines() if line[0] in "%XQ"]
    cleaned = json.loads((folder / "2_clean" / "stage.json").read_text())
    assert len(tunes) == cleaned["rows_out"]  # copies as well
    blocks = np.load(folder / "6_blocks" / "train.npy")
    tokenizer = AutoTokenizer.from_pretrained(folder / "5_tokens")
    assert tokenizer.eos_token_id not in blocks
    assert "|]\n\n\nM:" in tokenizer.decode(blocks[:40].ravel())


def test_blocks_on_disk_are_the_train_split(made):
    root, _ = made
    blocks = np.load(root / "data/fiddle/tiny/6_blocks/train.npy", mmap_mode="r")
    said = stage(root, "6_blocks")
    assert blocks.shape == (said["n_blocks"], said["block_length"])
    expected = Counter(i for row in rows(root, "5_tokens", "train") for i in row["input_ids"])
    found = Counter(blocks.ravel().tolist())
    assert sum((expected - found).values()) < 64  # less than a block is left over


def test_second_run_does_nothing_and_a_changed_setting_does_only_its_stage_again(made):
    root, command = made
    folder = root / "data/fiddle/tiny"

    def times():
        return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/stage.json")}

    before = times()
    assert pipeline.main([*command, "--workers", "1"]) == 0
    after = times()
    before.pop("1_abc"), after.pop("1_abc")  # its counts are read anew from the shards
    assert after == before
    config = root / "data_tiny.yaml"
    config.write_text(CONFIG.replace("64", "32"))
    assert pipeline.main([*command, "--workers", "1"]) == 0
    changed = {name for name, time in times().items() if time != before.get(name)}
    config.write_text(CONFIG)
    assert pipeline.main([*command, "--workers", "1"]) == 0  # as the other tests want it
    assert changed - {"1_abc"} == {"5_tokens", "6_blocks"}


def test_broken_off_conversion_goes_on_at_the_first_missing_shard(made, monkeypatch):
    root, command = made
    shards = sorted((root / "data/fiddle/tiny/1_abc").glob("part-*.parquet"))
    whole = {shard.name: shard.read_bytes() for shard in shards}
    shards[-1].unlink()
    assert pipeline.main([*command, "--workers", "1"]) == 0
    assert {shard.name: shard.read_bytes() for shard in shards} == whole


def test_second_pipeline_on_a_folder_is_refused_and_takes_nothing_from_the_first(made, capsys):
    root, command = made
    unfinished = root / "data/fiddle/tiny/2_clean.123.part"
    unfinished.mkdir()
    with lock(unfinished.parent):
        assert pipeline.main([*command, "--workers", "1"]) == 2
    error = capsys.readouterr().err
    assert (error.count("\n"), unfinished.exists()) == (1, True)
    assert f"{unfinished.parent}: process {os.getpid()} on " in error
    assert "is writing there; wait for it" in error
    unfinished.rmdir()


def test_presets_of_a_dataset_share_its_conversion(made, monkeypatch):
    root, command = made
    config = root / "data_other.yaml"
    config.write_text(CONFIG + "filter: {min_notes: 20}\n")
    command = [part if part != str(root / "data_tiny.yaml") else str(config) for part in command]
    monkeypatch.setattr("data_prep.convert.make_shards", None)  # nothing is left to convert
    assert pipeline.main([*command, "--workers", "1"]) == 0
    shards = [
        set((root / "data/fiddle" / p / "1_abc").glob("*.parquet")) for p in ("tiny", "other")
    ]
    assert [s.name for s in shards[0]] == [s.name for s in shards[1]]


# ---------------------------------------------------------------- identity


@pytest.fixture
def again(made, tmp_path):
    """A function that runs the pipeline over a copy of the data, and tells the stages' digests."""
    root, command = made
    shutil.copytree(root / "data/fiddle/tiny", tmp_path / "data/fiddle/tiny")

    def run(source):
        options = [*command[1:], "--data-root", str(tmp_path / "data"), "--dataset", "fiddle"]
        assert pipeline.main([str(source), *options, "--workers", "1"]) == 0
        return digests_of(tmp_path / "data/fiddle/tiny")

    return run


def digests_of(folder):
    return {
        path.parent.name: stage_of(path.parent, ".")["digest"]
        for path in folder.glob("*/stage.json")
    }


def test_touched_copied_and_zipped_folder_is_the_same_dataset(made, again, tmp_path, monkeypatch):
    root, _ = made
    expected = digests_of(root / "data/fiddle/tiny")
    assert len(expected) == 6
    copy = tmp_path / "copy"
    shutil.copytree(root / "fiddle", copy, copy_function=shutil.copyfile)
    tops = {".": "flat.zip", "copy": "with_top.zip"}
    for top, name in tops.items():
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(copy.iterdir(), reverse=True):
                archive.write(file, f"{top}/{file.name}".removeprefix("./"))
    with monkeypatch.context() as nothing_is_converted:
        nothing_is_converted.setattr("data_prep.convert.make_shards", None)
        assert again(copy) == expected
        for file in copy.iterdir():
            os.utime(file, ns=(1, 1))
        assert again(copy) == expected
        assert again(tmp_path / "flat.zip") == expected
    later = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("[2-6]_*/*")}
    assert again(tmp_path / "with_top.zip") == expected
    assert {path: path.stat().st_mtime_ns for path in later} == later
    said = stage_of(tmp_path / "data/fiddle/tiny", "1_abc")
    assert said["top_folders"] == {"fiddle": "copy/"}


def test_split_by_file_depends_on_the_folder_in_an_archive(tmp_path):
    settings = load_settings(CONFIGS / "data/char.yaml")
    by_file = replace(settings, split=SplitSettings(by="file"))
    for given, n_different in ((settings, 1), (by_file, 2)):
        conversions = [{"digest": "same", "top_folders": {"music": top}} for top in ("", "top/")]
        stages = [CorpusStages(given, tmp_path, [], conversion) for conversion in conversions]
        assert len({tuple(each.input_digests("1_abc")) for each in stages}) == n_different


def test_code_that_says_the_same_makes_the_same_dataset(made, tmp_path):
    """Words in other places change nothing, and a constant of the quantiser does."""
    root, command = made
    folder = tmp_path / "data/fiddle/tiny"
    shutil.copytree(root / "data/fiddle/tiny", folder)
    expected = digests_of(folder)
    package = tmp_path / "data_prep"
    shutil.copytree(CONFIGS.parent / "data_prep", package)
    (package / "room").mkdir()
    text = (package / "midi_to_abc/quantize.py").read_text("utf-8")
    for name in ("timeline", "swing"):
        text = text.replace(f"from .{name}", f"from ..midi_to_abc.{name}")
    (package / "room/quantize.py").write_text(text)
    (package / "midi_to_abc/quantize.py").unlink()
    for file in package.rglob("*.py"):
        text = file.read_text("utf-8").replace(
            "from .quantize import", "from ..room.quantize import"
        )
        file.write_text(text.replace('"""Returns ', '"""Gives back '))

    def run(*arguments):
        process = subprocess.run(
            [sys.executable, "-m", *arguments, "--workers", "1"],
            cwd=tmp_path, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr

    run("data_prep.pipeline", *command, "--data-root", str(tmp_path / "data"))
    assert digests_of(folder) == expected
    file = package / "room/quantize.py"
    text = file.read_text("utf-8")
    assert "_EXACT_COST = " in text
    file.write_text(text.replace("_EXACT_COST = ", "_EXACT_COST = 1 + "))
    run("data_prep.convert", str(root / "fiddle"), str(folder / "1_abc"))
    assert digests_of(folder)["1_abc"] != expected["1_abc"]


def test_data_made_before_are_made_again_and_keep_their_names_where_they_are_the_same(
    made, again, tmp_path
):
    """As under a digest of file times and of whole source files: runs go on with what they had."""
    root, _ = made
    folder = tmp_path / "data/fiddle/tiny"
    bytes_before = files_of(folder, "stage.json")
    for number, path in enumerate(sorted(folder.glob("*/stage.json"))):
        said = json.loads(path.read_text()) | {"digest": f"of before {number}"}
        said.pop("top_folders", None)
        path.write_text(json.dumps(said))
    (shard,) = (folder / "1_abc").glob("*.parquet")
    shard.rename(shard.with_name("part-00000-0123456789ab.parquet"))
    about = folder / "1_abc/stage.json"
    about.write_text(about.read_text().replace(shard.name, "part-00000-0123456789ab.parquet"))
    assert again(root / "fiddle") == digests_of(root / "data/fiddle/tiny")
    assert files_of(folder, "stage.json") == bytes_before
    assert stage_of(folder, "6_blocks")["former_digests"] == ["of before 5"]
    blocks = folder / "6_blocks/stage.json"
    blocks.write_text(json.dumps(json.loads(blocks.read_text()) | {"digest": "other"}))
    again(root / "fiddle")
    assert stage_of(folder, "6_blocks")["former_digests"] == ["of before 5", "other"]


def test_latest_names_the_dataset_made_last(made):
    root, _ = made
    assert (root / "data/latest").resolve().name == "fiddle"


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz"])
def test_same_files_from_folder_zip_and_tar(tmp_path, tune_files, kind):
    path = tmp_path / f"music.{kind}" if kind != "folder" else tmp_path / "music"
    if kind == "folder":
        (path / "sub").mkdir(parents=True)
        for file in tune_files[:3]:
            shutil.copy(file, path / "sub")
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in reversed(tune_files[:3]):
                archive.write(file, f"sub/{file.name}")
    else:
        with tarfile.open(path, "w:gz") as archive:
            for file in tune_files[:3]:
                archive.add(file, f"sub/{file.name}")
    source = open_source(str(path), tmp_path)
    assert source.name == "music"
    read = {member.name: midi for member, midi in source.read(source.members())}
    assert read == {f"sub/{file.name}": file.read_bytes() for file in tune_files[:3]}


def test_bad_sources_are_one_clear_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "words.zip", "w") as archive:
        archive.writestr("readme.txt", "no music here")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "words.zip").read_bytes()[:-9])
    for source, message in {
        tmp_path / "empty": "contains no music",
        tmp_path / "words.zip": "contains no music",
        tmp_path / "cut.zip": "cannot be read: damaged or cut off",
        tmp_path / "nowhere": "does not exist",
    }.items():
        assert pipeline.main([str(source), "--data-root", str(tmp_path / "data")]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert str(source) in error
        assert error.count("\n") == 1
    with pytest.raises(SourceError, match="contains no music"):
        open_source(str(tmp_path / "empty"), tmp_path).members()


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("tokns: {}", "nearest known key is 'tokens'"),
        ("filter: {min_note: 3}", "nearest known key is 'min_notes'"),
        ("- a list", "expected keys"),
    ],
)
def test_misspelt_setting_names_the_nearest(tmp_path, yaml, message, capsys):
    config = tmp_path / "data_x.yaml"
    config.write_text(yaml)
    assert pipeline.main([str(tmp_path), "--config", str(config)]) == 2
    assert message in capsys.readouterr().err


def test_missing_preset_names_those_there_are(tmp_path, capsys):
    (tmp_path / "data_char.yaml").touch()
    assert pipeline.main([".", "--config", str(tmp_path / "data_chr.yaml")]) == 2
    assert "data_char.yaml" in capsys.readouterr().err


def test_silence_at_the_ends_is_cut_and_silent_voices_go():
    abc = (
        "X:1\nM:4/4\nL:1/16\nQ:1/4=120\nK:C\nV:1\n%%MIDI program 0\nV:2\n%%MIDI program 5\n"
        "V:3\n%%MIDI program 9\n[V:1]z16|\n[V:3][M:3/4]C12|\n[V:1]z12|\n[V:1]D12|\n[V:1]z12|]\n"
    )
    assert clean_abc(abc) == (
        "X:1\nM:3/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\nV:1\n%%MIDI program 0\n"
        "V:2\n%%MIDI program 9\n[V:2]C12|\n[V:1]z12|\n[V:1]D12|]\n"
    )
    assert clean_abc(abc.replace("C12", "z12").replace("D12", "z12")) == ""


def test_measures_count_notes_bars_and_seconds(chorale):
    counts = measure(midi_to_abc(chorale))
    assert counts["n_bars"] == 4 * 29
    assert counts["n_notes"] == Score.from_midi(chorale).note_num()
    assert counts["n_seconds"] == pytest.approx(29 * 3 * 0.5)


def test_transposed_copy_at_another_tempo_is_a_duplicate(chorale):
    other = Score.from_midi(chorale)
    for track in other.tracks:
        track.shift_pitch(3, inplace=True)
        track.program = 19
    other.tempos[0].mspq = 400_000
    same = [measure(midi_to_abc(midi))["fingerprint"] for midi in (chorale, other.dumps_midi())]
    assert same[0] == same[1]
    other.tracks[-1].notes.pop()
    assert measure(midi_to_abc(other.dumps_midi()))["fingerprint"] != same[0]


def test_filter_names_its_reason():
    row = {"n_notes": 100, "gzip_ratio": 0.5}
    assert drop_reason(row, FilterSettings()) is None
    assert drop_reason(row | {"n_notes": 15}, FilterSettings()) == "too_few_notes"
    assert drop_reason(row, FilterSettings(min_gzip_ratio=0.9)) == "too_repetitive"


def test_voices_that_only_repeat_are_left_out_and_the_tune_stays(chorale):
    abc = midi_to_abc(chorale)
    tune = parse_tune(abc)
    loop = replace(tune.voices[0], bars=["C8C8"] * tune.n_bars)
    with_loop = print_tune(replace(tune, voices=[*tune.voices, loop], pickup=None))
    assert len(parse_tune(keep_informative_voices(with_loop, 0.2)).voices) == 4
    assert keep_informative_voices(abc, 0.2) == abc
    assert keep_informative_voices(abc, 2.0) == ""


def test_description_holds_the_counts_of_every_stage(made, tmp_path, capsys):
    root, _ = made
    assert describe.main([str(root / "data" / "fiddle" / "tiny"), str(tmp_path)]) == 0
    corpus = json.loads((tmp_path / "corpus.json").read_text())
    assert corpus["1_abc"]["dropped"] == {"not_midi": 1}
    assert corpus["3_filtered"]["dropped"]["duplicate"] >= 1
    splits = corpus["4_split"]["splits"].values()
    assert sum(split["n_songs"] for split in splits) == corpus["3_filtered"]["rows_out"]
    assert describe.main([str(tmp_path), str(tmp_path)]) == 2
    assert "run `make data`" in capsys.readouterr().err


def test_speeds_of_a_conversion_that_was_taken_over_are_refused(made, tmp_path, capsys):
    root, command = made
    config = root / "data_linked.yaml"
    config.write_text(CONFIG + "filter: {min_notes: 17}\n")
    command = [part if part != str(root / "data_tiny.yaml") else str(config) for part in command]
    assert pipeline.main([*command, "--workers", "1"]) == 0
    assert describe.main([str(root / "data/fiddle/linked"), str(tmp_path)]) == 2
    assert "converted 0 of" in capsys.readouterr().err
    assert not (tmp_path / "corpus.json").exists()


def test_split_depends_on_the_cluster_alone_and_keeps_its_shares():
    settings = SplitSettings(validation=0.1, test=0.2)
    splits = Counter(split_of(str(cluster), settings) for cluster in range(5000))
    assert splits["validation"] / 5000 == pytest.approx(0.1, abs=0.02)
    assert splits["test"] / 5000 == pytest.approx(0.2, abs=0.02)


def test_failed_file_is_a_row_with_its_reason():
    row = convert_file("page.mid", b"<html>", "bars")
    assert row["abc"] is None
    assert row["drop_reason"] == "not_midi"
    assert "MThd" in row["message"]


def test_byte_pair_tokens_are_lossless_shorter_and_stay_within_lines(made):
    root, _ = made
    texts = [row["abc"] for row in rows(root, "4_split", "train")]
    tokenizer = train_tokenizer(texts, TokenSettings("bpe", 300), 64)
    assert len(tokenizer) == 300
    for row in rows(root, "4_split", "test"):
        ids = tokenizer(row["abc"])["input_ids"]
        assert tokenizer.decode(ids) == row["abc"]
        assert len(ids) < 0.6 * len(row["abc"])
    assert not [token for token in tokenizer.get_vocab() if "\n" in token[:-1]]


def test_char64_has_64_tokens_at_most_and_counts_what_it_cannot_write():
    common = "".join(map(chr, range(100, 161)))
    tokenizer = train_tokenizer([common * 3, "\u00b6 rare"], TokenSettings("char64"), 64)
    assert len(tokenizer) == 64
    assert tokenizer.decode(tokenizer(common)["input_ids"]) == common
    assert tokenizer("\u00b6")["input_ids"] == [tokenizer.unk_token_id]


def test_songs_of_too_few_or_too_many_tokens_are_left_out_and_counted(made, tmp_path, capsys):
    root, command = made
    config = root / "data_short.yaml"
    config.write_text(CONFIG + "tokens: {min_tokens: 400, max_tokens: 700}\n")
    command = [part if part != str(root / "data_tiny.yaml") else str(config) for part in command]
    assert pipeline.main([*command, "--workers", "1", "--dataset", "short"]) == 0
    folder = root / "data" / "short" / "short"
    stage = json.loads((folder / "5_tokens" / "stage.json").read_text())
    train = stage["splits"]["train"]
    lengths = [
        len(ids) for ids in pq.read_table(folder / "5_tokens" / "train.parquet")["input_ids"]
    ]
    assert lengths
    assert min(lengths) >= 400
    assert max(lengths) <= 700
    assert train["n_songs"] + train["n_too_few_tokens"] + train["n_too_many_tokens"] == len(
        pq.read_table(folder / "4_split" / "train.parquet")
    )


def test_note_tokens_keep_notes_whole_and_are_lossless(made):
    root, _ = made
    texts = [row["abc"] for row in rows(root, "4_split", "train")]
    tokenizer = train_tokenizer(texts, TokenSettings("note"), 64)
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("^C,3/2[EG]c'4-")["input_ids"])
    assert pieces[-4:] == ["]", "c'", "4", "-"]
    for row in rows(root, "4_split", "test"):
        assert tokenizer.decode(tokenizer(row["abc"])["input_ids"]) == row["abc"]
    rare = "^c''''"  # in no tune: written in characters
    assert tokenizer.decode(tokenizer(rare)["input_ids"]) == rare
    assert len(tokenizer(rare)["input_ids"]) > 1


def test_damaged_member_of_an_archive_costs_one_file(tmp_path, tune_files):
    path = tmp_path / "music.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in tune_files[:3]:
            archive.write(file, file.name)
    content = path.read_bytes()
    second = content.index(tune_files[1].read_bytes()[20:60])
    path.write_bytes(content[:second] + b"\xff" * 9 + content[second + 9 :])
    source = open_source(str(path), tmp_path)
    read = dict(source.read(source.members()))
    reasons = [midi.reason for midi in read.values() if isinstance(midi, MidiError)]
    assert reasons == ["unreadable_member"]
    assert sum(isinstance(midi, bytes) for midi in read.values()) == 2


def test_tar_with_a_name_twice_gives_both_files(tmp_path, tune_files):
    path = tmp_path / "music.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file in (tune_files[0], tune_files[1]):
            archive.add(file, "same.mid")
    source = open_source(str(path), tmp_path)
    read = [midi for _, midi in source.read(source.members())]
    assert read == [file.read_bytes() for file in tune_files[:2]]


def test_file_name_that_is_no_unicode_is_kept_readable(tune_files):
    row = convert_file("caf\udce9.mid", tune_files[0].read_bytes(), "bars")
    assert row["path"] == "caf\ufffd.mid"


@pytest.mark.parametrize("name", ["latest", "music21"])
def test_names_that_are_taken_are_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(SourceError, match="a reserved name"):
        open_source(str(tmp_path / name), tmp_path)
    assert open_source(str(tmp_path / name), tmp_path, "mine").name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filter: {min_notes: many}", "min_notes is 'many', expected int"),
        ('split: {validation: "0.05"}', "expected float"),
        ("split: {validation: 2.0}", "sum is below 1"),
        ("blocks: {block_length: 0}", "expected 2 or more"),
        ("blocks: {block_length: 2.5e2}", "expected int"),
        ("tokens: {tokenizer: bpe}", "vocab_size is 0"),
        ("tokens: {tokenizer: words}", "expected one of"),
        ("split: [", "is not valid YAML"),
    ],
)
def test_setting_out_of_range_says_what_was_found_and_expected(tmp_path, text, message):
    (tmp_path / "data_x.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_settings(tmp_path / "data_x.yaml")


def files_of(folder, *others):
    """The bytes of all files of a dataset, but for what is of the machine."""
    others = {"measured.json", *others}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in others and "1_abc" not in path.parts
    }


@pytest.fixture
def in_many_parts(monkeypatch):
    monkeypatch.setattr("data_prep.shards.shard_files.SHARD_FILES", 8)
    monkeypatch.setattr("data_prep.corpus.FILES_A_PART", 2)


def test_parts_and_workers_change_no_song_and_no_byte(made, in_many_parts):
    root, command = made
    one, two = (root / name / "fiddle/tiny" for name in ("one", "two"))
    assert pipeline.main([*command, "--workers", "1", "--data-root", str(root / "one")]) == 0
    assert pipeline.main([*command, "--workers", "2", "--data-root", str(root / "two")]) == 0
    assert len(list((one / "2_clean").glob("*.parquet"))) > 2
    assert files_of(one) == files_of(two)
    whole = root / "data/fiddle/tiny"
    for file in ("6_blocks/train.npy", "5_tokens/tokenizer.json"):
        assert (one / file).read_bytes() == (whole / file).read_bytes()
    said = json.loads((one / "measured.json").read_text())
    assert set(said) == {"1_abc", "2_clean", "3_filtered", "4_split", "5_tokens", "6_blocks"}


def test_pipeline_that_is_killed_goes_on_to_the_same_bytes(made):
    """Killed at random moments of its work; KILLS=20 for a longer trial."""
    root, command = made
    chance = random.Random(int(os.environ.get("KILL_SEED", "0")))
    command = [*command, "--workers", "2", "--data-root", str(root / "killed")]
    folder = root / "killed/fiddle/tiny"
    for _ in range(int(os.environ.get("KILLS", "2"))):
        before = changes(folder)
        process = forkserver(DATA).Process(target=run_pipeline, args=(command,))
        process.start()
        while changes(folder) == before and process.is_alive():
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 3.0))
        process.kill()
        process.join()
        if (folder / "6_blocks").exists():
            shutil.rmtree(folder / chance.choice(["2_clean", "3_filtered", "4_split", "5_tokens"]))
    command = [sys.executable, "-m", "data_prep.pipeline", *command, "--workers", "1"]
    subprocess.run(command, cwd=CONFIGS.parent, check=True, capture_output=True)
    assert files_of(folder) == files_of(root / "data/fiddle/tiny")
    assert not list(folder.glob("*.part"))


def run_pipeline(command):
    """In a new process: the command, with workers that come from where it does."""
    reuse_server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.storage.stages.get_context", lambda _: forkserver(DATA))
        pipeline.main(command)


def changes(folder):
    """What lies in a folder, and when it was last written to."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            found[path] = path.stat().st_mtime_ns
    return found


def test_flipped_byte_is_one_clear_line_and_is_made_good(made, capsys):
    root, command = made
    command = [*command, "--workers", "1", "--data-root", str(root / "flipped")]
    folder = root / "flipped/fiddle/tiny"
    assert pipeline.main(command) == 0
    before = files_of(folder)
    for damaged, stage_after in {
        next((folder / "1_abc").glob("*.parquet")): "2_clean",
        next((folder / "2_clean").glob("*.parquet")): "3_filtered",
        folder / "4_split/train.parquet": "5_tokens",
        folder / "5_tokens/train.parquet": "6_blocks",
    }.items():
        data = bytearray(damaged.read_bytes())
        data[len(data) // 2] ^= 1
        damaged.write_bytes(data)
        shutil.rmtree(folder / stage_after)
        capsys.readouterr()
        assert pipeline.main(command) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert str(damaged) in error
        assert "remove it and repeat the command" in error
        damaged.unlink()
        assert pipeline.main(command) == 0
        assert files_of(folder) == before


def test_few_validation_songs_are_warned_of(made, caplog):
    _, command = made
    assert pipeline.main([*command, "--workers", "1", "--dataset", "few"]) == 0
    assert "validation songs, fewer than 300" in caplog.text


def test_capped_song_ends_at_its_last_whole_bar(chorale):
    tune = parse_tune(midi_to_abc(chorale))
    whole = print_tune(tune)
    for cap in (400, 500, 700, len(whole) - 1):
        cut = print_tune(cut_tune(tune, cap))
        assert len(cut) <= cap
        bars = [line for line in cut.splitlines() if line.startswith("[V:")]
        rest = [line for line in whole.splitlines() if line.startswith("[V:")]
        assert [bar.rstrip("]") for bar in bars[:-1]] == rest[: len(bars) - 1]
        assert len(cut) + len(rest[len(bars)]) + 2 > cap  # one more would not fit
        assert clean_abc(cut) == cut
    assert cut_tune(tune, 10).n_bars == 0


def test_tie_over_the_cut_ends_there():
    abc = (
        "X:1\nM:4/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\nV:1\n%%MIDI program 0\n"
        "V:2\n%%MIDI program 5\n[V:1][CE]16-|[V:2]D16|\n[V:1][CE]16|[V:2]z8D8|]\n"
    )
    cut = print_tune(cut_tune(parse_tune(abc), len(abc) - 5))
    assert cut.endswith("\n[V:1][CE]16|[V:2]D16|]\n")


def test_song_whose_first_bar_is_beyond_the_cap_is_counted(chorale):
    settings = replace(load_settings(CONFIGS / "data/char.yaml"), clean=CleanSettings(max_chars=50))
    row = clean_row({"abc": midi_to_abc(chorale), "path": "x"}, settings)
    assert row["drop_reason"] == "first_bar_too_long"


def test_capped_songs_are_told_apart_by_their_whole(chorale):
    abc = midi_to_abc(chorale)
    capped = load_settings(CONFIGS / "data/study_cpu.yaml")
    capped = replace(capped, clean=CleanSettings(max_chars=500))
    whole = clean_row({"abc": abc, "path": "x"}, load_settings(CONFIGS / "data/char.yaml"))
    cut = clean_row({"abc": abc, "path": "x"}, capped)
    assert list(cut["figures"]) == list(whole["figures"])
    assert cut["n_chars"] == len(cut["abc"]) <= 500 < whole["n_chars"]
    assert cut["n_notes"] < whole["n_notes"]


def test_copies_in_other_keys_are_in_train_alone(made, tmp_path):
    root, command = made
    config = root / "data_keys.yaml"
    config.write_text(CONFIG + "augment: {copies: 2, tempo_jitter: 0.1}\n")
    command = [part if part != str(root / "data_tiny.yaml") else str(config) for part in command]
    assert pipeline.main([*command, "--workers", "1"]) == 0
    splits = stage_of(root / "data/fiddle/keys", "5_tokens")["splits"]
    songs = stage_of(root / "data/fiddle/keys", "4_split")["splits"]
    assert splits["train"]["n_copies"] == 2 * songs["train"]["n_songs"]
    assert splits["train"]["n_songs"] == 3 * songs["train"]["n_songs"]
    for held_out in ("validation", "test"):
        assert splits[held_out]["n_copies"] == 0
        assert splits[held_out]["n_songs"] == songs[held_out]["n_songs"]
    encoded = pq.read_table(root / "data/fiddle/keys/5_tokens/train.parquet").to_pylist()
    assert [row["digest"] for row in encoded[:3]] == [encoded[0]["digest"]] * 3
    assert len({tuple(row["input_ids"]) for row in encoded[:3]}) == 3


def test_copies_of_stripped_text_are_refused(tmp_path):
    config = tmp_path / "data_x.yaml"
    config.write_text("clean: {strip_directives: true}\naugment: {copies: 1}\n")
    with pytest.raises(ValueError, match="expected only one of them"):
        load_settings(config)


def stage_of(folder, name):
    return json.loads((folder / name / "stage.json").read_text())


def as_rows(*texts):
    """Rows as the conversion leaves them."""
    columns = {"n_voices": 9, "programs": [99], "has_drums": True}
    rows = [
        {**columns, "digest": f"{n:064x}", "path": f"{n}.mid", "abc": abc, "message": None}
        for n, abc in enumerate(texts)
    ]
    table = pa.Table.from_pylist([row | {"drop_reason": None} for row in rows])
    reasons = pa.array([None] * len(rows), pa.string())
    names = table.column_names
    table = table.set_column(names.index("drop_reason"), "drop_reason", reasons)
    return Dataset(table.set_column(names.index("message"), "message", reasons))


def test_tune_that_cannot_be_read_is_dropped_among_others(chorale):
    good = midi_to_abc(chorale)
    settings = load_settings(CONFIGS / "data/char.yaml")
    kept, dropped = clean_rows(as_rows(good, "no abc", good), settings)
    assert dropped == {"unreadable_abc": 1}
    assert kept["abc"] == [good, good]
    assert kept["n_voices"] == [4, 4]
    assert not any(kept["has_drums"])


def test_tracks_that_only_repeat_leave_a_tune_measured_anew(chorale):
    tune = parse_tune(midi_to_abc(chorale))
    loop = replace(tune.voices[0], program=40, bars=["C8C8"] * tune.n_bars)
    with_loop = print_tune(replace(tune, voices=[*tune.voices, loop], pickup=None))
    settings = load_settings(CONFIGS / "data/tracks.yaml")
    cleaned, _ = clean_rows(as_rows(with_loop, midi_to_abc(chorale)), settings)
    kept, dropped = filter_rows(cleaned, settings)
    assert not dropped
    assert cleaned["n_voices"] == [5, 4]
    assert kept["n_voices"] == [4, 4]
    assert 40 not in kept["programs"][0]
    assert kept["n_notes"][0] < cleaned["n_notes"][0]
    assert kept["n_chars"] == [len(abc) for abc in kept["abc"]]
