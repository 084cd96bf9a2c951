"""MIDI or ABC -> audio: WAV, or MP3 and Ogg Opus small enough to embed in a page.

    python -m evaluation.pages.audio tune.abc piece.mid --out sounds --format mp3

It is played with the project's sound bank, evaluation/sound_bank, or with the soundfont that the
variable ABC_SOUNDFONT names. T: audio samples (time). All audio is stereo.
"""

import argparse
import io
import os
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_prep.dialect.abc_to_midi import abc_to_midi
from data_prep.midi.midi_file import MIDI_SUFFIXES, find_header
from scaling.writing.commands import command

from ..sound_bank.presets import BANK
from .midi_player import INSTALL, cached_player, optional, read_events

VARIABLE = "ABC_SOUNDFONT"
# In Hz, per format. 35 kbit/s MP3 cannot afford more; Opus always works at 48,000.
SAMPLE_RATES = {"wav": 44_100, "mp3": 24_000, "ogg": 48_000}
# Settings of soundfile: at most 150 kB for 30 s, 200 kB as base64. All browsers play MP3.
CODECS: dict[str, dict[str, Any]] = {
    "mp3": {"format": "MP3", "subtype": "MPEG_LAYER_III",
            "bitrate_mode": "AVERAGE", "compression_level": 0.85},
    "ogg": {"format": "OGG", "subtype": "OPUS", "compression_level": 0.95},
}  # fmt: skip
SECONDS_LIMIT = 180.0
TAIL_SECONDS = 2.0  # after the last note ends: its release, and cymbals
FADE_SECONDS = 1.0
PEAK = 10 ** (-3 / 20)  # -3 dBFS: the codecs overshoot by up to 1 dB
AUDIBLE_RMS = 1e-3


def find_soundfont() -> Path:
    """Returns the soundfont that ABC_SOUNDFONT names; the project's own if it is not set.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named) if named else BANK
    if not path.is_file():
        of = f"{VARIABLE} names {named}, which is not a file" if named else f"{BANK} is missing"
        raise FileNotFoundError(f"{of}; expected an .sf2 or .sf3 file")
    return path


def render_midi(
    midi: bytes,
    soundfont: Path | None = None,
    sample_rate: int = SAMPLE_RATES["wav"],
    seconds_limit: float = SECONDS_LIMIT,
) -> bytes:
    """Renders a MIDI file; the same input yields the same bytes.

    The audio begins at the file's start and fades out at the limit, or `TAIL_SECONDS` after the
    last note. Its peak is `PEAK`.

    Args:
        midi: A Standard MIDI File of format 0 or 1.
        soundfont: .sf2 or .sf3; default: `find_soundfont`. The last one stays in memory.
        sample_rate: In Hz.
        seconds_limit: Anything later is not played.

    Returns:
        WAV, 16 bit.

    Raises:
        ValueError: If the file is unreadable, larger than `MAX_MIDI_BYTES`, or inaudible within
            the limit; or if the soundfont is unreadable.
        FileNotFoundError: If ABC_SOUNDFONT names no file.
        ImportError: If tinysoundfont is missing.
    """
    if not 0 < seconds_limit < float("inf"):
        raise ValueError(f"seconds_limit is {seconds_limit}, expected a length above 0")
    channels, events = read_events(midi)
    end = next((at for at, _, message in reversed(events) if "note" in message.type), None)
    if end is None:
        raise ValueError("no notes in the MIDI file")
    n_samples = max(1, round(min(end + TAIL_SECONDS, seconds_limit) * sample_rate))
    audio = np.zeros((n_samples, 2), np.float32)  # (T, 2)
    path = soundfont or find_soundfont()
    player = cached_player(path, path.stat().st_mtime_ns, sample_rate)
    with player.lock:
        player.play(channels, events, audio)
    seconds = range(0, n_samples, sample_rate)
    loudness = max(np.sqrt(np.mean(audio[at : at + sample_rate] ** 2)) for at in seconds)
    if not loudness > AUDIBLE_RMS:
        raise ValueError(
            f"nothing audible in {n_samples / sample_rate:.0f} s: RMS {loudness:.1e} in the "
            f"loudest second, expected above {AUDIBLE_RMS:.0e}; silence, or velocities near 0"
        )
    fade = min(n_samples, round(FADE_SECONDS * sample_rate))
    audio[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)[:, None]
    audio *= PEAK * 32767 / np.abs(audio).max()
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((2, 2, sample_rate, 0, "NONE", ""))
        file.writeframes(np.rint(audio, out=audio).astype("<i2").tobytes())
    return out.getvalue()


def encode(wav: bytes, format: str) -> bytes:
    """Compresses a WAV file; its sample rate should be that of the format in `SAMPLE_RATES`.

    Args:
        wav: 16 bit, as returned by `render_midi`.
        format: "wav" returns the input; "mp3"; "ogg" contains a random serial number.

    Raises:
        ValueError: If the format is unknown, or the input is not a 16-bit WAV file.
        ImportError: If soundfile is missing.
    """
    if format not in SAMPLE_RATES:
        raise ValueError(f"format {format!r}, expected one of {', '.join(SAMPLE_RATES)}")
    try:
        with wave.open(io.BytesIO(wav)) as file:
            n_channels, n_bytes, rate, n_samples = file.getparams()[:4]
            frames = file.readframes(n_samples)
    except (wave.Error, EOFError) as error:
        raise ValueError(f"not a WAV file: {error}") from None
    if n_bytes != 2:
        raise ValueError(f"WAV of {8 * n_bytes} bit, expected 16")
    if format == "wav":
        return wav
    soundfile, out = optional("soundfile"), io.BytesIO()
    audio = np.frombuffer(frames, "<i2").reshape(-1, n_channels)
    try:
        soundfile.write(out, audio, rate, **CODECS[format])
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{format} at {rate:,} Hz: {error}") from None
    return out.getvalue()


def _render_file(path: Path, soundfont: Path, out: Path) -> None:
    kinds = (*MIDI_SUFFIXES, ".abc")
    if path.suffix.lower() not in kinds:
        raise ValueError(f"expected one of {', '.join(kinds)}")
    data = path.read_bytes()
    if path.suffix.lower() == ".abc":
        midi = abc_to_midi(data.decode("utf-8"))
    else:
        midi = data[max(0, find_header(data)) :]  # without its wrapper, if any
    format = out.suffix[1:]
    out.write_bytes(encode(render_midi(midi, soundfont, SAMPLE_RATES[format]), format))


@command(OSError, ImportError)
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code, 2 if a file was not rendered."""
    parser = argparse.ArgumentParser(prog="evaluation.pages.audio", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help=".mid, or .abc in our dialect")
    parser.add_argument("--out", type=Path, default=Path(), help="folder; default: current folder")
    parser.add_argument("--soundfont", type=Path, help=f"default: {VARIABLE}, else the project's")
    parser.add_argument("--format", choices=[*SAMPLE_RATES], default="wav")
    options = parser.parse_args(arguments)
    failed, written = False, set()
    soundfont = options.soundfont or find_soundfont()
    for package in INSTALL if options.format in CODECS else ["tinysoundfont"]:
        optional(package)
    options.out.mkdir(parents=True, exist_ok=True)
    for path in tqdm(options.files, "audio", unit="file", disable=len(options.files) < 2):
        out = options.out / f"{path.stem}.{options.format}"
        try:
            if out in written:
                raise ValueError(f"{out} was already written for another file")
            _render_file(path, soundfont, out)
            written.add(out)
        except (ValueError, OSError) as error:
            tqdm.write(f"error: {path}: {error}", file=sys.stderr)
            failed = True
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
