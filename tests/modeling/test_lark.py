import json
import random
from dataclasses import replace

import numpy as np
import pytest
from test_grammar import HEAD, ILLEGAL, LEGAL, NOT_GENERATED, NOTES, VOICES, walk
from tokenizers import Tokenizer

from data_prep.tokens.tokenizers import TokenSettings, train_tokenizer
from evaluation.samples.lark_gaps import UNEXPLAINED, gap_at
from modeling.grammar_abc_decoding import TokenGrammar
from modeling.grammar_abc_limits import DIALECT, GENERATION
from modeling.grammar_abc_tune import TuneGrammar
from modeling.lark_abc import NOT_COVERED, lark_grammar, lark_limits, readable_tokenizer

llguidance = pytest.importorskip("llguidance")
CHAR = train_tokenizer([], TokenSettings("char"), 256)
END = CHAR.eos_token_id
AUTOMATON = TuneGrammar(lark_limits())
FAR = 10**9


def matcher(tokenizer, grammar, limits=None):
    reader = llguidance.LLTokenizer(
        readable_tokenizer(tokenizer.backend_tokenizer.to_str()), eos_token=tokenizer.eos_token_id
    )
    source = llguidance.LLMatcher.grammar_from_lark(grammar)
    found = llguidance.LLMatcher(reader, source, limits=limits)
    assert not found.is_error(), found.get_error()
    return found


@pytest.fixture(scope="module")
def start():
    return matcher(CHAR, lark_grammar(END))


def legal(reader, tokenizer=CHAR):
    bits = np.frombuffer(reader.compute_bitmask(), np.uint8)
    assert not reader.is_error(), reader.get_error()
    found = np.flatnonzero(np.unpackbits(bits, bitorder="little")[: len(tokenizer)])
    return {tokenizer.convert_ids_to_tokens(int(token)) for token in found}


def after(start, text):
    reader = start.deep_copy()
    ids = CHAR.encode(text, add_special_tokens=False)
    assert reader.consume_tokens(ids), reader.get_error()[:300]
    return reader


@pytest.mark.parametrize("case", LEGAL)
def test_tunes_of_the_dialect_are_accepted_and_then_only_their_end(case, start):
    reader = after(start, HEAD + VOICES + LEGAL[case])
    assert legal(reader) == {CHAR.eos_token}
    assert reader.consume_token(END)


@pytest.mark.parametrize("case", ILLEGAL | NOT_GENERATED)
def test_what_the_automaton_forbids_is_forbidden(case, start):
    text = HEAD + VOICES + f"[V:1]{NOTES}|\n" + "".join((ILLEGAL | NOT_GENERATED)[case])
    accepted = start.deep_copy().consume_tokens(CHAR.encode(text, add_special_tokens=False))
    assert accepted == (case == "second bar of silence")  # one of NOT_COVERED


@pytest.mark.parametrize("seed", range(6))
def test_masks_are_those_of_the_automaton_but_for_rules_that_are_listed(seed, start):
    _, text = walk(AUTOMATON, seed, 400)
    reader, state = start.deep_copy(), AUTOMATON.start()
    for character in text:
        ours, theirs = AUTOMATON.follow(state), legal(reader)
        assert ours <= theirs
        gaps = {gap_at(state, c) for c in theirs - ours}
        assert gaps <= {gap.name for gap in NOT_COVERED}, (text, gaps)
        assert reader.consume_token(CHAR.convert_tokens_to_ids(character))
        state = AUTOMATON.step(state, character)


def test_masks_of_merged_tokens_are_those_of_the_automaton():
    tunes = [HEAD + VOICES + case for case in LEGAL.values()]
    tokenizer = train_tokenizer(tunes, TokenSettings("bpe", 150), 256)
    ours = TokenGrammar.of(tokenizer, lark_limits())
    reader, state = matcher(tokenizer, lark_grammar(tokenizer.eos_token_id)), ours.grammar.start()
    for token in tokenizer.encode(tunes[0], add_special_tokens=False):
        allowed = tokenizer.convert_ids_to_tokens(ours.legal(state, FAR))
        assert legal(reader, tokenizer) == set(allowed)
        assert reader.consume_token(token)
        state = ours.advance(state, token, FAR)


