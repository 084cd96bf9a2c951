"""Bar lines, meters and tempos of a score -> the bars of a tune.

Bars are as the score has them: one that is shorter or longer than its meter gets a meter of its
own. Only a short first bar becomes a pickup, and a short last bar is filled with silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from ..dialect.notation import SHORTEST_TICKS, TICKS_PER_WHOLE, AbcError, read_meter
from ..dialect.tune import Meter, playable_tempo
from ..midi.limits import Limits
from .report import Place, Report
from .score import Score, ScoreVoice
from .score_grid import Grid, bar_ticks

_COMMON_TIME = Meter(4, 4)
_SHORTEST_BAR = Fraction(SHORTEST_TICKS, TICKS_PER_WHOLE)
_LONGEST_BAR = 16  # whole notes; a tune without bar lines is no bar


@dataclass
class Bars:
    """The bars of a tune.

    Attributes:
        grid: Their bar lines.
        meters: Bar -> meter from there on, as in `Tune`.
        pickup: As in `Tune`.
        tempos: Bar -> quarters a minute from there on, as in `Tune`.
    """

    grid: Grid
    meters: dict[int, Meter]
    pickup: int | None
    tempos: dict[int, Fraction]


def bars_of(score: Score, report: Report, limits: Limits) -> Bars:
    """Returns the bars.

    Raises:
        AbcError: If they are more, or longer, than the limits allow.
    """
    end = max(_SHORTEST_BAR, *(voice.end for voice in score.voices))
    if 4 * end > limits.quarters:
        raise AbcError(f"{int(4 * end):,} quarter notes, limit {limits.quarters:,}", *score.place)
    lines = _Lines(score, report)
    times = _with_splits(lines.times(end), score, report)
    if (n_bars := len(times) - 1) > limits.bars:
        raise AbcError(f"{n_bars:,} bars, limit {limits.bars:,}", *score.place)
    meters, pickup = _meters(times, score, lines, report)
    tempos = _tempos(times, score, report)
    grid = Grid(times)
    grid.set_last_bar(meters[-1].ticks)
    changes = {n: meter for n, meter in enumerate(meters) if not n or meter != meters[n - 1]}
    return Bars(grid, changes, pickup, tempos)


class _Lines:
    """All bar lines of the first voice, and of others where they go on longer.

    Attributes:
        plain: Time -> whether it is a single bar line.
        places: Time -> where it is written.
    """

    def __init__(self, score: Score, report: Report) -> None:
        self.plain: dict[Fraction, bool] = {}
        self.places: dict[Fraction, Place] = {}
        end = Fraction(0)
        for voice in sorted(score.voices, key=lambda voice: not voice.notes):
            self._add(voice, end, report)
            end = max(end, voice.end)

    def _add(self, voice: ScoreVoice, end: Fraction, report: Report) -> None:
        differs = False
        for line in voice.bar_lines:
            if line.time in self.plain:
                self.plain[line.time] &= line.is_plain
            elif line.time >= end:
                self.plain[line.time], self.places[line.time] = line.is_plain, line.place
            elif not differs:
                differs = True
                report.warn("bar line where an earlier voice has none is left out", line.place)

    def times(self, end: Fraction) -> list[Fraction]:
        """Returns the bar lines from 0 to the end, those that are on different ticks."""
        inside = sorted(time for time in self.plain if 0 < time < end)
        times = [Fraction(0)]
        ticks = [0]
        last = bar_ticks([end])[0]
        for time, tick in zip(inside, bar_ticks(inside), strict=True):
            if ticks[-1] < tick < last:
                times.append(time)
                ticks.append(tick)
        return [*times, end]


def _last_before(changes: Sequence[Fraction], times: Sequence[Fraction]) -> list[int]:
    """Returns, for each time, the place of the last change that is not later; all are in order."""
    place, out = 0, []
    for time in times:
        while place + 1 < len(changes) and changes[place + 1] <= time:
            place += 1
        out.append(place)
    return out


def _nominal_meters(score: Score, times: Sequence[Fraction]) -> list[Meter | None]:
    """Returns the meter in force at each time; None for free, or if the dialect lacks it."""
    meters = [
        Meter(*meter) if meter and read_meter(f"{meter[0]}/{meter[1]}") else None
        for _, meter in score.meters
    ]
    places = _last_before([time for time, _ in score.meters], times)
    return [meters[place] for place in places]


def _meter_of(ticks: int, nominal: Meter | None) -> Meter | None:
    """Returns a meter of this length, in the unit of the nominal one if possible."""
    if nominal and ticks * nominal.denominator % TICKS_PER_WHOLE == 0:
        beats = ticks * nominal.denominator // TICKS_PER_WHOLE
        if read_meter(f"{beats}/{nominal.denominator}"):
            return Meter(beats, nominal.denominator)
    return Meter.of_ticks(ticks)


def _with_splits(times: list[Fraction], score: Score, report: Report) -> list[Fraction]:
    """Adds bar lines where a bar is too long."""
    out = [times[0]]
    ticks = bar_ticks(times)
    for place, time in enumerate(times[1:], 1):
        length = ticks[place] - ticks[place - 1]
        if length > _LONGEST_BAR * TICKS_PER_WHOLE or not _meter_of(length, None):
            report.warn("a bar that is too long is cut into bars of 4/4", score.place)
            while time - out[-1] >= 2:  # what is left has a meter in any case
                out.append(out[-1] + 1)
        out.append(time)
    return out


def _meters(
    times: list[Fraction], score: Score, lines: _Lines, report: Report
) -> tuple[list[Meter], int | None]:
    """Returns the meter of each bar, and the length of the first if it is a pickup."""
    ticks = bar_ticks(times)
    meters, pickup = [], None
    for bar, nominal in enumerate(_nominal_meters(score, times[:-1])):
        length = ticks[bar + 1] - ticks[bar]
        is_short = nominal is not None and length < nominal.ticks
        is_last = bar == len(times) - 2
        if is_short and not bar and not is_last:
            pickup = length
        elif nominal and length != nominal.ticks and not (is_short and is_last):
            _report_length(times[bar], times[bar + 1], nominal, lines, report)
            nominal = _meter_of(length, nominal)
        meters.append(nominal or _meter_of(length, None) or _COMMON_TIME)
    return meters, pickup


def _report_length(
    start: Fraction, end: Fraction, nominal: Meter, lines: _Lines, report: Report
) -> None:
    """Warns of a bar of wrong length; at repeats and double bars, short ones are usual."""
    is_short = end - start < Fraction(nominal.ticks, TICKS_PER_WHOLE)
    is_inside = lines.plain.get(start, False) and lines.plain.get(end, False)
    if is_inside or not is_short:
        message = f"the bar that ends here lasts {end - start}, not {nominal}; it is kept as it is"
        report.warn(message, lines.places.get(end, (1, 1)))


def _tempos(times: list[Fraction], score: Score, report: Report) -> dict[int, Fraction]:
    """Returns bar -> tempo where it changes; inside a bar, the mean."""
    changes = dict(score.tempos)  # of several at one time, the last
    at = [*changes]
    places = _last_before(at, times)
    tempos: dict[int, Fraction] = {}
    before = None
    for bar, (first, last) in enumerate(pairwise(places)):
        start, end = times[bar : bar + 2]
        last -= last > first and at[last] == end
        if first == last:
            exact = changes[at[first]]
        else:
            exact = _mean_tempo(
                start, end, [(time, changes[time]) for time in at[first : last + 1]]
            )
            message = f"tempo changes inside a bar: its mean is {float(exact):g}"
            report.warn(message, score.place)
        tempo = Fraction(playable_tempo(round(4 * exact)), 4)
        if tempo != before:
            tempos[bar] = before = tempo
    return tempos


def _mean_tempo(start: Fraction, end: Fraction, changes: list[tuple[Fraction, Fraction]]) -> float:
    """Returns the tempo at which a bar lasts as long as with the changes inside it.

    In floats, since exact fractions of many tempos would grow without bound.
    """
    bounds = [start, *(time for time, _ in changes[1:]), end]
    minutes = sum(
        float(later - earlier) / float(tempo)
        for (earlier, later), (_, tempo) in zip(pairwise(bounds), changes, strict=True)
    )
    return float(end - start) / minutes
