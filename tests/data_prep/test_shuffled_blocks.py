"""Blocks of shuffled songs: nothing is lost, passages are whole, any song may begin a block."""

import numpy as np
import pytest

from data_prep.settings import load_settings
from data_prep.tokens.shuffled_blocks import shuffled_songs

END, MARK, T = 0, 1, 16
FIRST = 1_000  # a song's ids: its number, then counting, so that its parts can be told


def songs_of(lengths):
    return [
        np.concatenate([[FIRST + number], np.arange(2, length + 1)])
        for number, length in enumerate(lengths)
    ]


def blocks_of(songs, folder, uncut=None):
    ids = np.concatenate(list(shuffled_songs(songs, END, T, folder, uncut)))
    return ids, ids[: len(ids) - len(ids) % T].reshape(-1, T)


def test_all_ids_are_there_once_and_only_parts_of_songs_are_moved(tmp_path):
    songs = songs_of([3, 40, 14, 15, 1, 16, 100, 30, 7] * 9)
    ids, _ = blocks_of(songs, tmp_path)
    expected = np.concatenate([np.concatenate([[END], song, [END]]) for song in songs])
    assert sorted(ids) == sorted(expected)
    again, _ = blocks_of(songs, tmp_path)
    assert np.array_equal(ids, again)
    # what follows an id in the stream followed it in its song, but at the ends of blocks and songs
    followed = [i for i in range(len(ids) - 1) if ids[i] != END and ids[i + 1] != ids[i] + 1]
    cuts = [i for i in followed if ids[i] < FIRST and ids[i + 1] != END]
    assert len(cuts) <= 2 * len(songs)


def test_a_song_begins_a_block_as_often_if_it_is_short(tmp_path):
    ids, blocks = blocks_of(songs_of([5, 200] * 2_000), tmp_path)
    assert len(ids) > 0
    at_heads = blocks[blocks[:, 0] == END][:, 1]
    short = np.mean((at_heads - FIRST) % 2 == 0)
    assert short == pytest.approx(0.5, abs=0.05)
    numbers = ids[ids >= FIRST] - FIRST
    assert np.mean(np.abs(np.diff(numbers)) == 1) < 0.01  # neighbours are parted


def test_passages_are_never_cut(tmp_path):
    passages = [np.array([MARK, *range(2, 2 + length)]) for length in (3, 8, 13) * 30]
    songs = songs_of([5, 21, 50] * 30)
    _, blocks = blocks_of([*songs, *passages], tmp_path, MARK)
    starts = np.argwhere(blocks == MARK)
    assert len(starts) == len(passages)
    lengths = []
    for row, column in starts:
        after = blocks[row, column:].tolist()
        lengths.append(after.index(END))  # the end token is in the same block
        assert column > 0
        assert blocks[row, column - 1] == END
    assert sorted(lengths) == sorted(map(len, passages))


def test_separator_and_shuffling_exclude_each_other(tmp_path):
    preset = tmp_path / "own.yaml"
    preset.write_text('blocks: {shuffled: true, separator: "\\n\\n"}\n')
    with pytest.raises(ValueError, match="set no separator"):
        load_settings(preset)