@pytest.mark.parametrize(
    "bars",
    [
        "",
        f"[V:1]{NOTES}|\n",
        "[V:1]G8c4-|[V:2]C12|\n",
        "[V:1]G8[ce]4-|\n",
        f"[V:2]C12|\n[V:1][M:2/4]{NOTES[:8]}|[V:2][M:2/4]C8-|\n",
    ],
)
def test_grammar_after_a_prompt_goes_on_as_the_whole_one(bars, start):
    prompt = HEAD + VOICES + bars
    whole = after(start, prompt)
    rest = matcher(CHAR, lark_grammar(END, prompt=prompt))
    # a header that is given has no further voice
    assert legal(rest) == legal(whole) - ({"V"} if not bars else set())
    rng = random.Random(0)
    for _ in range(60):
        character = rng.choice(sorted(legal(rest)))
        if character == CHAR.eos_token:
            break
        token = CHAR.convert_tokens_to_ids(character)
        assert whole.consume_token(token)
        assert rest.consume_token(token)
        assert legal(rest) == legal(whole)


def test_prompt_that_ends_within_a_line_is_refused():
    with pytest.raises(ValueError, match=r"ends with .*expected the end of a header"):
        lark_grammar(END, prompt=HEAD + VOICES + "[V:1]G4")


@pytest.mark.parametrize(
    ("limits", "fault"),
    [
        (DIALECT, "at most"),
        (replace(GENERATION, n_voices=16), "n_voices: 16, but a grammar of 64 bits has at most 15"),
        (replace(GENERATION, is_plain=False), "is_plain=False, expected"),
        (replace(GENERATION, pitches=(40, 80)), "drum_pitches .* expected some of the pitches"),
    ],
)
def test_limits_that_do_not_fit_into_its_memory_are_refused(limits, fault):
    with pytest.raises(ValueError, match=fault):
        lark_grammar(END, limits)


def test_narrower_limits_are_held():
    limits = replace(GENERATION, n_voices=1, pitches=(60, 72), drum_pitches=(60, 72), chord_notes=2)
    start = matcher(CHAR, lark_grammar(END, limits))
    before = HEAD + "V:1\n%%MIDI program 40\n"
    assert legal(after(start, before)) == {"["}
    assert legal(after(start, before + "[V:1][")) <= set("CDEFGABc=_^")
    assert "]" in legal(after(start, before + "[V:1][CE"))
    assert not legal(after(start, before + "[V:1][CE")) & set("CDEFGAB")
    assert "," not in legal(after(start, before + "[V:1]C"))


def test_long_tunes_can_end(start):
    bars = 400 * f"[V:1]{NOTES}|\n"  # engines allow a grammar 2,000 rules that end at once
    reader = after(start, HEAD + VOICES + bars + f"[V:1]{NOTES}|]\n")
    assert legal(reader) == {CHAR.eos_token}
    assert reader.consume_token(END), reader.get_error()


def test_tokenizer_that_llguidance_reads_decodes_to_the_same_text():
    before = CHAR.backend_tokenizer.to_str()
    assert json.loads(before)["decoder"]["type"] == "Fuse"
    text = readable_tokenizer(before)
    assert readable_tokenizer(text) == text
    tune = HEAD + VOICES + LEGAL["two voices"]
    ids = CHAR.encode(tune, add_special_tokens=False)
    assert Tokenizer.from_str(text).decode(ids) == tune
    with pytest.raises(ValueError, match="can't determine decoder type"):
        llguidance.LLTokenizer(before, eos_token=END)


def test_causes_of_differences_are_named():
    state = AUTOMATON.read(HEAD + VOICES + f"[V:1]{NOTES}|\n[V:1]G8[ce]4-|\n[V:1]")
    assert gap_at(state, "d") == "tied chord"
    assert gap_at(AUTOMATON.read(HEAD), "x") == UNEXPLAINED
