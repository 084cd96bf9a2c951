"""`make clients`: what it makes of what other people's programs say."""

import json
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.clients import __main__ as clients
from scaling.reporting.benchmark_tables import clients_table

PROGRAM = """
from report import report, songs

def check(folder, trust, context):
    if folder == "lstm":
        raise ValueError("not this one\\nand more")
    return f"{trust} {context} {len(songs())} songs"

report(check)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Programs, published folders and songs."""
    programs = tmp_path / "programs"
    programs.mkdir()
    shutil.copy(clients.PROGRAMS / "report.py", programs)
    (programs / "use_one.py").write_text(PROGRAM)
    (programs / "use_two.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(clients, "PROGRAMS", programs)
    (tmp_path / "songs").mkdir()
    pq.write_table(pa.table({"abc": ["X:1\n"] * 3}), tmp_path / "songs" / "validation.parquet")
    for name, config in (
        ("gpt", {"auto_map": {}, "max_position_embeddings": 256}),
        ("lstm", {"auto_map": {}}),
        ("stock", {"n_positions": 48}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_errors_of_clients_are_rows_of_the_table(place):
    folders = {name: place / name for name in ("gpt", "lstm", "stock")}
    table = clients.run_clients(folders, Path(sys.executable), place / "songs")
    assert table["one"] == {
        "gpt": {"ok": True, "found": "True 256 3 songs"},
        "lstm": {"ok": False, "found": "ValueError: not this one"},
        "stock": {"ok": True, "found": "False 48 3 songs"},
    }
    ended = {"ok": False, "found": "the program ended with status 3"}
    assert table["two"] == dict.fromkeys(folders, ended)


def test_a_client_that_hangs_is_ended(place, monkeypatch):
    monkeypatch.setattr(clients, "LIMIT_SECONDS", 0.1)
    (place / "programs" / "use_one.py").write_text("import time; time.sleep(60)")
    table = clients.run_clients({"gpt": place / "gpt"}, Path(sys.executable), place / "songs")
    ended = {"ok": False, "found": "the program ended with no answer after 0.1 s"}
    assert table["one"] == {"gpt": ended}


def test_folders_that_say_the_same_share_a_line():
    same = {"ok": True, "found": "all equal"}
    table = {"peft 1.0": {"gpt": same, "lstm": {"ok": False, "found": "a|b"}, "stock": same}}
    assert clients_table({"table": table})[2:] == [
        "| peft 1.0 | GPT, stock GPT | all equal |",
        "| peft 1.0 | LSTM | fails: a\\|b |",
    ]
