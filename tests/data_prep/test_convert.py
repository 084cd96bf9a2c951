import hashlib
import io
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from measuring import measure

from data_prep import convert as command
from data_prep.collections.sources import open_source
from data_prep.convert import Conversion, convert_collection, write_summary
from data_prep.midi.limits import LIMITS
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.shards.convert_file import convert_file, count
from data_prep.shards.convert_pool import Converter
from data_prep.shards.shard_files import SCHEMA, SHARD_FILES, plan_shards

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 300  # for what takes seconds, unless the machine is busy


@pytest.fixture(scope="module")
def music(tmp_path_factory, tune_files):
    """Three shards of tunes in a folder, two of them in an archive, and a page that is none."""
    folder = tmp_path_factory.mktemp("music") / "music"
    folder.mkdir()
    with zipfile.ZipFile(folder / "b.zip", "w") as archive:
        for number in range(2 * SHARD_FILES):
            file = tune_files[number % len(tune_files)]
            archive.write(file, f"{number * 7919 % 1000:03d}.mid")
    for file in tune_files:
        shutil.copy2(file, folder)
    (folder / "page.mid").write_text("<html>")
    return folder


@pytest.fixture(scope="module")
def whole(music, tmp_path_factory):
    """The output of one worker: name of shard -> bytes."""
    out = tmp_path_factory.mktemp("whole")
    convert(music, out)
    return contents(out)


def convert(source, out, workers=1, **settings):
    conversion = Conversion(**settings)
    return convert_collection(
        [open_source(str(source), out)], out, conversion=conversion, workers=workers
    )


def contents(out):
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*"))}


