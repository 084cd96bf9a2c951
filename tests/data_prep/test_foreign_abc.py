"""ABC of others becomes tunes of the dialect: what is played, where bars are, what is said."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from data_prep.dialect.abc_to_midi import perform
from data_prep.dialect.notation import TICKS_PER_QUARTER, AbcError
from data_prep.dialect.tune import LAYOUTS, print_tune
from data_prep.dialect.tune_parser import parse_tune
from data_prep.importers.foreign_abc import ForeignTune, read_book
from data_prep.midi.limits import Limits

REPORTED = Path(__file__).parent.parent / "data" / "reported"
HEAD = "X:1\nM:4/4\nL:1/8\nK:C\n"


def read(text: str | bytes, **limits: int) -> ForeignTune:
    """The only tune of a file."""
    content = text if isinstance(text, bytes) else text.encode()
    (found,) = read_book(content, Limits(**limits))
    return found


def bars_of(text: str | bytes) -> list[str]:
    """The lines of a tune's bars, without their ends and, if it has one voice, without [V:1]."""
    found = read(text)
    assert found.error is None
    lines = [line for line in print_tune(found.tune).splitlines() if line.startswith("[V:")]
    one = len(found.tune.voices) == 1
    return [line.rstrip("|]").removeprefix("[V:1]" if one else "") for line in lines]


def header_of(text: str) -> dict[str, str]:
    lines = print_tune(read(text).tune).splitlines()[:6]
    return {line[0]: line[2:] for line in lines if line[1] == ":"}


def messages(found: ForeignTune) -> list[str]:
    return [str(warned) for warned in found.warnings]


# ---------------------------------------------------------------- what was reported


def test_grace_notes_are_short_and_ornaments_are_played():
    bars = bars_of((REPORTED / "abc-prompt-by-music21" / "decorated.abc").read_bytes())
    assert bars[0] == "g/G7/2c/B7/2c/d/e3f4"
    assert bars[1].endswith("a/g/a/g/G4A4")
    assert bars[2:] == ["B8G2A2B2c2", "[GBd]8[GB]8", "G3ABc3d4D4", "G16"]


def test_upbeats_stay_short_first_bars_and_do_not_shift_bar_lines():
    found = read((REPORTED / "abc-prompt-by-music21" / "minor_pickup.abc").read_bytes())
    assert (found.tune.pickup, found.tune.key) == (TICKS_PER_QUARTER, "G")
    assert found.tune.tempos == {0: 90}
    bars = [*found.tune.voices[0].bars]
    assert bars == ["E2F2", "G4A4B4", "e8d4", "B6A2G4", "E8E2F2", "G4A4B4", "e8f4", "e12"]
    assert found.warnings == ()


def test_repeats_are_played_in_the_key_of_the_mode():
    bars = bars_of((REPORTED / "abc-prompt-by-music21" / "mixolydian.abc").read_bytes())
    assert bars[0] == "A2"
    assert bars[1:5] == bars[5:] == ["A2B2c2e2f2g2", "a2g2a2e4d2", "c2B2A2G2A2B2", "c4A2A4e2"]


def test_chord_symbols_and_lyrics_leave_no_trace():
    bars = bars_of((REPORTED / "abc-prompt-by-music21" / "lyrics_chords.abc").read_bytes())
    assert bars == ["C4E4G4c4", "A8G8", "C4E4G4c4", "c16", "C4E4G4c4", "c16"]


def test_key_changes_of_two_voices_become_accidentals():
    bars = bars_of((REPORTED / "abc-prompt-by-music21" / "inline_key_two_voices.abc").read_bytes())
    assert bars[:2] == ["[V:1]E4^F4G4A4|[V:2]E,4^F,4G,4A,4", "[V:1]G4A4B4c4|[V:2]G,4A,4B,4C4"]
    assert len(bars) == 5


def test_overfull_bar_is_kept_with_a_meter_of_its_own_and_told_of():
    found = read((REPORTED / "abc-prompt-by-music21" / "overfull_bar.abc").read_bytes())
    assert {bar: str(meter) for bar, meter in found.tune.meters.items()} == {
        0: "3/4", 1: "7/8", 2: "3/4"
    }  # fmt: skip
    assert messages(found) == [
        "line 6, column 30: the bar that ends here lasts 7/8, not 3/4; it is kept as it is"
    ]


def test_our_dialect_is_read_alike_with_any_line_endings_and_byte_order_mark():
    folder = REPORTED / "own-dialect-crlf"
    tune = read((folder / "own_lf.abc").read_bytes()).tune
    assert read((folder / "own_crlf.abc").read_bytes()).tune == tune
    text = (folder / "own_lf.abc").read_text()
    for content in (text.encode("utf-8-sig"), text.replace("\n", "\r").encode()):
        found = read(content)
        assert (found.tune, found.is_own, found.warnings) == (tune, True, ())


