"""The judges on real tunes, on broken texts, and on texts that are made to do harm."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from fuzzing.abc_inputs import abc_inputs
from fuzzing.hostile_abc import HOSTILE

from benchmarks import readers
from data_prep.dialect.bar_reader import BarReader
from data_prep.midi_to_abc.converter import midi_to_abc
from evaluation.judging import judge_process, judge_table, judges
from evaluation.judging.judge_filter import refused
from evaluation.judging.judge_measures import agreement, read_by_us, without_continued
from evaluation.judging.judge_process import Reader, ReaderFailedError
from evaluation.judging.judge_table import JUDGES, VALID, Judge, Program
from evaluation.judging.judges import Jury, judge_all, judge_texts, read_texts
from evaluation.judging.sandbox import SYSTEM_PATHS
from evaluation.pages.model_report import verdicts_of
from evaluation.tables import validity_table
from modeling.export_abc import export_tune, tie_lengths
from modeling.notation_abc import meter_ticks

ROOT = Path(__file__).parents[2]
HEAD = "X:1\nM:4/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\nV:1\n%%MIDI program 0\n"
SCALE = HEAD + "C4D4E4F4|G4A4B4c4|" * 4 + "C16|]\n"
FUZZED = 25


@pytest.fixture(scope="module")
def jury():
    with Jury() as jury:
        yield jury


@pytest.fixture
def abcjs(jury):
    if jury.readers["abcjs"].missing:
        pytest.skip("abcjs is not installed: npm install abcjs")


def is_locked_in(jury) -> bool:
    return all(reader.sandbox["files"] for reader in jury.readers.values() if not reader.missing)


def test_real_music_is_valid_to_all_judges_and_they_hear_the_same(jury, chorale, tune_files):
    for midi in (chorale, *(file.read_bytes() for file in tune_files[:2])):
        abc = midi_to_abc(midi, layout="bars")
        verdict = jury.judge(export_tune(abc), abc)
        assert verdict["rejected"] is verdict["raw_rejected"] is None
        assert verdict["bar_accuracy"] == 1.0
        assert all(f1 in (1.0, None) for f1 in verdict["agreement"].values())
        names = ("own_reader", "bar_perfect", "tie_ok", "validity_music21", "midi_success_music21",
                 "abc2midi_ok", "abc2midi_clean", "playable", "raw_validity_music21")  # fmt: skip
        assert all(verdict[name] for name in names), verdict
        assert verdict[VALID] is not False


def test_valid_needs_every_reader_to_be_clean(jury, abcjs):
    assert jury.judge(SCALE)[VALID] is True
    undrawable = SCALE.replace("C4D4E4F4", "C5D3E4F4")  # abcjs cannot draw five units
    verdict = jury.judge(undrawable)
    assert verdict["abcjs_ok"]
    assert not verdict["abcjs_clean"]
    assert not verdict[VALID]
    assert jury.judge(tie_lengths(undrawable))[VALID] is True


TWO_VOICES = HEAD + "C16|D16|\nV:2\n%%MIDI program 0\n"
# What is wrong -> the text, and what must be so; how lenient each reader is was measured.
BROKEN = {
    "prose": ("English text.", {"validity_music21": False, "abc2midi_ok": False}),
    "nothing": ("", {"validity_music21": False, "abc2midi_ok": False}),
    "short_bars": (
        HEAD + "C6|D16D6|E2|]\n",
        {"own_reader": True, "bar_perfect": False, "bar_accuracy": 1 / 3, "validity_music21": True},
    ),  # the first is taken for a pick-up
    "one_short_bar": (
        HEAD + "C16|D8|E16|]\n",
        {
            "validity_music21": True,
            "midi_success_music21": True,
            "bar_perfect": False,
            "bar_accuracy": 2 / 3,
        },
    ),
    "missing_bar": (TWO_VOICES + "C16|]\n", {"bar_accuracy": 1.0, "bar_perfect": False}),
    "only_rests": (HEAD + "z16|z16|]\n", {"midi_success_music21": True, "playable": False}),
    "unclosed_chord": (
        HEAD + "C16|[CEG",
        {"validity_music21": False, "own_reader": False, "abc2midi_ok": False},
    ),
    "zero_length": (HEAD + "C/0|]\n", {"validity_music21": False, "own_reader": False}),
    "metre_over_zero": (
        SCALE.replace("M:4/4", "M:4/0"),
        {"validity_music21": False, "abc2midi_ok": False, "bar_accuracy": 0.0},
    ),
    "tie_that_leads_nowhere": (SCALE.replace("c4|C16", "c4-|C16"), {"tie_ok": False}),
    "few_notes": (HEAD + "C16|D16|]\n", {"abc2midi_clean": True, "playable": False}),
    "one_pitch": (HEAD + "C2C2C2C2C2C2C2C2|" * 4, {"abc2midi_clean": True, "playable": False}),
    "too_short": (HEAD + "CDCDCDCDCDCDCDCD|]\n", {"abc2midi_ok": True, "playable": False}),
}


@pytest.mark.parametrize(("text", "expected"), BROKEN.values(), ids=BROKEN)
def test_broken_texts_are_told_from_good_ones(jury, text, expected):
    verdict = jury.judge(text)
    assert {name: verdict[name] for name in expected} == pytest.approx(expected)
    assert not verdict[VALID]


def test_each_bar_is_read_once():
    read = []

    def note(frame, event, _):
        if event == "call" and frame.f_code is BarReader.read.__code__:
            read.append(frame.f_locals["text"])

    sys.setprofile(note)
    try:
        verdict = read_by_us(SCALE)
    finally:
        sys.setprofile(None)
    assert verdict.bar_accuracy == 1.0
    assert len(set(read)) == 3
    assert len(read) == 4  # the parser looks at the first one, which might be a pick-up


def test_drums_need_no_second_pitch(jury):
    drums = HEAD.replace("program 0", "channel 10") + "C2C2C2C2C2C2C2C2|" * 4
    assert jury.judge(drums)["playable"]


def test_notes_at_other_places_do_not_agree():
    notes = [(0.0, 60), (1.0, 62), (1.0, 62)]
    assert agreement(notes, [(0.12, 60), (1.0, 62), (1.1, 62)]) == 1.0
    assert agreement(notes, [(0.2, 60), (1.0, 62)]) == pytest.approx(2 * 1 / 5)
    assert agreement([], []) == 0.0


def test_chords_that_music21_strikes_again_in_spite_of_a_tie_are_merged(jury):
    tied = HEAD + "[CE]16-|[CE]16|" * 8 + "C16|]\n"
    notes = jury.read("music21", tied)["notes"]
    own = read_by_us(tied)
    assert len(notes) == 33
    assert len(without_continued(notes, own.chord_ties)) == 17
    assert jury.judge(tied)["agreement"]["music21_abc2midi"] == 1.0


def test_changes_of_tempo_leave_the_readers_in_agreement(jury, abcjs):
    change = SCALE.replace("|G4A4B4c4|C4", "|\nQ:1/4=60\nL:1/16\nG4A4B4c4|C4", 1)
    assert jury.judge(change)["agreement"]["abc2midi_abcjs"] == 1.0


@pytest.mark.parametrize("meter", ["2/2", "6/4", "3/1"])
def test_exports_are_played_in_time_by_all_in_any_metre(jury, abcjs, meter):
    units = meter_ticks(*map(int, meter.split("/"))) // 12
    bars = "".join(f"[V:1]{pitch}4{pitch}{units - 4}|\n" for pitch in "CDEFGABc")
    abc = HEAD.replace("4/4", meter) + bars[:-1] + "]\n"
    verdict = jury.judge(export_tune(abc))
    assert verdict["agreement_seconds"] == {"abc2midi": 1.0, "abcjs": 1.0}
    assert verdict[VALID] is True
    in_header = export_tune(abc).replace(f"M:{meter}\nL:1/16\n", "").replace("M:4/4", f"M:{meter}")
    verdict = jury.judge(in_header)
    assert verdict["agreement"]["abc2midi_abcjs"] == 1.0
    assert verdict["agreement_seconds"]["abcjs"] < 0.2
    assert verdict[VALID] is False


def test_benchmark_of_the_converter_takes_what_the_judges_answer(jury, chorale):
    there = {name: reader for name, reader in jury.readers.items() if not reader.missing}
    row = readers.measure_file("chorale", chorale, there, max_voices=15)
    for name in there:
        assert row[name]["parses"]
        assert row[name]["agreement"] == 1.0
        assert not row[name]["errors"]
    assert row["abc2midi"]["original_on16i"] == 1.0
    broken = readers.read(there["abc2midi"], HEAD + "C16|[CEG\n")
    row = readers.judge("abc2midi", broken, chorale, readers.read_notes(chorale)[0])
    assert row["n_errors"] == len(row["errors"]) > 0


# ---------------------------------------------------------------- the filter

REFUSED = {
    "a directive": (
        *("%%abc-include /etc/hostname\n", " %%abc-include x\n", "%%MIDI program 5; rm\n"),
        *("C16|\r%%beginps\n", "%%MIDI gchord fzc\n", "%%propagate-accidentals not\n"),
    ),
    "a field I:": ("I:abc-include x\n", "C4[I:volume 5]\n"),
    "a field P:": ("P:((((((A9)9)9)9)9)9)\n", "C[P:A]\n"),
    "a field m:": ("m:~n2 = nn\n",),
    "a field U:": ("U: T = !trill!\n",),
    "a length of more than 64 units": (
        *("C99999999|\n", "z65|\n", "Z100|\n", "[CE]" + "9" * 5000),
        *("C129/|\n", "C/99999|\n", "C300/4|\n", "C/65|\n"),
    ),
    "a tempo outside 20 to 300 quarters a minute": (
        *("Q:1/4=19\n", "[Q:1/4=301]C\n", "Q:1/0=120\n", "Q:500\n", "Q:1/4=" + "9" * 400),
        "Q:1/4=1e9\n",
    ),
    "control characters": ("C\x00D", "\x1b[2J", "C\u2028%%abc-include x", "\x0b"),
    "not UTF-8": ("C\udcff",),
    "more than 65536 bytes": ("C|\n" * 30_000,),
    "a line of more than 8192 characters": ("C" * 9000,),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_dangerous_texts_are_refused_with_a_reason_and_judged_not_valid(jury, reason):
    for text in REFUSED[reason]:
        assert refused(HEAD + text) == reason, text[:80]
    verdict = jury.judge(HEAD + REFUSED[reason][0])
    assert verdict["rejected"] == reason
    assert not any(verdict[n] for n in ("validity_music21", "abc2midi_ok", "playable", VALID))


def test_what_the_converter_writes_is_not_refused(chorale, tune_files):
    for midi in (chorale, *(file.read_bytes() for file in tune_files)):
        for layout in ("bars", "voices"):
            assert refused(midi_to_abc(midi, layout=layout)) is None
    assert (
        refused('X:1\nT:1999, "Nr 512"\nQ:"Allegro" 3/8=80\nK:C\n"Am7"C4 [Q:1/4=60]D64E87/4z128/|')
        is None
    )


# ---------------------------------------------------------------- the sandbox, without the filter


@pytest.fixture
def short_path():
    """A folder near the root: abc2midi cuts the paths of long includes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_no_reader_discloses_a_file_that_a_text_includes(jury, tmp_path, short_path):
    if not is_locked_in(jury):
        pytest.skip("this kernel has no Landlock")
    secret = short_path / "secret.abc"
    secret.write_text("hunter2 GGGG|AAAA|\nW:password\n")
    text = HEAD + f"%%abc-include {secret}\nC16|]\n"
    for name, reader in jury.readers.items():
        if not reader.missing:
            answer = jury.read(name, text)
            assert [note[2] for note in answer["notes"]] == [60], name
            shown = json.dumps(answer).replace(str(secret), "").lower()
            assert not any(word in shown for word in ("hunter", "password", "gggg")), name
    program = judge_table.find_abc2midi()  # without the sandbox it does read the file
    (tmp_path / "t.abc").write_text(text)
    command = [program, "t.abc", "-o", "t.mid"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "reserved character h" in said.stdout


def test_messages_quote_nothing_but_the_words_of_the_program(jury):
    messages = jury.read("abc2midi", HEAD + "C16| hunterword !nosuchdeco! [\n")["messages"]
    assert messages
    assert not any(word in " ".join(messages) for word in ("hunterword", "nosuchdeco"))


def test_process_in_the_sandbox_reaches_no_file_network_or_other_process(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "outside").write_text("x")
    attempts = (
        f"open({str(tmp_path / 'outside')!r}).read()",
        f"open({str(tmp_path / 'new')!r}, 'w')",
        "open('/etc/hostname').read()",
        "__import__('os').listdir('/')",
        "__import__('socket').create_connection(('127.0.0.1', 9), 1)",
        f"__import__('os').kill({os.getpid()}, 0)",
        "bytearray(1 << 30)",
        "open('big', 'wb').write(bytes(1 << 21))",
    )
    program = "import signal, sys\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\ndone = []\n"
    for attempt in attempts:
        program += f"try:\n    {attempt}\n    done.append({attempt!r})\nexcept (OSError, MemoryError):\n    pass\n"  # noqa: E501
    program += "import os\nopen('inside', 'w').write(os.environ['SANDBOX'])\nprint(done)"
    rules = {"read": [*SYSTEM_PATHS, sys.prefix, sys.base_prefix],
             "write": str(tmp_path / "work"), "file_bytes": 1 << 20, "memory_bytes": 1 << 29,
             "leave_network": True}  # fmt: skip
    launcher = [sys.executable, "-I", "-S", str(judge_table.FOLDER / "sandbox.py")]
    told = subprocess.run(
        [*launcher, json.dumps(rules), sys.executable, "-I", "-c", program],
        cwd=tmp_path / "work", capture_output=True, text=True, check=True,
    )  # fmt: skip
    state = json.loads((tmp_path / "work" / "inside").read_text())
    if not state["files"]:
        pytest.skip("this kernel has no Landlock")
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_ends_in_an_answer_from_each_reader(jury, name):
    for reader in jury.readers.values():
        if not reader.missing:
            reader.timeout = 1.0
            answer = jury.read(reader.name, HOSTILE[name])
            reader.timeout = JUDGES[reader.name].timeout_seconds
            assert isinstance(answer["midi"], bool)


def test_crash_of_abc2midi_is_a_verdict(jury):
    text = SCALE.replace("K:C", "P:((((((A9)9)9)9)9)9)\nK:C")
    # it reads beyond an array, and dies of that about every other time
    answers = (jury.read("abc2midi", text) for _ in range(40))
    crash = next(answer for answer in answers if "failure" in answer)
    assert crash["failure"] == "ended by signal 11"


def test_abort_of_node_is_a_verdict_and_it_is_started_again(abcjs):
    program = JUDGES["abcjs"].program(JUDGES["abcjs"].find())
    # it runs out of memory after seconds, and of less memory sooner
    command = [word.replace("space-size=512", "space-size=48") for word in program.command]
    judge = replace(JUDGES["abcjs"], program=lambda _: replace(program, command=command))
    reader = Reader(replace(judge, timeout_seconds=300.0))
    try:
        with pytest.raises(ReaderFailedError, match="ended by signal"):
            reader.ask({"text": HEAD + "C99999999|]\n"})
        assert reader.ask({"text": SCALE})["file"]
        assert reader.n_restarts == 1
    finally:
        reader.close()


def test_reader_that_hangs_or_is_killed_is_a_verdict_and_is_started_again(jury):
    reader = jury.readers["music21"]
    reader.timeout = 1.0
    assert jury.read("music21", HEAD + "C" * 60_000)["failure"] == "no result after 1 s"
    reader.timeout = JUDGES["music21"].timeout_seconds
    assert jury.read("music21", SCALE)["midi"]
    os.killpg(reader._process.pid, signal.SIGKILL)
    assert jury.read("music21", SCALE)["failure"] == "ended by signal 9"
    assert jury.read("music21", SCALE)["midi"]


@pytest.mark.parametrize(
    "line",
    [b"[]\n", b"{\n", b'{"notes": [[null, 1, 2]]}\n', b'{"notes": 5}\n', b'{"warnings": 1e999}\n'],
)
def test_answer_of_another_form_is_no_answer(line):
    with pytest.raises(ReaderFailedError, match="no readable answer"):
        judge_process._checked(line)


def test_too_much_of_an_answer_is_no_answer(jury, monkeypatch):
    monkeypatch.setattr(judge_process, "MAX_ANSWER_BYTES", 100)
    assert "bytes of answer" in jury.read("music21", SCALE)["failure"]


def test_readers_end_with_their_parent_and_leave_nothing(tmp_path):
    program = (
        "import sys, time\nfrom evaluation.judging.judges import Jury\njury = Jury()\n"
        "print(*(r._process.pid for r in jury.readers.values() if r._process), flush=True)\n"
        "jury.read('music21', 'X:1\\nK:C\\n' + 'C' * 60_000)"
    )
    command, environment = [sys.executable, "-c", program], os.environ | {"TMPDIR": str(tmp_path)}
    parent = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, env=environment)
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) >= 2
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 300
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


