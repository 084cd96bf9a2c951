import io
import struct
import sys
import wave
from importlib.util import find_spec

import mido
import numpy as np
import pytest

from data_prep.dialect.abc_to_midi import abc_to_midi
from data_prep.midi_to_abc.converter import midi_to_abc
from evaluation.pages import audio, midi_player
from evaluation.pages.audio import encode, find_soundfont, render_midi
from evaluation.sound_bank.presets import BANK

plays = pytest.mark.skipif(
    not find_spec("tinysoundfont"), reason=f"needs {audio.INSTALL['tinysoundfont']}"
)
encodes = pytest.mark.skipif(
    not find_spec("soundfile"), reason=f"needs {audio.INSTALL['soundfile']}"
)
RATE = 22_050
RELEASE_SECONDS = 0.3
OCTAVE_UP = 40  # the program of the test's soundfont that sounds so
TICKS = 480  # a quarter note
DRUMS = 9


def chunk(name, *parts):
    data = b"".join(parts)
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def records(layout, *rows):
    return b"".join(struct.pack("<" + layout, *row) for row in rows)


def soundfont_bytes():
    """An SF2 file of a sine (program 0; 40: an octave up) and a drum kit of noise.

    Source: SoundFont Technical Specification 2.04, section 7.
    """
    n, rate = 4410, 44_100  # 44 periods of 440 Hz, which loop without a click
    sine = 0.5 * np.sin(2 * np.pi * 440 / rate * np.arange(2 * n))
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, n)
    gap = np.zeros(46)  # between samples, as the format demands
    samples = np.concatenate([sine, gap, noise, gap]) * 32767
    second = 2 * n + 46
    headers = records(
        "20sIIIIIBbHH",
        (b"sine", 0, 2 * n, n // 2, n // 2 + n, rate, 69, 0, 0, 1),
        (b"noise", second, second + n, second + 8, second + n - 8, rate, 60, 0, 0, 1),
        (b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0),
    )
    release = (38, round(1200 * np.log2(RELEASE_SECONDS)))
    sample, root, loops, instrument = 53, 58, (54, 1), 41
    zones = [release, loops, (sample, 0)], [release, loops, (root, 57), (sample, 0)], [(sample, 1)]
    starts = np.cumsum([0, *(len(zone) for zone in zones)]).tolist()
    presets = [(b"sine", 0, 0), (b"octave", OCTAVE_UP, 0), (b"kit", 0, 128), (b"EOP", 0, 0)]
    names = [b"sine", b"octave", b"kit", b"EOI"]
    pdta = chunk(
        b"LIST",
        b"pdta",
        chunk(b"phdr", records("20sHHHIII", *((*p, i, 0, 0, 0) for i, p in enumerate(presets)))),
        chunk(b"pbag", records("HH", *((i, 0) for i in range(4)))),
        chunk(b"pmod", bytes(10)),
        chunk(b"pgen", records("Hh", *((instrument, i) for i in range(3)), (0, 0))),
        chunk(b"inst", records("20sH", *((name, i) for i, name in enumerate(names)))),
        chunk(b"ibag", records("HH", *((start, 0) for start in starts))),
        chunk(b"imod", bytes(10)),
        chunk(b"igen", records("Hh", *(item for zone in zones for item in zone), (0, 0))),
        chunk(b"shdr", headers),
    )
    info = chunk(b"LIST", b"INFO", chunk(b"ifil", struct.pack("<HH", 2, 1)))
    sdta = chunk(b"LIST", b"sdta", chunk(b"smpl", samples.astype("<i2").tobytes()))
    return chunk(b"RIFF", b"sfbk", info, sdta, pdta)


@pytest.fixture(scope="module")
def font(tmp_path_factory):
    path = tmp_path_factory.mktemp("font") / "tiny.sf2"
    path.write_bytes(soundfont_bytes())
    return path


def midi(*tracks, **header):
    """A MIDI file of tracks of (kind, ticks after the last, values of mido)."""
    file = mido.MidiFile(ticks_per_beat=TICKS, **header)
    for events in tracks:
        track = mido.MidiTrack()
        for kind, time, values in events:
            message = mido.MetaMessage if kind in ("set_tempo", "end_of_track") else mido.Message
            track.append(message(kind, time=time, **values))
        file.tracks.append(track)
    out = io.BytesIO()
    file.save(file=out)
    return out.getvalue()


def note(pitch, after=0, length=TICKS, channel=0, velocity=80):
    values = {"note": pitch, "channel": channel}
    return [
        ("note_on", after, values | {"velocity": velocity}),
        ("note_off", length, values),
    ]


def program(number, channel=0):
    return ("program_change", 0, {"program": number, "channel": channel})


def samples(wav):
    """Returns (T, 2), in [-1, 1]."""
    with wave.open(io.BytesIO(wav)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (2, 2)
        table = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return table.reshape(-1, 2) / 32767


def play(data, font, **options):
    return samples(render_midi(data, font, RATE, **options))


def loudness(sound, start, end):
    return np.sqrt(np.mean(sound[round(start * RATE) : round(end * RATE)] ** 2))


def pitch_hz(sound, start=0.1, end=0.4):
    part = sound[round(start * RATE) : round(end * RATE), 0]
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 8 * RATE))
    return np.argmax(spectrum) / 8


