import random
from dataclasses import replace

import pytest
import torch
from decoding_models import generate_tunes as generate
from decoding_models import make_model
from hypothesis import HealthCheck, given, settings
from midi_pieces import pieces
from symusic import Score
from transformers import GenerationMixin

import modeling  # noqa: F401  (registers our own families)
from data_prep.dialect.abc_to_midi import abc_to_midi
from data_prep.dialect.tune import print_tune, read_bars
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.tokens.tokenizers import TokenSettings, train_tokenizer
from modeling.export_abc import to_voices
from modeling.grammar_abc_decoding import TokenGrammar, TuneLogitsProcessor
from modeling.grammar_abc_header import MARK
from modeling.grammar_abc_limits import DIALECT, GENERATION
from modeling.grammar_abc_tune import TuneGrammar
from modeling.notation_abc import ALPHABET

HEAD = "X:1\nM:3/4\nL:1/16\nQ:1/4=90\n%%MIDI chordattack 0\nK:G\n"
VOICES = "V:1\n%%MIDI program 40\nV:2\n%%MIDI channel 10\n"
NOTES = "GABcGABcGABc"
LEGAL = {
    "two voices": "[V:1]G4A4B4|[V:2]C12|\n[V:1]B8G4|\n[V:1]GABcGABcGABc|]\n",
    "a bar of silence": f"[V:1]{NOTES}|\n[V:1]z12|\n[V:1]{NOTES}|]\n",
    "second voice alone": f"[V:1]{NOTES}|\n[V:2]CDCDCDCDCDCD|\n[V:1]{NOTES}|]\n",
    "pick-up": f"[V:1]G2B2|[V:2]z2C2|\n[V:1]{NOTES}|\n[V:1]{NOTES}|]\n",
    "change of metre": f"[V:1]{NOTES}|\n[V:1][M:2/4]G4A4|[V:2][M:2/4]C8|\n[V:1]GABcGABc|]\n",
    "chord after a change": f"[V:1]{NOTES}|\n[V:1][M:2/4][GB]8|\n[V:1]GABcGABc|]\n",
    "tie over a bar line": f"[V:1]{NOTES}|\n[V:1]G8c4-|[V:2]C12|\n[V:1]c2B2A8|]\n",
    "tied chord": f"[V:1]{NOTES}|\n[V:1]GABc[Gc]8-|\n[V:1][Gc]12|]\n",
    "triplets": f"[V:1]{NOTES}|\n[V:1](3GAB(3G2A2B2(3zABG4|\n[V:1]G12|]\n",
    "triplet of chords": f"[V:1]{NOTES}|\n[V:1](3[GB]2[Gc]2[Gd]2G8|\n[V:1]G12|]\n",
    "accidental again": f"[V:1]{NOTES}|\n[V:1]^G4=G4^G4|\n[V:1]G12|]\n",
}
ILLEGAL = {  # what follows the bar line of a first bar -> what may not
    "bar too long": ("[V:1]G4A4B4", "c"),
    "bar too short": ("[V:1]G4A4B2", "|"),
    "length too long": ("[V:1]G8A1", "0"),
    "accidental missing": ("[V:1]^G4", "G"),
    "accidental of the key": ("[V:1]", "^F"),
    "double accidental": ("[V:1]", "__"),
    "length not in its lowest terms": ("[V:1]G2", "/"),
    "length one": ("[V:1]G1", "|"),
    "chord that falls": ("[V:1][B", "G"),
    "chord of one": ("[V:1][B", "]"),
    "rest tied": ("[V:1]z4", "-"),
    "tie into a rest": ("[V:1]G12-|\n[V:1]", "z"),
    "tie into another note": ("[V:1]G12-|\n[V:1]", "A"),
    "tie whose voice is left out": ("[V:1]G12|[V:2]C12-|\n[V:1]G12|", "\n"),
    "end with a tie": ("[V:1]G12-|", "]"),
    "voice that rests written out": ("[V:1]G12|[V:2]z1", "2"),
    "voice twice": ("[V:1]G12|[V:", "1"),
    "voice that is not declared": ("[V:", "3"),
    "empty line": ("[V:1]G12|\n", "\n"),
    "multi-bar rest": ("[V:1]", "Z"),
    "grace note": ("[V:1]", "{"),
    "repeat": ("[V:1]G12|", ":"),
    "tuplet in a tuplet": ("[V:1](3G", "("),
    "unequal tuplet": ("[V:1](3G", "2/"),
    "the same metre again": ("[V:1][M:3/", "4"),
    "other metre in another voice": ("[V:1][M:2/4]G8|[V:2][M:", "3"),
}
# within the dialect, but not written by models
NOT_GENERATED = {
    "change of tempo": ("[V:1][", "Q"),
    "tuplet of two": ("[V:1](3", ":"),
    "chord and note in a tuplet": ("[V:1](3[GB]2", "G"),
    "note and chord in a tuplet": ("[V:1](3G2", "["),
    "tie in a bar": ("[V:1]G4-", "G"),
    "tie of two spellings": ("[V:1]^G4=G8", "-"),
    "pitch below abcjs's": ("[V:1]E,,,", ",,"),
    "drum beyond General MIDI": ("[V:2]c'", "''"),
    "chord of seven": ("[V:1][GABcdef", "g"),
    "second bar of silence": ("[V:1]z12|\n[V:1]z12", "|"),
    "metre that abcjs plays too fast": ("[V:1][M:7/", "16]"),
}


