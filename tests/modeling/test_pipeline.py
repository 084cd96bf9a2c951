import itertools
import json
import random
import re

import pytest
import torch
from fuzzing.abc_inputs import abc_inputs
from hypothesis import HealthCheck, given, settings
from midi_pieces import pieces
from strangers import run_stranger
from transformers import AutoConfig, AutoModelForCausalLM, pipeline

import modeling
from data_prep.dialect.abc_to_midi import abc_to_midi, perform
from data_prep.dialect.notation import ALPHABET
from data_prep.dialect.tune import print_tune, read_bars
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.tokens.tokenizers import TOKENIZERS, TokenSettings, train_tokenizer
from modeling.export_abc import (
    check_beginning,
    cut_after_end,
    cut_to_whole_bars,
    export_tune,
    tie_lengths,
    to_voices,
)  # fmt: skip
from modeling.header_abc import INSTRUMENTS

HEAD = "X:1\nM:3/4\nL:1/16\nQ:1/4=90\n%%MIDI chordattack 0\nK:G\n"
VOICES = "V:1\n%%MIDI program 40\nV:2\n%%MIDI channel 10\n"
TUNE = f"{HEAD}{VOICES}[V:1]G4A4B4|[V:2]C12|\n[V:1]B8G4|\n[V:1]G12|]\n"
LAYOUTS = {
    "one voice": f"{HEAD}V:1\n%%MIDI program 0\n[V:1]G12|\n[V:1]A12|]\n",
    "pickup": f"{HEAD}{VOICES}[V:1]G4|[V:2]C2C2|\n[V:1]A12|\n[V:2]C12|]\n",
    "pickup of one voice": f"{HEAD}{VOICES}[V:1]G2|\n[V:2]C12|]\n",
    "silent pickup": f"{HEAD}{VOICES}[V:1]z5/2|\n[V:2]C12|]\n",
    "no pickup, voices differ": f"{HEAD}{VOICES}[V:1]G4|[V:2]C12|\n[V:1]G12|]\n",
    "metres": f"{HEAD}{VOICES}[V:1][M:6/8]A12|[V:2][M:6/8]C12|]\n".replace("M:3/4", "M:6/8"),
    "changes": f"{HEAD}{VOICES}[V:1]G12|\n[V:1][M:2/2][Q:1/16=483]A16|[V:2][M:2/2]C16|\n"
    "[V:1]A16|\n[V:2][Q:1/16=480]C16|\n[V:1][M:7/16][Q:1/4=60]z7|\n[V:1]B7|]\n",
    "silence": f"{HEAD}{VOICES}[V:1]z12|\n[V:1]z12|\n[V:2]z4C8|\n[V:1]z12|\n[V:2]z4z8|]\n",
    "tuplets, chords, ties": f"{HEAD}{VOICES}[V:1](3ABc[^CE^^G]4-[CEG]6|[V:2](3:2:4C2D/D/z2z8|]\n",
    "no header but the key": f"K:Db\nV:1\n[V:1]{'C16|' * 1}\n[V:1]C,,,16|]\n",
    "many voices": HEAD
    + "".join(f"V:{n}\n%%MIDI program {n}\n" for n in range(1, 31))
    + "".join(f"[V:{n}]G12|" for n in range(1, 31))
    + "]\n",
    "no end": f"{HEAD}{VOICES}[V:1]G4A4",
}


def lay_voices(abc):
    """What data_prep makes of a text; None if it refuses it."""
    try:
        tune = parse_tune(abc)
        perform(tune)
        return print_tune(tune, "voices") if tune.n_bars else None
    except ValueError:
        return None


@pytest.mark.parametrize("case", LAYOUTS)
def test_voices_are_laid_as_data_prep_lays_them(case):
    assert to_voices(LAYOUTS[case]) == lay_voices(LAYOUTS[case])


def test_voices_of_real_tunes_are_laid_as_data_prep_lays_them(tune_files, chorale):
    for midi in [chorale, *(file.read_bytes() for file in tune_files)]:
        abc = midi_to_abc(midi, layout="bars")
        assert to_voices(abc) == print_tune(parse_tune(abc), "voices")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pieces())
