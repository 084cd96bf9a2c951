"""`make play`: conditions, files that sound, and a page that needs nothing beside it."""

import io
import re
import wave

import numpy as np
import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from data_prep.dialect.notation import ALPHABET
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.tokens.passage_rows import add_marks
from data_prep.tokens.tokenizers import TokenSettings, train_tokenizer
from evaluation.pages.audio import AUDIBLE_RMS, TAIL_SECONDS
from evaluation.play.__main__ import continued, main, write_pieces
from evaluation.play.pieces import ACCOMPANIED, FILLED_IN, TUNES, Piece
from evaluation.play.play_page import instruments, marks, write_page
from evaluation.play.played import Played, write_files
from modeling.header_abc import header_lines
from modeling.pipeline_abc_music import AbcMusicPipeline
from modeling.plan_abc import read_bars

pytest.importorskip("tinysoundfont", reason="the player of sound, from make setup")

ALL = [*TUNES, FILLED_IN, ACCOMPANIED]
HEAD = "X:1\nM:4/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\nV:1\n%%MIDI program 0\n"
HEAD += "V:2\n%%MIDI program 0\n"


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """The pipeline of a Llama with random weights that knows the marks of fill-in."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer([ALPHABET], TokenSettings(), 256).save_pretrained(folder)
    add_marks(folder)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = AutoConfig.for_model(
        "llama", vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16,
        num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
        max_position_embeddings=1024, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return AbcMusicPipeline(AutoModelForCausalLM.from_config(config).eval(), tokenizer=tokenizer)


@pytest.fixture(scope="module")
def played(chorale):
    return [Played(TUNES[1], {}, abc := midi_to_abc(chorale), TUNES[1].played(abc))]


def loudness(wav):
    """Root mean square of each second, in [0, 1]; length in seconds."""
    with wave.open(io.BytesIO(wav)) as file:
        rate, sound = file.getframerate(), file.readframes(file.getnframes())
    samples = np.frombuffer(sound, "<i2").reshape(-1, 2) / 32768
    seconds = [samples[at : at + rate] for at in range(0, len(samples) - rate, rate)]
    return [float(np.sqrt(np.mean(each**2))) for each in seconds], len(samples) / rate


def test_conditions_are_ones_that_the_dialect_can_write():
    assert len({piece.name for piece in ALL}) == len(ALL)
    for piece in TUNES:
        assert header_lines(**piece.conditions())
        assert len(piece.played_on) in (0, len(piece.asked["instruments"]))


def test_given_tunes_are_whole_and_have_the_bars_that_are_asked_for():
    first, last = FILLED_IN.asked["fill"]
    assert 1 < first <= last < len(read_bars(FILLED_IN.conditions()["prompt"]).lines)
    given = read_bars(ACCOMPANIED.conditions()["accompany"])
    assert given.n_voices == 1
    assert all(given.voices(bar)[0] for bar in (0, len(given.lines) - 1)), "the voice rests"


def test_a_piece_is_played_on_its_instruments_at_its_tempo(played):
    tune = parse_tune(played[0].abc)
    assert {voice.program for voice in tune.voices} == set(TUNES[1].played_on)
    assert tune.tempos == {0: TUNES[1].tempo}
    assert instruments(played[0].abc) == "4 x Choir Aahs"


def test_the_highest_voice_of_the_score_changes_no_note(chorale):
    abc = midi_to_abc(chorale)
    upside_down = Piece("other", "", {}, played_on=(1, 2, 3, 4), top=4).played(abc)
    tune, before = parse_tune(upside_down), parse_tune(abc)
    assert [voice.program for voice in tune.voices] == [4, 1, 2, 3]
    assert tune.voices[0].bars == before.voices[3].bars


def test_files_have_the_right_length_and_are_not_silent(played, tmp_path):
    mp3 = write_files(played[0], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "chorale.abc", "chorale.mid", "chorale.wav"
    }  # fmt: skip
    loud, seconds = loudness((tmp_path / "chorale.wav").read_bytes())
    music = played[0].bar_seconds()[-1]
    last_rest = 60 / TUNES[1].tempo  # a quarter, after the pickup
    assert seconds == pytest.approx(music - last_rest + TAIL_SECONDS, abs=1e-3)
    sounding = [each > 10 * AUDIBLE_RMS for each in loud[: int(music)]]
    assert sum(sounding) > 0.9 * len(sounding), "the music has a pickup, and no other silence"
    assert mp3[:2] == b"\xff\xfb" or mp3[:3] == b"ID3"


def test_the_page_holds_scores_and_sounds_and_fetches_nothing(played, tmp_path):
    page = write_page("a <model>", 1, played, [b"sound"], tmp_path).read_text("utf-8")
    assert "a &lt;model&gt;" in page
    bars = re.findall(r'<g [^>]*data-class="measure"', page)
    assert len(bars) == len(played[0].bar_seconds()) - 1
    assert 'src="data:audio/mpeg;base64,c291bmQ="' in page
    links = re.findall(r'(?:src|href)="([^"#][^"]{0,40})', page)
    assert links
    assert all(link.startswith("data:") for link in links)


def test_what_was_written_is_marked():
    two = HEAD + "".join(f"[V:{voice}]C16|" for voice in (1, 2)) + "]\n"
    assert marks({"meter": "6/8"}) == {}
    assert marks({"prompt": two, "fill": (9, 12)}) == {"bars": range(9, 13)}
    assert marks({"accompany": two, "instruments": [0]}) == {"first_staff": 3}
    assert marks({"prompt": two})["bars"][0] == 2


def test_one_s_own_tune_is_continued(tune_files, write):
    pieces = continued(tune_files[0], 4)
    [played] = write_pieces(write, pieces[:1], seed=1, max_new_tokens=200)
    begun = played.conditions["prompt"]
    assert midi_to_abc(tune_files[0].read_bytes()).startswith(begun)
    assert played.written.startswith(begun)
    assert len(played.written) > len(begun)
    assert marks(played.conditions)["bars"][0] == 5


def test_given_bars_and_voices_stay_as_they_are(write):
    filled, accompanied = write_pieces(write, [FILLED_IN, ACCOMPANIED], seed=1, max_new_tokens=200)
    own = read_bars(FILLED_IN.conditions()["prompt"]).lines
    new = read_bars(filled.written).lines
    assert [*new[:8], *new[12:]] == [*own[:8], *own[12:]]
    given = parse_tune(ACCOMPANIED.conditions()["accompany"]).voices[0].bars
    assert parse_tune(accompanied.written).voices[0].bars == given
    assert len(parse_tune(accompanied.abc).voices) == 3


def test_missing_model_is_one_line_that_says_what_was_expected(tmp_path, capsys):
    assert main(["pretrained/none", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not [*tmp_path.iterdir()]
