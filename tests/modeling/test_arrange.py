"""The pipeline fills in bars and accompanies voices, with a model of any family."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

import modeling
from data_prep.dialect.notation import FILL_IN_TOKENS
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.tokens.passage_rows import add_marks
from data_prep.tokens.tokenizers import TokenSettings, train_tokenizer
from modeling.arrange_abc import arrange_fill
from modeling.plan_abc import read_bars
from scaling.families import FAMILIES

HEAD = "X:1\nM:4/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\nV:1\n%%MIDI program 0\n"
TUNE = HEAD + "[V:1]C16-|\n[V:1]C16|\n[V:1][M:3/4]D12-|\n[V:1]D12|\n[V:1]E12|\n[V:1]F12|]\n"
CONTEXT = 256


def trained(folder, kind, texts=()):
    """A tokenizer with the marks of the fill-in form."""
    train_tokenizer(texts, TokenSettings(tokenizer=kind), CONTEXT).save_pretrained(folder)
    add_marks(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("tokenizer"), "char")


def writer(tokenizer, family="gpt"):
    torch.manual_seed(0)
    shape = {"model_type": FAMILIES[family].model_type, "hidden_size": 16, "num_hidden_layers": 1}
    if FAMILIES[family].context == "attention":
        shape |= {"num_attention_heads": 2, "max_position_embeddings": CONTEXT}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos")}
    config = AutoConfig.for_model(
        **FAMILIES[family].config_keys(shape), **ids, vocab_size=len(tokenizer)
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    return modeling.AbcMusicPipeline(model=model, tokenizer=tokenizer, device="cpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_filled_tunes_are_whole_and_keep_all_other_bars(tokenizer, family):
    write, bars = writer(tokenizer, family), read_bars(TUNE)
    for first, last in ((1, 1), (3, 4), (5, 6)):
        for (tune,) in write([{"prompt": TUNE, "fill": (first, last)}] * 2, seed=3):
            assert tune["error"] is None
            assert tune["ended"]
            found = read_bars(tune["abc"])
            assert found.ticks == bars.ticks
            kept = [*range(first - 1), *range(last, len(bars.lines))]
            assert [found.lines[n] for n in kept] == [bars.lines[n] for n in kept]
            written = "".join(found.lines[first - 1 : last])
            assert 0 < tune["n_tokens"] <= len(written)  # what is read does not count


@pytest.mark.parametrize("family", FAMILIES)
def test_accompanied_voices_stay_and_others_are_written(tokenizer, family):
    write, bars = writer(tokenizer, family), read_bars(TUNE)
    (tune,) = write(accompany=TUNE, instruments=["Violin", "drums"], seed=1)
    assert tune["error"] is None
    found = read_bars(tune["abc"])
    assert found.header == bars.header + "V:2\n%%MIDI program 40\nV:3\n%%MIDI channel 10\n"
    assert [found.voices(n)[:1] for n in range(6)] == [bars.voices(n) for n in range(6)]
    assert any(any(found.voices(n)[1:]) for n in range(6))


def test_units_of_several_characters_fill_in_as_well(tmp_path, tune_files):
    texts = [midi_to_abc(file.read_bytes()) for file in tune_files[:20]]
    write = writer(trained(tmp_path, "note", texts), "lstm")
    (filled,) = write(prompt=TUNE, fill=(3, 5), seed=1)
    assert read_bars(filled["abc"]).ticks == read_bars(TUNE).ticks
    (accompanied,) = write(accompany=TUNE, instruments=[0], seed=1)
    assert accompanied["error"] is None


def test_seeds_give_variations_and_the_same_seed_the_same(tokenizer):
    write = writer(tokenizer)
    first, again, other = (write(prompt=TUNE, fill=(2, 5), seed=n)[0]["abc"] for n in (1, 1, 2))
    assert first == again != other
    several = write(prompt=TUNE, fill=(2, 5), seed=1, num_return_sequences=3)
    assert len({tune["abc"] for tune in several}) == 3


def test_requests_of_all_kinds_go_together_in_their_order(tokenizer):
    asked = [
        {"key": "G"},
        {"prompt": TUNE, "fill": (2, 3)},
        {"prompt": HEAD + "[V:1]C16|\n"},
        {"accompany": TUNE, "instruments": [0]},
    ]
    tunes = writer(tokenizer)(asked, seed=1, max_new_tokens=200)
    texts = [tune["abc"] for [tune] in tunes]
    assert "\nK:G\n" in texts[0]
    assert texts[1].endswith("[V:1]D12|\n[V:1]E12|\n[V:1]F12|]\n")
    assert texts[2].startswith(HEAD + "[V:1]C16|\n")
    assert texts[3].startswith(HEAD + "V:2\n%%MIDI program 0\n")


def test_the_model_reads_the_nearest_bars_of_both_sides_that_fit():
    bars = [f"[V:1]{'CDEFGABc'[n % 8]}16|\n" for n in range(40)]
    tune = HEAD + "".join(bars)[:-1] + "]\n"
    for fill in ((1, 2), (20, 21), (39, 40)):
        found = arrange_fill(tune, fill, len, CONTEXT)
        before, after, count = found.passage
        assert count == "2\n"
        n_before, n_after = before.count("[V:1]"), after.count("[V:1]")
        assert before == HEAD + "".join(bars[fill[0] - 1 - n_before : fill[0] - 1])
        assert after == "".join(tune.splitlines(True)[8:][fill[1] : fill[1] + n_after])
        length = len(before + after + count + "".join(bars[:2])) + 5
        assert CONTEXT - 30 < length <= CONTEXT
        if fill == (20, 21):
            assert abs(n_before - n_after) <= 1
    assert arrange_fill(tune, (20, 21), len, 40).passage == (HEAD, "", "2\n")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"prompt": TUNE, "fill": (5, 9)}, "bars 5 to 9 of a tune of 6 bars"),
        ({"prompt": TUNE, "fill": 5}, r"fill is 5, expected numbers of a first and a last bar"),
        ({"prompt": TUNE, "fill": ("a", "b")}, "expected numbers of a first and a last bar"),
        (
            {"prompt": TUNE, "fill": (1, 2), "key": "G"},
            "fill and key: expected only prompt with it",
        ),
        ({"fill": (1, 2)}, "fill without a tune, expected the whole tune as prompt"),
        ({"prompt": HEAD + "[V:1]C16|\n", "fill": (1, 1)}, "the tune has no end"),
        ({"prompt": TUNE.replace("E12", "E11"), "fill": (1, 1)}, "line 13, column"),
        ({"accompany": TUNE}, "accompany without instruments"),
        ({"accompany": TUNE, "instruments": ["Violine"]}, "the nearest is 'violin'"),
        ({"accompany": TUNE, "instruments": [0], "prompt": TUNE}, "accompany and prompt"),
    ],
)
def test_impossible_requests_are_one_clear_line(tokenizer, request_, message):
    with pytest.raises(ValueError, match=message) as error:
        writer(tokenizer)(**request_)
    assert "\n" not in str(error.value)


def test_models_that_cannot_fill_in_say_so():
    plain = writer(train_tokenizer([], TokenSettings(), CONTEXT))
    with pytest.raises(ValueError, match="this model was not trained to fill in"):
        plain(prompt=TUNE, fill=(1, 2))
    assert plain(accompany=TUNE, instruments=[0], seed=1)[0]["error"] is None
    few = writer(train_tokenizer(["abc"], TokenSettings(tokenizer="char64"), CONTEXT))
    with pytest.raises(ValueError, match="accompany needs the grammar"):
        few(accompany=TUNE, instruments=[0])
    with pytest.raises(ValueError, match="within the grammar"):
        plain(accompany=TUNE, instruments=[0], grammar=False)


def test_marks_are_those_of_the_data():
    assert FILL_IN_TOKENS == modeling.notation_abc.FILL_IN_TOKENS
