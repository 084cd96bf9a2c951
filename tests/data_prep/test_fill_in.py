"""Train songs in fill-in form: prefix, suffix, middle at bar lines."""

import json
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from data_prep import pipeline
from data_prep.dialect.notation import FILL_IN_TOKENS, header_at
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.settings import load_settings
from data_prep.tokens.fill_in import FillInSettings, is_chosen, passages

SETTINGS = FillInSettings(share=0.5)
MARKS = 5  # tokens around the three parts
BLOCK = 192
PRESET = f"split: {{validation: 0.15, test: 0.15}}\nblocks: {{block_length: {BLOCK}}}\n"


@pytest.fixture(scope="module")
def songs(tune_files, chorale):
    return [
        midi_to_abc(midi) for midi in [chorale, *(file.read_bytes() for file in tune_files[:20])]
    ]


def cut(abc, most_tokens=BLOCK, settings=SETTINGS, digest="song"):
    return list(passages(abc, digest, most_tokens, len, settings))


def bars_of(text):
    return [line for line in text.splitlines(keepends=True) if line.startswith("[V:")]


def test_passages_hold_the_song_bar_by_bar_and_fit_a_block(songs):
    for abc in songs:
        found = cut(abc)
        bars = [bar for each in found for bar in bars_of(each.prefix + each.middle + each.suffix)]
        longest = BLOCK - MARKS - len("16\n") - len(abc[: abc.find("\n[V:") + 1])
        assert bars == [bar for bar in bars_of(abc) if len(bar) <= longest]
        for each in found:
            assert len(each.prefix + each.suffix + each.middle_text) + MARKS <= BLOCK
            count, _, middle = each.middle_text.partition("\n")
            assert 1 <= int(count) == len(bars_of(middle)) <= SETTINGS.most_bars


def test_middles_are_drawn_over_all_lengths_and_places(songs):
    settings = FillInSettings(share=0.5, most_bars=6)
    found = [
        each
        for number in range(20)
        for abc in songs[1:8]
        for each in cut(abc, 1000, settings, str(number))
    ]
    assert {each.middle.count("\n") for each in found} == set(range(1, 7))
    assert any(not bars_of(each.prefix) for each in found)
    assert any(not each.suffix for each in found)
    assert cut(songs[1]) == cut(songs[1]) != cut(songs[1], digest="another")


def test_the_header_of_a_passage_names_the_meter_and_tempo_in_force():
    head = "X:1\nM:4/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\nV:1\n%%MIDI program 0\n"
    bars = ["[V:1]C16|\n", "[V:1][M:3/4][Q:1/4=90]C12|\n", "[V:1]D12|\n", "[V:1][M:2/4]E8|]\n"]
    at_third = header_at(head, "".join(bars[:2]))
    assert at_third == head.replace("M:4/4", "M:3/4").replace("1/4=120", "1/4=90")
    room = len(head) + MARKS + len("16\n") + len(bars[1])
    found = cut(head + "".join(bars), room)
    assert [len(bars_of(each.prefix + each.middle + each.suffix)) for each in found] == [1, 1, 2]
    heads = [each.prefix[: each.prefix.find("%%MIDI")] for each in found]
    assert [head[4:9] for head in heads] == ["M:4/4", "M:4/4", "M:3/4"]
    assert ["1/4=90" in head for head in heads] == [False, False, True]


def test_the_share_of_songs_is_drawn_by_digest():
    digests = [f"{n:064x}" for n in range(2000)]
    assert 0.46 < np.mean([is_chosen(digest, SETTINGS) for digest in digests]) < 0.54
    assert not any(is_chosen(digest, FillInSettings()) for digest in digests)
    assert all(is_chosen(digest, FillInSettings(share=1.0)) for digest in digests)


@pytest.fixture(scope="module")
def made(tmp_path_factory, tune_files):
    """The same music with and without fill-in: folder -> presets `plain`, `filled`."""
    root = tmp_path_factory.mktemp("fill_in")
    music = root / "fiddle"
    music.mkdir()
    for file in tune_files:
        shutil.copy(file, music)
    for name, more in (("plain", ""), ("filled", "fill_in: {share: 0.5}\n")):
        preset = root / f"{name}.yaml"
        preset.write_text(PRESET + more)
        command = [str(music), "--config", str(preset), "--data-root", str(root / "data")]
        assert pipeline.main([*command, "--workers", "1"]) == 0
    return root / "data" / "fiddle"


def told(made, preset, stage):
    return json.loads((made / preset / stage / "stage.json").read_text())


def test_only_the_train_split_changes_and_the_vocabulary_has_three_tokens_more(made):
    plain, filled = (told(made, preset, "5_tokens") for preset in ("plain", "filled"))
    assert filled["vocab_size"] == plain["vocab_size"] + 3
    for split in ("validation", "test"):
        assert filled["splits"][split] == plain["splits"][split]
        columns = [
            pq.read_table(made / preset / "5_tokens" / f"{split}.parquet")["input_ids"]
            for preset in ("plain", "filled")
        ]
        assert columns[0] == columns[1]
    assert "fill_in" not in plain["settings"]
    train = filled["splits"]["train"]
    assert 0 < train["n_fill_in_songs"] < train["n_songs"] == plain["splits"]["train"]["n_songs"]


def test_a_tokenizer_without_fill_in_has_no_such_tokens(made):
    for preset, has in (("plain", False), ("filled", True)):
        tokenizer = AutoTokenizer.from_pretrained(made / preset / "5_tokens")
        ids = tokenizer.convert_tokens_to_ids(list(FILL_IN_TOKENS))
        assert (tokenizer.unk_token_id not in ids) == has


def test_no_block_cuts_a_passage(made):
    tokenizer = AutoTokenizer.from_pretrained(made / "filled" / "5_tokens")
    blocks = np.load(made / "filled" / "6_blocks" / "train.npy")
    assert blocks.shape[1] == BLOCK
    whole = re.compile(
        r"<\|endoftext\|><fim_prefix>X:1\n[^<]*<fim_suffix>[^<]*<fim_middle>\d+\n[^<]*<\|endoftext\|>"
    )
    n_passages = 0
    for block in blocks:
        text = tokenizer.decode(block)
        assert len(whole.findall(text)) == text.count("<fim_prefix>") == text.count("<fim_middle>")
        n_passages += text.count("<fim_prefix>")
    assert n_passages == told(made, "filled", "5_tokens")["splits"]["train"]["n_passages"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fill_in: {share: 1.5}", "share is 1.5, expected 0 to 1"),
        ("fill_in: {most_bars: 0}", "most_bars is 0, expected 1 or more"),
        ("fill_in: {rate: 0.5}", "unknown key 'rate'; the nearest known key is 'share'"),
        (
            "fill_in: {share: 0.5}\nclean: {strip_directives: true}",
            "fill_in.share needs whole headers",
        ),
    ],
)
def test_impossible_settings_are_one_clear_error(tmp_path, text, message):
    preset = tmp_path / "preset.yaml"
    preset.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_settings(preset)
