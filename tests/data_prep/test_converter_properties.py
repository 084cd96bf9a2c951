"""What must hold for any music, on generated tunes."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from midi_pieces import pieces
from symusic import Note, Score, Track

from data_prep.dialect.abc_to_midi import abc_to_midi, perform
from data_prep.dialect.tune import print_tune
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi_to_abc.converter import midi_to_abc

many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def melodies(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """(onset, length, pitch) in ticks of 1/48 quarter: one after another, a grid for each beat."""
    rows = []
    for beat in range(draw(st.integers(1, 12))):
        step = draw(st.sampled_from([48, 24, 12, 16, 6]))
        for slot in range(48 // step):
            if draw(st.booleans()):
                rows.append((beat * 48 + slot * step, step, draw(st.integers(0, 127))))
    return [(0, 48, 60), *((onset + 48, length, pitch) for onset, length, pitch in rows)]


@many
@given(pieces())
def test_text_is_a_fixed_point_and_both_layouts_are_the_same_music(midi):
    abc = midi_to_abc(midi)
    tune = parse_tune(abc)
    assert not perform(tune).bar_errors
    back = abc_to_midi(abc)
    assert midi_to_abc(back) == abc
    voices = print_tune(tune, "voices")
    assert abc_to_midi(voices) == back
    assert print_tune(parse_tune(voices), "bars") == abc
    assert print_tune(parse_tune(voices), "voices") == voices


@many
@given(melodies())
def test_music_on_the_grid_comes_back_note_for_note(rows):
    score = Score(48)
    track = Track("", 0, False)
    for onset, length, pitch in rows:
        track.notes.append(Note(onset, length, pitch, 80))
    score.tracks.append(track)
    back = Score.from_midi(abc_to_midi(midi_to_abc(score.dumps_midi()))).resample(48)
    read = sorted((note.time, note.end, note.pitch) for note in back.tracks[0].notes)
    assert len(read) == len(rows)
    for (onset, length, pitch), (time, end, pitch_read) in zip(rows, read, strict=True):
        assert (time, pitch_read) == (onset, pitch)
        assert abs(end - onset - length) <= 12  # releases may move by up to a sixteenth
