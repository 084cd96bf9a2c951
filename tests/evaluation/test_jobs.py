"""Jobs in processes that may crash, the folder that clients may use, the command line."""

import asyncio
import os
import time

import pytest

from data_prep.storage.stages import worker_pool
from evaluation.serving import __main__ as command
from evaluation.serving import work
from evaluation.serving.folder import Folder
from evaluation.serving.jobs import MOST_WAITING, JobError, Jobs


def run_jobs(*jobs, seconds=300.0):
    """The results of jobs that are asked for at once, or their errors."""

    async def run():
        with worker_pool(1) as pool:
            desk = Jobs("nowhere", {"reader": pool}, seconds)
            asked = (desk.run("reader", *job) for job in jobs)
            return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(run())


def test_a_process_that_dies_or_takes_too_long_is_replaced():
    jobs = [(os._exit, 3), (abs, -1), (time.sleep, 600), (abs, -2), (int, "x"), (len, 1), (abs, -3)]
    died, one, late, two, wrong, fault, three = run_jobs(*jobs, seconds=5.0)
    assert (one, two, three) == (1, 2, 3)
    assert str(died) == "its process died with code 3; it was replaced"
    assert str(late) == "not done after 5 s; ask for less, or start with more time"
    assert str(wrong) == "invalid literal for int() with base 10: 'x'"
    assert str(fault).startswith("a fault of this program: TypeError: object of type 'int'")


def test_only_so_many_jobs_wait_for_their_turn():
    results = run_jobs(*[(abs, -n) for n in range(MOST_WAITING + 3)])
    assert results[: MOST_WAITING + 1] == list(range(MOST_WAITING + 1))
    assert {type(result) for result in results[MOST_WAITING + 1 :]} == {JobError}


def test_a_client_that_leaves_makes_room_for_the_next_job():
    async def run():
        with worker_pool(1) as pool:
            desk = Jobs("nowhere", {"reader": pool}, 3600.0)
            assert await desk.run("reader", abs, -1) == 1  # the process is there
            left = asyncio.create_task(desk.run("reader", time.sleep, 3600))
            await asyncio.sleep(1)
            left.cancel()
            return await asyncio.wait_for(desk.run("reader", abs, -2), 600)

    assert asyncio.run(run()) == 2


def test_a_missing_model_is_said_by_each_job_that_needs_it(tmp_path):
    folder = str(tmp_path / "none")
    (error,) = run_jobs((work.write, folder, {}, {}))
    assert f"{folder} does not exist; expected a finished run" in str(error)


def test_files_are_never_overwritten(tmp_path):
    (tmp_path / "sub").mkdir()
    folder = Folder(tmp_path)
    folder.add("sub/a.abc", b"one")
    assert folder.read("sub/a.abc", 3) == b"one"
    assert folder.has("sub/a.abc")
    assert not folder.has("sub/b.abc")
    with pytest.raises(FileNotFoundError, match="'none': no such file or directory"):
        folder.has("none/a.abc")
    with pytest.raises(FileExistsError, match=r"'sub/a.abc': exists already"):
        folder.add("sub/a.abc", b"two")
    with pytest.raises(ValueError, match="3 bytes, limit 2"):
        folder.read("sub/a.abc", 2)


def test_what_the_command_needs_is_said_in_one_line(tmp_path, capsys, monkeypatch):
    assert command.main(["runs/x", "--files", str(tmp_path / "none")]) == 2
    assert "none is no folder; expected one that clients may use" in capsys.readouterr().err
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert command.main(["runs/x"]) == 2
    assert capsys.readouterr().err == (
        "error: the package mcp is missing: pip install --editable '.[mcp]'\n"
    )
