"""The Python of the page: what the model may write, and what is drawn and played."""

import json
import random

import pytest

from data_prep.dialect.abc_to_midi import perform
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.tokens.passage_rows import add_marks
from data_prep.tokens.tokenizers import TokenSettings, train_tokenizer
from modeling.plan_abc import read_bars
from page.python.api import Page
from page.python.tokenizer import PageTokenizer

HEAD = "X:1\nM:4/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\nV:1\n%%MIDI program 40\n"
TUNE = HEAD + "[V:1]C4D4E4F4|\n[V:1]G8c8-|\n[V:1]c8z8|\n[V:1]C16|]\n"
CONDITIONS = {"meter": "6/8", "key": "D", "tempo": 100, "instruments": ["Violin", "drums"]}


@pytest.fixture(scope="module")
def texts(tune_files):
    return [midi_to_abc(path.read_bytes()) for path in tune_files[:12]]


def tokenizer_file(folder, kind, texts, has_marks=False):
    settings = TokenSettings(tokenizer=kind, vocab_size=120 if kind == "bpe" else 0)
    tokenizer = train_tokenizer(texts, settings, 256)
    tokenizer.save_pretrained(folder)
    if has_marks:
        add_marks(folder)
    return tokenizer, (folder / "tokenizer.json").read_text("utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("tokenizer")
    return Page(tokenizer_file(folder, "char", texts, has_marks=True)[1], 256)


def written(page, seed=1, takes_runs=True, **request):
    """A tune of legal tokens, chosen by chance."""
    chance = random.Random(seed)
    task = page.begin(json.dumps({"mostTokens": 200, **request}))
    task.begin()
    while not task.is_over():
        legal = [int(token) for token in task.legal().split(",")]
        token = legal[chance.randrange(len(legal))]
        assert task.accept(token)
        if takes_runs:
            task.forced()
    return task.tune()


def free(**changes):
    asked = {"kind": "write", "conditions": CONDITIONS, "prompt": "", "hasGrammar": True}
    return asked | changes


@pytest.mark.parametrize("kind", ["char", "note", "bpe"])
def test_texts_are_encoded_as_the_library_does(tmp_path, texts, kind):
    library, file = tokenizer_file(tmp_path, kind, texts)
    own = PageTokenizer(file)
    for text in [*texts, "a text ~ of other characters", ""]:
        assert own.encode(text) == library(text)["input_ids"]


@pytest.mark.parametrize("seed", range(5))
def test_tunes_are_whole_and_keep_their_conditions(page, seed):
    abc = written(page, seed, **free())
    tune = read_bars(abc)
    assert abc.startswith("X:1\nM:6/8\nL:1/16\nQ:1/4=100\n%%MIDI chordattack 0\nK:D\nV:1\n")
    assert tune.n_voices == 2
    assert not perform(parse_tune(abc)).bar_errors


def test_header_lines_stay_as_asked_without_the_grammar(page):
    abc = written(page, **free(hasGrammar=False))
    assert "\nK:D\nV:1\n%%MIDI program 40\nV:2\n%%MIDI channel 10\n[V:" in abc


def test_illegal_tokens_are_refused_and_change_nothing(page):
    task = page.begin(json.dumps(free(mostTokens=200)))
    task.begin()
    before = task.tune(), task.legal()
    legal = {int(token) for token in task.legal().split(",")}
    assert not any(task.accept(token) for token in range(61) if token not in legal)
    assert (task.tune(), task.legal()) == before


def test_filled_in_bars_leave_all_others_as_they_are(page):
    for seed in range(5):
        bars = read_bars(written(page, seed, kind="fill", tune=TUNE, first=2, last=3)).lines
        assert (bars[0], bars[3]) == (read_bars(TUNE).lines[0], read_bars(TUNE).lines[3])


def test_accompanied_voices_stay_as_they_are(page):
    given = read_bars(TUNE)
    found = read_bars(written(page, kind="accompany", tune=TUNE, instruments=["Cello"]))
    assert found.n_voices == 2
    assert [found.voices(bar)[0] for bar in range(4)] == [given.voices(bar)[0] for bar in range(4)]


def test_a_prompt_is_continued(page):
    assert written(page, **free(prompt=TUNE[:-3])).startswith(TUNE[:-3])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (free(conditions={"key": "H"}), "key 'H', expected"),
        (free(prompt=TUNE), "complete"),
        ({"kind": "fill", "tune": TUNE, "first": 4, "last": 9}, "a tune of 4 bars"),
        ({"kind": "fill", "tune": TUNE[:-3], "first": 1, "last": 1}, "has no end"),
    ],
)
def test_what_cannot_be_written_is_an_error(page, request_, message):
    with pytest.raises(ValueError, match=message):
        page.begin(json.dumps({"mostTokens": 100} | request_))


def test_what_is_shown_is_what_sounds(page, texts):
    for text in texts:
        shown, played = json.loads(page.show(text, 900)), perform(parse_tune(text))
        assert [voice["notes"] for voice in shown["voices"]] == [
            [[on, end, list(pitches)] for on, end, pitches in chords] for chords in played.voices
        ]
        assert shown["starts"] == played.starts
        assert shown["clock"][-1] == pytest.approx(played.n_seconds)
        assert (shown["wrong"], shown["hasEnd"]) == ([], True)


def test_all_bars_are_drawn_once_in_lines_that_fit(page):
    narrow, wide = (json.loads(page.show(TUNE, width))["drawn"] for width in (300, 2000))
    assert narrow.count("[V:1]") > wide.count("[V:1]") == 1
    assert narrow.count("|") == wide.count("|") == 4
    assert "[V:1]C4 D4 E4 F4|G8 c8-|c8 z8|C16|]" in wide
    assert 'V:1 name="Violin" clef=treble' in wide


def test_wrong_bars_are_named_and_drawn_as_rests(page):
    text = TUNE.replace("G8c8-", "G8c4").replace("[V:1]c8z8|", "[V:3]c8z8|")
    shown = json.loads(page.show(text, 900))
    assert [bar for bar, _ in shown["wrong"]] == [2, 3]
    assert "12 of 16 units" in shown["wrong"][0][1]


def test_what_may_follow_is_told_also_outside_the_grammar(page):
    inside, outside = (json.loads(page.next(text)) for text in ("X:1\nM:3/", "X:2"))
    texts = json.loads(page.facts())["tokens"]
    assert {texts[token] for token in inside["legal"]} == {"1", "2", "4", "8"}
    assert outside["legal"] is None
    assert "expected '1'" in outside["error"]


def test_foreign_abc_is_opened_with_its_title(page):
    opened = json.loads(page.open(b"X:1\nT:A jig\nM:6/8\nL:1/8\nK:Em\n|:E2E GAB:|\n"))
    assert opened["title"] == "A jig"
    assert read_bars(opened["abc"]).ticks == (144, 144)
    with pytest.raises(ValueError, match="5,000,000 bytes, expected at most"):
        page.open(bytes(5_000_000))