def rows(out):
    return [
        row for path in sorted(out.glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def wait_until(condition):
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


def hear_interrupts():
    """A suite that runs in the background ignores Ctrl-C, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(music, out, workers=2, **environment):
    arguments = [sys.executable, "-m", "data_prep.convert", str(music), str(out)]
    return subprocess.Popen(
        [*arguments, "--workers", str(workers)],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hear_interrupts,
    )


# ---------------------------------------------------------------- rows


def test_rows_hold_the_text_and_its_denominators(tmp_path, tune_files, chorale):
    folder = tmp_path / "music"
    folder.mkdir()
    (folder / "chorale.mid").write_bytes(chorale)
    for file in tune_files[:5]:
        shutil.copy(file, folder)
    convert(folder, tmp_path / "out")
    found = rows(tmp_path / "out")
    assert [row["path"] for row in found] == sorted(path.name for path in folder.iterdir())
    assert list(found[0]) == SCHEMA.names
    for row in found:
        midi = (folder / row["path"]).read_bytes()
        assert row["abc"] == midi_to_abc(midi)
        expected = measure(row["abc"])
        for name in ("n_notes", "n_bars", "n_seconds"):
            assert row[name] == expected[name], (row["path"], name)
    (row,) = (row for row in found if row["path"] == "chorale.mid")
    assert (row["n_voices"], row["programs"], row["has_drums"]) == (4, [0], False)


def test_notes_are_counted_in_the_text_as_they_are_played():
    from fractions import Fraction

    from data_prep.dialect.abc_to_midi import perform
    from data_prep.dialect.tune import Meter, Tune, Voice

    bars = [
        "[CE_G]4-[CE_G]12",
        "C,,16-",
        "C,,3/2^c''5/2z12",
        "(3:2:3C2D2-D2z8(3:2:3[A,A]2E2F2",
        "",
    ]
    voices = [Voice(3, None, bars), Voice(None, 10, ["B,16", *bars[1:]]), Voice(3, None, bars)]
    tune = Tune("Gb", {0: Meter(4, 4)}, {0: Fraction(90), 2: Fraction(361, 4)}, voices)
    played = perform(tune)
    counts = count(tune)
    assert counts["n_notes"] == played.n_notes
    assert counts["n_seconds"] == played.n_seconds
    assert (counts["n_bars"], counts["programs"], counts["has_drums"]) == (15, [3], True)


def test_fault_of_the_converter_costs_one_file(monkeypatch, tune_files):
    monkeypatch.setattr("data_prep.shards.convert_file.print_tune", lambda *_: 1 // 0)
    row = convert_file("x.mid", tune_files[0].read_bytes(), "bars")
    assert row["drop_reason"] == "crash"
    assert row["message"].startswith("ZeroDivisionError: ")
    assert "test_convert.py, line" in row["message"]


# ---------------------------------------------------------------- workers that fail


def dies_on_some(name, midi, layout):
    if name in ("page.mid", "b.zip/000.mid"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return convert_file(name, midi, layout)


def test_worker_that_dies_costs_one_file(music, whole, tmp_path):
    convert(music, tmp_path, 2, convert=dies_on_some)
    crashed = [row for row in rows(tmp_path) if row["drop_reason"] == "crash"]
    assert [row["path"] for row in crashed] == ["b.zip/000.mid", "page.mid"]
    assert all(row["digest"] and f"code -{signal.SIGSEGV:d}" in row["message"] for row in crashed)
    assert len(rows(tmp_path)) == sum(row["drop_reason"] != "crash" for row in rows(tmp_path)) + 2


def test_worker_that_dies_before_it_tells_its_task_costs_nothing(
    music, whole, tmp_path, monkeypatch
):
    untold = iter([True, False])

    def rows(converter, shards, advance):
        for number, shard in enumerate(converted(converter, shards, advance)):
            if number == 1 and next(untold):
                raise BrokenProcessPool("All workers expired")  # as pebble does
            yield shard

    converted = Converter.rows
    monkeypatch.setattr(Converter, "rows", rows)
    convert(music, tmp_path, 2)
    assert contents(tmp_path) == whole
    assert not any(untold)


def archive_of_members_that_cannot_be_read(path, tune):
    """A good file, one that is encrypted, and names that a folder cannot or must not have."""
    names = ["J:Bach.mid", "../x.mid", "good.mid", "secret.mid"]
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, tune)
    content = bytearray(path.read_bytes())
    headers = [found.start() for found in re.finditer(rb"PK\x01\x02", content)]
    content[headers[names.index("secret.mid")] + 8] |= 1  # its flag
    path.write_bytes(content)


def test_members_that_cannot_be_read_are_rows_and_all_others_are_converted(tmp_path, tune_files):
    folder, tune = tmp_path / "music", tune_files[0].read_bytes()
    folder.mkdir()
    archive_of_members_that_cannot_be_read(folder / "a.zip", tune)
    with tarfile.open(folder / "b.tar", "w") as archive:
        archive.add(tune_files[0], "good.mid")
        hard = tarfile.TarInfo("hard.mid")
        hard.type, hard.linkname = tarfile.LNKTYPE, "good.mid"
        archive.addfile(hard)
    pq.write_table(pa.table({"midi": [tune, None]}), folder / "c.parquet")
    (folder / "good.mid").write_bytes(tune)
    (folder / "link.mid").symlink_to("nowhere")
    with (folder / "large.mid").open("wb") as file:
        file.truncate(LIMITS.bytes + 1)
    convert(folder, tmp_path / "out", 2)
    found = {row["path"]: row["drop_reason"] for row in rows(tmp_path / "out")}
    good = {"a.zip/good.mid", "b.tar/good.mid", "c.parquet/00000000", "good.mid"}
    refused = {"a.zip/J:Bach.mid", "a.zip/../x.mid", "a.zip/secret.mid", "b.tar/hard.mid"}
    refused |= {"c.parquet/00000001", "link.mid"}
    assert found == dict.fromkeys(good) | dict.fromkeys(refused, "unreadable_member") | {
        "large.mid": "too_many_bytes"
    }


def eats_memory(name, midi, layout):
    if name == "page.mid":
        bytearray(8 << 30)
    return convert_file(name, midi, layout)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS")
def test_worker_that_asks_for_too_much_memory_costs_one_file(music, tmp_path):
    convert(music, tmp_path, 2, convert=eats_memory)
    (row,) = (row for row in rows(tmp_path) if row["drop_reason"])
    assert (row["path"], row["drop_reason"]) == ("page.mid", "crash")
    assert "memory" in row["message"]


def sleeps_on_one(name, midi, layout):
    if name == "page.mid":
        time.sleep(LIMIT_SECONDS)
    return convert_file(name, midi, layout)


def slow_at_first(marker, name, midi, layout):
    if name == "page.mid" and not marker.exists():
        marker.touch()
        time.sleep(LIMIT_SECONDS)
    return convert_file(name, midi, layout)


def test_file_that_takes_too_long_is_named_and_its_neighbours_are_kept(music, tmp_path):
    convert(music, tmp_path, 2, convert=sleeps_on_one, timeout_seconds=4.0)
    (row,) = (row for row in rows(tmp_path) if row["drop_reason"])
    assert (row["path"], row["drop_reason"]) == ("page.mid", "timeout")
    assert row["message"] == "not done after 4 s"


def test_file_that_was_only_slow_once_is_converted_alone(music, whole, tmp_path):
    slow = partial(slow_at_first, tmp_path / "marker")
    convert(music, tmp_path / "out", 2, convert=slow, timeout_seconds=4.0)
    assert (tmp_path / "marker").exists()
    assert contents(tmp_path / "out") == whole


# ---------------------------------------------------------------- same input, same bytes


def test_two_workers_write_the_same_bytes_as_one(music, whole, tmp_path, monkeypatch):
    """Workers that are new interpreters, as those of users are; in other tests they are forks."""
    monkeypatch.setattr("data_prep.storage.stages.get_context", multiprocessing.get_context)
    convert(music, tmp_path, 2)
    assert contents(tmp_path) == whole
    assert len(whole) == 3


def test_order_of_the_folder_and_of_the_sources_makes_no_difference(music, whole, tmp_path):
    other = tmp_path / "music"
    other.mkdir()
    for path in sorted(music.iterdir(), reverse=True):
        shutil.copy2(path, other)
    convert(other, tmp_path / "out")
    assert contents(tmp_path / "out") == whole
    sources = [open_source(str(path), tmp_path) for path in (music / "b.zip", other)]
    for name, order in (("x", sources), ("y", sources[::-1])):
        convert_collection(order, tmp_path / name, workers=2)
    assert contents(tmp_path / "x") == contents(tmp_path / "y")
    assert {row["source"] for row in rows(tmp_path / "x")} == {"b", "music"}


def test_locale_makes_no_difference(tmp_path, tune_files):
    folder = tmp_path / "music"
    folder.mkdir()
    for name in (b"b\xc3\xa9.mid", b"B.mid", b"a.mid", b"bf.mid", b"\xff.mid"):
        shutil.copy2(tune_files[0], os.fsdecode(os.fsencode(folder) + b"/" + name))
    outs = []
    for number, environment in enumerate(
        (
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            {"LC_ALL": "C.UTF-8"},
        )
    ):
        out = tmp_path / str(number)
        process = start(folder, out, 1, **environment)
        assert process.wait(LIMIT_SECONDS) == 0, process.stderr.read()
        outs.append(contents(out))
    assert outs[0] == outs[1]
    names = [row["path"] for row in rows(tmp_path / "0")]
    assert names == ["B.mid", "a.mid", "bf.mid", "b\xe9.mid", "\ufffd.mid"]


def test_conversion_that_is_killed_goes_on_to_the_same_bytes(music, whole, tmp_path):
    """Killed at random moments of its work; KILLS=20 for a longer trial."""
    chance = random.Random(int(os.environ.get("KILL_SEED", "0")))
    for _ in range(int(os.environ.get("KILLS", "2"))):
        before = times(tmp_path)
        process = start(music, tmp_path)
        while times(tmp_path) == before and process.poll() is None:
            time.sleep(0.02)
        time.sleep(chance.uniform(0.0, 0.5))
        process.kill()
        process.wait()
        done = {name: c for name, c in contents(tmp_path).items() if name.endswith(".parquet")}
        assert done.items() <= whole.items()
        if len(done) == len(whole) and done:
            chance.choice(list(tmp_path.glob("*.parquet"))).unlink()
    process = start(music, tmp_path)
    assert process.wait(LIMIT_SECONDS) == 0, process.stderr.read()
    assert contents(tmp_path) == whole


def times(folder):
    """What lies in a folder, and when it was last written to."""
    found = {}
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            found[path] = path.stat().st_mtime_ns
    return found


def test_killed_conversion_leaves_no_process_behind(music, tmp_path):
    process = start(music, tmp_path)
    group = process.pid
    wait_until(lambda: list(tmp_path.glob("*.parquet")))
    process.kill()
    process.wait()
    wait_until(lambda: not is_alive(group))
    if is_alive(group):
        os.killpg(group, signal.SIGKILL)
        pytest.fail("workers outlived the command")


def is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_changed_input_removes_its_old_shards_and_no_other_file(music, whole, tmp_path, tune_files):
    convert(music, tmp_path)
    (tmp_path / "part-of-something-else.parquet").touch()
    small = tmp_path / "small"
    small.mkdir()
    shutil.copy(tune_files[0], small)
    convert(small, tmp_path)
    left = {path.name for path in tmp_path.glob("part-*")}
    assert len(left) == 2
    assert "part-of-something-else.parquet" in left
    assert not left & set(whole)


def test_touched_collection_is_read_and_not_converted_again(music, whole, tmp_path):
    copy = tmp_path / "music"
    shutil.copytree(music, copy, copy_function=shutil.copyfile)
    out = tmp_path / "out"
    out.mkdir()
    for name, content in whole.items():
        (out / name).write_bytes(content)
    plan = plan_shards([open_source(str(copy), out)], out, "bars")
    touched = [shard for shard in plan if shard.path.name not in whole]
    assert touched
    cut_off = next(out.glob(f"{touched[-1].stem}*"))
    cut_off.write_bytes(cut_off.read_bytes()[:-9])
    assert convert(copy, out).n_files == len(touched[-1].members)
    assert list(contents(out)) == [shard.path.name for shard in plan]
    assert list(contents(out).values()) == list(whole.values())


def test_touched_file_of_other_bytes_is_converted_again(music, whole, tmp_path):
    copy = tmp_path / "music"
    shutil.copytree(music, copy, copy_function=shutil.copyfile)
    out = tmp_path / "out"
    out.mkdir()
    for name, content in whole.items():
        (out / name).write_bytes(content)
    (copy / "page.mid").write_text("<body>")  # as many bytes
    convert(copy, out)
    (row,) = (row for row in rows(out) if row["path"] == "page.mid")
    assert row["digest"] == hashlib.sha256(b"<body>").hexdigest()


def test_other_bytes_names_or_order_are_another_collection(tmp_path, tune_files):
    one, two = (file.read_bytes() for file in tune_files[:2])
    digests = []
    for number, files in enumerate(
        (
            {"top/a.mid": one, "top/b.mid": two},
            {"a.mid": one, "b.mid": two},
            {"a.mid": two, "b.mid": one},
            {"a.mid": one, "c.mid": two},
            {"a.mid": one, "b/b.mid": two},
        )
    ):
        with zipfile.ZipFile(tmp_path / f"{number}.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        out = tmp_path / str(number)
        digests.append(write_summary(out, convert(f"{out}.zip", out), "bars")["digest"])
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


def test_tar_without_times_is_looked_at_again_when_it_is_another(tmp_path):
    plans = []
    for content in (b"one", b"two"):
        with tarfile.open(tmp_path / "music.tar", "w") as archive:
            info = tarfile.TarInfo("a.mid")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        os.utime(tmp_path / "music.tar", ns=(len(plans), len(plans)))
        (shard,) = plan_shards(
            [open_source(str(tmp_path / "music.tar"), tmp_path)], tmp_path, "bars"
        )
        plans.append((shard.stem, shard.path))
    assert plans[0][0] == plans[1][0]
    assert plans[0][1] != plans[1][1]


# ---------------------------------------------------------------- the command


def test_command_counts_by_reason_and_writes_a_summary(music, whole, tmp_path, capsys):
    arguments = [str(music), str(tmp_path / "out"), "--workers", "1"]
    assert command.main(arguments) == 0
    n_files = 2 * SHARD_FILES + len(list(music.glob("*.mid")))
    line = capsys.readouterr().out
    assert f"{n_files:,} files -> {n_files - 1:,} tunes" in line
    assert line.endswith("dropped: not_midi 1\n")
    stage = json.loads((tmp_path / "out" / "stage.json").read_text())
    assert (stage["rows_in"], stage["rows_out"]) == (n_files, n_files - 1)
    assert stage["dropped"] == {"not_midi": 1}
    assert stage["n_chars"] == sum(len(row["abc"] or "") for row in rows(tmp_path / "out"))
    assert stage["files_converted"] == n_files
    assert command.main(arguments) == 0
    assert json.loads((tmp_path / "out" / "stage.json").read_text()) == stage


def test_interrupt_ends_in_one_line_and_the_next_run_goes_on(music, whole, tmp_path):
    process = start(music, tmp_path)
    wait_until(lambda: list(tmp_path.glob("*.parquet")))
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 130
    assert error.splitlines()[-1] == "interrupted; run the same command to resume"
    assert "Traceback" not in error
    process = start(music, tmp_path)
    assert process.wait(LIMIT_SECONDS) == 0
    assert contents(tmp_path) == whole


def test_second_conversion_into_a_folder_is_refused(music, tmp_path):
    process = start(music, tmp_path)
    wait_until(lambda: list(tmp_path.glob("*.parquet")))
    second = start(music, tmp_path)
    _, error = second.communicate(timeout=LIMIT_SECONDS)
    assert process.wait(LIMIT_SECONDS) == 0
    if second.returncode:  # else the first had ended before it
        assert (second.returncode, error.count("\n")) == (2, 1)
        assert f"process {process.pid} on " in error
        assert "is writing there; wait for it" in error


def limited_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))


def test_full_disk_ends_in_one_line(music, tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "data_prep.convert", str(music), str(tmp_path), "--workers", "1"],
        cwd=ROOT,
        preexec_fn=limited_files,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert process.returncode == 2
    assert process.stderr.splitlines()[-1].startswith("error: ")
    assert "File too large" in process.stderr
    assert "Traceback" not in process.stderr
    assert not list(tmp_path.iterdir())


def test_source_that_is_not_there_ends_in_one_line(tmp_path, capsys):
    assert command.main([str(tmp_path / "nowhere"), str(tmp_path / "out")]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
