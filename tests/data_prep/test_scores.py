"""MusicXML, MEI and Humdrum: notes, bars, instruments, repeats; and files that are none."""

import io
import re
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import pytest

from data_prep.dialect.abc_to_midi import perform
from data_prep.dialect.notation import TICKS_PER_QUARTER
from data_prep.dialect.tune import print_tune, read_bars
from data_prep.importers.scores import score_to_tune
from data_prep.importers.verovio_scores.note_values import complete_values
from data_prep.importers.verovio_scores.score_file import MOST_SCORE_BYTES, is_score
from data_prep.midi.limits import MidiError

SCORES = Path(__file__).parent.parent / "data" / "scores"
TRIO = (SCORES / "trio.musicxml").read_text("utf-8")
CLARINET, PIANO, VIOLIN, CELLO, FLUTE, DRUMS = 71, 0, 40, 42, 73, None


def tune_of(content):
    tune = score_to_tune(content.encode() if isinstance(content, str) else content).tune
    assert not read_bars(tune)[1]
    return tune


def notes_of(content):
    """Program -> (onset and end in quarters, pitch) of its notes, by onset."""
    played, found = perform(tune_of(content)), {}
    for voice, chords in zip(played.tune.voices, played.voices, strict=True):
        found.setdefault(voice.program, []).extend(
            (onset / TICKS_PER_QUARTER, end / TICKS_PER_QUARTER, pitch)
            for onset, end, pitches in chords
            for pitch in pitches
        )
    return {program: sorted(notes) for program, notes in found.items()}


def bars_of(content):
    """Start of each bar in quarters, up to the end."""
    return [start / TICKS_PER_QUARTER for start in perform(tune_of(content)).starts]


def part(*measures, name=""):
    """A score of one part in 4/4, with 12 divisions a quarter."""
    time = "<time><beats>4</beats><beat-type>4</beat-type></time>"
    start = f"<attributes><divisions>12</divisions>{time}</attributes>"
    inner = "".join(
        f"<measure number='{n}'>{'' if n else start}{measure}</measure>"
        for n, measure in enumerate(measures)
    )
    head = f"<part-list><score-part id='P1'><part-name>{name}</part-name></score-part></part-list>"
    return f"<score-partwise>{head}<part id='P1'>{inner}</part></score-partwise>"


def note(step, quarters, *inside, octave=5):
    return (
        f"<note><pitch><step>{step}</step><octave>{octave}</octave></pitch>"
        f"<duration>{round(12 * quarters)}</duration><voice>1</voice>{''.join(inside)}</note>"
    )


# ---------------------------------------------------------------- what is played


def test_text_of_a_score_is_that_of_the_documentation():
    assert print_tune(tune_of(TRIO)) == (SCORES / "trio.abc").read_text("utf-8")


def test_pitches_sound_as_they_are_played_on_transposing_instruments():
    clarinet = notes_of(TRIO)[CLARINET]
    # written e'' a'' ..., a whole tone higher
    assert clarinet[:2] == [(0, 1, 74), (1, 2.875, 79)]


def test_repeats_and_endings_are_played_and_bars_stand_as_written():
    assert bars_of(TRIO) == [0, 1, 4, 7, 10, 13, 16]
    bass = [note for note in notes_of(TRIO)[PIANO] if note[2] < 60]
    assert bass == [(1, 4, 55), (4, 7, 50), (7, 10, 55), (10, 13, 43), (13, 16, 52)]
    tune = tune_of(TRIO)
    assert [str(meter) for meter in tune.meters.values()] == ["3/4"]
    assert tune.pickup == TICKS_PER_QUARTER
    assert tune.tempos == {0: 96, 5: 72}


def test_grace_notes_are_short_notes_before_their_note_which_stays_in_its_place():
    clarinet = notes_of(TRIO)[CLARINET]
    assert (2.875, 3, 81) in clarinet  # of the note before
    assert (3, 4, 79) in clarinet
    upper = [note for note in notes_of(TRIO)[PIANO] if note[2] > 60]
    assert {(4, 4.875, 69), (4.875, 5, 72), (5, 7, 71)} <= {*upper}  # without a slash, too


