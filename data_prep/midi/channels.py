"""Events -> notes: which instrument plays each, and when it ends, as a synthesizer would play it.

A channel belongs to a port, not to a track: its program and drum mode apply to every track that
plays on it. A note ends at the note-off of its own track, the first attack with the first release.
A note without one ends at the next release of its pitch on its channel. All notes end when their
channel is silenced, and at the latest when their track ends. A drum needs no release.

Sources: MIDI 1.0 (controllers 120 and 123); RP-001 (meta event 21, the port).
"""

from dataclasses import dataclass

import numpy as np

from .drum_parts import CHANNELS, DRUM_CHANNEL, Step, changes_drums, drum_changes
from .events import MOST_TICKS, PORT, SYSEX, Events

DRUMS = -1  # in place of a program
_NOTE_OFF, _NOTE_ON, _CONTROL, _PROGRAM = 0x80, 0x90, 0xB0, 0xC0
_BANK = 0
_SOUNDS_OFF, _NOTES_OFF = 120, 123
_DRUM_QUARTERS = 0.25  # length of a drum note without a release
_NEVER = 2 * MOST_TICKS
_STRIDE = 4 * MOST_TICKS  # offset between channels on one shared time axis


@dataclass
class Notes:
    """All notes of a file, by track, channel and program, then onset.

    Attributes:
        track: (n,) number of the track chunk.
        channel: (n,) 0-15, plus 16 for each port.
        program: (n,) General MIDI program, `DRUMS` for drums.
        onset: (n,) ticks of the file.
        end: (n,) ticks of the file, at least `onset`.
        pitch: (n,) MIDI pitches.
    """

    track: np.ndarray
    channel: np.ndarray
    program: np.ndarray
    onset: np.ndarray
    end: np.ndarray
    pitch: np.ndarray


def read_notes(events: Events, ticks_a_quarter: int) -> Notes:
    """Reads the notes of all tracks.

    Args:
        events: The events of the file.
        ticks_a_quarter: Resolution of the file, for drums without a release.
    """
    kind = events.status & 0xF0
    channel = (events.status & 0x0F) + CHANNELS * _ports(events, events.place)
    key = channel * 128 + events.first
    is_on = (kind == _NOTE_ON) & (events.second > 0)
    on = np.flatnonzero(is_on)
    off = np.flatnonzero((kind == _NOTE_OFF) | ((kind == _NOTE_ON) & ~is_on))
    onset = events.tick[on]
    end = _released_in_track(events, key, on, off)
    held = end == _NEVER
    program = _programs(events, kind, channel, on)
    if held.any():
        end[held] = _next(key[on[held]], onset[held], key[off], events.tick[off])
    said = np.where(kind == _CONTROL, events.first, -1)
    silence = np.flatnonzero((said == _SOUNDS_OFF) | (said == _NOTES_OFF))
    if len(silence):
        silenced = _next(channel[on], onset, channel[silence], events.tick[silence])
        end = np.minimum(end, silenced)
    end = np.minimum(end, np.where(held, events.ends[events.track[on]], _NEVER))
    short = onset + round(_DRUM_QUARTERS * ticks_a_quarter)
    end = np.where(held & (program == DRUMS), np.minimum(end, short), end)
    # Sorted by track and onset already, and often by channel and program, too.
    source = (events.track[on] * (channel.max(initial=0) + 1) + channel[on]) * 256 + program + 1
    order = np.argsort(source, kind="stable")
    columns = (events.track[on], channel[on], program, onset, end, events.first[on])
    return Notes(*(column[order] for column in columns))


def _ports(events: Events, places: np.ndarray) -> np.ndarray:
    """Returns the port at each place in the file, 0 where its track has set none yet: (n,)."""
    named = [m for m in events.messages if m.kind == PORT and m.content]
    if not named:  # as in most files
        return np.zeros(len(places), np.int64)
    ports = [(m.place, m.content[0] & 127) for m in named]
    at, port = np.array(sorted([*((s, 0) for s in events.starts), *ports]), np.int64).T
    return port[np.searchsorted(at, places, side="right") - 1]


def _released_in_track(
    events: Events, key: np.ndarray, on: np.ndarray, off: np.ndarray
) -> np.ndarray:
    """Pairs attacks with releases of their key and track, first with first.

    Returns:
        The tick of each attack's release, `_NEVER` where there is none: (attacks,).
    """
    both = np.sort(np.concatenate([on, off]))
    group = events.track[both] * (key.max(initial=0) + 1) + key[both]
    bits = len(both).bit_length()
    packed = np.sort(group << bits | np.arange(len(both)))  # faster than sorting places by groups
    both, group = both[packed & ((1 << bits) - 1)], packed >> bits
    is_attack = np.zeros(len(key), bool)
    is_attack[on] = True
    is_attack = is_attack[both]
    step = np.where(is_attack, 1, -1)
    is_first = np.append(True, group[1:] != group[:-1])[: len(group)]
    number = np.cumsum(is_first) - 1
    sounding = np.cumsum(step)
    sounding -= (sounding - step)[is_first][number]
    # A release while nothing sounds has no effect: there the count falls to a new low.
    far = len(both) + 1
    lowest = np.minimum(np.minimum.accumulate(sounding - far * number) + far * number, 0)
    before = np.where(is_first, 0, np.append(0, lowest[:-1])[: len(lowest)])
    releases = np.flatnonzero(~is_attack & (lowest == before))
    attacks = np.flatnonzero(is_attack)
    # The first release of a group belongs to its first attack, and so on.
    earlier = np.cumsum(is_attack)[is_first] - is_attack[is_first]  # attacks of earlier groups
    of = number[releases]
    first_release = np.append(True, of[1:] != of[:-1])[: len(of)]
    rank = np.arange(len(of)) - np.flatnonzero(first_release)[np.cumsum(first_release) - 1]
    end = np.full(len(key), _NEVER)
    end[both[attacks[earlier[of] + rank]]] = events.tick[both[releases]]
    return end[on]


