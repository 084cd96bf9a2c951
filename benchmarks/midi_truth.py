"""What a MIDI file plays, read event by event with mido: the ground truth for converters.

It shares neither code nor method with the converter: one pass over all messages in time order, as
in a synthesizer, with the state of each channel of each port.

- A program applies to its channel and port, whichever track sets it; if a track sets it at the tick
  of an attack in another track, it applies before that attack.
- A channel is drums if it is the tenth, or if a part mode of GS or XG or the bank of a program (120
  of General MIDI 2; 126 and 127 of XG, unless the file uses GS) says so. They can also unset it.
- A note ends at the first note-off in its track that no earlier attack of its pitch has used; if
  there is none, at the next note-off of its pitch on its channel in any track; at controllers 120
  and 123 of its channel; at the latest with its track. A drum without a note-off has no length:
  a sixteenth is used.
"""

from __future__ import annotations

import bisect
import io
import itertools
import math
import re
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass

import mido

_KEY_SIGNATURE = re.compile(rb"(\xff\x59\x02)..", re.DOTALL)
DRUMS = 128  # in place of a program
_DRUM_CHANNEL = 9


class TruthError(ValueError):
    """A file that mido cannot read, or that counts time in frames instead of beats."""


@dataclass
class Note:
    """A note as it sounds; times are in ticks of the file, `group` is a program or `DRUMS`."""

    group: int
    pitch: int
    onset: int
    offset: int


@dataclass
class Truth:
    """All notes of a file, and its clock.

    Attributes:
        ticks_per_quarter: Resolution of all times.
        notes: In no particular order.
        tempos: (tick, microseconds per quarter note), in rising order.
    """

    ticks_per_quarter: int
    notes: list[Note]
    tempos: list[tuple[int, int]]

    def seconds(self, ticks: list[int]) -> list[float]:
        """Returns the times of ticks in seconds; ticks in any order."""
        out, clock, since, mspq, left = {}, 0.0, 0, 500_000, deque(self.tempos)
        for tick in sorted(set(ticks)):
            while left and left[0][0] <= tick:
                at, following = left.popleft()
                clock += (at - since) * mspq
                since, mspq = at, following
            out[tick] = (clock + (tick - since) * mspq) / 1e6 / self.ticks_per_quarter
        return [out[tick] for tick in ticks]


def read_truth(midi: bytes) -> Truth:
    """Reads a file.

    Raises:
        TruthError: If it cannot be read.
    """
    tracks, ticks_per_quarter = _tracks(midi)
    events = [*_events(tracks)]
    synthesiser = _Synthesiser(events, ticks_per_quarter)
    events.sort(key=lambda event: event.tick)  # stable: tracks stay in order
    for _, of_tick in itertools.groupby(events, key=lambda event: event.tick):
        synthesiser.play([*of_tick])
    return Truth(ticks_per_quarter, synthesiser.notes, synthesiser.tempos)


def _tracks(midi: bytes) -> tuple[list[mido.MidiTrack], int]:
    start = midi.find(b"MThd")
    if start < 0:
        raise TruthError("no chunk MThd")
    midi = midi[start:]
    place, n_tracks = 8 + int.from_bytes(midi[4:8], "big"), 0
    while place + 8 <= len(midi):
        length = int.from_bytes(midi[place + 4 : place + 8], "big")
        n_tracks += midi[place : place + 4] == b"MTrk" and place + 8 + length <= len(midi)
        place += 8 + length
    counted = max(n_tracks, int.from_bytes(midi[10:12], "big"))  # headers may state too few
    midi = midi[:10] + counted.to_bytes(2, "big") + midi[12:]
    midi = _KEY_SIGNATURE.sub(rb"\1\0\0", midi)  # mido rejects files with an invalid one
    try:
        file = mido.MidiFile(file=io.BytesIO(midi), clip=True)
    except Exception as error:  # mido's parser raises anything: EOFError, IndexError, KeyError
        raise TruthError(f"mido: {type(error).__name__}: {error}") from error
    if not 0 < file.ticks_per_beat < 0x8000 or file.type == 2:
        raise TruthError("time in frames, or format 2")
    return file.tracks, file.ticks_per_beat


@dataclass
class _Event:
    """A message of a track at a tick; `port` is the track's port at that point."""

    tick: int
    track: int
    port: int
    message: mido.Message | mido.MetaMessage

    @property
    def channel(self) -> tuple[int, int]:
        return self.port, self.message.channel

    @property
    def is_attack(self) -> bool:
        return self.message.type == "note_on" and self.message.velocity > 0


def _events(tracks: list[mido.MidiTrack]) -> Iterator[_Event]:
    """Yields all events, track by track."""
    for number, track in enumerate(tracks):
        tick = port = 0
        for message in track:
            tick += message.time
            if message.type == "midi_port":
                port = message.port
            yield _Event(tick, number, port, message)


