"""One collection with every kind of files, good and bad, through the conversion."""

import contextlib
import gzip
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_prep import convert as command
from data_prep.collections.sources import open_source
from data_prep.convert import Conversion, convert_collection, summary_line, write_summary
from data_prep.dialect.tune import read_bars
from data_prep.dialect.tune_parser import parse_tune
from data_prep.shards.shard_files import converter_code

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
BOOK = "M:3/4\nL:1/8\n\n" + "".join(
    f"X:{n}\nT:Tune {n}\nK:G\n{{c}}G2 A2 {'BcdefgB'[n]}2|]\n\n" for n in range(7)
)
# Name -> the start of the message of its row; None if it is converted.
ROWS = {
    "a.mid": None,
    "b.mid.gz": None,
    "bad.mid": "not_midi: ",
    "bad.mid.gz": "unreadable_member: ",
    **{f"book.abc#X{n}": None for n in range(7)},
    "book.abc#X7": "unreadable_abc: line ",
    "cut.musicxml": "unreadable: XML that is not well-formed",
    "d.zip/inner.zip/deep.krn": None,
    "d.zip/inner.zip/deep.mid": None,
    "d.zip/page.mxl": "not_a_score: ",
    "d.zip/torn.zip": "unreadable_member: ",
    "d.zip/wrapped.rmi": None,
    "e.xml": None,
    "f.mei": None,
    "g.mxl": None,
    "hangs.krn": "crash: the worker died",
}
PASSED_OVER = "passed over: 1 .rar (r.rar), 1 .txt (d.zip/read me.txt), 1 .xml (other.xml)"
# Verovio ends the process on this: a line has more fields than there are spines.
FATAL = b"**kern\n*M4/4\n4c\t5\n*-\n"


def zipped(**files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


@pytest.fixture(scope="module")
def music(tmp_path_factory, tune_files):
    folder = tmp_path_factory.mktemp("mixed") / "music"
    folder.mkdir()
    tunes = [file.read_bytes() for file in tune_files[:5]]
    scores = DATA / "scores"
    inner = zipped(**{"deep.mid": tunes[2], "deep.krn": (scores / "duet.krn").read_bytes()})
    files = {
        "a.mid": tunes[0],
        "b.mid.gz": gzip.compress(tunes[1], mtime=0),
        "bad.mid": b"<html>",
        "bad.mid.gz": gzip.compress(tunes[1])[:-20],
        "book.abc": (BOOK + "X:7\nK:G\n").encode("utf-8-sig"),
        "cut.musicxml": (scores / "trio.musicxml").read_bytes()[:5000],
        "d.zip": zipped(
            **{"inner.zip": inner, "torn.zip": inner[:-40], "page.mxl": b"<html>"},
            **{"read me.txt": b"", "wrapped.rmi": b"RIFF....RMIDdata...." + tunes[3]},
        ),
        "e.xml": (scores / "trio.musicxml").read_bytes(),
        "f.mei": (scores / "round.mei").read_bytes(),
        "g.mxl": (scores / "lc6990957.mxl").read_bytes(),
        "hangs.krn": FATAL,
        "other.xml": b"<project/>",
        "r.rar": b"Rar!",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def rows_of(out):
    return [
        row for path in sorted(out.glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


@pytest.fixture(scope="module")
def whole(music, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    converted = convert_collection([open_source(str(music), out)], out, workers=1)
    return out, write_summary(out, converted, Conversion.layout)


def contents(out):
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*"))}


def test_all_good_files_are_converted_and_each_bad_one_is_named(whole):
    out, stage = whole
    rows = rows_of(out)
    assert [row["path"] for row in rows] == [*ROWS]
    for row in rows:
        expected = ROWS[row["path"]]
        assert bool(row["abc"]) == (expected is None), row
        if row["abc"]:
            assert not read_bars(parse_tune(row["abc"]))[1]
            assert row["n_notes"] > 0
        else:
            said = f"{row['drop_reason']}: {row['message'].removeprefix(row['drop_reason'] + ': ')}"
            assert said.startswith(expected), said
    assert stage["rows_out"] == sum(expected is None for expected in ROWS.values())
    assert summary_line(stage, out).split("\n")[1] == PASSED_OVER


def test_warnings_of_a_tune_are_in_its_row(whole):
    messages = {row["path"]: row["message"] for row in rows_of(whole[0])}
    assert messages["a.mid"] is None
    assert messages["book.abc#X0"] is None or "of the tune" in messages["book.abc#X0"]


def test_stage_names_what_was_passed_over_and_is_written_anew_when_that_changes(
    music, whole, tmp_path
):
    out, folder = tmp_path / "out", tmp_path / "music"
    shutil.copytree(whole[0], out)
    shutil.copytree(music, folder)
    (folder / "more.rar").touch()
    converted = convert_collection([open_source(str(folder), out)], out, workers=1)
    assert converted.n_files == 0
    found = write_summary(out, converted, Conversion.layout)["passed_over"]
    assert found[".rar"] == {"files": 2, "first": ["more.rar", "r.rar"]}
    assert json.loads((out / "stage.json").read_text())["passed_over"] == found


def test_conversion_that_is_killed_goes_on_to_the_same_bytes(music, tmp_path):
    """Killed at random moments of its work; KILLS=20 for a longer trial."""
    folder, whole, out = (tmp_path / name for name in ("music", "whole", "out"))
    shutil.copytree(music, folder)
    tunes = (f"X:{n}\nK:D\nL:1/8\n" + "DEFG"[n % 4] * 7 + "|\n\n" for n in range(300))
    (folder / "many.abc").write_text("".join(tunes))  # three shards in all
    assert command.main([str(folder), str(whole), "--workers", "1"]) == 0
    chance = random.Random(int(os.environ.get("KILL_SEED", "0")))
    arguments = [sys.executable, "-m", "data_prep.convert", str(folder), str(out)]
    for _ in range(int(os.environ.get("KILLS", "2"))):
        run = subprocess.Popen(
            [*arguments, "--workers", "2"],
            cwd=ROOT,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(chance.uniform(1, 12))
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        shards = {n: c for n, c in contents(out).items() if n.endswith(".parquet")}
        assert shards.items() <= contents(whole).items()
        if len(shards) == 3:
            (out / chance.choice(sorted(shards))).unlink()
    assert command.main([str(folder), str(out), "--workers", "2"]) == 0
    assert contents(out) == contents(whole)


def test_change_in_a_reader_concerns_only_collections_with_its_kind():
    codes = {name: converter_code([name]) for name in ("a.mid", "a.abc", "a.mxl")}
    assert len({*codes.values()}) == 3
    assert converter_code(["b.kar", "a.parquet/00000001"]) == codes["a.mid"] == converter_code()
    assert converter_code(["x/a.abc#X1", "b.mid"]) == codes["a.abc"]