def test_voices_of_any_music_are_laid_as_data_prep_lays_them(midi):
    abc = midi_to_abc(midi, layout="bars")
    assert to_voices(abc) == print_tune(parse_tune(abc), "voices")


def test_export_plays_the_same_in_lengths_that_one_note_can_show(tune_files, chorale):
    tied = "^C4-^C^C2-^C/-|^C2-^C/z8z2(3C5D5E5[CE]5|z16z4|]"
    assert tie_lengths("V:1\n^C5^C5/2-|^C5/2z10(3C5D5E5[CE]5|z20|]\n") == f"V:1\n{tied}\n"
    assert tie_lengths("C/8C/0") == "C/8C/0"  # no whole ticks: left to the readers
    drawn = {str(v) for v in (1, 2, 3, 4, 6, 7, 8, 12, 14, 16, 24, 28)}
    for midi in [chorale, *(file.read_bytes() for file in tune_files)]:
        abc = midi_to_abc(midi, layout="bars")
        exported = export_tune(abc)
        assert abc_to_midi(exported) == abc_to_midi(abc)
        bars = exported.partition("V:1\n")[2]
        lengths = re.findall(r"(?<![\]\w])[A-Ga-gz][,']*([0-9]+)(?![0-9/])", bars)
        assert set(lengths) <= drawn


def test_odd_text_is_laid_or_refused_as_data_prep_does():
    laid = 0
    for abc in itertools.islice(abc_inputs(random.Random(1), [TUNE]), 600):
        body = abc.partition("\nK:")[2].split("\n")[1:]
        is_layout = all(re.match(r"V:[0-9]{1,3}$|%%MIDI |\[V:|\s*$", line) for line in body)
        expected = lay_voices(abc)
        if expected is None or not is_layout:
            with pytest.raises(ValueError, match=r"line \d+: |bar 1 "):
                to_voices(abc)
        else:
            assert to_voices(abc) == expected
            laid += 1
    assert laid > 60


@pytest.mark.parametrize(
    ("abc", "message"),
    [
        ("", "line 1: '', expected more: a header"),
        (HEAD, "line 7: '', expected more: a header"),
        ("Once upon a time\n", "line 1: 'Once upon a time', expected a header of the dialect"),
        (TUNE.replace("K:G", "K:Em"), "line 6: 'Em', expected a key of Gb"),
        (TUNE.replace("3/4", "3/5"), "line 2: meter '3/5', expected one such as 4/4"),
        (TUNE.replace("[V:2]", "[V:3]"), r"line 11: '\[V:3\]C12\|', expected \[V:n\] of a voice"),
        (TUNE.replace("B8", "H8"), "line 12: 'H8G4', expected a note, chord, rest or tuplet"),
        (TUNE.replace("B8", "B8/5"), "line 12: 'B8/5G4', expected a length in whole ticks"),
        (to_voices(TUNE), r"line 9: .*, expected V:n, its %%MIDI lines, or a bar \[V:1\]"),
    ],
)
def test_text_outside_the_layout_is_refused_with_its_line(abc, message):
    with pytest.raises(ValueError, match=message):
        to_voices(abc)


def test_generated_text_is_cut_at_its_last_whole_bar():
    for stop in range(len(TUNE)):
        cut = cut_to_whole_bars(TUNE[:stop])
        assert cut == "".join(line for line in TUNE[:stop].splitlines(True) if line.endswith("\n"))
    assert cut_after_end(TUNE + "\nM:4/4\nK:C\n") == (TUNE, True)
    assert cut_after_end(TUNE[:-3]) == (TUNE[:-3], False)


def test_all_beginnings_of_a_tune_are_beginnings():
    for abc in [TUNE, *LAYOUTS.values()]:
        for stop in range(len(abc)):
            check_beginning(abc[:stop])


