"""The page in a real browser: it writes, draws, fills in, saves, and asks no one else."""

import base64
import functools
import io
import json
import threading
import wave
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import mido
import numpy as np
import pytest
from node_page import CHROMIUM, needs_chromium, needs_node, run_node
from transformers import AutoConfig, AutoModelForCausalLM

import modeling  # noqa: F401  (registers our own families)
from data_prep.dialect.abc_to_midi import perform
from data_prep.dialect.tune_parser import parse_tune
from data_prep.tokens.tokenizers import TokenSettings, train_tokenizer
from model_cards.page_files import write_page_files
from modeling.plan_abc import read_bars

pytestmark = [needs_node, needs_chromium]

REQUEST = {
    "kind": "write",
    "conditions": {"meter": "3/4", "key": "G", "tempo": 120, "instruments": ["Violin", "Cello"]},
    "prompt": "",
    "hasGrammar": True,
    "mostTokens": 150,
}


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page of an untrained model: the grammar alone makes its tunes valid."""
    saved = tmp_path_factory.mktemp("saved")
    tokenizer = train_tokenizer([], TokenSettings(), 256)
    tokenizer.save_pretrained(saved)
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 2, "vocab_size": len(tokenizer)}
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model("abc_gpt", **shape, **ids, max_position_embeddings=256)
    AutoModelForCausalLM.from_config(config).save_pretrained(saved)
    out = tmp_path_factory.mktemp("page")
    write_page_files(saved, out)
    run_node("build.mjs", out)
    return out


@pytest.fixture(scope="module")
def address(folder):
    handler = functools.partial(QuietHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def walk(address):
    """What a walk through the page found, see page/tests/browser.mjs."""
    return json.loads(run_node("tests/browser.mjs", CHROMIUM, address))


def test_nothing_is_asked_of_others_and_nothing_is_wrong_in_the_console(walk):
    assert (walk["foreign"], walk["console"]) == ([], [])


def test_a_link_gives_the_same_tune_with_and_without_simd_and_in_node(walk, folder):
    assert walk["plainTune"] == walk["tune"]
    assert (
        run_node("tests/write.mjs", folder, json.dumps(REQUEST), 7).strip() == walk["tune"].strip()
    )


def test_the_tune_is_valid_and_each_bar_is_drawn(walk):
    tune = read_bars(walk["tune"])
    assert not perform(parse_tune(walk["tune"])).bar_errors
    assert walk["bars"] == len(tune.lines)
    assert walk["title"].startswith("Tune in G")


def test_saved_midi_has_the_notes_of_the_tune(walk):
    file = mido.MidiFile(file=io.BytesIO(base64.b64decode(walk["mid"])))
    n_notes = sum(message.type == "note_on" for track in file.tracks for message in track)
    played = perform(parse_tune(walk["tune"]))
    assert n_notes == played.n_notes
    assert file.length == pytest.approx(played.n_seconds, abs=1.0)


def test_saved_sound_is_not_silent_and_as_long_as_the_tune(walk):
    with wave.open(io.BytesIO(base64.b64decode(walk["wav"]))) as sound:
        samples = np.frombuffer(sound.readframes(sound.getnframes()), np.int16)
        seconds = sound.getnframes() / sound.getframerate()
    assert np.abs(samples).max() > 1000
    assert seconds == pytest.approx(perform(parse_tune(walk["tune"])).n_seconds + 2, abs=0.1)


def test_saved_abc_is_read_and_saved_svg_is_a_drawing(walk):
    assert parse_tune(base64.b64decode(walk["abc"]).decode()).n_bars == walk["bars"]
    assert base64.b64decode(walk["svg"]).startswith(b"<svg")


def test_a_marked_bar_is_filled_in_and_undone_and_a_voice_added(walk):
    assert walk["marked"] == "Bar 1"
    before, filled = read_bars(walk["tune"]), read_bars(walk["filled"])
    assert filled.lines[1:] == before.lines[1:]
    assert read_bars(walk["accompanied"]).n_voices == before.n_voices + 1


def test_foreign_abc_is_opened_and_other_files_are_refused_in_one_line(walk):
    assert len(read_bars(walk["opened"]).lines) == 4
    assert "5,000,000 bytes, expected at most" in walk["refused"]
    assert walk["elsewhere"] == (
        "This cannot be read: tune.mid is no .abc or .txt file. MIDI and scores are read by the "
        "studio: make studio"
    )


def test_bars_written_without_the_grammar_are_marked_as_wrong(walk):
    with_grammar, without = walk["verdicts"]
    assert with_grammar.endswith("all right")
    assert "wrong" in without or "No tune" in without


def test_the_page_fits_narrow_and_wide_windows(walk):
    assert walk["tooWide"] == []


def test_nothing_serious_hinders_screen_readers_and_keyboards(walk):
    assert walk["violations"] == []


def test_three_tasks_are_done_by_what_is_written_on_the_page(address):
    found = json.loads(run_node("tests/tasks.mjs", CHROMIUM, address))
    assert found["title"] == "Tune in G 3/4"
    assert base64.b64decode(found["midi"]).startswith(b"MThd")
    own, filled = read_bars(found["own"]), read_bars(found["filled"])
    assert (len(own.lines), found["marked"]) == (8, True)
    assert filled.lines[:4] == own.lines[:4]
    assert filled.ticks == own.ticks
    assert [caption.split(" grammar")[0] for caption in found["captions"]] == ["With", "Without"]


@pytest.fixture(scope="module")
def hostile(address):
    """What the page said where files were missing or broken, see page/tests/hostile.mjs."""
    return json.loads(run_node("tests/hostile.mjs", CHROMIUM, address))


def test_missing_and_broken_files_are_one_line_each(hostile):
    assert hostile["starts"] == {
        case: f"The page cannot start: {line}"
        for case, line in {
            "model/model.safetensors 404": "model/model.safetensors is missing (404)",
            "model/model.safetensors 200": "the weights are no safetensors file (200 bytes)",
            "python.zip 404": "python.zip is missing (404)",
            "pyodide/pyodide.asm.wasm 404": "pyodide/pyodide.asm.wasm is missing (404)",
            "model/about.json 200": "model/about.json is broken: it is not JSON",
        }.items()
    }
    assert hostile["silent"] == "the sounds are missing (sound/bank.sf3, 404)"
    assert hostile["link"].startswith("tempo 9000000000, expected quarters per minute")


def test_the_policy_stops_other_scripts_and_other_servers_in_page_and_worker(hostile, folder):
    assert hostile["policy"] == ["EvalError", "TypeError"]
    assert hostile["inPage"] is False
    policy = (folder / "index.html").read_text().partition('Policy" content="')[2].partition('"')[0]
    assert "script-src 'self' 'wasm-unsafe-eval';" in policy
    assert "unsafe-inline" not in policy