def test_tuplet_of_one_note_stays_as_it_was():
    bars = bars_of((REPORTED / "passing" / "tuplet_r1.abc").read_bytes())
    assert bars[0] == "F2F2F2F2F4"
    assert bars[2] == "(3F2G2A2B2B2c2c2"


# ---------------------------------------------------------------- files and encodings


@pytest.mark.parametrize(
    "encode",
    [
        str.encode,
        lambda text: text.encode("latin-1"),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
    ],
    ids=["utf-8", "latin-1", "byte order mark", "utf-16", "crlf", "cr"],
)
def test_title_and_notes_are_the_same_in_every_encoding(encode):
    found = read(encode("X:7\nT:Säterjänta\nL:1/8\nM:3/4\nK:G\nG2AB cd|\n"))
    assert (found.number, found.title) == ("7", "Säterjänta")
    assert found.tune.voices[0].bars == ["G4A2B2c2d2"]


def test_book_gives_its_tunes_one_by_one_with_lines_of_the_file():
    first, second, third = read_book(
        b"%abc-2.1\nM:3/4\nL:1/4\n\nX:1\nT:A\nK:C\nCDE|\n\nsome words\n\n"
        b"X:2\nT:B\n\nX:3\nK:G\nGAZ9999999|"
    )
    assert first.tune.meters[0].ticks == 3 * TICKS_PER_QUARTER  # by the header of the file
    assert first.tune.voices[0].bars == ["C4D4E4"]
    assert (second.title, second.tune) == ("B", None)
    assert str(second.error).startswith("line 13, column 3: no K: field")
    assert str(third.error).startswith("line 17, column 3: rest of 9,999,999 bars")
    assert [found.line for found in (first, second, third)] == [5, 12, 15]


def test_long_book_needs_no_more_memory_than_a_short_one():
    tune = HEAD.replace("X:1", "X:{}") + "|:CDEF GABc|cBAG FEDC:|\n" * 8 + "\n"

    def peak_bytes(n_tunes: int) -> int:
        content = "".join(tune.format(number) for number in range(1, n_tunes + 1)).encode()
        tracemalloc.start()
        numbers = [int(found.number) for found in read_book(content) if found.tune]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert numbers == [*range(1, n_tunes + 1)]
        return peak

    peak_bytes(1)  # caches
    n_tunes = int(os.environ.get("TUNES", "40"))  # TUNES=1000 takes half a minute
    assert peak_bytes(n_tunes) < 1.5 * peak_bytes(10)


def test_file_without_a_tune_is_one_error():
    for content in (b"", b"\n\n", b"words\n", b"\x00\xff\xfe", b"X:1\n"):
        found = read(content)
        assert found.tune is None
        assert isinstance(found.error, AbcError)


def test_text_without_a_number_is_one_tune():
    assert bars_of("M:2/4\nL:1/4\nK:D\nFG|AB|\n") == ["F4G4", "A4B4"]


def test_text_after_the_empty_line_is_told_of():
    assert messages(read(HEAD + "C8|\n\nD8|E8|\n")) == [
        "line 7, column 1: this line after the empty line that ends the tune is left out"
    ]


