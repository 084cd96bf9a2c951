import random

import numpy as np
import pytest
from symusic import Note, Score, Track

from data_prep.dialect.abc_to_midi import perform
from data_prep.midi_to_abc.converter import midi_to_tune
from data_prep.selection.clean import fingerprint
from data_prep.selection.duplicates import DuplicateSettings, Sketches, clusters, signature, sketch
from data_prep.selection.split import SplitSettings, split_of

SETTINGS = DuplicateSettings()


def read(midi):
    """The sketch of a file and its exact key."""
    performance = perform(midi_to_tune(midi).tune)
    return signature(performance, SETTINGS), fingerprint(performance)


def cluster(songs, settings=SETTINGS):
    return clusters(
        Sketches.of([figures for figures, _ in songs]), [key for _, key in songs], settings
    )


def arranged(midi):
    """Four semitones up, faster, on other ticks and instruments, its last quarter cut off, in one
    track beside drums that were not there."""
    old = Score.from_midi(midi)
    new = Score(960)
    organ, drums = Track("all", 19, False), Track("drums", 0, True)
    end = old.end() * 3 // 4
    for track in old.tracks:
        for note in track.notes:
            if note.time < end:
                time, duration = note.time * 960 // old.tpq, note.duration * 960 // old.tpq
                organ.notes.append(Note(time, duration, note.pitch + 4, 70))
    for beat in range(0, end * 960 // old.tpq, 960):
        drums.notes.append(Note(beat, 120, 36, 90))
    new.tracks.extend([organ, drums])
    new.tempos = [type(tempo)(0, tempo.mspq * 2 // 3) for tempo in old.tempos[:1]]
    return new.dumps_midi()


@pytest.fixture(scope="module")
def fiddle(tune_files):
    return [read(file.read_bytes()) for file in tune_files]


def test_an_arrangement_is_in_the_cluster_of_its_song(tune_files, chorale):
    songs = [chorale, *(file.read_bytes() for file in tune_files[:20])]
    originals = [read(midi) for midi in songs]
    copies = [read(arranged(midi)) for midi in songs]
    assert not {key for _, key in originals} & {key for _, key in copies}
    ids = cluster(originals + copies)
    assert ids[: len(songs)] == ids[len(songs) :]


def test_different_fiddle_tunes_stay_apart(fiddle):
    assert len(set(cluster(fiddle))) == len(fiddle)


def test_an_excerpt_is_found_in_a_medley(tune_files):
    medley = Score.from_midi(tune_files[0].read_bytes())
    for file in tune_files[1:8]:
        song = Score.from_midi(file.read_bytes()).resample(medley.tpq)
        bars = -(-medley.end() // (4 * medley.tpq)) * 4 * medley.tpq
        for note in song.tracks[0].notes:
            shifted = Note(note.time + bars, note.duration, note.pitch, note.velocity)
            medley.tracks[0].notes.append(shifted)
    ids = cluster([read(tune_files[3].read_bytes()), read(medley.dumps_midi())])
    assert ids[0] == ids[1]


def test_clusters_do_not_depend_on_the_order_of_the_songs(tune_files, fiddle):
    songs = [*fiddle, *(read(arranged(file.read_bytes())) for file in tune_files[:10]), fiddle[4]]
    ids = cluster(songs)
    order = random.Random(1).sample(range(len(songs)), len(songs))
    assert cluster([songs[place] for place in order]) == [ids[place] for place in order]


def test_a_cluster_is_named_after_the_smallest_key_of_its_members(tune_files, fiddle):
    copy = read(arranged(tune_files[0].read_bytes()))
    assert set(cluster([fiddle[0], copy])) == {min(fiddle[0][1], copy[1])}


def test_an_arrangement_lies_in_the_split_of_its_song(tune_files, fiddle):
    copies = [read(arranged(file.read_bytes())) for file in tune_files[:20]]
    shares = SplitSettings(validation=0.3, test=0.3)
    where = [split_of(name, shares) for name in cluster([*fiddle[:20], *copies])]
    assert where[:20] == where[20:]
    assert len(set(where)) == 3


def test_songs_without_figures_join_their_exact_copies_only():
    nothing = np.empty(0, np.uint32)
    few = np.arange(0, 2 * (SETTINGS.min_shared - 1), 2, dtype=np.uint32)
    songs = [(nothing, "c"), (nothing, "b"), (few, "a"), (few, "d"), (nothing, "b")]
    assert cluster(songs) == ["c", "b", "a", "d", "b"]
    assert cluster([]) == []


def test_repeated_notes_and_trills_are_no_figures(tune_files):
    score = Score.from_midi(tune_files[0].read_bytes())
    score.tracks[0].notes = [Note(i * 120, 120, 60 + i % 3, 80) for i in range(400)]
    figures, _ = read(score.dumps_midi())
    assert not len(figures)


def test_figures_that_many_songs_have_join_none():
    rng = np.random.default_rng(0)
    common = 2 * np.arange(40, dtype=np.uint32)
    own = [2 * rng.integers(100, 2**31 // 2, 20).astype(np.uint32) for _ in range(12)]
    songs = [(np.unique(np.concatenate([common, part])), str(i)) for i, part in enumerate(own)]
    assert len(set(cluster(songs))) == 1
    assert len(set(cluster(songs, DuplicateSettings(max_songs=11)))) == 12


def test_a_chain_that_grows_too_long_falls_apart_where_it_is_loose():
    def song(number):
        return 2 * np.arange(number * 50, number * 50 + 100, dtype=np.uint32)

    songs = [(song(number), f"{number:02}") for number in range(30)]  # each has half of the next
    songs.append((song(3)[:-2], "copy of 03"))
    assert set(cluster(songs)) == {"00"}
    ids = cluster(songs, DuplicateSettings(max_cluster=10))
    assert len(set(ids)) == 30
    assert ids[3] == ids[-1]


def test_a_sketch_is_the_same_in_every_process_and_key():
    notes = [60, 62, 64, 65, 67, 69, 71, 72, 74, 76, 77, 76, 74, 72, 69, 65, 62, 60, 64, 67, 72, 76]
    line = np.array(notes)
    for tune in ([line, line[4:]], [line + 5, line[4:] - 9]):
        figures = sketch(tune, SETTINGS)
        assert figures.dtype == np.uint32
        assert figures.tolist() == [1337717691, 1779855700]


@pytest.mark.parametrize(
    "wrong", [{"threshold": 0.0}, {"threshold": 1.1}, {"figure_notes": 2}, {"max_songs": 1}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected at least"):
        DuplicateSettings(**wrong)


def test_signatures_and_keys_must_be_as_many():
    with pytest.raises(ValueError, match="expected one each"):
        clusters(Sketches.of([]), ["a"], SETTINGS)