def onsets(sound):
    """Seconds at which the sound begins after a silence."""
    loud = np.abs(sound).max(1) > 0.02
    recent = np.convolve(loud, np.ones(RATE // 20), "full")[: len(loud)] > 0
    return np.flatnonzero(recent[1:] & ~recent[:-1]) / RATE


@plays
def test_a4_sounds_at_440_hz_with_headroom(font):
    sound = play(midi(note(69)), font)
    assert pitch_hz(sound) == pytest.approx(440, abs=0.5)
    assert np.abs(sound).max() == pytest.approx(audio.PEAK, abs=1e-3)


@plays
def test_program_changes_and_pitch_bends_are_heard(font):
    bend = ("pitchwheel", 0, {"pitch": 8191})  # two semitones
    assert pitch_hz(play(midi([program(OCTAVE_UP), *note(69)]), font)) == pytest.approx(880, abs=1)
    assert pitch_hz(play(midi([bend, *note(67)]), font)) == pytest.approx(440, abs=1)
    missing = midi([program(99), *note(69)])
    assert pitch_hz(play(missing, font)) == pytest.approx(440, abs=1)


@plays
@pytest.mark.parametrize("pitch", [21, 108])
def test_piano_range_is_heard(font, pitch):
    expected = 440 * 2 ** ((pitch - 69) / 12)
    assert pitch_hz(play(midi(note(pitch)), font)) == pytest.approx(expected, rel=0.02)


@plays
def test_tenth_channel_plays_drums(font):
    for setting in ([], [program(25, DRUMS)]):
        sound = play(midi([*setting, *note(60, channel=DRUMS)]), font)[: RATE // 20, 0]
        power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2 + 1e-12
        flatness = np.exp(np.mean(np.log(power))) / np.mean(power)  # noise .56, a tone near 0
        assert flatness > 0.2


@plays
def test_notes_begin_where_tempo_changes_put_them(font):
    slower = ("set_tempo", 2 * TICKS, {"tempo": 1_000_000})
    hits = [event for _ in range(5) for event in note(60, TICKS - 60, 60, DRUMS)]
    found = onsets(play(midi([slower], hits), font))
    expected = [0.4375, 0.9375, 1.875, 2.875, 3.875]
    assert found == pytest.approx(expected, abs=0.01)


@plays
def test_release_of_the_last_note_is_heard_and_faded_out(font):
    sound = play(midi(note(69)), font)
    assert len(sound) == round((0.5 + audio.TAIL_SECONDS) * RATE)
    assert 1e-3 < loudness(sound, 0.5, 0.5 + RELEASE_SECONDS / 2) < loudness(sound, 0.2, 0.5) / 2
    assert np.abs(sound[-RATE // 100 :]).max() < 1e-3


@plays
def test_pedal_holds_notes(font):
    pedal = [("control_change", 0, {"control": 64, "value": value}) for value in (127, 0)]
    later = [pedal[0], *note(69), (*pedal[1][:1], 2 * TICKS, pedal[1][2]), *note(30, velocity=1)]
    sound = play(midi(later), font)
    assert loudness(sound, 1.2, 1.5) > 0.5 * loudness(sound, 0.1, 0.4)
    assert loudness(sound, 2.2, 2.4) < 0.1 * loudness(sound, 0.1, 0.4)


@plays
def test_tracks_that_share_a_channel_keep_their_programs(font):
    # the second one's program comes before the first one's note, on one channel
    first, second = [program(OCTAVE_UP), *note(69, TICKS)], [program(0), *note(20, velocity=1)]
    assert pitch_hz(play(midi(first, second), font), 0.6, 0.9) == pytest.approx(880, abs=1)
    # a track that sets none takes the channel's, as everywhere
    setup = [program(OCTAVE_UP)]
    assert pitch_hz(play(midi(setup, note(69)), font)) == pytest.approx(880, abs=1)
    assert pitch_hz(play(midi(first, note(69)), font)) == pytest.approx(880, abs=1)


@plays
def test_same_input_gives_same_bytes_whatever_was_played_before(font, chorale):
    first = render_midi(chorale, font, RATE, 5)
    render_midi(midi([program(OCTAVE_UP), *note(69, length=20 * TICKS)]), font, RATE, 3)
    assert render_midi(chorale, font, RATE, 5) == first


@plays
def test_tune_survives_the_way_through_abc(font, tune_files):
    tune = abc_to_midi(midi_to_abc(tune_files[0].read_bytes()))
    assert loudness(play(tune, font, seconds_limit=4), 0.5, 3) > 0.01


@plays
def test_long_piece_is_cut_with_a_fade(font):
    sound = play(midi(note(69, length=10**8)), font, seconds_limit=3)
    assert len(sound) == 3 * RATE
    seconds = [loudness(sound, start, start + 0.2) for start in (1.5, 2.1, 2.5, 2.8)]
    assert seconds == sorted(seconds, reverse=True)
    assert np.abs(sound[-10:]).max() < 1e-3


@plays
def test_many_notes_at_once_are_bounded(font):
    many = midi([("note_on", 0, {"note": i % 128}) for i in range(20_000)])
    assert len(play(many, font)) == round(audio.TAIL_SECONDS * RATE)


@plays
@pytest.mark.parametrize(
    "silent",
    [
        midi(note(69, after=10**8)),
        midi([("control_change", 0, {"control": 7, "value": 0}), *note(69)]),
    ],
    ids=["far away", "volume 0"],
)
def test_silence_is_an_error(font, silent):
    with pytest.raises(ValueError, match=r"nothing audible in .* RMS"):
        render_midi(silent, font, RATE, 5)


def controls(n):
    return [("control_change", 0, {"control": 1, "value": 0})] * n


WHOLE = midi(note(69))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable MIDI file"),
        (b"<html>", "not a readable MIDI file"),
        (WHOLE[:-9], "not a readable MIDI file"),
        (WHOLE[:12] + b"\0\0" + WHOLE[14:], "0 ticks per quarter"),
        (midi(note(69), type=2), "format 2"),
        (midi([]), "no notes"),
        (bytes(midi_player.MAX_MIDI_BYTES + 1), "limit 1,000,000"),
        (midi(*([program(0), *note(69)] for _ in range(2100))), "limit 2,048"),
        (midi(controls(1100), *([program(0), *note(69)] for _ in range(1000))), "over 1,000,000"),
    ],
    ids=[
        *("empty", "web page", "truncated", "no time", "format 2", "no notes"),
        *("too large", "too many parts", "too many messages"),
    ],
)
def test_hostile_midi_is_one_clear_error(data, message):
    with pytest.raises(ValueError, match=message):
        render_midi(data)


def test_length_without_limit_is_refused():
    with pytest.raises(ValueError, match="seconds_limit is inf"):
        render_midi(WHOLE, seconds_limit=float("inf"))


@plays
def test_file_that_is_no_soundfont_is_named(tmp_path):
    path = tmp_path / "font.sf2"
    path.write_bytes(b"no soundfont")
    with pytest.raises(ValueError, match=r"font\.sf2: not a readable soundfont"):
        render_midi(WHOLE, path)


def test_the_project_s_bank_is_played_unless_a_soundfont_is_named(font, monkeypatch):
    monkeypatch.delenv(audio.VARIABLE, raising=False)
    assert find_soundfont() == BANK
    monkeypatch.setenv(audio.VARIABLE, str(font))
    assert find_soundfont() == font
    monkeypatch.setenv(audio.VARIABLE, "gone.sf2")
    with pytest.raises(FileNotFoundError, match=r"ABC_SOUNDFONT names gone\.sf2, which is not"):
        find_soundfont()


def silence(seconds=1, rate=RATE, sample_bytes=2):
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((2, sample_bytes, rate, 0, "NONE", ""))
        file.writeframes(bytes(2 * sample_bytes * seconds * rate))
    return out.getvalue()


def test_missing_packages_are_named_with_their_command(font, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ImportError, match="soundfile is missing: pip install soundfile"):
        encode(silence(), "mp3")
    monkeypatch.setitem(sys.modules, "tinysoundfont", None)
    midi_player.cached_player.cache_clear()
    with pytest.raises(ImportError, match="pip install --no-deps tinysoundfont"):
        render_midi(WHOLE, font)


@pytest.mark.parametrize(
    ("wav", "format", "message"),
    [
        (silence(), "flac", "'flac', expected one of wav, mp3, ogg"),
        (b"RIFF", "wav", "not a WAV file"),
        (silence(sample_bytes=1), "wav", "8 bit, expected 16"),
    ],
)
def test_what_cannot_be_encoded_is_an_error(wav, format, message):
    with pytest.raises(ValueError, match=message):
        encode(wav, format)


def test_wav_stays_as_it_is():
    assert encode(silence(), "wav") == silence()


@encodes
@pytest.mark.parametrize("format", ["mp3", "ogg"])
def test_small_formats_keep_the_music_and_embed_in_200_kb(format):
    import soundfile

    rate, rng = audio.SAMPLE_RATES[format], np.random.default_rng(1)
    time = np.arange(6 * rate) / rate
    sound = 0.4 * np.sin(2 * np.pi * 440 * time) + 0.1 * rng.normal(size=len(time))
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((2, 2, rate, 0, "NONE", ""))
        file.writeframes((np.stack([sound, sound], 1) * 32767).clip(-32767, 32767).astype("<i2"))
    small = encode(out.getvalue(), format)
    assert 5 * len(small) * 4 / 3 < 200_000  # of 30 s, as base64
    back, back_rate = soundfile.read(io.BytesIO(small))
    assert back_rate == rate
    assert len(back) == pytest.approx(len(sound), abs=0.1 * rate)
    middle = slice(2 * rate, 4 * rate)
    assert np.argmax(np.abs(np.fft.rfft(back[middle, 0]))) / 2 == pytest.approx(440, abs=1)


@plays
def test_bad_file_is_reported_and_the_others_rendered(font, tmp_path, tune_files, capsys):
    abc, broken, same = tmp_path / "a.abc", tmp_path / "b.abc", tmp_path / "a.mid"
    abc.write_text(midi_to_abc(tune_files[1].read_bytes()), "utf-8")
    broken.write_text("no tune", "utf-8")
    same.write_bytes(WHOLE)
    good = tmp_path / "c.rmi"
    good.write_bytes(b"RIFF\0\0\0\0RMIDdata\0\0\0\0" + WHOLE)
    files = [abc, broken, same, tmp_path / "gone.mid", tmp_path / "tune.pdf", good]
    arguments = [*map(str, files), "--out", str(tmp_path / "out"), "--soundfont", str(font)]
    assert audio.main(arguments) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wav", "c.wav"]
    errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert [
        name in line for name, line in zip(("b.abc", "a.mid", "gone", "pdf"), errors, strict=True)
    ]
    assert audio.main([str(good), "--out", str(tmp_path), "--soundfont", str(font)]) == 0


def test_command_says_once_that_there_is_no_soundfont(monkeypatch, capsys):
    monkeypatch.setenv(audio.VARIABLE, "gone.sf2")
    assert audio.main(["a.mid", "b.mid"]) == 2
    assert capsys.readouterr().err.count("error: ABC_SOUNDFONT names gone.sf2") == 1