# ---------------------------------------------------------------- one more judge

# verovio, which reads the first voice, and takes no text for a tune that has no header
VEROVIO = """
import json, os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
import verovio
verovio.enableLog(verovio.LOG_OFF)
toolkit = verovio.toolkit()
answer = {"sandbox": json.loads(os.environ["SANDBOX"]), "version": toolkit.getVersion()}
while True:
    print(json.dumps(answer), file=answers, flush=True)
    line = sys.stdin.readline()
    if not line:
        break
    text = json.loads(line)["text"]
    answer = {"parse": text.startswith("X:") and toolkit.loadData(text), "midi": False}
    if answer["parse"]:
        answer["file"] = toolkit.renderToMIDI()
"""


def test_entry_in_the_table_makes_a_judge(tmp_path, monkeypatch):
    script = tmp_path / "verovio_judge.py"
    script.write_text(VEROVIO)
    verovio = Judge(
        name="verovio",
        origin="pip install verovio",
        find=lambda: str(script),
        program=lambda place: Program([sys.executable, "-I", place], [place]),
        fields={"verovio_reads": lambda answer: bool(answer.get("parse"))},
        columns={"verovio_reads": "verovio reads"},
        needed=("verovio_reads",),
        agreement=0.9,
        timeout_seconds=300.0,
    )
    monkeypatch.setitem(JUDGES, "verovio", verovio)
    texts = [SCALE, "English text.", SCALE.replace("V:1\n%%MIDI program 0\n", "") + "\x00"]
    verdicts, about = judge_texts(texts, workers=1)
    assert {"music21", "abc2midi", "verovio"} <= about["versions"].keys()
    assert about["versions"]["verovio"]
    assert [verdict["verovio_reads"] for verdict in verdicts] == [True, False, False]
    assert verdicts[0]["agreement"]["music21_verovio"] == 1.0
    assert verdicts[0]["playable"]
    assert verdicts[0][VALID] is (None if "abcjs" in about["missing"] else True)
    result = judges.summary(verdicts, about)
    assert result["rates"]["verovio_reads"]["successes"] == 1
    assert "verovio_reads" in judges.table(result)
    own = {"n": 3, "validity": result["rates"]}
    page = verdicts_of({"sets": {"free": own}})
    assert page["verovio_reads"] == "verovio reads"
    assert "| verovio reads |" in validity_table({"model": {"sets": {"free": own}}})[0]


