"""Where bars, beats and seconds lie in a MIDI file: its time signatures and tempos, on our grid."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from symusic.core import ScoreTick

from .notation import TICKS_PER_QUARTER
from .tune import Meter


class MidiError(ValueError):
    """A MIDI file that is not converted.

    Attributes:
        reason: One of `REASONS`, for counting.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


REASONS = (
    *("not_midi", "unreadable", "no_notes", "too_many_notes", "too_many_bars", "too_long"),
    *("unreadable_member", "too_large"),  # of the archive or folder; see sources.py
)


@dataclass(frozen=True)
class Limits:
    """What a file may ask for. Real files reach 30,000 notes, odd legal ones 10,000 bars."""

    notes: int = 200_000
    bars: int = 20_000
    seconds: float = 6 * 3600.0


LIMITS = Limits()
MAX_TEMPO_DRIFT_SECONDS = 0.015


@dataclass
class BarGrid:
    """Bars and beats in our ticks.

    Attributes:
        starts: (bars + 1,) first tick of each bar, and the end of the last.
        meters: Metre of each bar.
        cells: (cells + 1,) first tick of each beat, counted from each bar's start.
    """

    starts: np.ndarray
    meters: list[Meter]
    cells: np.ndarray

    @classmethod
    def of(cls, score: ScoreTick, limits: Limits) -> BarGrid:
        """Lays the grid; raises `MidiError` where it would have too many bars."""
        scale = TICKS_PER_QUARTER / score.tpq
        end = _music_end(score) * scale
        starts, meters = [0], []
        changes = [change for change in _meter_changes(score, scale) if change[0] < end]
        for place, (start, meter) in enumerate(changes):
            stop = changes[place + 1][0] if place + 1 < len(changes) else end
            full, rest = divmod(max(0, stop - start), meter.ticks)
            last = place + 1 == len(changes)
            n_bars = int(full) + (last and rest > 0)
            if len(meters) + n_bars > limits.bars:
                raise MidiError("too_many_bars", f"more than the limit of {limits.bars:,} bars")
            starts += [starts[-1] + meter.ticks * (bar + 1) for bar in range(n_bars)]
            meters += [meter] * n_bars
            if not last and rest:  # the change cuts a bar short: that bar gets its own metre
                starts.append(int(stop))
                meters.append(_meter_of(int(rest)))
        if not meters:
            starts, meters = [0, changes[-1][1].ticks], [changes[-1][1]]
        cells = [
            start + beat
            for start, meter in zip(starts, meters, strict=False)
            for beat in range(0, meter.ticks, TICKS_PER_QUARTER)
        ]
        return cls(np.array(starts), meters, np.array([*cells, starts[-1]]))


def _music_end(score: ScoreTick) -> float:
    """Returns the MIDI tick up to which bars are needed.

    A key released a little late does not ask for another bar; a note that starts there does.
    """
    late = score.tpq / 8
    notes = [track.notes.numpy() for track in score.tracks if len(track.notes)]
    onset = max(part["time"].max() for part in notes)
    release = max((part["time"] + part["duration"]).max() for part in notes)
    return max(onset + late, release - late)


def _meter_changes(score: ScoreTick, scale: float) -> list[tuple[int, Meter]]:
    """Returns (tick, metre) of each change, on multiples of 12 ticks, the first at 0."""
    changes: dict[int, Meter] = {0: Meter(4, 4)}
    for sign in sorted(score.time_signatures, key=lambda sign: sign.time):
        legal = 0 < sign.numerator < 256 and sign.denominator in (1, 2, 4, 8, 16, 32)
        if legal:
            tick = round(sign.time * scale / 12) * 12
            changes[tick] = Meter(sign.numerator, sign.denominator)
    merged: list[tuple[int, Meter]] = []
    for tick, meter in sorted(changes.items()):
        if not merged or merged[-1][1] != meter:
            merged.append((tick, meter))
    return merged


def _meter_of(ticks: int) -> Meter:
    """Returns the simplest metre of `ticks` ticks, in quarters where that goes."""
    share = Fraction(ticks, 4 * TICKS_PER_QUARTER)
    denominator = max(4, share.denominator)
    return Meter(int(share * denominator), denominator)


def bar_tempos(score: ScoreTick, grid: BarGrid, limits: Limits) -> dict[int, Fraction]:
    """Returns bar -> quarters a minute, in quarters of a beat, where it changes.

    Inside a bar the mean tempo is taken. A tempo is kept until the bar lines would be more than
    15 ms from where the file has them.
    """
    scale = TICKS_PER_QUARTER / score.tpq
    changes = sorted({tempo.time * scale: tempo.mspq for tempo in score.tempos}.items())
    times = np.array([0.0] + [time for time, _ in changes if time > 0])
    first = [mspq for time, mspq in changes if time <= 0][-1:] or [500_000]
    spans = np.array(first + [mspq for time, mspq in changes if time > 0]) / 1e6
    clock = np.concatenate([[0.0], np.cumsum(np.diff(times) * spans[:-1])])
    place = np.searchsorted(times, grid.starts, side="right") - 1
    seconds = (clock[place] + (grid.starts - times[place]) * spans[place]) / TICKS_PER_QUARTER
    quarters = np.diff(grid.starts) / TICKS_PER_QUARTER
    out: dict[int, Fraction] = {}
    current, written = 0, 0.0  # quarter beats a minute; seconds as the text plays them
    for bar, (length, end) in enumerate(zip(quarters, seconds[1:], strict=True)):
        true = 240 * length / max(end - seconds[bar], 1e-6)
        choices = [min(max(int(true) + up, 4), 99_999) for up in (0, 1)]
        drifts = {tempo: abs(written + 240 * length / tempo - end) for tempo in choices}
        if drifts.get(current, np.inf) > MAX_TEMPO_DRIFT_SECONDS:
            best = min(choices, key=drifts.__getitem__)
            if best != current:
                current = best
                out[bar] = Fraction(current, 4)
        written += 240 * length / current
    if written > limits.seconds:
        raise MidiError("too_long", f"{written:,.0f} seconds, limit {limits.seconds:,.0f}")
    return out
