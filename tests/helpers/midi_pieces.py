"""MIDI files with any notes, meters and tempos, for properties that must hold for any music."""

from hypothesis import strategies as st
from symusic import Note, Score, Tempo, TimeSignature, Track

TPQ = 480
STEPS = {"sixteenths": 120, "triplets": 160, "thirty-seconds": 60, "played": 7}


@st.composite
def tracks(draw: st.DrawFn) -> Track:
    """Notes of one instrument, on or off a grid, that may overlap and repeat."""
    step = STEPS[draw(st.sampled_from(sorted(STEPS)))]
    ticks = st.integers(0, 3000 // step * 4)
    rows = draw(st.lists(st.tuples(ticks, ticks, st.integers(0, 127)), min_size=1, max_size=40))
    track = Track("", draw(st.integers(0, 127)), draw(st.booleans()))
    for onset, length, pitch in rows:
        track.notes.append(Note(onset * step, max(1, length * step), pitch, 80))
    return track


@st.composite
def pieces(draw: st.DrawFn) -> bytes:
    """A MIDI file with some tracks and any meters and tempos at any time."""
    score = Score(TPQ)
    for track in draw(st.lists(tracks(), min_size=1, max_size=4)):
        score.tracks.append(track)
    times = st.one_of(st.integers(0, 20).map(lambda beat: beat * TPQ), st.integers(0, 9999))
    for time in draw(st.lists(times, max_size=3)):
        numerator, denominator = draw(st.integers(1, 13)), 2 ** draw(st.integers(0, 5))
        score.time_signatures.append(TimeSignature(time, numerator, denominator))
    for time in draw(st.lists(times, max_size=3)):
        score.tempos.append(Tempo(time, mspq=draw(st.integers(1, 2_000_000))))
    return score.dumps_midi()