@pytest.mark.parametrize("text", ["hello", "X:1\nhello", HEAD + "CDEF|", HEAD + "[V:1]C", "Q:1\n"])
def test_other_text_is_no_beginning(text):
    with pytest.raises(ValueError, match=r"line \d: .*, expected "):
        check_beginning(text)


FAMILIES = {
    "abc_gpt": {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
    "abc_lstm": {"hidden_size": 64, "num_hidden_layers": 1},
}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([], TokenSettings(), context_length=256)


@pytest.fixture(scope="module")
def models(tokenizer):
    """Of each family one that knows `TUNE` by heart."""
    made = {}
    for model_type, shape in FAMILIES.items():
        torch.manual_seed(0)
        ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in SPECIAL}
        config = AutoConfig.for_model(model_type, **shape, vocab_size=len(tokenizer), **ids)
        model = AutoModelForCausalLM.from_config(config)
        end = tokenizer.eos_token_id
        tune = torch.tensor([[end, *tokenizer(TUNE)["input_ids"], end]])
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(120):
            model(tune, labels=tune).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        made[model_type] = model.eval()
    return made


SPECIAL = ("pad", "bos", "eos")


@pytest.fixture(params=FAMILIES)
def write(request, models, tokenizer):
    return pipeline(
        "abc-music", model=models[request.param], tokenizer=tokenizer, device="cpu", grammar=False
    )


@pytest.fixture
def write_lstm(models, tokenizer):
    return pipeline(
        "abc-music", model=models["abc_lstm"], tokenizer=tokenizer, device="cpu", grammar=False
    )


def test_a_tune_comes_as_text_for_other_programs_and_as_midi(write):
    (tune,) = write(do_sample=False)
    voices = print_tune(parse_tune(TUNE), "voices")
    expected = {"abc": TUNE, "ended": True, "abc_voices": voices, "error": None}
    expected["n_tokens"] = len(write.tokenizer(TUNE, add_special_tokens=False)["input_ids"])
    assert tune == expected | {"midi": abc_to_midi(TUNE)}


@pytest.mark.parametrize(
    ("conditions", "header"),
    [
        ({"meter": "6/8"}, "X:1\nM:6/8\n"),
        ({"tempo": 120.75}, "X:1\nM:3/4\nL:1/16\nQ:1/16=483\n"),
        ({"key": "Bb"}, HEAD.replace("K:G", "K:Bb")),
        ({"meter": "2/2", "key": "A"}, HEAD.replace("3/4", "2/2").replace("K:G", "K:A")),
        (
            {"tempo": 60, "instruments": [0, "violin", "drums"]},
            HEAD.replace("=90", "=60")
            + "V:1\n%%MIDI program 0\nV:2\n%%MIDI program 40\nV:3\n%%MIDI channel 10\n[V:",
        ),
    ],
)
def test_conditions_stand_in_the_header_and_the_rest_is_the_models(write, conditions, header):
    for tune in write(**conditions, num_return_sequences=2, top_k=1, seed=1, max_new_tokens=60):
        assert tune["abc"].startswith(header)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_conditions_stand_where_a_model_knows_nothing(kind):
    token_settings = TokenSettings(kind, vocab_size=100 if kind == "bpe" else 0)
    tokenizer = train_tokenizer([TUNE] * 9 + list(ALPHABET), token_settings, 256)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "abc_lstm", **FAMILIES["abc_lstm"], vocab_size=len(tokenizer), pad_token_id=0
    )
    model = AutoModelForCausalLM.from_config(config)
    write = pipeline("abc-music", model=model, tokenizer=tokenizer, device="cpu", grammar=False)
    for tune in write(key="D", instruments=["Flute"], num_return_sequences=3, seed=1):
        lines = tune["abc"].split("\n")
        starts = ("X:1", "M:", "L:1/16", "Q:", "%%MIDI chordattack 0", "K:D", "V:1")
        assert all(line.startswith(start) for line, start in zip(lines, starts, strict=False))
        assert lines[7:9] == ["%%MIDI program 73", lines[8]]
        assert lines[8].startswith("[V:")
        assert (tune["abc_voices"], tune["midi"]) == (None, None)
        assert tune["error"].startswith("line ")


