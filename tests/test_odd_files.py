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

from data_prep.abc_to_midi import perform
from data_prep.midi_file import REASONS, MidiError, load_score
from data_prep.midi_to_abc import midi_to_abc
from data_prep.tune_parser import parse_tune

ARCHIVE = Path(__file__).parents[2] / "shared" / "data" / "midi_edge_cases.zip"
pytestmark = pytest.mark.skipif(not ARCHIVE.exists(), reason="the development data are not here")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    with zipfile.ZipFile(ARCHIVE) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def notes_of_other_readers(midi: bytes) -> set[int]:
    """What symusic and mido count, as far as they read the file."""
    counts = set()
    with contextlib.suppress(RuntimeError):
        counts.add(Score.from_midi(midi, sanitize_data=True).note_num())
    with contextlib.suppress(Exception):  # mido raises whatever its parsing runs into
        file = mido.MidiFile(file=io.BytesIO(midi), clip=True)
        messages = [message for track in file.tracks for message in track]
        counts.add(sum(m.type == "note_on" and m.velocity > 0 for m in messages))
    return counts


def reading(midi: bytes) -> tuple[str | None, int, int]:
    """Reason to refuse a file, or None; notes found in it; notes in its text."""
    try:
        n_found = load_score(midi).note_num()
        return None, n_found, perform(parse_tune(midi_to_abc(midi))).n_notes
    except MidiError as error:
        return error.reason, 0, 0


def test_crafted_files_are_read_as_their_manifest_says(files):
    manifest = json.loads(files["crafted/manifest.json"])
    assert len(manifest) == 50
    for name, said in manifest.items():
        reason, _, n_notes = reading(files[f"crafted/{name}"])
        assert reason is None or reason in REASONS, name
        if said["legal"]:
            assert (reason, n_notes) == (None if said["notes"] else "no_notes", said["notes"]), name


def test_what_another_reader_reads_is_read_with_its_number_of_notes(files):
    names = [n for n in files if Path(n).suffix.lower() in (".mid", ".midi", ".rmi", ".kar")]
    n_read = 0
    for name in names:
        others = notes_of_other_readers(files[name]) - {0}
        reason, n_notes, _ = reading(files[name])
        if reason:
            assert reason in REASONS, name
            assert not others, f"{name}: {reason}, others read {others}"
        else:
            assert not others or n_notes in others, name
            n_read += 1
    assert n_read > 390


def test_odd_files_give_sound_text_within_5_seconds_and_512_mb(files):
    found = {name: check_midi(midi) for name, midi in files.items()}
    assert {name: what for name, what in found.items() if what} == {}