# ---------------------------------------------------------------- many texts, missing readers


def test_odd_texts_all_get_a_verdict(jury, tune_files, monkeypatch):
    monkeypatch.setattr(jury.readers["music21"], "timeout", 2.0)
    seeds = [midi_to_abc(file.read_bytes(), layout="voices") for file in tune_files[::20]]
    texts = list(islice(abc_inputs(random.Random(3), seeds), FUZZED))
    verdicts = [jury.judge(text) for text in texts]
    assert len(verdicts) == FUZZED
    assert all(len(verdict) == len(verdicts[0]) for verdict in verdicts)


def test_missing_readers_are_named_and_the_others_judge(monkeypatch, tmp_path, capsys):
    for name in ("abc2midi", "abcjs"):
        monkeypatch.setitem(JUDGES, name, replace(JUDGES[name], find=lambda: None))
    (tmp_path / "a.abc").write_text(SCALE)
    out = tmp_path / "verdicts.jsonl"
    assert judges.main([str(tmp_path / "a.abc"), "--out", str(out)]) == 0
    verdict = json.loads(out.read_text())
    assert verdict["midi_success_music21"]
    assert verdict["abc2midi_ok"] is verdict["abcjs_ok"] is verdict[VALID] is None
    summary = json.loads((tmp_path / "verdicts_summary.json").read_text())
    assert summary["missing"].keys() == {"abc2midi", "abcjs"}
    assert "apt install abcmidi" in summary["missing"]["abc2midi"]
    assert VALID not in summary["rates"]
    assert "judge unavailable: abcjs" in capsys.readouterr().out


