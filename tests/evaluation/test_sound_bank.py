import io

import mido
import pytest

from evaluation.pages.audio import render_midi
from evaluation.sound_bank import cut_bank
from evaluation.sound_bank.presets import BANK, DRUM_BANK, STANDS_IN
from evaluation.sound_bank.sf3_file import cut_soundfont, read_soundfont, write_soundfont
from modeling.header_abc import INSTRUMENTS

pytest.importorskip("tinysoundfont", reason="the player of sound, from make setup")

RATE = 11_025
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def bank():
    return read_soundfont(BANK.read_bytes())


def notes(program, channel=0):
    track = mido.MidiTrack([mido.Message("program_change", program=program, channel=channel)])
    for pitch in (40, 60, 76):
        track.append(mido.Message("note_on", note=pitch, channel=channel))
        track.append(mido.Message("note_off", note=pitch, time=240, channel=channel))
    out = io.BytesIO()
    mido.MidiFile(tracks=[track]).save(file=out)
    return out.getvalue()


def test_every_program_is_kept_or_has_one_that_stands_in_for_it():
    named = [program for kept, others in STANDS_IN.items() for program in (kept, *others)]
    assert sorted(named) == list(range(len(INSTRUMENTS)))


def test_the_bank_holds_all_programs_and_drums_in_six_megabytes(bank):
    assert BANK.stat().st_size <= 6 * MEGABYTE
    assert set(bank.presets) == {(0, program) for program in range(128)} | {(DRUM_BANK, 0)}


def test_its_license_lies_beside_it_and_names_its_makers(bank):
    text = BANK.with_name("LICENSE.md").read_text("utf-8")
    assert "Frank Wen" in text
    assert "Permission is hereby granted, free of charge" in text
    assert b"Frank Wen" in bank.info[b"ICOP"]


def test_the_committed_bank_is_what_the_command_cuts(bank):
    # from the whole soundfont, which is not here; a cut of the cut is the same cut
    assert cut_bank.cut(bank) == BANK.read_bytes()


def test_another_file_than_the_one_of_npm_is_refused(tmp_path, capsys):
    assert cut_bank.main([str(BANK), "--out", str(tmp_path / "cut.sf3")]) == 2
    assert "expected cfcd66d8" in capsys.readouterr().err
    assert not (tmp_path / "cut.sf3").exists()


def test_samples_are_ogg_streams_that_loop_inside_the_file(bank):
    assert all(sample.ogg[:4] == b"OggS" for sample in bank.samples)


def test_a_cut_plays_what_the_whole_plays(bank, tmp_path):
    violin = tmp_path / "violin.sf3"
    violin.write_bytes(write_soundfont(cut_soundfont(bank, {(0, 40): (0, 40)})))
    assert violin.stat().st_size < MEGABYTE / 2
    whole, cut = (render_midi(notes(40), font, RATE) for font in (BANK, violin))
    assert len(cut) == len(whole)
    # samples are decoded one after the other: their ends differ by a rounding
    assert max(abs(a - b) for a, b in zip(pcm(whole), pcm(cut), strict=True)) <= 2


def pcm(wav):
    return memoryview(wav)[44:].cast("h")


@pytest.mark.parametrize("program", [0, 19, 40, 41, 42, 52, 73, 110])
def test_instruments_of_the_suite_sound(program):
    assert len(render_midi(notes(program), BANK, RATE)) > RATE


def test_drums_sound():
    assert len(render_midi(notes(0, channel=9), BANK, RATE)) > RATE


def test_presets_that_are_not_there_are_named(bank):
    with pytest.raises(ValueError, match=r"no presets \(bank, program\) \[\(5, 1\)\]"):
        cut_soundfont(bank, {(0, 0): (5, 1)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no font", "not a SoundFont"),
        (BANK.read_bytes()[: BANK.stat().st_size // 2], "damaged SoundFont"),
    ],
)
def test_what_is_no_soundfont_is_one_clear_error(data, message):
    with pytest.raises(ValueError, match=message):
        read_soundfont(data)
