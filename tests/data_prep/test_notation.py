import itertools
import random

import pytest

from data_prep.dialect.bar_reader import BarReader
from data_prep.dialect.bar_writer import BarWriter
from data_prep.dialect.notation import KEYS, AbcError, Segment, length_text, rest_text
from data_prep.dialect.tune_parser import parse_tune
from modeling.export_abc import check_beginning, export_tune


def random_bar(rng: random.Random) -> list[Segment]:
    """A 4/4 bar of notes, chords and rests whose beats use different grids."""
    bounds = {0, 192}
    for beat in range(0, 192, 48):
        step = rng.choice([12, 16, 6, 8, 48, 24])
        bounds |= {beat + tick for tick in range(0, 48, step) if rng.random() < 0.5}
    ticks = sorted(bounds)
    bar: list[Segment] = []
    for start, end in itertools.pairwise(ticks):
        count = rng.choice([0, 1, 1, 1, 2, 3])
        pitches = tuple(sorted(rng.sample(range(16, 109), count)))
        if not pitches and bar and not bar[-1].pitches:
            pitches = (60,)  # two rests in a row are one rest
        if end == 192 and not any(segment.pitches for segment in bar):
            pitches = (60,)  # a bar of rest has no text
        bar.append(Segment(start, end, pitches))
    return bar


def sounding(segments: list[Segment]) -> list[Segment]:
    return [segment for segment in segments if segment.pitches]


def joined(segments: list[Segment]) -> list[Segment]:
    out: list[Segment] = []
    for segment in segments:
        last = out[-1] if out else None
        if last and last.pitches == segment.pitches and (last.tied or not last.pitches):
            out[-1] = Segment(last.start, segment.end, last.pitches, segment.tied)
        else:
            out.append(segment)
    return out


@pytest.mark.parametrize("key", KEYS)
def test_any_bar_is_read_back_as_it_was_written(key):
    rng = random.Random(key)
    writer, reader = BarWriter(key), BarReader(key)
    for _ in range(300):
        bar = random_bar(rng)
        text = writer.write(sounding(bar), 192)
        assert joined(reader.read(text)) == bar, text


@pytest.mark.parametrize(
    ("segments", "text"),
    [
        ([Segment(0, 60, (60,)), Segment(60, 192)], "C5z11"),
        ([Segment(0, 16, (60,)), Segment(16, 32, (62,)), Segment(32, 48, (64,))], "(3C2D2E2"),
        ([Segment(0, 32, (60,)), Segment(32, 48, (62,))], "(3:2:2C4D2"),
        ([Segment(0, 8, (60,)), Segment(8, 48, (62,))], "(3:2:4CD2-D2-D"),
        ([Segment(0, 32, (60,)), Segment(32, 64, (62,)), Segment(64, 96, (64,))], "(3C4D4E4"),
        ([Segment(0, 6, (60, 64, 67)), Segment(6, 24, (60,))], "[CEG]/C3/2"),
        ([Segment(0, 48, (61,)), Segment(48, 96, (73,)), Segment(96, 144, (72,))], "^C4^c4=c4"),
    ],
)
def test_bar_is_written_as_the_dialect_says(segments, text):
    assert BarWriter("C").write(sounding(segments), segments[-1].end) == text


def test_altered_letter_is_marked_in_every_octave_until_the_bar_ends():
    writer = BarWriter("G")
    bar = [Segment(0, 96, (65,)), Segment(96, 192, (78,))]  # F natural, then F sharp above
    assert writer.write(bar, 192) == "=F8^f8"
    assert writer.write([Segment(0, 192, (78,))], 192) == "f16"


def test_every_pitch_survives_in_every_key():
    for key in KEYS:
        writer, reader = BarWriter(key), BarReader(key)
        for pitch in range(128):
            (segment,) = reader.read(writer.write([Segment(0, 192, (pitch,))], 192))
            assert segment.pitches == (pitch,)


def test_lengths_are_units_halves_and_quarters():
    ticks = (3, 6, 9, 12, 15, 18, 60, 192, 240)
    assert [length_text(t) for t in ticks] == ["/4", "/", "3/4", "", "5/4", "3/2", "5", "16", "20"]
    assert rest_text(192) == "z16"
    with pytest.raises(ValueError, match="multiple of 3"):
        length_text(16)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("C4X", "'X' is no note"),
        ("[CE", "is no note"),
        ("(5CDEFG", "only three in the time of two"),
        ("(3CD", "too early"),
        ("C/7", "no whole number"),
        ("C0", "no whole number"),
        ("C/0", "no whole number"),
        ("c''''''", "not in 0-127"),
        ("__^C", "is no note"),
    ],
)
def test_text_outside_the_dialect_is_named_with_its_place(text, message):
    with pytest.raises(AbcError, match=message) as caught:
        BarReader("C").read(text, line=7, column=3)
    assert caught.value.line == 7
    assert caught.value.column >= 3


HEAD = "X:1\nM:4/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\n"
DUET = HEAD + "V:1\n%%MIDI program 0\nV:2\n%%MIDI program 1\n[V:1]C16|[V:2]E16|\n"


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [("metre", "[M:3/4]", "[M:2/4]"), ("tempo", "[Q:1/4=90]", "[Q:1/4=60]")],
)
def test_voices_that_disagree_on_a_bar_are_refused_with_what_they_say(name, first, second):
    abc = f"{DUET}[V:1]{first}C8|[V:2]{second}E8|]\n"
    found = rf"line 12, .* disagree on the {name} of bar 2: {second[1:-1]}, after {first[1:-1]}"
    with pytest.raises(AbcError, match=found):
        parse_tune(abc)
    american = name.replace("metre", "meter")  # the export is code that travels on its own
    with pytest.raises(
        ValueError, match=f"line 12: .* the same {american} in all voices of the bar"
    ):
        export_tune(abc)
    assert parse_tune(abc.replace(second, first)).n_bars == 2


def test_voice_after_voice_they_may_not_disagree_on_the_tempo_either():
    voices = [f"V:{n}\n%%MIDI program 0\nC16|\nQ:1/4=90\nL:1/16\nC16|]\n" for n in (1, 2)]
    assert parse_tune(HEAD + "".join(voices)).tempos == {0: 120, 1: 90}
    with pytest.raises(AbcError, match=r"line 16, .* tempo of bar 2: Q:1/4=60, after Q:1/4=90"):
        parse_tune(HEAD + voices[0] + voices[1].replace("=90", "=60"))


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_line_ends_of_other_machines_and_byte_order_marks_are_read_as_nothing(newline):
    abc = DUET + "[V:1]C16|[V:2]E16|]\n"
    foreign = "\ufeff" + abc.replace("\n", newline)
    assert parse_tune(foreign) == parse_tune(abc)
    assert export_tune(foreign) == export_tune(abc)
    check_beginning(foreign[: -len("16|]") - len(newline)])
