"""Bars, beats and seconds of a MIDI file: its time signatures and tempos, on our grid."""

import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import numpy as np

from ..dialect.notation import DENOMINATORS, SHORTEST_TICKS, TICKS_PER_QUARTER, TICKS_PER_UNIT
from ..dialect.tune import MICROSECONDS, Meter, playable_tempo
from ..midi.limits import Limits, check_limit
from ..midi.midi_file import MidiFile
from ..storage.drop_reasons import DropReason

MAX_TEMPO_DRIFT_SECONDS = 0.015
EXACT_TICKS = 0.02  # above float rounding errors, and below one tick at 480 a quarter
_COMMON_TIME = Meter(4, 4)


@dataclass
class BarGrid:
    """Bars and beats in our ticks.

    Attributes:
        starts: (bars + 1,) first tick of each bar, and the end of the last.
        meters: Meter of each bar.
        cells: (beats + 1,) first tick of each beat, counted in quarters from each bar's start.
    """

    starts: np.ndarray
    meters: list[Meter]
    cells: np.ndarray

    @classmethod
    def of(cls, midi: MidiFile, end: float, limits: Limits) -> Self:
        """Lays out bars up to at least tick `end`; raises `MidiError` if there are too many."""
        changes = [change for change in _meter_changes(midi) if change[0] <= end]
        spans: list[tuple[int, Meter, int]] = []  # first tick, meter, bars
        for (start, meter), (stop, _) in itertools.pairwise(changes):
            full, rest = divmod(stop - start, meter.ticks)
            spans.append((start, meter, full))
            spans += _cut_bar(stop - rest, rest)
        start, meter = changes[-1]
        spans.append((start, meter, int((end - start) // meter.ticks) + 1))
        n_bars = sum(n for _, _, n in spans)
        check_limit(DropReason.TOO_MANY_BARS, n_bars, "bars", limits.bars)
        starts, cells, meters = [], [], []
        for start, meter, n in spans:
            bars = start + meter.ticks * np.arange(n)
            starts.append(bars)
            beats = np.arange(0, meter.ticks, TICKS_PER_QUARTER)
            cells.append((bars[:, None] + beats).ravel())
            meters += [meter] * n
        stop = [spans[-1][0] + spans[-1][1].ticks * spans[-1][2]]
        return cls(np.concatenate([*starts, stop]), meters, np.concatenate([*cells, stop]))

    @classmethod
    def common_time(cls, end: float) -> "BarGrid":
        """Lays out bars of 4/4 to beyond tick `end`."""
        n_bars = int(end // _COMMON_TIME.ticks) + 1
        starts = np.arange(n_bars + 1) * _COMMON_TIME.ticks
        return cls(starts, [_COMMON_TIME] * n_bars, np.arange(0, starts[-1] + 1, TICKS_PER_QUARTER))

    def counts_bars(self) -> bool:
        """Whether the file has real bars, and not only bars of one beat."""
        beat = self.meters[0]
        return beat.numerator > 1 or beat.ticks > TICKS_PER_QUARTER or len(set(self.meters)) > 1

    def after(self, phase: int) -> "BarGrid":
        """Returns the grid shifted by `phase` ticks, after a first bar of that length."""
        meter = Meter.of_ticks(phase)
        starts, cells = (np.append([0], part + phase) for part in (self.starts, self.cells))
        return BarGrid(starts, [meter, *self.meters], cells)

    def cut(self, end: int) -> "BarGrid":
        """Returns the bars needed up to tick `end`."""
        n_bars = max(1, int(np.searchsorted(self.starts, end, side="left")))
        starts, meters = self.starts[: n_bars + 1], self.meters[:n_bars]
        return BarGrid(starts, meters, self.cells[self.cells <= starts[-1]])


def _meter_changes(midi: MidiFile) -> list[tuple[int, Meter]]:
    """Returns (tick, meter) of each change, the first at tick 0."""
    times, numerators, denominators = midi.meters.T
    legal = (numerators > 0) & np.isin(denominators, DENOMINATORS)
    times = times[legal] * (TICKS_PER_QUARTER / midi.ticks_a_quarter)
    # A change slightly off the beat moves to the beat; one exactly on the fine grid is kept.
    fine = np.round(times / SHORTEST_TICKS) * SHORTEST_TICKS
    coarse = np.round(times / TICKS_PER_UNIT) * TICKS_PER_UNIT
    ticks = np.where(np.abs(times - fine) <= EXACT_TICKS, fine, coarse).astype(np.int64)
    rows = zip(ticks, numerators[legal], denominators[legal], strict=True)
    last_at = {0: (4, 4)} | {int(t): (int(n), int(d)) for t, n, d in rows if t >= 0}
    merged: list[tuple[int, Meter]] = []
    for tick, (numerator, denominator) in sorted(last_at.items()):
        meter = Meter(numerator, denominator)
        if not merged or merged[-1][1] != meter:
            merged.append((tick, meter))
    return merged


def _cut_bar(start: int, ticks: int) -> list[tuple[int, Meter, int]]:
    """Returns the bars that fill a bar cut short by a meter change, as (tick, meter, bars)."""
    if not ticks:
        return []
    if meter := Meter.of_ticks(ticks):
        return [(start, meter, 1)]
    full, rest = divmod(ticks, _COMMON_TIME.ticks)
    return [(start, _COMMON_TIME, full), *_cut_bar(start + ticks - rest, rest)]


def bar_tempos(midi: MidiFile, starts: np.ndarray, limits: Limits) -> dict[int, Fraction]:
    """Returns bar -> quarters a minute, to a quarter of a beat, where it changes.

    Inside a bar the mean tempo is used. A tempo is kept until the bar lines would be more than
    15 ms from those of the file.

    Args:
        midi: The file with the tempos.
        starts: (bars + 1,) as in `BarGrid`.
        limits: For its limit on seconds.
    """
    clock = seconds_at(midi, starts)
    quarters = np.diff(starts) / TICKS_PER_QUARTER
    true = 240 * quarters / np.maximum(np.diff(clock), 1e-9)  # quarter beats a minute
    only = round(float(true[0]))
    if np.abs(true - only).max() < 1e-5 and playable_tempo(only) == only:  # as in most files
        check_limit(DropReason.TOO_MANY_SECONDS, clock[-1], "seconds", limits.seconds)
        return {0: Fraction(only, 4)}
    out: dict[int, Fraction] = {}
    current, written = 0, 0.0  # quarter beats a minute; seconds as the text plays them
    rows = zip(quarters.tolist(), clock.tolist(), clock[1:].tolist(), true.tolist(), strict=False)
    for bar, (length, start, end, tempo) in enumerate(rows):
        nearest = round(tempo)
        if abs(tempo - nearest) < 1e-5 and abs(written - start) < 1e-5:
            best = playable_tempo(nearest)  # in time, and exactly representable
        else:
            choices = {playable_tempo(int(tempo) + up) for up in (0, 1)}
            drifts = {choice: abs(written + 240 * length / choice - end) for choice in choices}
            in_time = drifts.get(current, np.inf) <= MAX_TEMPO_DRIFT_SECONDS
            best = current if in_time else min(drifts, key=drifts.__getitem__)
        if best != current:
            current = best
            out[bar] = Fraction(current, 4)
        written += 240 * length / current
    check_limit(DropReason.TOO_MANY_SECONDS, written, "seconds", limits.seconds)
    return out


def seconds_at(midi: MidiFile, ticks: np.ndarray) -> np.ndarray:
    """Returns the time in seconds of each of our ticks, relative to the first: (n,)."""
    tempos = midi.tempos[midi.tempos[:, 1] > 0]
    times, mspq = tempos[np.argsort(tempos[:, 0], kind="stable")].T
    times = times * (TICKS_PER_QUARTER / midi.ticks_a_quarter)
    # MIDI rounds a tempo to whole microseconds; a tempo such as 118.25 is recovered exactly.
    meant = np.round(MICROSECONDS / mspq)
    mspq = np.where(np.round(MICROSECONDS / meant) == mspq, MICROSECONDS / meant, mspq)
    times = np.concatenate([[-1.0], times])
    spans = np.concatenate([[500_000.0], mspq]) / 1e6 / TICKS_PER_QUARTER
    clock = np.concatenate([[0.0], np.cumsum(np.diff(times) * spans[:-1])])
    place = np.searchsorted(times, ticks, side="right") - 1
    seconds = clock[place] + (ticks - times[place]) * spans[place]
    return seconds - seconds[0]