def walk(grammar, seed, n_characters, prompt=""):
    """A random tune from a prompt on; music is preferred, or it would hardly leave the header."""
    rng = random.Random(seed)
    haste = rng.random() / 2
    state = grammar.continued(TuneGrammar(DIALECT).read(prompt))
    text = prompt
    while len(text) < len(prompt) + n_characters and not state.is_end:
        legal = sorted(grammar.follow(state))
        assert legal, f"dead end after {text!r}"
        is_head = state.stage.phase == "line" and state.stage.line == "head"
        if is_head and not state.stage.text and rng.random() < 0.5:
            character = MARK[0]
        elif "|" in legal and rng.random() < haste:
            character = "|"
        else:
            character = rng.choice([c for c in legal if c != "]" or rng.random() < 0.2] or legal)
        state, text = grammar.step(state, character), text + character
        assert state is not None, f"{character!r} was said to be legal after {text!r}"
    return state, text


@pytest.mark.parametrize("case", LEGAL)
def test_tunes_of_the_dialect_may_be_generated(case):
    text = HEAD + VOICES + LEGAL[case]
    assert TuneGrammar(replace(GENERATION, rest_share=1.0)).read(text).is_end
    assert TuneGrammar(DIALECT).read(text).is_end
    assert not read_bars(parse_tune(text))[1]


@pytest.mark.parametrize("case", ILLEGAL)
def test_what_readers_misread_is_illegal(case):
    before, then = ILLEGAL[case]
    beginning = HEAD + VOICES + f"[V:1]{NOTES}|\n" + before
    for limits in (GENERATION, DIALECT):
        if case == "unequal tuplet" and limits is DIALECT:
            continue
        grammar = TuneGrammar(limits)
        state = grammar.read(beginning)
        with pytest.raises(ValueError, match=r"line \d+, column \d+: .* expected "):
            grammar.read(then, state)


@pytest.mark.parametrize("case", NOT_GENERATED)
def test_what_readers_differ_on_is_read_but_not_generated(case):
    before, then = NOT_GENERATED[case]
    beginning = HEAD + VOICES + f"[V:1]{NOTES}|\n" + before
    assert TuneGrammar(DIALECT).read(beginning + then)
    with pytest.raises(ValueError, match="expected"):
        TuneGrammar(GENERATION).read(beginning + then)


def test_tune_needs_notes_pitches_and_seconds():
    grammar = TuneGrammar(GENERATION)
    one_pitch, too_few = "[V:1]" + 12 * "G" + "|\n", "[V:1]G4A4B4|\n"
    for bars in (2 * one_pitch, 3 * too_few):
        state = grammar.read(HEAD + VOICES + bars[:-1])
        assert "]" not in grammar.follow(state)
    fast = HEAD.replace("=90", "=300") + VOICES
    assert "]" not in grammar.follow(grammar.read(fast + f"[V:1]{NOTES}|\n" * 3 + "[V:1]G12|"))
    assert "]" in grammar.follow(grammar.read(fast + f"[V:1]{NOTES}|\n" * 6 + "[V:1]G12|"))