def test_conditions_may_be_dicts_and_written_in_batches(write):
    conditions = [{"key": "F"}, {"meter": "4/4"}, HEAD, None]
    options = {"do_sample": False, "max_new_tokens": 150}
    together = write(conditions, num_return_sequences=2, batch_size=3, **options)
    alone = [write(condition, batch_size=1, **options) * 2 for condition in conditions]
    assert together == alone
    assert "\nK:F\n" in together[0][0]["abc"]


def test_more_voices_than_channels_get_a_channel_a_program(write_lstm):
    instruments = [*range(16), 0, "drums"]
    (tune,) = write_lstm(instruments=instruments, do_sample=False, max_new_tokens=20)
    channels = re.findall(r"%%MIDI channel (\d+)\n", tune["abc"])
    expected = [*range(1, 10), *range(11, 17), 1, 1, 10]
    assert [int(channel) for channel in channels] == expected


@pytest.mark.parametrize("length", [0, 3, len(HEAD), len(HEAD + VOICES) + 7])
def test_prompts_are_continued_verbatim(write, length):
    (tune,) = write(prompt=TUNE[:length], do_sample=False)
    assert tune["abc"] == TUNE
    (tune,) = write("X:1\nM:9/8\n", seed=3, max_new_tokens=40)
    assert tune["abc"].startswith("X:1\nM:9/8\n")


def test_seeds_repeat_and_leave_other_random_numbers_alone(write):
    options = {"temperature": 3.0, "max_new_tokens": 30, "num_return_sequences": 2}
    torch.manual_seed(5)
    first = write(seed=1, **options)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)
    assert write(seed=1, **options) == first
    assert write(seed=2, **options) != first
    assert first[0] != first[1]


def test_text_that_ran_out_of_tokens_is_cut_at_its_last_whole_bar(write):
    stop = TUNE.index("B8")
    (tune,) = write(do_sample=False, max_new_tokens=stop)
    assert (tune["abc"], tune["ended"]) == (TUNE[:stop], False)
    assert tune["abc_voices"] == export_tune(TUNE[: TUNE.index("[V:1]B8")])
    assert tune["midi"] == abc_to_midi(tune["abc_voices"])


def test_text_that_is_no_tune_says_why(write_lstm):
    (tune,) = write_lstm(max_new_tokens=10, do_sample=False)
    assert (tune["abc_voices"], tune["midi"], tune["ended"]) == (None, None, False)
    assert "expected more: a header" in tune["error"]


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"instruments": ["Violine"]}, "instrument 'Violine', expected .*nearest is 'violin'"),
        ({"instruments": [128]}, "instrument 128, expected a General MIDI program"),
        ({"instruments": "Flute"}, "instruments 'Flute', expected a list"),
        ({"key": "Am"}, "key 'Am', expected the major key of the signature"),
        ({"meter": "3/5"}, "meter '3/5', expected one such as 4/4"),
        ({"meter": 0.75}, "meter '0.75', expected one such as 4/4"),
        ({"tempo": "fast"}, "tempo 'fast', expected quarters per minute"),
        ({"tempo": 100.1}, "tempo 100.1, expected quarters per minute .* in steps of 0.25"),
        ({"prompt": "A waltz in G, please"}, "does not start a tune .* line 1: 'A waltz in G"),
        ({"prompt": TUNE}, "prompt is a whole tune"),
        ({"prompt": HEAD, "key": "G"}, "prompt and key: expected one or the other"),
        ({"metre": "3/4"}, "unknown argument 'metre'; the nearest known one is 'meter'"),
        ({"num_return_sequences": 0}, "num_return_sequences is 0, expected 1 or more"),
        ({"max_new_tokens": None}, "max_new_tokens is None, expected 1 or more"),
    ],
)
def test_conditions_that_cannot_be_met_are_one_clear_error(write_lstm, conditions, message):
    with pytest.raises(ValueError, match=message):
        write_lstm(**conditions)
    if not conditions.keys() & {"num_return_sequences", "max_new_tokens"}:
        with pytest.raises(ValueError, match=message):
            write_lstm([{}, conditions])


