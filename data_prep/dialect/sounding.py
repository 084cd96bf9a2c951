"""Bars as they are read -> when they start, and the chords that sound. Standard library only."""

from .notation import Segment
from .tune import Tune


def bar_starts(tune: Tune, voices: list[list[list[Segment]]]) -> list[int]:
    """Returns the first tick of each bar, and the end of the last.

    A bar that is longer than its meter pushes the following ones back.

    Args:
        tune: The tune.
        voices: Its bars as `read_bars` returns them.
    """
    starts = [0]
    for bar, ticks in enumerate(tune.bar_ticks()):
        ends = [bars[bar][-1].end for bars in voices if bars[bar]]
        starts.append(starts[-1] + max([ticks, *ends]))
    return starts


def join_ties(
    bars: list[list[Segment]], starts: list[int]
) -> list[tuple[int, int, tuple[int, ...]]]:
    """Returns the sounding chords of a voice: (onset, end, pitches) in ticks, sorted by onset.

    A tie joins the next element if that follows at once with the same pitches; otherwise it is
    ignored, which abc2midi does with a warning.
    """
    out: list[tuple[int, int, tuple[int, ...]]] = []
    open_tie = False
    for start, segments in zip(starts, bars, strict=False):
        for first, after, pitches, tied in segments:
            onset, end = start + first, start + after
            if open_tie and out and out[-1][1:] == (onset, pitches):
                out[-1] = (out[-1][0], end, pitches)
            elif pitches:
                out.append((onset, end, pitches))
            open_tie = tied and bool(pitches)
    return out