@pytest.mark.parametrize("start", ["M:12/4\nL:1/16\nQ:1/4=20", "M:3/8\nL:1/16\nQ:1/4=25"])
def test_tune_that_would_go_on_ends_before_its_longest_time(start):
    tokens = TokenGrammar(["", *sorted(ALPHABET)], 0)
    state, rng, n_left = tokens.read_prompt(f"X:1\n{start}\n"), random.Random(0), 20_000
    while legal := tokens.legal(state, n_left):
        going_on = [token for token in legal if token and tokens.texts[token] != "]"]
        if not going_on and 0 in legal:
            break
        on_lines = [token for token in going_on if tokens.texts[token] == "\n"]
        state = tokens.advance(state, rng.choice(on_lines or going_on or legal), n_left)
        n_left -= 1
    assert state.is_end
    assert GENERATION.most_seconds * 0.7 < state.stage.seconds <= GENERATION.most_seconds


def test_beginning_without_time_for_an_end_is_refused():
    tokens = TokenGrammar(["", *sorted(ALPHABET)], 0)
    long = HEAD.replace("=90", "=20") + VOICES + f"[V:1]{NOTES}|\n" * 52
    ids = torch.tensor([[tokens.texts.index(character) for character in long]])
    with pytest.raises(ValueError, match=r"lasts 468 seconds, but a whole tune at most 598"):
        TuneLogitsProcessor(tokens, 1000).begin(ids)


def test_voices_rest_no_more_than_in_real_music():
    grammar = TuneGrammar(GENERATION)
    one, two = f"[V:1]{NOTES}|", "[V:2]C12|"
    for bars, legal in (
        (one, "\n["),  # one of two bars may be left out
        (f"{one}\n{one}", "\n["),
        (f"{two[:-1]}|\n{one}", "\n["),
        ("[V:2]C12|\n[V:2]C12|\n[V:", "12"),
        (f"{one}{two}\n[V:1]", None),  # all may rest, which are two of four
        (f"{one}\n{one}\n[V:1]z", "1"),
    ):
        follow = grammar.follow(grammar.read(HEAD + VOICES + bars))
        assert "z" in follow if legal is None else set(legal) <= follow
    trio = VOICES + "V:3\n%%MIDI program 1\n"
    state = grammar.read(HEAD + trio + one)
    assert grammar.follow(state) == {"["}  # two of three would be left out
    assert grammar.closing(state).startswith("[V:3]C")
    assert "\n" in grammar.follow(grammar.read(two, state))
    with pytest.raises(ValueError, match=r"'3', expected '1' '2'"):
        grammar.read("[V:3]C12|\n[V:1]C12|\n[V:3", state)
    assert TuneGrammar(DIALECT).read(HEAD + trio + one + "\n")


def test_silence_at_the_end_does_not_make_a_tune_longer():
    grammar = TuneGrammar(replace(GENERATION, rest_share=1.0))
    short = HEAD.replace("=90", "=120") + VOICES + f"[V:1]{NOTES}|\n[V:1]{NOTES}|\n"  # 3 s
    for bar, may_end in (("[V:1]G4z8|", False), ("[V:1]z12|", False), ("[V:1]G4z4A4|", True)):
        state = grammar.read(short + bar)
        assert ("]" in grammar.follow(state)) == may_end
        closing = grammar.closing(state)
        assert closing == ("]\n" if may_end else "\n[V:1]C12|]\n")
    both = grammar.read(short + "[V:1]G4z8|[V:2]z4C8|")
    assert "]" in grammar.follow(both)


