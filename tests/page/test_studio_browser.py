"""The studio's page in a real browser: the model writes in Python, and MIDI is opened."""

import json
from pathlib import Path

import pytest
from node_page import CHROMIUM, needs_chromium, needs_node, run_node
from tiny_models import save_filling_model

from data_prep.dialect.abc_to_midi import perform
from data_prep.dialect.tune import print_tune
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi_to_abc.converter import midi_to_abc
from model_cards.page_files import write_page_files
from modeling.plan_abc import read_bars

pytest.importorskip("uvicorn", reason="needs pip install --editable '.[studio]'")
from studio_server import running_studio

pytestmark = [needs_node, needs_chromium]
CHORALE = Path(__file__).parents[1] / "data" / "bach_bwv269.mid"


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """What a walk through the page found, see page/tests/studio.mjs."""
    model = save_filling_model(tmp_path_factory.mktemp("model"))
    page = tmp_path_factory.mktemp("page")
    write_page_files(model, page, has_weights=False)
    run_node("build.mjs", page)
    with running_studio(model, page) as port:
        address = f"http://127.0.0.1:{port}/"
        return json.loads(run_node("tests/studio.mjs", CHROMIUM, address, CHORALE))


def test_nothing_is_asked_of_others_and_nothing_is_wrong_in_the_console(walk):
    assert (walk["foreign"], walk["console"], walk["violations"]) == ([], [], [])


def test_the_model_writes_as_asked_on_the_machine_that_serves_the_page(walk):
    assert walk["about"] == "It runs on the machine that serves this page."
    assert read_bars(walk["tune"]).n_voices == 2
    assert not perform(parse_tune(walk["tune"])).bar_errors


def test_midi_is_opened_and_bars_of_it_are_filled_in(walk):
    opened, filled = read_bars(walk["opened"]), read_bars(walk["filled"])
    assert walk["opened"] == print_tune(parse_tune(midi_to_abc(CHORALE.read_bytes())))
    assert filled.lines[2:] == opened.lines[2:]
    assert walk["broken"].startswith("This cannot be read: unreadable: header of 0 bytes")


def test_what_may_follow_is_shown(walk):
    assert walk["candidates"] == 16


def test_after_a_tune_was_stopped_the_next_is_written(walk):
    assert not perform(parse_tune(walk["afterwards"])).bar_errors
    assert walk["afterwards"] not in (walk["tune"], walk["filled"])