def test_tie_is_one_note_also_with_a_grace_note_between():
    assert (13, 16, 83) in notes_of(TRIO)[CLARINET]
    held = note("C", 2, "<notations><tied type='start'/></notations>", "<tie type='start'/>")
    until = note("C", 2, "<notations><tied type='stop'/></notations>", "<tie type='stop'/>")
    grace = "<note><grace/><pitch><step>D</step><octave>5</octave></pitch><voice>1</voice></note>"
    assert notes_of(part(held + grace + until))[PIANO] == [(0, 4, 72), (1.875, 2, 74)]


def test_ornaments_arpeggios_and_tremolos_are_not_played_out():
    piano = notes_of(TRIO)[PIANO]
    assert {(1, 4, 71), (1, 4, 74), (10, 13, 43), (13, 16, 67)} <= {*piano}


def test_drums_have_the_sounds_that_the_file_names():
    drums = notes_of(TRIO)[DRUMS]
    assert drums[:3] == [(1, 2, 35), (2, 3, 38), (3, 4, 38)]
    assert len(drums) == 15


def test_drums_without_a_sound_are_left_out_and_counted():
    content = re.sub(r"<midi-unpitched>\d+</midi-unpitched>", "", TRIO)
    found = score_to_tune(content.encode())
    assert found.n_left_out == 15
    assert {voice.program for voice in found.tune.voices} == {CLARINET, PIANO}


def test_mei_has_all_of_its_parts_and_repeated_bars():
    notes = notes_of((SCORES / "round.mei").read_bytes())
    assert notes[VIOLIN] == [(0, 1, 72), (1, 2, 74), (2, 3, 76), (3, 6, 72), (6, 8, 76), (6, 8, 80)]
    bar = [(0, 48), (1, 50), (2, 52), (3, 48)]
    assert notes[CELLO] == [(start + at, start + at + 1, p) for start in (4, 8) for at, p in bar]


def test_arpeggios_do_not_move_notes_of_mei():
    mei = (SCORES / "round.mei").read_text("utf-8")
    spread = mei.replace('<chord dur="2">', '<chord dur="2" xml:id="c1">').replace(
        "</measure>", '<arpeg plist="#c1"/></measure>', 2
    )
    assert notes_of(spread) == notes_of(mei)


def test_tie_over_a_gap_is_one_note_and_one_over_a_jump_is_not():
    def tied(kind):
        return f"<tie type='{kind}'/><notations><tied type='{kind}'/></notations>"

    rest = "<note><rest/><duration>12</duration><voice>1</voice></note>"
    gap = note("C", 1, tied("start")) + rest + note("C", 2, tied("stop"))
    assert notes_of(part(gap))[PIANO] == [(0, 4, 72)]
    first = "<barline location='right'><repeat direction='backward'/></barline>"
    bars = note("C", 4, tied("start")) + first, note("C", 4, tied("stop"))
    assert notes_of(part(*bars))[PIANO] == [(0, 4, 72), (4, 12, 72)]


def test_humdrum_has_its_instruments_ties_and_repeats():
    notes = notes_of((SCORES / "duet.krn").read_bytes())
    assert [note[2] for note in notes[FLUTE]] == [74, 83, 72, 81, 79] * 2
    assert (1, 3.875, 83) in notes[FLUTE]
    assert notes[CELLO][:2] == [(0, 1, 50), (1, 2.875, 55)]
    assert bars_of((SCORES / "duet.krn").read_bytes()) == [0, 1, 5, 9, 10, 14, 18]


