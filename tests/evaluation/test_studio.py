"""The studio, asked as a browser asks it, and as it must not be asked."""

import http.client
import json
import time
from pathlib import Path

import pytest
import torch
from tiny_models import save_filling_model
from transformers import AutoModelForCausalLM

from data_prep.dialect.abc_to_midi import perform
from data_prep.dialect.tune import print_tune
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi_to_abc.converter import midi_to_abc
from evaluation.serving.studio import __main__ as command
from model_cards.page_files import write_page_files
from modeling.plan_abc import read_bars

pytest.importorskip("uvicorn", reason="needs pip install --editable '.[studio]'")

from studio_server import running_studio

DATA = Path(__file__).parents[1] / "data"
HEAD = "X:1\nM:4/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\nV:1\n%%MIDI program 0\n"
TUNE = HEAD + "[V:1]C16-|\n[V:1]C8D8|\n[V:1]E16|\n[V:1]F4G4A4B4|\n[V:1]c16|]\n"
SAMPLING = {"seed": 1, "temperature": 1, "topP": 1}
WRITE = {
    "kind": "write",
    "conditions": {"meter": "3/4", "key": "G", "tempo": 90, "instruments": ["Violin", "Drums"]},
    "prompt": "",
    "hasGrammar": True,
    "mostTokens": 400,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_filling_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def port(model, tmp_path_factory):
    page = tmp_path_factory.mktemp("page")
    write_page_files(model, page, has_weights=False)
    (page / "index.html").write_text("<!doctype html>")
    with running_studio(model, page) as port:
        yield port


def send(port, method, path, body=None, **headers):
    """The answer to a request of the studio's own page, unless headers say otherwise."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    own = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    given = {name: value for name, value in (own | headers).items() if value is not None}
    connection.request(method, path, body, given)
    return connection.getresponse()


def complaint(port, path, body, **headers):
    """Status and line of a question that is refused."""
    answer = send(port, "POST", path, body, **headers)
    (line,) = json.loads(answer.read()).values()
    assert len(line.splitlines()) == 1
    assert len(line) < 500
    return answer.status, line


def written(port, request, **sampling):
    """All lines of the answer to `write`."""
    body = json.dumps({"request": request, "sampling": SAMPLING | sampling})
    answer = send(port, "POST", "/studio/write", body)
    assert answer.status == 200, answer.read()
    return [json.loads(line) for line in answer]


def test_a_tune_grows_line_by_line_and_is_the_same_again_with_its_seed(port):
    *growing, last = written(port, WRITE)
    assert last["abc"].startswith("X:1\nM:3/4\nL:1/16\nQ:1/4=90\n%%MIDI chordattack 0\nK:G\nV:1\n")
    assert not perform(parse_tune(last["abc"])).bar_errors
    assert read_bars(last["abc"]).n_voices == 2
    assert all(last["abc"].startswith(line["text"]) for line in growing)
    assert written(port, WRITE)[-1] == last
    assert written(port, WRITE, seed=2)[-1] != last


def test_without_the_grammar_the_text_is_what_the_model_wrote(port):
    (*_, last) = written(port, WRITE | {"hasGrammar": False, "mostTokens": 100})
    assert last["abc"].startswith("X:1\nM:3/4\n")
    assert last["nTokens"] > 0


def test_the_most_probable_tokens_do_not_depend_on_the_seed(port):
    one, two = (written(port, WRITE, seed=seed, temperature=0)[-1] for seed in (1, 2))
    assert one == two


def test_filled_and_accompanied_tunes_keep_the_rest(port):
    given = read_bars(TUNE)
    fill = {"kind": "fill", "tune": TUNE, "first": 3, "last": 4, "mostTokens": 300}
    filled = read_bars(written(port, fill)[-1]["abc"])
    assert (filled.lines[:2], filled.lines[4:]) == (given.lines[:2], given.lines[4:])
    voice = {"kind": "accompany", "tune": TUNE, "instruments": ["Cello"], "mostTokens": 300}
    found = read_bars(written(port, voice)[-1]["abc"])
    assert [found.voices(bar)[0] for bar in range(5)] == [given.voices(bar)[0] for bar in range(5)]


def open_post(port, path, length):
    """A connection on which a body of so many bytes is announced."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.putrequest("POST", path, skip_host=True)
    for name, value in (("Host", f"localhost:{port}"), ("Origin", f"http://localhost:{port}")):
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(length))
    connection.endheaders(b"MThd")
    return connection


def test_a_client_has_one_job_until_it_leaves(port):
    asked = json.dumps({"ids": [2], "temperature": 1})
    slow = open_post(port, "/studio/convert?name=a.mid", 1000)
    time.sleep(1)
    said = "one job at a time: wait for the one before, or stop it"
    assert complaint(port, "/studio/next", asked) == (429, said)
    slow.close()
    assert send(port, "POST", "/studio/next", asked).status == 200


