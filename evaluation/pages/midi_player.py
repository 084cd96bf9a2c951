"""MIDI -> audio samples: the events of a file, and the synthesizer that plays them.

tinysoundfont plays. mido reads, since symusic's tracks lose a channel's controls at a program
change. T: audio samples (time).
"""

import contextlib
import functools
import importlib
import io
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import mido
import numpy as np

INSTALL = {
    # its dependency pyaudio, for sound cards only, has no wheels for Linux
    "tinysoundfont": "pip install --no-deps tinysoundfont",
    "soundfile": "pip install soundfile",
}
MAX_MIDI_BYTES = 1_000_000  # 100,000 notes; mido is slow and needs 200 times the memory
MAX_PARTS = 2048  # the dialect has 999 voices
MAX_SENT = 1_000_000  # messages, each counted once per part that receives it
MAX_SOUNDING = 256  # simultaneous samples; a new one replaces the oldest
DRUM_CHANNEL = 9  # MIDI's tenth
SUSTAIN_PEDAL, PEDAL_DOWN = 64, 64
Event = tuple[float, list[int], Any]  # seconds, parts, message of mido


def optional(package: str) -> ModuleType:
    """Imports an optional package.

    Raises:
        ImportError: If it is missing; states how to install it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"{package} is missing: {INSTALL[package]}") from error


def read_events(midi: bytes) -> tuple[list[int], list[Event]]:
    """Returns each part's MIDI channel, and the messages in time: (seconds, their parts, message).

    A part is a channel of the synthesizer. A track that sets programs on a channel gets its own
    part, so that a tune of over 15 voices keeps its instruments; other tracks share, as usual.

    Raises:
        ValueError: If the file is unreadable, of another format, or exceeds a limit.
    """
    if len(midi) > MAX_MIDI_BYTES:
        raise ValueError(f"MIDI file of {len(midi):,} bytes, limit {MAX_MIDI_BYTES:,}")
    try:
        # clip: values of 128 to 255, where 127 is the maximum, are common in files from the web
        file = mido.MidiFile(file=io.BytesIO(midi), clip=True)
    except Exception as error:  # mido's parsers raise anything
        text = f"not a readable MIDI file: {type(error).__name__}: {error}"
        raise ValueError(text[:200]) from None
    if file.type == 2 or file.ticks_per_beat <= 0:
        found = f"format {file.type}, {file.ticks_per_beat} ticks per quarter note"
        raise ValueError(f"MIDI file of {found}; expected format 0 or 1, and ticks above 0")
    merged, playing, setting = [], set(), set()
    for number, track in enumerate(file.tracks):
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "set_tempo" or hasattr(message, "channel"):
                merged.append((tick, number, message))
            if message.type in ("note_on", "program_change"):
                kind = playing if message.type == "note_on" else setting
                kind.add((number, message.channel))
    own = sorted(playing & setting)
    keys = [*own, *((-1, channel) for channel in sorted({channel for _, channel in playing}))]
    if len(keys) > MAX_PARTS:
        raise ValueError(f"MIDI file of {len(keys):,} parts, limit {MAX_PARTS:,}")
    part = {key: index for index, key in enumerate(keys)}
    everyone: dict[int, list[int]] = {}
    for (_, channel), index in part.items():
        everyone.setdefault(channel, []).append(index)
    merged.sort(key=lambda event: event[0])  # stable: within a tick, keeps the file's order
    events, n_sent, seconds, last, tempo = [], 0, 0.0, 0, mido.bpm2tempo(120)
    for tick, number, message in merged:
        seconds += mido.tick2second(tick - last, file.ticks_per_beat, tempo)
        last = tick
        if message.type == "set_tempo":
            tempo = message.tempo
            continue
        key, shared = (number, message.channel), (-1, message.channel)
        if "note" in message.type:
            parts = [part[key if key in part else shared]] if shared in part else []
        else:
            parts = [part[key], part[shared]] if key in part else everyone.get(key[1], [])
        events.append((seconds, parts, message))
        n_sent += len(parts)
        if n_sent > MAX_SENT:
            raise ValueError(f"MIDI file of over {MAX_SENT:,} messages to all its parts")
    return [channel for _, channel in keys], events


class Player:
    """A synthesizer with its soundfont; plays one piece at a time.

    Attributes:
        lock: Must be held while it plays.
    """

    def __init__(self, soundfont: Path, sample_rate: int) -> None:
        self.synth, self.lock = optional("tinysoundfont").Synth(samplerate=sample_rate), Lock()
        try:
            self.font = self.synth.sfload(str(soundfont), max_voices=MAX_SOUNDING)
        except RuntimeError as error:
            raise ValueError(f"{soundfont}: not a readable soundfont: {error}") from None

    def play(self, channels: list[int], events: list[Event], audio: np.ndarray) -> None:
        """Fills audio: (T, 2)."""
        self.drums = [channel == DRUM_CHANNEL for channel in channels]
        self.held: dict[int, set[int]] = {}  # keys held by the pedal, which the synth does not have
        self.synth.soundfonts[self.font].reset()
        self.synth.generate_simple(self.synth.samplerate)  # discard the tail of the last piece
        for part in range(len(channels)):
            self._set_program(part, 0)
        view, done = memoryview(audio).cast("B"), 0
        for seconds, parts, message in [*events, (float("inf"), [], None)]:
            now = round(min(seconds * self.synth.samplerate, len(audio)))
            if now > done:
                bytes_now = slice(done * audio.strides[0], now * audio.strides[0])
                self.synth.generate_simple(now - done, view[bytes_now])
                done = now
            if now == len(audio):
                return
            for part in parts:
                self._send(part, message)

    def _send(self, part: int, message: Any) -> None:
        kind, synth = message.type, self.synth
        if kind == "note_on" and message.velocity:
            self.held.get(part, set()).discard(message.note)
            synth.noteon(part, message.note, message.velocity)
        elif kind in ("note_on", "note_off") and part in self.held:
            self.held[part].add(message.note)
        elif kind in ("note_on", "note_off"):
            synth.noteoff(part, message.note)
        elif kind == "program_change":
            self._set_program(part, message.program)
        elif kind == "pitchwheel":
            synth.pitchbend(part, message.pitch - mido.MIN_PITCHWHEEL)
        elif kind == "control_change" and message.control != SUSTAIN_PEDAL:
            synth.control_change(part, message.control, message.value)
        elif kind == "control_change" and message.value >= PEDAL_DOWN:
            self.held.setdefault(part, set())
        elif kind == "control_change":
            for key in sorted(self.held.pop(part, ())):
                synth.noteoff(part, key)

    def _set_program(self, part: int, program: int) -> None:
        """Sets a program of bank 0, or a drum kit of 128; the first one if the font lacks it."""
        for number in (program, 0):
            with contextlib.suppress(RuntimeError):
                self.synth.program_select(part, self.font, 0, number, self.drums[part])
                return


@functools.lru_cache(maxsize=1)
def cached_player(soundfont: Path, changed_ns: int, sample_rate: int) -> Player:
    """Caches the last player, since SF3 takes seconds to unpack."""
    return Player(soundfont, sample_rate)