def test_real_tunes_are_accepted(tune_files, chorale):
    grammar = TuneGrammar(DIALECT)
    for midi in [chorale, *(file.read_bytes() for file in tune_files)]:
        assert grammar.read(midi_to_abc(midi)).is_end


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pieces())
def test_all_that_the_converter_writes_is_accepted(midi):
    abc = midi_to_abc(midi)
    if abc:
        assert TuneGrammar(DIALECT).read(abc).is_end


@pytest.mark.parametrize(("limits", "n"), [(GENERATION, 100), (DIALECT, 24)])
def test_no_state_is_a_dead_end_and_all_ends_are_tunes(limits, n):
    grammar = TuneGrammar(limits)
    for seed in range(n):
        state, text = walk(grammar, seed, n_characters=(0, 20, 60, 120, 200, 400)[seed % 6])
        closing = grammar.closing(state)
        assert len(closing) <= grammar.closing_bound(state)
        tune = parse_tune(text + closing)
        assert not read_bars(tune)[1]
        if limits is GENERATION:
            played = Score.from_midi(abc_to_midi(text + closing)).to("second")
            ends = [note.end for track in played.tracks for note in track.notes]
            assert max(ends) >= 4.0
        assert to_voices(text + closing) == print_tune(tune, "voices")


def test_second_change_of_a_bar_under_way_can_be_brought_to_its_end():
    grammar = TuneGrammar(DIALECT)
    # a single note sounds on, so that the bracket is no chord
    state = grammar.read(HEAD + VOICES + "[V:1]G12-|\n[V:1][M:2/4][")
    assert grammar.follow(state) == {"Q"}
    assert grammar.closing(state).startswith("Q:")


def test_way_to_the_end_stays_the_same_as_it_is_gone():
    grammar = TuneGrammar(GENERATION)
    for seed in range(40):
        state, _ = walk(grammar, seed, n_characters=90)
        closing = grammar.closing(state)
        for place, character in enumerate(closing):
            assert grammar.closing(state) == closing[place:]
            state = grammar.step(state, character)
        assert state.is_end


def test_no_way_to_the_end_is_longer_than_its_bounds(tokenizer):
    tokens = TokenGrammar.of(tokenizer)
    grammar, n_in_bars = tokens.grammar, 0
    for seed in range(40):
        _, text = walk(grammar, seed, n_characters=250)
        state = grammar.start()
        for character in text:
            state = grammar.step(state, character)
            n_tokens = tokens.n_closing_tokens(state)
            assert n_tokens <= grammar.closing_bound(state)
            behind = grammar.worst_case_bar_end(state) if state.node is not None else None
            if behind is not None:
                n_in_bars += 1
                bound = grammar.bar_end_bound(state) + tokens.n_closing_tokens(behind)
                assert n_tokens <= bound
    assert n_in_bars > 1000


def test_way_to_the_end_has_bounds_where_no_more_voices_may_rest():
    """Of a line with a tie, and the one that takes it over, every voice must be written."""
    names = "".join(f"V:{n}\n%%MIDI program {n}\n" for n in range(1, 15))
    prompt = HEAD + names + "[V:1]G12|\n" * 4  # 13 of 14 rest, half of them may
    grammar, n_tied = TuneGrammar(GENERATION), 0
    for seed in range(20):
        _, text = walk(grammar, seed, 250, prompt)
        state = grammar.continued(TuneGrammar(DIALECT).read(prompt))
        for character in text[len(prompt) :]:
            state = grammar.step(state, character)
            assert len(grammar.closing(state)) <= grammar.closing_bound(state)
            n_tied += any(state.stage.tied_out)
    assert n_tied > 500


@pytest.fixture(scope="module", params=["char", "bpe", "note"])
def tokenizer(request, tmp_path_factory, tune_files):
    texts = [midi_to_abc(file.read_bytes(), layout="bars") for file in tune_files]
    kind = TokenSettings(tokenizer=request.param, vocab_size=400 if request.param == "bpe" else 0)
    return train_tokenizer(texts, kind, 128)


def check_tune(tokenizer, ids):
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert TuneGrammar(GENERATION).read(text).is_end
    assert not read_bars(parse_tune(text))[1]
    assert ids[-1] in (tokenizer.eos_token_id, tokenizer.pad_token_id)
    return text