def test_a_tune_that_nobody_waits_for_is_ended(port):
    # the most probable tokens, over and over, have no end
    endless = WRITE | {"mostTokens": 8192, "hasGrammar": False}
    body = json.dumps({"request": endless, "sampling": SAMPLING | {"temperature": 0}})
    answer = send(port, "POST", "/studio/write", body)
    assert json.loads(answer.readline())["text"].startswith("X:1\n")
    answer.close()
    asked = json.dumps({"ids": [2], "temperature": 1})
    assert send(port, "POST", "/studio/next", asked).status == 200


def test_probabilities_are_those_of_the_model(port, model):
    ids = [2, 5, 9, 7]
    answer = send(port, "POST", "/studio/next", json.dumps({"ids": ids, "temperature": 0.5}))
    own = AutoModelForCausalLM.from_pretrained(model).eval()
    with torch.no_grad():
        expected = (own(torch.tensor([ids])).logits[0, -1] / 0.5).softmax(-1)
    assert json.loads(answer.read()) == pytest.approx(expected.tolist(), abs=1e-6)


def test_midi_and_scores_are_converted_to_the_layout_of_the_model(port):
    chorale = (DATA / "bach_bwv269.mid").read_bytes()
    answer = json.loads(send(port, "POST", "/studio/convert?name=a.mid", chorale).read())
    assert answer["abc"] == print_tune(parse_tune(midi_to_abc(chorale)))
    score = (DATA / "scores" / "trio.musicxml").read_bytes()
    answer = json.loads(send(port, "POST", "/studio/convert?name=T.MUSICXML", score).read())
    assert read_bars(answer["abc"]).n_voices == 4


def test_the_page_is_told_that_it_is_served_and_gets_no_weights(port):
    about = send(port, "GET", "/model/about.json", Origin=None)
    assert about.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    told = json.loads(about.read())
    assert (told["isServed"], ".mid" in told["converts"]) == (True, True)
    for path in ("/model/model.safetensors", "/../model/config.json", "/%2e%2e/%2e%2e/etc/passwd"):
        assert send(port, "GET", path).status == 404


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Origin": "http://elsewhere.example"}, "expected one from this studio's own page"),
        ({"Origin": "null"}, "expected one from this studio's own page"),
        ({"Origin": None}, "expected one from this studio's own page"),
        ({"Host": "elsewhere.example"}, "a request to 'elsewhere.example', expected one of"),
        ({"Host": "localhost:1"}, "a request to 'localhost:1', expected one of"),
    ],
)
def test_pages_of_other_sites_are_refused(port, headers, said):
    status, line = complaint(port, "/studio/convert?name=a.mid", b"", **headers)
    assert (status, said in line) == (403, True)
    if "Origin" not in headers or headers["Origin"]:
        assert send(port, "GET", "/index.html", **headers).status == 403


def asking(**changes):
    return json.dumps({"request": WRITE | changes, "sampling": SAMPLING})


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("write", b"no JSON", 400, "Invalid JSON"),
        ("write", "[" * 100_000, 400, "Invalid JSON"),
        ("write", asking(mostTokens=10**9), 400, "mostTokens: Input should be less than"),
        ("write", asking(mood="sad"), 400, "mood: Extra inputs are not permitted"),
        ("write", asking(kind="paint"), 400, "request: "),
        ("write", asking(prompt="X" * 70_000), 400, "prompt: String should have at most"),
        ("write", "X" * 2_000_000, 413, "more than 1,048,576 bytes"),
        ("next", json.dumps({"ids": [999], "temperature": 1}), 400, "tokens from 0 to"),
        ("next", json.dumps({"ids": [2], "temperature": 0}), 400, "temperature: "),
        ("convert?name=a.exe", b"MThd", 400, "expected a name ending in .mid"),
        ("convert", b"MThd", 400, "expected a name ending in .mid"),
        ("convert?name=a.mid", b"MThd", 400, "unreadable: header of 0 bytes"),
        ("convert?name=a.mid", bytes(8_000_001), 413, "more than 8,000,000 bytes"),
        ("convert?name=a.mxl", b"PK\3\4", 400, ""),
    ],
)
def test_hostile_questions_are_one_line_each(port, path, body, status, said):
    found, line = complaint(port, f"/studio/{path}", body)
    assert (found, said in line) == (status, True), line


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conditions": {"key": "H"}}, "key 'H', expected"),
        ({"conditions": {"instruments": ["nose flute"]}}, "the nearest is 'pan flute'"),
        ({"prompt": TUNE}, "whole tune"),
    ],
)
def test_what_the_model_cannot_write_is_the_last_line_of_the_answer(port, changes, said):
    (line,) = written(port, WRITE | changes)
    assert said in line["error"]


def test_what_the_command_needs_is_said_in_one_line(tmp_path, capsys):
    assert command.main(["runs/x", str(tmp_path)]) == 2
    assert f"no index.html in {tmp_path}, expected a page; run make" in capsys.readouterr().err
    (tmp_path / "index.html").touch()
    assert command.main(["runs/x", str(tmp_path), "--host", "0.0.0.0"]) == 2
    assert "expected the one that browsers will ask for" in capsys.readouterr().err
