"""The reverse conversion: ABC text of our dialect -> MIDI, for listening and for metrics.

This is our own reader, since no other keeps programs, drums, tempo and meter at once; abc2midi is
its independent reference in tests and benchmarks.
"""

from dataclasses import dataclass

import numpy as np

from ..midi.midi_writer import MidiTrack, write_midi
from .notation import TICKS_PER_QUARTER, AbcError, Segment
from .sounding import bar_starts, join_ties
from .tune import BarError, Meter, Tune, bar_clock, read_bars, seconds
from .tune_parser import parse_tune

MIDI_TICKS_PER_QUARTER = 192
_MAX_TICKS = (2**28 - 1) // (MIDI_TICKS_PER_QUARTER // TICKS_PER_QUARTER)  # of a MIDI delta time


def abc_to_midi(abc: str) -> bytes:
    """Converts one tune, in either layout, to the bytes of a Standard MIDI File (format 1).

    Bars of wrong length are played as written: a longer one pushes the following bars back, a
    shorter one is filled with silence.

    Raises:
        AbcError: With line and column, if the text is not in the dialect.
    """
    return perform(parse_tune(abc)).midi()


@dataclass
class Performance:
    """A tune as it sounds.

    Attributes:
        tune: The tune as read.
        starts: First tick of each bar, and the end of the last.
        voices: Per voice, the chords (onset, end, pitches) in ticks, by onset, ties joined.
        bar_errors: The bars of wrong length.
    """

    tune: Tune
    starts: list[int]
    voices: list[list[tuple[int, int, tuple[int, ...]]]]
    bar_errors: list[BarError]

    @property
    def n_notes(self) -> int:
        """Number of note onsets; each note of a chord counts."""
        return sum(len(pitches) for chords in self.voices for _, _, pitches in chords)

    @property
    def n_seconds(self) -> float:
        """Time of the last bar's end, by the tempo map."""
        return seconds(self.tune, np.diff(self.starts).tolist())

    def timed_notes(self) -> list[tuple[float, int]]:
        """Returns (onset in seconds, MIDI pitch) of all notes, voice by voice."""
        rows = [
            (onset, pitch)
            for chords in self.voices
            for onset, _, pitches in chords
            for pitch in pitches
        ]
        clock = bar_clock(self.tune, np.diff(self.starts).tolist())
        onsets = np.interp([onset for onset, _ in rows], self.starts, clock)
        return list(zip(onsets.tolist(), (pitch for _, pitch in rows), strict=True))

    def midi(self) -> bytes:
        """Returns the tune as a Standard MIDI File, one track per voice."""
        scale = MIDI_TICKS_PER_QUARTER // TICKS_PER_QUARTER
        tempos = [
            (self.starts[bar] * scale, round(60_000_000 / tempo))
            for bar, tempo in self.tune.tempos.items()
            if bar < len(self.starts)
        ]
        meters = self.tune.meters
        if self.tune.pickup and (pickup := Meter.of_ticks(self.tune.pickup)):
            meters = {1: meters[0]} | meters | {0: pickup}  # in MIDI a pickup has its own meter
        signatures = [
            (self.starts[bar] * scale, meter.numerator, meter.denominator)
            for bar, meter in meters.items()
            if bar < len(self.starts)
        ]
        tracks = []
        for voice, chords in zip(self.tune.voices, self.voices, strict=True):
            notes = [(on, end, pitch) for on, end, pitches in chords for pitch in pitches]
            table = np.array(notes, np.int64).reshape(-1, 3)
            table[:, :2] *= scale
            tracks.append(MidiTrack(None if voice.is_drums else voice.program or 0, table))
        return write_midi(MIDI_TICKS_PER_QUARTER, tempos, signatures, tracks)


def perform(tune: Tune) -> Performance:
    """Reads all bars of a tune.

    Raises:
        AbcError: If a bar's text is not in the dialect.
    """
    return perform_bars(tune, *read_bars(tune))


def perform_bars(
    tune: Tune, voices: list[list[list[Segment]]], errors: list[BarError]
) -> Performance:
    """Like `perform`, for bars already read; `voices` and `errors` as `read_bars` returns them."""
    starts = bar_starts(tune, voices)
    if starts[-1] > _MAX_TICKS:
        quarters = starts[-1] // TICKS_PER_QUARTER
        raise AbcError(f"{quarters:,} quarter notes are more than a MIDI file can hold")
    return Performance(tune, starts, [join_ties(bars, starts) for bars in voices], errors)