@pytest.mark.parametrize("model_type", ["abc_gpt", "abc_lstm"])
def test_model_that_knows_nothing_writes_whole_tunes(tokenizer, model_type):
    model, tokens = make_model(tokenizer, model_type), TokenGrammar.of(tokenizer)
    for seed, n_new in enumerate((160, 200, 400)):
        out, processor = generate(model, tokenizer, tokens, ["", ""], n_new, seed)
        for ids in out:
            check_tune(tokenizer, ids)
        assert processor.counts.n_steps > processor.counts.n_replaced > 0


@pytest.mark.parametrize("model_type", ["abc_gpt", "abc_lstm"])
def test_asking_for_single_tokens_gives_what_the_mask_gives(tokenizer, model_type):
    model, tokens = make_model(tokenizer, model_type), TokenGrammar.of(tokenizer)
    greedy = {"do_sample": False, "top_k": None}
    for more in ({}, {"temperature": 0.7}, greedy)[: 3 if len(tokenizer) < 100 else 1]:
        fast, _ = generate(model, tokenizer, tokens, ["", "X:1\n"], 160, **more)
        slow, _ = generate(
            model,
            tokenizer,
            tokens,
            ["", "X:1\n"],
            160,
            custom_generate=GenerationMixin._sample,
            **more,
        )
        assert torch.equal(fast, slow)


def test_rows_that_have_stopped_are_chosen_no_more(tokenizer):
    model, tokens = make_model(tokenizer), TokenGrammar.of(tokenizer)
    texts = tokens.texts
    stops = [token for token, text in enumerate(texts) if "G" in text or "]" in text]
    ends = [tokenizer.eos_token_id, *stops]
    out, processor = generate(
        model, tokenizer, tokens, [HEAD, HEAD + VOICES], 200, eos_token_id=ends
    )
    n_prompt = len(tokenizer(HEAD + VOICES)["input_ids"]) + 1
    written = out[:, n_prompt:]
    n_written = int((written != tokenizer.pad_token_id).sum())
    assert n_written < written.numel()
    assert processor.counts.n_steps == n_written


def test_beams_top_k_and_top_p_stay_in_the_dialect(tokenizer):
    model, tokens = make_model(tokenizer), TokenGrammar.of(tokenizer)
    for more in (
        {"top_k": 5},
        {"top_p": 0.5},
        {"do_sample": False, "num_beams": 3, "top_k": None},
    ):
        out, _ = generate(model, tokenizer, tokens, n_new=150, **more)
        check_tune(tokenizer, out[0])


def test_prompt_is_gone_on_with_even_where_models_would_not_write_it(tokenizer):
    model, tokens = make_model(tokenizer), TokenGrammar.of(tokenizer)
    lavish = f"{HEAD}{VOICES}[V:1]G4-G8|\n[V:1][Q:1/4=100](3:2:4CDC2z"
    for prompt in (HEAD, HEAD + VOICES + "[V:1]G4A", lavish):
        out, _ = generate(model, tokenizer, tokens, [prompt], 200)
        text = tokenizer.decode(out[0], skip_special_tokens=True)
        assert text.startswith(prompt)
        assert TuneGrammar(replace(DIALECT, n_notes=16)).read(text).is_end


def test_tokenizer_without_all_characters_is_one_clear_error():
    few = train_tokenizer(["X:1\nM:4/4\n"], TokenSettings("char64"), 64)
    with pytest.raises(
        ValueError, match=r"no tokens for the characters .* '#' '%' .* of the dialect"
    ):
        TokenGrammar.of(few)


def test_bad_prompt_and_too_few_tokens_are_one_clear_error(tokenizer):
    model, tokens = make_model(tokenizer), TokenGrammar.of(tokenizer)
    with pytest.raises(ValueError, match=r"line 6, column 1: .*, expected 'K'"):
        generate(model, tokenizer, tokens, [HEAD.replace("K:G\n", "T:A tune")])
    with pytest.raises(ValueError, match=r"max_new_tokens is 20, but a whole tune .* takes \d+"):
        generate(model, tokenizer, tokens, n_new=20)
