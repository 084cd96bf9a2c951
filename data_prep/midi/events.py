"""Track chunks -> events as arrays: which messages each channel gets, and when.

A track is mostly channel messages, one after another: a regular expression scans them at C speed,
and numpy decodes all runs at once. Only what is between the runs (meta events, system exclusive
messages, malformed bytes) is read one by one.

Source: Standard MIDI File specification 1.0 (RP-001), track chunks; MIDI 1.0, running status.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..storage.drop_reasons import DropReason
from .limits import MidiError

# A delta time has at most four bytes, the last of them below 128; the status may be missing.
_DELTA = rb"[\x80-\xff]{0,3}+[\x00-\x7f]"
_PAIRS = re.compile(rb"(?:%b[\x80-\xbf\xe0-\xef]?+[\x00-\x7f]{2})*+" % _DELTA)  # two data bytes
_SINGLES = re.compile(rb"(?:%b[\xc0-\xdf]?+[\x00-\x7f])*+" % _DELTA)  # programs, pressure
if sys.version_info < (3, 11, 5):
    # as on Debian 12: there, a possessive group may end inside its last repetition, which failed
    _PAIRS, _SINGLES = (re.compile(each.pattern.removesuffix(b"+")) for each in (_PAIRS, _SINGLES))
_DELTA_BYTES = 4
MOST_TICKS = 1 << 41  # later ticks are clipped to this: above any limit, and no overflow
_META, _SYSEX, _ESCAPE = 0xFF, 0xF0, 0xF7
_SYSTEM_DATA_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1}  # of messages that do not belong in a file
SYSEX = -1  # in place of the type of a meta event
PORT, END_OF_TRACK, TEMPO, TIME_SIGNATURE = 0x21, 0x2F, 0x51, 0x58


@dataclass(frozen=True)
class Message:
    """A meta event or a system exclusive message.

    Attributes:
        place: Position in the file; increases from event to event.
        kind: The type of a meta event, or `SYSEX`.
        content: Its bytes; for a system exclusive message those after F0.
        tick: Ticks since the start of the track.
        track: Number of the track chunk.
    """

    place: int
    kind: int
    content: bytes
    tick: int
    track: int


@dataclass
class Events:
    """Channel messages of all tracks in file order, and the other messages between them.

    Attributes:
        place: (n,) position in the file, increasing.
        tick: (n,) ticks since the start of the track.
        track: (n,) number of the track chunk.
        status: (n,) 128-239.
        first: (n,) first data byte, at most 127.
        second: (n,) second data byte, at most 127; 0 where a message has only one.
        messages: Meta events and system exclusive messages, in file order.
        starts: (tracks,) place of the first event of each track.
        ends: (tracks,) tick of the end of each track.
    """

    place: np.ndarray
    tick: np.ndarray
    track: np.ndarray
    status: np.ndarray
    first: np.ndarray
    second: np.ndarray
    messages: list[Message]
    starts: np.ndarray
    ends: np.ndarray


def read_events(midi: bytes, tracks: list[tuple[int, int]], n_counted: int) -> Events:
    """Reads all events of a file.

    Args:
        midi: The file.
        tracks: (start, stop) of the events of each track chunk, increasing.
        n_counted: Number of tracks in the header; malformed tracks beyond it are skipped.

    Raises:
        MidiError: If the bytes are not events, or there is no track.
    """
    reader = _Reader(midi)
    whole = []
    for number, (start, stop) in enumerate(tracks):
        sizes = [len(found) for found in reader.found]
        try:
            reader.read_track(start, stop)
            whole.append((start, stop))
        except MidiError:
            if number < n_counted:
                raise
            for found, size in zip(reader.found, sizes, strict=True):
                del found[size:]
    tracks = whole
    if not tracks:
        raise MidiError(DropReason.NO_NOTES, "no track holds a note")
    content = np.frombuffer(midi, np.uint8)
    between = np.array([row[:2] for row in reader.between], np.int64).reshape(-1, 2)
    broken = np.array(reader.broken, np.int64).reshape(-1, 5).T
    parts = [_take_apart(content, reader.pairs, 2), _take_apart(content, reader.singles, 1), broken]
    place, delta, status, first, second = map(np.concatenate, zip(*parts, strict=True))
    places = np.concatenate([place, between[:, 0]])
    order = np.argsort(places, kind="stable")
    places = places[order]
    clock = np.cumsum(np.concatenate([delta, between[:, 1]])[order])
    starts = np.array([start for start, _ in tracks], np.int64)
    first_event = np.searchsorted(places, starts)
    before = np.concatenate([[0], clock])[first_event]  # the clock as each track starts
    track = np.searchsorted(starts, places, side="right") - 1
    tick = np.empty_like(clock)
    tick[order] = np.minimum(clock - before[track], MOST_TICKS)
    of_event = np.empty_like(clock)
    of_event[order] = track
    n = len(place)
    in_order = order[order < n]
    messages = [
        Message(row[0], row[2], midi[row[3] : row[4]], at, number)
        for row, at, number in zip(
            reader.between, tick[n:].tolist(), of_event[n:].tolist(), strict=True
        )
    ]
    last = np.append(first_event[1:], len(places))
    ends = np.where(last > first_event, np.append(clock, 0)[last - 1] - before, 0).clip(
        max=MOST_TICKS
    )
    status = status[in_order]
    said = np.maximum.accumulate(np.where(status > 0, np.arange(n), 0))  # running status
    return Events(
        place=place[in_order],
        tick=tick[in_order],
        track=of_event[in_order],
        status=status[said] if n else status,
        first=first[in_order],
        second=second[in_order],
        messages=messages,
        starts=starts,
        ends=ends,
    )


class _Reader:
    """What has been found in the tracks so far.

    Attributes:
        pairs: (start, stop) of runs of messages with two data bytes.
        singles: (start, stop) of runs of messages with one data byte.
        between: (place, delta, kind, start, stop) of meta events and system exclusive messages.
        broken: (place, delta, status, first, second) of messages with a data byte above 127; status
            0 means running status.
        found: All of these.
    """

    def __init__(self, midi: bytes) -> None:
        self.midi = midi
        self.pairs: list[tuple[int, int]] = []
        self.singles: list[tuple[int, int]] = []
        self.between: list[tuple[int, int, int, int, int]] = []
        self.broken: list[tuple[int, int, int, int, int]] = []
        self.found = (self.pairs, self.singles, self.between, self.broken)

    def read_track(self, place: int, stop: int) -> None:
        """Reads the events of a track, up to its end-of-track event or the end of its bytes.

        Raises:
            MidiError: If the bytes are not events.
        """
        midi = self.midi
        runs: re.Pattern[bytes] | None = None  # for the running status
        while place < stop:
            if midi[place] < 0x80 and place + 1 < stop:  # nearly always
                delta, at, status = midi[place], place + 1, midi[place + 1]
            else:
                delta, at = self._number(place, stop)
                status = self._byte(at, stop)
            if status >= _SYSEX:
                place, ended = self._message(place, delta, at, stop)
                if ended:
                    return
                continue
            if status >= 0x80:
                runs = _SINGLES if 0xC0 <= status < 0xE0 else _PAIRS
            elif runs is None:
                raise MidiError(DropReason.UNREADABLE, f"byte {place:,}: an event without status")
            found = runs.match(midi, place, stop)
            if found and found.end() > place:
                (self.singles if runs is _SINGLES else self.pairs).append((place, found.end()))
                place = found.end()
                continue
            at += status >= 0x80
            data = [self._byte(at + n, stop) for n in range(1 if runs is _SINGLES else 2)]
            first, second = (min(byte, 127) for byte in (*data, 0)[:2])
            self.broken.append((place, delta, status if status >= 0x80 else 0, first, second))
            place = at + len(data)

    def _message(self, place: int, delta: int, at: int, stop: int) -> tuple[int, bool]:
        """Reads a non-channel message; returns the place after it, and if the track ends."""
        status, kind, at = self.midi[at], SYSEX, at + 1
        if status not in (_META, _SYSEX, _ESCAPE):
            after = at + _SYSTEM_DATA_BYTES.get(status, 0)
            self.between.append((place, delta, _ESCAPE, at, at))
            return after, False
        if status == _META:
            kind, at = self._byte(at, stop), at + 1
        length, at = self._number(at, stop)
        if at + length > stop:
            self._byte(at + length, stop)
        self.between.append((place, delta, _ESCAPE if status == _ESCAPE else kind, at, at + length))
        return at + length, status == _META and kind == END_OF_TRACK

    def _number(self, place: int, stop: int) -> tuple[int, int]:
        """Reads a variable-length number; returns it, and the place after it."""
        number = self._byte(place, stop)
        if number < 0x80:
            return number, place + 1
        number &= 0x7F
        for at in range(place + 1, place + _DELTA_BYTES):
            byte = self._byte(at, stop)
            number = number << 7 | byte & 0x7F
            if byte < 0x80:
                return number, at + 1
        raise MidiError(DropReason.UNREADABLE, f"byte {place:,}: a number of more than four bytes")

    def _byte(self, at: int, stop: int) -> int:
        if at >= stop:
            raise MidiError(DropReason.UNREADABLE, f"byte {at:,}: a track ends inside an event")
        return self.midi[at]


def _take_apart(
    content: np.ndarray, runs: list[tuple[int, int]], n_data: int
) -> Sequence[np.ndarray]:
    """Decodes runs of channel messages.

    Bytes below 128 alternate: the last byte of a delta time, then the data bytes. A byte above 127
    is a status if it follows a delta time, else it is part of a delta time.

    Args:
        content: The bytes of the file.
        runs: (start, stop) of each run.
        n_data: Data bytes per message.

    Returns:
        (n,) each: place, delta time, status (0 for running status), first and second data byte.
    """
    if not runs:
        return np.empty((5, 0), np.int64)
    starts, stops = np.array(runs, np.int64).T
    is_low = content < 0x80
    for after, before in zip([0, *stops.tolist()], [*starts.tolist(), len(content)], strict=True):
        is_low[after:before] = False
    low = np.flatnonzero(is_low)
    last = low[:: n_data + 1]  # last byte of each delta time
    first = low[1 :: n_data + 1]
    end = low[n_data :: n_data + 1]
    start = np.append(0, end[:-1] + 1)
    start[np.searchsorted(last, starts)] = starts
    delta = content[last].astype(np.int64)
    for back in range(1, _DELTA_BYTES):
        more = np.flatnonzero(last - start >= back)
        if not len(more):
            break
        delta[more] |= (content[last[more] - back].astype(np.int64) & 0x7F) << 7 * back
    status = np.where(first - last == 2, content[last + 1], 0)
    second = content[end] if n_data == 2 else np.zeros_like(delta)
    return start, delta, status, content[first], second