def test_compressed_score_is_the_same_as_the_plain_one():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("other.xml", "<x/>")
        archive.writestr("a/b &.xml", TRIO)
        root = "<rootfile full-path='a/b &amp;.xml'/>"
        archive.writestr("META-INF/container.xml", f"<container>{root}</container>")
    assert notes_of(out.getvalue()) == notes_of(TRIO)
    assert len(notes_of((SCORES / "lc6990957.mxl").read_bytes())) == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings_are_read(encoding):
    text = TRIO.replace("UTF-8", encoding.removesuffix("-sig"))
    assert notes_of(text.encode(encoding)) == notes_of(TRIO)


def test_part_without_a_program_has_that_of_its_name():
    for name, program in {"Violoncello": CELLO, "Flöte 2": FLUTE, "Xyz": PIANO, "": PIANO}.items():
        assert [*notes_of(part(note("C", 4), name=name))] == [program]


def test_tempo_inside_a_bar_holds_from_there_on():
    words = "<direction-type><words>x</words></direction-type>"
    tempo = f"<direction>{words}<sound tempo='{{}}'/></direction>"
    bar = tempo.format(60) + note("C", 2) + tempo.format(120) + note("D", 2)
    tune = tune_of(part(bar, note("E", 4)))
    assert tune.tempos == {0: 80, 1: 120}  # of the first bar the mean


def test_bar_of_another_length_has_a_meter_of_its_own_and_the_last_is_filled():
    content = part(note("C", 4), note("D", 1.5), note("E", 4), note("F", 3))
    assert bars_of(content) == [0, 4, 5.5, 9.5, 13.5]
    assert [str(meter) for meter in tune_of(content).meters.values()] == ["4/4", "3/8", "4/4"]


# ---------------------------------------------------------------- note values


def test_rhythm_is_that_of_the_durations_if_note_values_are_missing():
    ratio = "<actual-notes>3</actual-notes><normal-notes>2</normal-notes>"
    change = f"<type>eighth</type><time-modification>{ratio}</time-modification>"
    triplet = [note("C", 1 / 3, change)] * 3
    odd = [note("E", 1.5), note("F", 1.25), note("G", 0.25)]
    onsets = [onset for onset, _, _ in notes_of(part("".join(triplet + odd)))[PIANO]]
    assert onsets == pytest.approx([0, 1 / 3, 2 / 3, 1, 2.5, 3.75], abs=1e-9)


def test_scores_with_all_note_values_are_left_alone():
    with zipfile.ZipFile(SCORES / "lc6990957.mxl") as archive:
        assert not complete_values(ET.fromstring(archive.read("score.xml")))


# ---------------------------------------------------------------- files that are none


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not_a_score: starts with '', expected MusicXML, MEI or Humdrum"),
        (b"<html>", "not_a_score: starts with '<html>'"),
        (TRIO[:5000].encode(), "unreadable: XML that is not well-formed: .* line "),
        (b"<score-partwise/>", "no_notes: verovio finds no measure in it"),
        (b"**kern\n4c\n", r"unreadable: Humdrum that does not end with \*-"),
        (b"PK\x03\x04" + b"x" * 50, "unreadable: a damaged .mxl"),
        ((SCORES / "lc5840072.mxl").read_bytes(), "unreadable: .* times of the measures go back"),
    ],
)
def test_file_that_is_no_score_says_why(content, said):
    with pytest.raises(MidiError, match=said):
        score_to_tune(content)


def test_mxl_that_expands_too_much_is_refused_before_it_is_unpacked():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.xml", bytes(MOST_SCORE_BYTES + 1))
    with pytest.raises(MidiError, match="too_many_bytes: 24,000,001 bytes unpacked"):
        score_to_tune(out.getvalue())


def test_xml_is_a_score_by_its_root():
    assert is_score(TRIO.encode())
    assert is_score(b"\xff\xfe" + TRIO.encode("utf-16-le"))
    assert is_score((SCORES / "round.mei").read_bytes())
    for other in (b"<html><p>score-partwise</p></html>", b"<project/>", b"\0\1\2", b""):
        assert not is_score(other)
