"""Every odd file of the development data is read, or refused with a reason, in bounded time."""

import contextlib
import io
import json
import zipfile
from pathlib import Path

import mido
import pytest
from fuzzing.checks import check_midi
from symusic import Score

from data_prep.dialect.abc_to_midi import perform
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi.limits import MidiError
from data_prep.midi.midi_file import read_midi
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.storage.drop_reasons import DropReason

ARCHIVE = Path(__file__).parents[3] / "shared" / "data" / "midi_edge_cases.zip"
pytestmark = pytest.mark.skipif(not ARCHIVE.exists(), reason="the development data are not here")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    with zipfile.ZipFile(ARCHIVE) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def notes_of_symusic(midi: bytes) -> int | None:
    with contextlib.suppress(RuntimeError):
        return Score.from_midi(midi, sanitize_data=True).note_num()
    return None


def notes_of_mido(midi: bytes) -> int | None:
    with contextlib.suppress(Exception):  # mido raises whatever its parsing runs into
        file = mido.MidiFile(file=io.BytesIO(midi), clip=True)
        messages = [message for track in file.tracks for message in track]
        return sum(m.type == "note_on" and m.velocity > 0 for m in messages)
    return None


def with_all_tracks_counted(midi: bytes) -> bytes:
    """The file with a header that counts its whole track chunks: others believe the header."""
    place, n_tracks = midi.find(b"MThd") + 14, 0
    while place >= 14 and midi[place : place + 4] == b"MTrk":
        place += 8 + int.from_bytes(midi[place + 4 : place + 8], "big")
        n_tracks += place <= len(midi)
    n_tracks = max(n_tracks, int.from_bytes(midi[10:12], "big"))
    return midi[:10] + n_tracks.to_bytes(2, "big") + midi[12:]


def reading(midi: bytes) -> tuple[DropReason | None, int, str]:
    """Reason to refuse a file, or None; notes found in it; its text."""
    try:
        return None, len(read_midi(midi).notes.pitch), midi_to_abc(midi)
    except MidiError as error:
        return error.reason, 0, ""


def test_crafted_files_are_read_as_their_manifest_says(files):
    manifest = json.loads(files["crafted/manifest.json"])
    assert len(manifest) == 50
    for name, said in manifest.items():
        reason, _, text = reading(files[f"crafted/{name}"])
        n_notes = perform(parse_tune(text)).n_notes if text else 0
        assert reason is None or isinstance(reason, DropReason), name
        if said["legal"]:
            assert (reason, n_notes) == (None if said["notes"] else "no_notes", said["notes"]), name


def test_what_another_reader_reads_is_read_with_its_number_of_notes(files):
    names = [n for n in files if Path(n).suffix.lower() in (".mid", ".midi", ".rmi", ".kar")]
    n_read = 0
    for name in names:
        reason, n_notes, _ = reading(files[name])
        midi = with_all_tracks_counted(files[name])
        by_symusic = notes_of_symusic(midi)  # without the notes that nothing ends
        if reason:
            assert isinstance(reason, DropReason), name
            assert not by_symusic, name
            assert not notes_of_mido(midi), name
        elif n_notes != by_symusic:  # mido takes long, and is asked only then
            by_mido = notes_of_mido(midi)
            assert by_mido == n_notes or (by_mido is None and n_notes > (by_symusic or 0)), name
        n_read += not reason
    assert n_read > 390


def test_odd_files_give_sound_text_within_5_seconds_and_512_mb(files):
    found = {name: check_midi(midi) for name, midi in files.items()}
    assert {name: what for name, what in found.items() if what} == {}