def test_no_package_is_imported_but_the_standard_library():
    code = (
        "import sys; from data_prep.importers.foreign_abc import read_book; "
        "assert next(read_book(b'X:1\\nK:C\\nCDE|')).tune; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert set(ran.stdout.split()) <= {*sys.stdlib_module_names, "data_prep", "__main__"}


# ---------------------------------------------------------------- bars


def test_bars_at_repeats_are_as_written():
    found = read("X:1\nM:6/8\nL:1/8\nK:D\n|:A|d2f a2f|d2f a2:|\n")
    meters = {bar: str(meter) for bar, meter in found.tune.meters.items()}
    assert meters == {0: "6/8", 2: "5/8", 3: "1/8", 4: "6/8"}
    assert found.tune.voices[0].bars == ["A2", "d4f2a4f2", "d4f2a4", "A2", "d4f2a4f2", "d4f2a4z2"]
    assert found.warnings == ()  # short bars are usual there


def test_short_bar_inside_is_told_of_and_short_last_bar_is_filled():
    found = read(HEAD + "C8|D4|E8|F2|]")
    assert found.tune.voices[0].bars == ["C16", "D8", "E16", "F4z12"]
    assert messages(found) == [
        "line 5, column 6: the bar that ends here lasts 1/2, not 4/4; it is kept as it is"
    ]


def test_without_meter_each_bar_has_its_own():
    for head in ("X:1\nL:1/8\nK:C\n", "X:1\nM:none\nL:1/8\nK:C\n"):
        found = read(head + "CDE|FG|A8|")
        assert [str(meter) for meter in found.tune.meters.values()] == ["3/8", "1/4", "4/4"]
        assert found.warnings == ()


def test_bar_too_long_for_any_meter_is_cut():
    found = read("X:1\nM:none\nL:1/1\nK:C\n" + "C" * 70)
    assert found.tune.n_bars == 70
    assert "is cut into bars of 4/4" in messages(found)[0]


def test_bar_lines_of_a_second_voice_elsewhere_are_told_of():
    found = read(HEAD + "V:1\nC8|D8|\nV:2\nE4|F4 G8|")
    assert found.tune.voices[1].bars == ["E8F8", "G16"]
    assert messages(found) == [
        "line 8, column 3: bar line where an earlier voice has none is left out"
    ]


# ---------------------------------------------------------------- what the dialect can hold


def test_key_is_the_written_one_that_needs_the_fewest_accidentals():
    assert header_of("X:1\nL:1/8\nK:G\nCDE|")["K"] == "G"
    assert header_of("X:1\nL:1/8\nK:Em\nCDE|[K:C]FFF|")["K"] == "C"
    assert header_of("X:1\nL:1/8\nK:C#\nCDE|")["K"] == "Db"
    assert header_of("X:1\nL:1/8\nK:D transpose=-2\nDEF|")["K"] == "C"
    assert header_of("X:1\nL:1/8\nK:D exp _b\nDEB|")["K"] == "F"


@pytest.mark.parametrize(
    ("field", "tempo"),
    [
        ("1/4=90", "1/4=90"), ("3/8=60", "1/4=90"), ("90", "1/4=90"), ("C3=60", "1/4=90"),
        ('"Allegro" 1/4=132', "1/4=132"), ('"Andante"', "1/4=88"), ("1/4 1/8=60", "1/4=90"),
        ("1/8=161", "1/16=322"), ('"with feeling"', "1/4=120"), ("", "1/4=120"),
    ],
)  # fmt: skip
def test_tempo_is_read_in_every_form(field, tempo):
    assert header_of(f"X:1\nL:1/8\nQ:{field}\nK:C\nCDE|")["Q"] == tempo


def test_tempo_changes_at_bars_and_has_its_mean_inside():
    found = read("X:1\nM:2/4\nL:1/4\nK:C\nCD|[Q:1/4=60]EF|G[Q:1/4=120]A|]")
    assert found.tune.tempos == {0: 120, 1: 60, 2: 80}


def test_instruments_of_a_voice_are_voices_of_the_tune():
    text = HEAD + "%%MIDI program 40\nC8|\n%%MIDI program 41\nD8|\n%%MIDI channel 10\nE8|]"
    tune = read(text).tune
    assert [(voice.program, voice.channel) for voice in tune.voices] == [
        (40, None), (41, None), (None, 10)
    ]  # fmt: skip
    assert [voice.bars for voice in tune.voices] == [
        ["C16", "", ""], ["", "D16", ""], ["", "", "E16"]
    ]  # fmt: skip


def test_notes_of_a_chord_that_are_tied_on_become_a_second_voice():
    tune = read(HEAD + "[CE-]4 [GE]4|]").tune
    assert [voice.bars for voice in tune.voices] == [["E16"], ["C8G8"]]


def test_lengths_that_the_dialect_lacks_go_to_the_nearest_place_and_the_bar_keeps_its_length():
    found = read(HEAD + "(5:4:5CDEFG A4|B8|]")
    assert found.tune.bar_ticks() == [192, 192]
    assert perform(found.tune).bar_errors == []
    onsets = [onset for onset, _, _ in perform(found.tune).voices[0]]
    assert onsets == [0, 18, 39, 57, 78, 96, 192]  # of 0, 19.2, 38.4, 57.6, 76.8
    assert messages(found)[0] == (
        "line 5, column 8: a note is set on the nearest place that the dialect has"
    )


def test_notes_shorter_than_any_in_the_dialect_are_left_out_one_by_one():
    found = read("X:1\nM:2/4\nL:1/256\nK:C\n" + "C" * 64 + "E64|]")
    assert perform(found.tune).n_notes == 18  # the last of them beside E
    assert "too close to the one before it is left out" in messages(found)[-2]


def test_pitch_beyond_midi_is_left_out_and_told_of():
    found = read(HEAD + "C4 c'''''''4|]")
    assert perform(found.tune).n_notes == 1
    assert messages(found) == ["line 5, column 4: MIDI pitch 156 is left out: expected 0-127"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tunes_read_back_from_their_own_text(layout):
    texts = [path.read_bytes() for path in (REPORTED / "abc-prompt-by-music21").glob("*.abc")]
    texts += [
        text.encode()
        for text in (
            HEAD + "V:1\n(3CDE F2 z4|C4&E8|\nV:2\nz8|!fermata!c4 d4|]",
            "X:1\nM:6/8\nL:1/8\nK:Bb\n|:F|B3 d3|1 f5:|2 b5|]",
        )
    ]
    for content in texts:
        tune = read(content).tune
        assert parse_tune(print_tune(tune, layout)) == tune


# ---------------------------------------------------------------- bad and hostile text


@pytest.mark.parametrize(
    ("music", "said"),
    [
        ("C D $ ? E", "line 5, column 7: '?' is left out"),
        ("C]D", "line 5, column 2: ] without [ is left out"),
        ("C{gC", "line 5, column 5: grace notes without } before a bar line"),
        ("[CEG", "line 5, column 5: chord without ] before a bar line"),
        ('C "Am', 'line 5, column 3: text in " that does not end'),
        ("C>>>>D", "line 5, column 2: >>>> is left out: expected at most three"),
        ("(1C D", "line 5, column 1: tuplet (1:0:0 is left out: expected 2 to 9, or p:q:r"),
        ("C>D2", "line 5, column 3: broken rhythm between unequal lengths"),
        ("-C", "line 5, column 1: tie (-) without a note, or after a staccato one, is left out"),
        ("C-D", "line 5, column 1: tie (-) without the same note after it is left out"),
        ("[M:x]C", "line 5, column 4: meter 'x' is left out: expected one such as 6/8"),
        ("[L:1/3]C", "line 5, column 4: unit length '1/3' is left out: expected one such as 1/8"),
        ("[Q:fast]C", "line 5, column 4: tempo 'fast' is left out: expected one such as 1/4=120"),
        ("[K:Hx]C", "line 5, column 4: 'Hx' in K: is left out"),
        ("^/2C", "line 5, column 1: microtone is rounded to a semitone"),
        ("!D.C.!C", "line 5, column 1: D.C. is not played"),
        ("C!D|E!F", "line 5, column 2: ! is read as the end of a printed line"),
        ("+CEG+C", "line 5, column 1: +CEG+ is left out: chords are written in [ ]"),
    ],
)  # fmt: skip
def test_what_is_left_out_is_said_with_its_place(music, said):
    found = read(HEAD + music + "|C8|]")
    assert found.error is None
    assert any(message.startswith(said) for message in messages(found))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "Z99999|", "line 5, column 1: rest of 99,999 bars, expected at most 10,000"),
        (HEAD + "C99999999|", "line 5, column 2: number 99999999..., expected at most 9,999,999"),
        (HEAD + "C/101|", "line 5, column 2: length '/101' divides by 101"),
        (HEAD + "[" + "C" * 65 + "]", "line 5, column 66: chord of more than 64 notes"),
        (HEAD + "z|", "line 4, column 3: the tune has no notes"),
        (HEAD + "C&D" * 9, "line 5, column 26: more than 8 overlays (&) in a bar"),
        ("X:1\nP:(A9)9999\nK:C\nC|", "line 2, column 3: more than 1,000 parts to play"),
        ("X:1\nT:a\n", "line 2, column 3: no K: field, expected the header to end in one"),
        ("X:1\n\nK:C\nC|", "line 2, column 1: empty line in the header, expected it to end in K:"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text, said):
    assert str(read(text).error).startswith(said)


def test_tunes_above_the_limits_are_refused():
    text = HEAD + "|:CDEF GABc:|" * 3
    assert read(text, notes=48, bars=6, quarters=24).error is None
    assert "more than 47 notes, repeats played" in str(read(text, notes=47).error)
    assert "6 bars, limit 5" in str(read(text, bars=5).error)
    assert "24 quarter notes, limit 23" in str(read(text, quarters=23).error)


def test_broken_text_of_our_layout_of_bars_is_not_read_as_something_else():
    head = "X:1\nM:4/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\nV:1\n%%MIDI program 0\n"
    found = read(f"%\n{head}[V:1]C16|\n[V:1]C15?|\n")
    assert found.is_own
    assert str(found.error) == "line 11, column 9: '?' is no note, rest or tuplet"


def test_many_warnings_are_counted():
    found = read(HEAD + "".join("?" * 150) + "C8|]")
    assert len(found.warnings) == 101
    assert found.warnings[-1].message == "and 50 more warnings"