def test_verdicts_come_in_the_order_of_the_texts_and_are_the_same_again(jury):
    texts = ["nonsense", SCALE, HEAD + "%%abc-include x\n", SCALE + "\x00"]
    assert judge_all(texts, workers=2) == [jury.judge(text) for text in texts]
    assert judge_all([]) == []


def test_judges_read_abc_files_and_samples(tmp_path):
    (tmp_path / "a.abc").write_bytes(SCALE.replace("\n", "\r\n").encode("utf-8-sig"))
    row = {"sample": 1, "abc": "raw", "abc_voices": None}
    (tmp_path / "s.jsonl").write_text(
        json.dumps(row) + "\n" + json.dumps(row | {"abc_voices": "v"})
    )
    rows = read_texts([tmp_path / "a.abc", tmp_path / "s.jsonl"])
    assert [row["text"] for row in rows] == [SCALE, "raw", "v"]
    assert [row["raw"] for row in rows] == [SCALE, "raw", "raw"]


def test_abc_of_others_is_judged_as_the_importer_reads_it_tune_by_tune(tmp_path):
    foreign = "X:1\nT:Caf\xe9\nL:1/8\nK:D\n|:A2d dAF:|\n"
    broken = HEAD + "C16|C17|]\n"
    (tmp_path / "book.abc").write_bytes(f"{foreign}\n{broken}\nX:3\nno music".encode("latin-1"))
    rows = read_texts([tmp_path / "book.abc"])
    names = [row["name"].removeprefix(str(tmp_path)) for row in rows]
    assert names == ["/book.abc", "/book.abc:2", "/book.abc:3"]
    assert rows[0]["raw"] == foreign + "\n"
    assert rows[0]["text"].count("A4d2d2A2F2|") == 2
    # A text that says that it is ours is judged as it is, and so is one that cannot be read.
    assert rows[1]["text"] == rows[1]["raw"] == broken + "\n"
    assert rows[2]["text"] == rows[2]["raw"] == "X:3\nno music"


def test_packages_of_node_are_also_looked_for_in_the_folder_of_this_project(monkeypatch):
    monkeypatch.setenv("NODE_PATH", os.pathsep.join(["/a", "", "/b"]))
    assert judge_table.node_modules() == [Path("/a"), Path("/b"), ROOT / "node_modules"]


def test_missing_file_is_one_clear_line(tmp_path, capsys):
    assert judges.main([str(tmp_path / "none.abc"), "--out", str(tmp_path / "v")]) == 2
    assert "error:" in capsys.readouterr().err


def test_reader_leaves_no_folder_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Jury() as jury:
        assert len(list(tmp_path.iterdir())) >= 2
        jury.judge(SCALE)
    assert not list(tmp_path.iterdir())
    shutil.rmtree(tmp_path)