def _next(keys: np.ndarray, ticks: np.ndarray, of: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Returns the tick of the next event of each key after `ticks`; `_NEVER` if none: (n,).

    Args:
        keys: (n,) keys or channels.
        ticks: (n,) ticks after which to look.
        of: (events,) key or channel of each event.
        at: (events,) tick of each event.
    """
    times = np.sort(of * _STRIDE + at)
    place = np.searchsorted(times, keys * _STRIDE + ticks, side="right")
    found = np.append(times, -1)[place]
    return np.where(found // _STRIDE == keys, found % _STRIDE, _NEVER)


def _programs(events: Events, kind: np.ndarray, channel: np.ndarray, on: np.ndarray) -> np.ndarray:
    """Returns the program that plays each attack, `DRUMS` for drums: (attacks,)."""
    changes = np.flatnonzero(kind == _PROGRAM)
    when = _when(events, channel, on, changes)
    moments = channel[on] * _STRIDE + 2 * events.tick[on] + 1
    said = channel[changes] * _STRIDE + when
    program = _last_said(moments, said, events.first[changes], np.zeros(len(on), np.int64))
    is_drums = channel[on] % CHANNELS == DRUM_CHANNEL
    if steps := _drum_steps(events, kind, channel, changes, when):
        of, at, value = np.array([*drum_changes(steps)], np.int64).reshape(-1, 3).T
        is_drums = _last_said(moments, of * _STRIDE + at, value > 0, is_drums)
    return np.where(is_drums, DRUMS, program)


def _when(events: Events, channel: np.ndarray, on: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Returns when program changes take effect, in half ticks; attacks are on odd ones: (changes,).

    A change at the tick of an attack applies to it, whichever track comes first in the file, unless
    the change follows the attack in the same track.
    """
    moment = events.track * _STRIDE + events.tick  # rising
    attacks = moment[on]
    first = np.searchsorted(attacks, moment[changes])
    stop = np.searchsorted(attacks, moment[changes], side="right")
    if (first == stop).all():  # as in most files, no track attacks at the tick of a change
        return 2 * events.tick[changes]
    near = np.bincount(first, minlength=len(on) + 1) - np.bincount(stop, minlength=len(on) + 1)
    on = on[np.cumsum(near)[:-1] > 0]
    both = np.concatenate([on, changes])
    order = np.lexsort((both, channel[both], events.tick[both], events.track[both]))
    ranked = both[order]
    columns = (events.track[ranked], events.tick[ranked], channel[ranked])
    is_first = np.append(True, np.logical_or.reduce([c[1:] != c[:-1] for c in columns]))
    is_first = is_first[: len(order)]
    attacks = np.cumsum(order < len(on))
    group = np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))
    follows = attacks > (attacks - (order < len(on)))[group]
    late = np.empty(len(order), bool)
    late[order] = follows
    return 2 * (events.tick[changes] + late[len(on) :])


def _last_said(
    moments: np.ndarray, said: np.ndarray, values: np.ndarray, default: np.ndarray
) -> np.ndarray:
    """Returns the value that was last set on the channel of each moment: (n,).

    Args:
        moments: (n,) channel times `_STRIDE`, plus half ticks.
        said: (changes,) the same for each change, in file order.
        values: (changes,) the value that each sets.
        default: (n,) the value before any change.
    """
    if not len(said):
        return default
    order = np.argsort(said, kind="stable")
    last = np.searchsorted(said[order], moments, side="right") - 1
    is_set = (last >= 0) & (said[order][last] // _STRIDE == moments // _STRIDE)
    return np.where(is_set, values[order][last], default)


def _drum_steps(
    events: Events, kind: np.ndarray, channel: np.ndarray, changes: np.ndarray, when: np.ndarray
) -> list[Step]:
    """Returns the steps that may make channels drums, in half ticks; none for most files.

    Args:
        events: The events of the file.
        kind: (n,) status without the channel.
        channel: (n,) channel of each event.
        changes: (changes,) indices of the program changes among the events.
        when: (changes,) half tick at which each takes effect.
    """
    sysex = [message for message in events.messages if message.kind == SYSEX]
    banks = np.flatnonzero((kind == _CONTROL) & (events.first == _BANK))
    if not changes_drums({*events.second[banks].tolist()}, [m.content for m in sysex]):
        return []
    ports = _ports(events, np.array([m.place for m in sysex], np.int64))
    steps = [
        Step(2 * message.tick, message.place, CHANNELS * port, sysex=message.content)
        for message, port in zip(sysex, ports.tolist(), strict=True)
    ]
    columns = (2 * events.tick[banks], events.place[banks], channel[banks], events.second[banks])
    steps += [Step(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]
    columns = (when, events.place[changes], channel[changes])
    return steps + [Step(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]
