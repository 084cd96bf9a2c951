"""The MIDI channels that the voices of a tune name."""

import itertools
from collections.abc import Sequence

from .notation import DRUM_CHANNEL

_OTHERS = tuple(channel for channel in range(1, 17) if channel != DRUM_CHANNEL)


def midi_channels(programs: Sequence[int | None]) -> list[int | None]:
    """Returns the channel of each voice: 10 for drums; others only beyond 15, one a program.

    Args:
        programs: General MIDI program of each voice; None for drums.
    """
    others = [program for program in programs if program is not None]
    given: dict[int | None, int] = {None: DRUM_CHANNEL}
    if len(others) > len(_OTHERS):
        given |= dict(zip(dict.fromkeys(others), itertools.cycle(_OTHERS), strict=False))
    return [given.get(program) for program in programs]
