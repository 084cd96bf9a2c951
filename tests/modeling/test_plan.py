"""Bars that are planned: written anew inside a tune, or beside given voices."""

import itertools
import random

import pytest

from data_prep.dialect.abc_to_midi import perform
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi_to_abc.converter import midi_to_abc
from modeling.grammar_abc_plan import PLANNED, PlannedGrammar
from modeling.plan_abc import plan_accompaniment, plan_fill, read_bars

HEAD = "X:1\nM:4/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\n"
VOICES = "V:1\n%%MIDI program 0\nV:2\n%%MIDI channel 10\nV:3\n%%MIDI program 40\n"
# a pickup; notes and a chord held over bars; changes of meter and tempo; voices that come and go;
# bars in which all rest; a triplet at the start of a bar
HOSTILE = f"""{HEAD}{VOICES}[V:1]^C4-|[V:3][CE]4-|
[V:1]^C16-|[V:2]C,4D,12|[V:3][CE]16-|
[V:1]^C12E4-|[V:3][CE]16|
[V:1][M:3/4][Q:1/4=90]E12-|[V:2][M:3/4]C,12|
[V:1]E8C4|
[V:1]z12|
[V:1][M:2/4](3cdec6-|[V:3][M:2/4]_B8-|
[V:1]c8-|[V:3]_B8|
[V:1][M:4/4]c16|[V:2][M:4/4]C,16|[V:3][M:4/4]_B16|]
"""
N_BARS = 9
TICKS_16 = 12


@pytest.fixture(scope="module")
def grammar():
    return PlannedGrammar(PLANNED)


def walk(grammar, state, seed):
    """A random text to the end of the plan, the ways to its end checked on the way."""
    draw, text = random.Random(seed), []
    for place in itertools.count():
        if state.is_end:
            return "".join(text)
        if place % 41 == 0:
            closing = grammar.closing(state)
            assert len(closing) <= grammar.closing_bound(state)
            assert grammar.read(closing, state).is_end
        text.append(draw.choice(sorted(grammar.follow(state))))
        state = grammar.step(state, text[-1])


def filled(grammar, abc, first, last, seed):
    bars = read_bars(abc)
    state = grammar.continued(bars.states[first - 1])
    middle = walk(grammar, grammar.planned(state, plan_fill(bars, first, last)), seed)
    return bars.header + "".join([*bars.lines[: first - 1], middle, *bars.lines[last:]])


@pytest.mark.parametrize(
    ("first", "last"), itertools.combinations_with_replacement((1, 2, 4, 6, 9), 2)
)
def test_written_bars_are_as_many_and_as_long_and_all_others_stay(grammar, first, last):
    given = read_bars(HOSTILE)
    for seed in range(4):
        tune = read_bars(filled(grammar, HOSTILE, first, last, seed))
        assert tune.ticks == given.ticks
        assert (
            tune.lines[: first - 1] + tune.lines[last:]
            == given.lines[: first - 1] + given.lines[last:]
        )
        assert [tune.fields(bar) for bar in range(N_BARS)] == [
            given.fields(bar) for bar in range(N_BARS)
        ]
        perform(parse_tune("".join([tune.header, *tune.lines])))  # its ties find their notes


def test_held_notes_are_taken_over_and_held_into_given_bars_only_if_they_begin_so(grammar):
    bars = read_bars(HOSTILE)
    state = grammar.planned(grammar.continued(bars.states[1]), plan_fill(bars, 2, 2))
    assert grammar.follow(grammar.read("[V:1]", state)) == {"^"}  # ^C is held into this bar
    assert grammar.follow(grammar.read("[V:1]^C16|[V:", state)) == {"2", "3"}
    assert grammar.follow(grammar.read("[V:1]^C16|[V:3]", state)) == {"["}  # [CE], too
    for text, may_be_held in (
        ("[V:1]^C16", True),
        ("[V:1]^C12D4", False),
        ("[V:1]^C12^C4", True),
        ("[V:1]^C16|[V:2]C,16", False),  # the drums rest in the next bar
        ("[V:1]^C16|[V:3][CE]16", True),
        ("[V:1]^C16|[V:3][CE]8[CE]8", True),
        ("[V:1]^C16|[V:3][CE]8[CG]8", False),
        ("[V:1]^C16|[V:3][CE]8C8", False),
    ):
        assert ("-" in grammar.follow(grammar.read(text, state))) == may_be_held, text


def test_nothing_is_held_into_a_tuplet_or_beyond_the_end(grammar):
    for seed in range(60):
        assert not any(
            text.endswith("-")
            for text in read_bars(filled(grammar, HOSTILE, 6, 6, seed)).voices(5)[:2]
        )
        last = read_bars(filled(grammar, HOSTILE, 9, 9, seed))
        assert not any(text.endswith("-") for text in last.voices(8))


def test_a_tune_can_be_written_from_its_header_alone(grammar):
    tune = read_bars(filled(grammar, HOSTILE, 1, N_BARS, 3))
    assert tune.ticks[0] == 4 * TICKS_16  # the pickup
    assert len(tune.lines) == N_BARS


def test_bars_of_real_music_can_be_written_anew(grammar, tune_files, chorale):
    for midi in [*(file.read_bytes() for file in tune_files[:12]), chorale]:
        abc = midi_to_abc(midi)
        bars = read_bars(abc)
        half = max(1, len(bars.lines) // 2)
        tune = read_bars(filled(grammar, abc, half, min(half + 3, len(bars.lines)), 1))
        assert tune.ticks == bars.ticks


@pytest.mark.parametrize("instruments", [["Violin"], ["drums", 32]])
def test_given_voices_stay_to_the_character_beside_written_ones(grammar, instruments):
    given = read_bars(HOSTILE)
    sounding = 0
    for seed in range(8):
        header, plan = plan_accompaniment(given, instruments)
        text = walk(grammar, grammar.planned(grammar.continued(grammar.read(header)), plan), seed)
        tune = read_bars(header + text)
        assert tune.ticks == given.ticks
        for bar in range(N_BARS):
            assert tune.voices(bar)[:3] == given.voices(bar)
            sounding += sum(map(bool, tune.voices(bar)[3:]))
        perform(parse_tune(header + text))
    assert sounding >= 8 * N_BARS * len(instruments) / 2 - 8


def test_bars_and_instruments_that_cannot_be_are_one_clear_line():
    bars = read_bars(HOSTILE)
    for first, last in ((0, 2), (3, 2), (8, 10)):
        with pytest.raises(ValueError, match=f"bars {first} to {last} of a tune of 9 bars"):
            plan_fill(bars, first, last)
    with pytest.raises(ValueError, match="the nearest is 'violin'"):
        plan_accompaniment(bars, ["Violine"])
    with pytest.raises(ValueError, match="3 given voices and 13 further ones, expected at most 15"):
        plan_accompaniment(bars, ["Violin"] * 13)
    with pytest.raises(ValueError, match="no end"):
        read_bars(HOSTILE.replace("|]", "|"))
    with pytest.raises(ValueError, match="line 13, column 6"):
        read_bars(HOSTILE.replace("[V:1]^C4-|", "[V:1]H4-|"))
