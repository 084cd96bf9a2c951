"""The way back: ABC text of our dialect -> MIDI, for listening and for metrics.

Our own reader, since no other keeps programs, drums, tempo and metre at once; abc2midi is its
independent referee in tests and benchmarks.
"""

from __future__ import annotations

from symusic import Note, Score, Tempo, TimeSignature, Track
from symusic.core import ScoreTick

from .notation import TICKS_PER_QUARTER, Segment
from .tune import Tune, parse_tune, read_bars

MIDI_TICKS_PER_QUARTER = 480
VELOCITY = 80


def abc_to_midi(abc: str) -> bytes:
    """Converts one tune, in either layout, to the bytes of a Standard MIDI File (format 1).

    Bars of wrong length are played as written: a longer one pushes the following bars back, a
    shorter one is filled with silence.

    Raises:
        AbcError: With line and column, where the text leaves the dialect.
    """
    return abc_to_score(abc).dumps_midi()


def abc_to_score(abc: str) -> ScoreTick:
    """Converts one tune to a symusic score; see `abc_to_midi`."""
    tune = parse_tune(abc)
    voices, _ = read_bars(tune)
    starts = _bar_starts(tune, voices)
    scale = MIDI_TICKS_PER_QUARTER // TICKS_PER_QUARTER
    score = Score(MIDI_TICKS_PER_QUARTER)
    for bar, tempo in sorted(tune.tempos.items()):
        if bar <= tune.n_bars:
            score.tempos.append(Tempo(starts[bar] * scale, mspq=round(60_000_000 / tempo)))
    for bar, meter in sorted(tune.meters.items()):
        if bar <= tune.n_bars:
            score.time_signatures.append(
                TimeSignature(starts[bar] * scale, meter.numerator, meter.denominator)
            )
    for number, (voice, bars) in enumerate(zip(tune.voices, voices, strict=True), 1):
        track = Track(str(number), voice.program or 0, voice.is_drums)
        for onset, end, pitches in join_ties(bars, starts):
            for pitch in pitches:
                track.notes.append(Note(onset * scale, (end - onset) * scale, pitch, VELOCITY))
        score.tracks.append(track)
    return score


def _bar_starts(tune: Tune, voices: list[list[list[Segment]]]) -> list[int]:
    """Returns the first tick of each bar, and the end of the last."""
    starts = [0]
    for bar, meter in enumerate(tune.bar_meters()):
        ends = [bars[bar][-1].end for bars in voices if bars[bar]]
        pickup = bar == 0 and len(set(ends)) == 1
        starts.append(starts[-1] + (ends[0] if pickup else max([meter.ticks, *ends])))
    return starts


def join_ties(
    bars: list[list[Segment]], starts: list[int]
) -> list[tuple[int, int, tuple[int, ...]]]:
    """Returns the sounding chords of a voice: (onset, end, pitches) in ticks, sorted by onset.

    A tie joins to the next element if that is the same pitches and follows at once; else it is
    ignored, as abc2midi does with a warning.
    """
    out: list[tuple[int, int, tuple[int, ...]]] = []
    open_tie = False
    for start, segments in zip(starts, bars, strict=False):
        for segment in segments:
            onset, end = start + segment.start, start + segment.end
            last = out[-1] if out else None
            if open_tie and last and last[1] == onset and last[2] == segment.pitches:
                out[-1] = (last[0], end, last[2])
            elif segment.pitches:
                out.append((onset, end, segment.pitches))
            open_tie = segment.tied and bool(segment.pitches)
    return out