class _Releases:
    """When notes end.

    Args:
        events: Events of all tracks, track by track.
    """

    def __init__(self, events: list[_Event]) -> None:
        self._own: dict[int, int] = {}  # id of an attack -> tick of its release
        self._offs: dict[tuple, list[int]] = defaultdict(list)
        self._silences: dict[tuple[int, int], list[int]] = defaultdict(list)
        self._track_ends: dict[int, int] = {}
        waiting: dict[tuple, deque[_Event]] = defaultdict(deque)
        for event in events:
            message = event.message
            self._track_ends[event.track] = event.tick
            if event.is_attack:
                waiting[event.track, event.channel, message.note].append(event)
            elif message.type in ("note_on", "note_off"):
                self._offs[event.channel, message.note].append(event.tick)
                if attacks := waiting[event.track, event.channel, message.note]:
                    self._own[id(attacks.popleft())] = event.tick
            elif message.type == "control_change" and message.control in (120, 123):
                self._silences[event.channel].append(event.tick)
        for ticks in (*self._offs.values(), *self._silences.values()):
            ticks.sort()

    def of(self, attack: _Event) -> tuple[int, bool]:
        """Returns the tick at which a note ends, and whether its own track releases it."""
        own = self._own.get(id(attack))
        if own is None:
            offs = self._offs.get((attack.channel, attack.message.note), [])
            end = min(_after(attack.tick, offs), self._track_ends[attack.track])
        else:
            end = own
        silence = _after(attack.tick, self._silences.get(attack.channel, []))
        return int(min(end, silence)), own is not None


def _after(tick: int, ticks: list[int]) -> float:
    """Returns the first of the rising ticks that is later, infinity if none is."""
    place = bisect.bisect_right(ticks, tick)
    return ticks[place] if place < len(ticks) else math.inf


class _Synthesiser:
    """The state of all channels, and the notes so far."""

    def __init__(self, events: list[_Event], ticks_per_quarter: int) -> None:
        self.notes: list[Note] = []
        self.tempos: list[tuple[int, int]] = []
        self._programs: dict[tuple[int, int], int] = defaultdict(int)
        self._banks: dict[tuple[int, int], int] = {}
        self._drums: dict[tuple[int, int], bool] = {}
        self._sixteenth = round(ticks_per_quarter / 4)
        sysex = [e.message.data for e in events if e.message.type == "sysex"]
        self._speaks_gs = any(d[:1] == (0x41,) and d[2:4] == (0x42, 0x12) for d in sysex)
        self._releases = _Releases(events)

    def play(self, events: list[_Event]) -> None:
        """Processes the events of one tick."""
        attacked: set[tuple[int, int, int]] = set()  # track, port, channel
        late = []
        attacks = []
        for event in sorted(events, key=lambda e: not _is_reset(e.message)):
            message = event.message
            if message.type == "set_tempo":
                self.tempos.append((event.tick, message.tempo or 1))
            elif message.type == "sysex":
                self._sysex(event)
            elif event.is_attack:
                attacked.add((event.track, *event.channel))
                attacks.append(event)
            elif message.type == "program_change":
                follows = (event.track, *event.channel) in attacked
                late.append(event) if follows else self._program(event)
            elif message.type == "control_change" and message.control == 0:
                self._banks[event.channel] = message.value
        for event in attacks:
            self._attack(event)
        for event in late:
            self._program(event)

    def _program(self, event: _Event) -> None:
        self._programs[event.channel] = event.message.program
        bank = self._banks.get(event.channel)
        if bank == 120 or (bank in (126, 127) and not self._speaks_gs):
            self._drums[event.channel] = True
        elif bank == 121:
            self._drums[event.channel] = False

    def _sysex(self, event: _Event) -> None:
        data = event.message.data
        if _is_reset(event.message):
            for channel in [c for c in self._drums if c[0] == event.port]:
                del self._drums[channel]
            self._banks.clear()
        elif len(data) > 6 and data[0] == 0x41 and data[2:5] == (0x42, 0x12, 0x40):
            part = data[5] - 0x10
            if 0 <= part < 16 and data[6] == 0x15:
                # Part 0 is channel 10, 1 to 9 are channels 1 to 9, 10 to 15 channels 11 to 16.
                channel = 9 if part == 0 else part - 1 if part <= 9 else part
                self._drums[event.port, channel] = data[7] != 0
        elif len(data) > 6 and data[0] == 0x43 and data[2:4] == (0x4C, 0x08) and data[5] == 0x07:
            self._drums[event.port, data[4] & 15] = data[6] != 0

    def _attack(self, event: _Event) -> None:
        channel, message = event.channel, event.message
        is_drums = self._drums.get(channel, channel[1] == _DRUM_CHANNEL)
        end, released = self._releases.of(event)
        if is_drums and not released:
            end = min(end, event.tick + self._sixteenth)
        group = DRUMS if is_drums else self._programs[channel]
        self.notes.append(Note(group, message.note, event.tick, end))


def _is_reset(message: mido.Message | mido.MetaMessage) -> bool:
    """Whether a message sets all channels to their defaults (General MIDI, GS, XG)."""
    if message.type != "sysex" or len(message.data) < 3:
        return False
    maker, rest = message.data[0], message.data[2:]
    return (
        (maker == 0x7E and rest[:1] == (0x09,))
        or (maker == 0x41 and rest[:5] == (0x42, 0x12, 0x40, 0x00, 0x7F))
        or (maker == 0x43 and rest[:4] == (0x4C, 0x00, 0x00, 0x7E))
    )