def to_half(model):
    return model.to(torch.float16)


def to_adapted(model):
    peft = pytest.importorskip("peft")
    return peft.get_peft_model(model, peft.LoraConfig(target_modules=["qkv_proj"])).eval()


def to_observed(model):
    model(torch.tensor([[1, 2]]), output_hidden_states=True)
    return model


@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning")
@pytest.mark.parametrize("change", [to_half, to_adapted, to_observed, torch.nn.Module.train])
def test_whole_tunes_longer_than_the_context_are_written_by_a_model_in_any_state(change):
    tokenizer = train_tokenizer([TUNE, *ALPHABET], TokenSettings("char"), 64)
    torch.manual_seed(0)
    shape = {**FAMILIES["abc_gpt"], "vocab_size": len(tokenizer), "max_position_embeddings": 64}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("abc_gpt", **shape)).eval()
    model = change(model)
    write = pipeline("abc-music", model=model, tokenizer=tokenizer, device="cpu")
    model.train(change is torch.nn.Module.train)  # the pipeline has set it to eval
    (tune,) = write(key="G", instruments=[0], seed=1, max_new_tokens=180)
    assert tune["n_tokens"] > 64
    assert (tune["ended"], tune["error"]) == (True, None)


@pytest.mark.parametrize("context", [256, 24])
def test_a_model_that_ends_at_its_context_writes_whole_tunes_within_it(context):
    tokenizer = train_tokenizer([TUNE, *ALPHABET], TokenSettings("char"), context)
    torch.manual_seed(0)
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": context}
    shape |= {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    config = AutoConfig.for_model("gpt2", vocab_size=len(tokenizer), **shape)
    model = AutoModelForCausalLM.from_config(config).eval()
    write = pipeline("abc-music", model=model, tokenizer=tokenizer, device="cpu")
    if context == 24:
        with pytest.raises(ValueError, match="tokens, but this model reads at most 24; shorten"):
            write(HEAD)
        return
    conditions = [{"key": "G", "instruments": [0]}, {"meter": "3/4", "instruments": [0, 1]}]
    for (tune,) in write(conditions, seed=1):
        assert tune["n_tokens"] < context
        assert (tune["ended"], tune["error"]) == (True, None)


def test_a_model_of_texts_without_tempo_and_programs_says_so(models):
    stripped = "M:3/4\nL:1/16\nK:G\nV:1\n[V:1]G12|]\n" * 9 + "BDF0257b#"
    tokenizer = train_tokenizer([stripped], TokenSettings("char64"), context_length=256)
    write = pipeline(
        "abc-music", model=models["abc_lstm"], tokenizer=tokenizer, device="cpu", grammar=False
    )
    (tune,) = write(meter="2/2", key="D", max_new_tokens=20)
    assert tune["abc"].startswith("M:2/2\nL:1/16\nK:D\n")
    for conditions in ({"tempo": 120}, {"instruments": [0]}):
        with pytest.raises(ValueError, match="is unavailable with this model"):
            write(**conditions)


def test_tunes_go_on_beyond_the_context(models, tokenizer):
    write = pipeline(
        "abc-music", model=models["abc_gpt"], tokenizer=tokenizer, device="cpu", grammar=False
    )
    tune = write(instruments=[0] * 30, max_new_tokens=40, seed=1)[0]
    assert tune["abc"].count("%%MIDI program 0\n") == 30
    assert len(tune["abc"]) > 256


def test_instruments_are_those_of_general_midi():
    assert len(INSTRUMENTS) == len(set(INSTRUMENTS)) == 128
    places = {0: "Acoustic Grand Piano", 24: "Acoustic Guitar (nylon)", 40: "Violin"}
    places |= {73: "Flute", 80: "Lead 1 (square)", 112: "Tinkle Bell", 127: "Gunshot"}
    assert {place: INSTRUMENTS[place] for place in places} == places


@pytest.mark.parametrize(
    "conditions",
    [
        {},
        {"meter": "6/8", "key": "A"},
        {"tempo": 120.75},
        {"instruments": [0, "violin", "drums"]},
        {"prompt": TUNE[:100]},
    ],
)
def test_within_the_grammar_all_tunes_are_whole_whatever_is_wished(write, conditions):
    options = {"num_return_sequences": 3, "seed": 1, "max_new_tokens": 400, "temperature": 3.0}
    for tune in write(conditions, grammar=True, **options):
        assert tune["ended"]
        assert tune["error"] is None
        assert not read_bars(parse_tune(tune["abc"]))[1]
        assert tune["abc"].startswith(conditions.get("prompt", "X:1\n"))
        assert tune["midi"] == abc_to_midi(tune["abc"])


def test_too_few_tokens_for_a_whole_tune_are_one_clear_error(write):
    with pytest.raises(ValueError, match="max_new_tokens is 40, but a whole tune"):
        write(max_new_tokens=40, grammar=True)


def test_grammar_is_on_where_the_tokenizer_has_the_dialect(models, tokenizer):
    model = models["abc_lstm"]
    plain = pipeline("abc-music", model=model, tokenizer=tokenizer, device="cpu")
    options = {"seed": 1, "max_new_tokens": 300, "temperature": 3.0}
    assert plain(**options) == plain(grammar=True, **options)
    assert plain(grammar=False, **options)[0]["error"]
    few = train_tokenizer([TUNE], TokenSettings("char64"), context_length=256)
    other = pipeline("abc-music", model=model, tokenizer=few, device="cpu")
    with pytest.raises(ValueError, match="no tokens for the characters"):
        other(grammar=True)
    assert other(max_new_tokens=10)


STRANGER = """
import json, sys
sys.modules["modeling"] = sys.modules["data_prep"] = None  # importing them fails
from transformers import pipeline
report = {}
for folder in sys.argv[1:]:
    write = pipeline("abc-music", model=folder, trust_remote_code=True, device="cpu", grammar=False)
    again = pipeline(model=folder, trust_remote_code=True, device="cpu", grammar=False)
    report[folder] = {
        "module": type(write).__module__.split(".")[0],
        "tune": write(do_sample=False)[0],
        "same": again(key="D", seed=1) == write(key="D", seed=1),
    }
    report[folder]["whole"] = again(seed=2, max_new_tokens=300, grammar=True)[0]
    write.save_pretrained(folder + "_again")
    try:
        write(key="H")
    except ValueError as error:
        report[folder]["error"] = str(error)
    texts = pipeline("text-generation", model=folder, trust_remote_code=True, device="cpu")
    prompts = ["X:1", "X:1\\nM:3/4"]
    options = {"do_sample": False, "max_new_tokens": 20, "batch_size": 2}
    report[folder]["texts"] = [rows[0]["generated_text"] for rows in texts(prompts, **options)]
print(json.dumps(report))
"""


def test_saved_pipelines_work_where_this_project_is_absent(models, tokenizer, tmp_path):
    for model_type, model in models.items():
        write = modeling.AbcMusicPipeline(model, tokenizer, device=model.device)
        write.save_pretrained(tmp_path / model_type)
    printed = run_stranger(STRANGER, tmp_path, *models)
    for model_type, seen in json.loads(printed.splitlines()[-1]).items():
        assert seen["module"] == "transformers_modules"
        assert seen["tune"]["abc"] == TUNE
        assert seen["tune"]["abc_voices"] == export_tune(TUNE)
        assert seen["tune"]["midi"] is None
        assert seen["same"]
        assert not read_bars(parse_tune(seen["whole"]["abc"]))[1]
        assert seen["error"].startswith("key 'H', expected")
        assert [text[: len("X:1")] for text in seen["texts"]] == ["X:1", "X:1"]
        own = ("pipeline_abc_music", "export_abc", "grammar_abc_decoding", "notation_abc")
        for kind in (*own, f"modeling_{model_type}"):
            assert (tmp_path / f"{model_type}_again" / f"{kind}.py").is_file()
