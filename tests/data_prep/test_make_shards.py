import os
import threading
import time
import zipfile

import pytest
from claim_holders import claim_in_another_process

from data_prep.collections.sources import open_source
from data_prep.shards.convert_pool import Conversion
from data_prep.shards.make_shards import make_shards
from data_prep.shards.shard_files import SHARD_FILES, missing_shards, plan_shards
from data_prep.shards.shard_plan import read_plan, write_plan


@pytest.fixture(scope="module")
def source(tmp_path_factory, tune_files):
    """Four shards."""
    path = tmp_path_factory.mktemp("music") / "music.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(3 * SHARD_FILES + 1):
            archive.write(tune_files[number % 7], f"{number:03d}.mid")
    return open_source(str(path), path.parent)


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    assert make(source, out) == 3 * SHARD_FILES + 1
    return contents(out)


def make(source, out):
    return make_shards(plan_shards([source], out, "bars"), Conversion(), 1, lambda n: None)


def contents(out):
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_processes_with_the_same_shards_share_the_work(source, whole, tmp_path):
    n_files = []
    threads = [
        threading.Thread(target=lambda: n_files.append(make(source, tmp_path))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(n_files) == 3 * SHARD_FILES + 1  # none was converted twice
    assert contents(tmp_path) == whole


def test_shard_of_a_process_that_dies_is_made_by_the_one_that_waits(
    source, whole, tmp_path, caplog
):
    shards = plan_shards([source], tmp_path, "bars")
    process = claim_in_another_process(shards[1].claim)
    advanced = []

    def kill_when_the_others_are_made():
        while not all(shard.path.exists() for shard in (shards[0], *shards[2:])):
            time.sleep(0.02)
        time.sleep(0.1)
        assert not shards[1].path.exists()
        process.kill()
        process.wait()

    killer = threading.Thread(target=kill_when_the_others_are_made)
    killer.start()
    assert make_shards(shards, Conversion(), 1, advanced.append) == 3 * SHARD_FILES + 1
    killer.join()
    assert sum(advanced) == 3 * SHARD_FILES + 1
    assert contents(tmp_path) == whole
    waiting = f"waiting for 1 shard that others are making; the first is {shards[1].path.name}"
    assert f"{waiting}, by process {process.pid} on " in caplog.text


def test_shard_that_another_process_makes_is_waited_for(source, whole, tmp_path):
    shards = plan_shards([source], tmp_path, "bars")
    process = claim_in_another_process(shards[0].claim)
    advanced = []

    def make_the_first():
        while not all(shard.path.exists() for shard in shards[1:]):
            time.sleep(0.02)
        shards[0].path.write_bytes(whole[shards[0].path.name])
        process.kill()
        process.wait()
        shards[0].claim.unlink(missing_ok=True)

    maker = threading.Thread(target=make_the_first)
    maker.start()
    assert make_shards(shards, Conversion(), 1, advanced.append) == 2 * SHARD_FILES + 1
    maker.join()
    assert sum(advanced) == 3 * SHARD_FILES + 1
    assert contents(tmp_path) == whole


def test_planning_spares_what_is_being_made_and_removes_what_was_left_behind(source, tmp_path):
    shards = plan_shards([source], tmp_path, "bars")
    process = claim_in_another_process(shards[0].claim)
    unfinished = [shard.path.with_suffix(".0123abcd.part") for shard in shards[:2]]
    for path in (*unfinished, shards[1].claim):
        path.write_bytes(b"")
    shards[1].claim.write_text('{"machine": "another", "host": "x", "process": 1}')
    os.utime(shards[1].claim, (0, 0))
    assert missing_shards(tmp_path, shards) == shards
    assert set(tmp_path.iterdir()) == {shards[0].claim, unfinished[0]}
    process.kill()
    process.wait()
    assert missing_shards(tmp_path, shards) == shards
    assert not list(tmp_path.iterdir())


def test_shards_of_other_inputs_are_not_deleted_while_they_are_being_made(source, whole, tmp_path):
    shards = plan_shards([source], tmp_path, "bars")
    others = plan_shards([source], tmp_path, "voices")
    others[0].path.touch()
    process = claim_in_another_process(others[1].claim)
    message = rf"{tmp_path}: process {process.pid} on .* is making shards of other inputs there"
    with pytest.raises(ValueError, match=message):
        missing_shards(tmp_path, shards)
    assert others[0].path.exists()
    process.kill()
    process.wait()
    assert missing_shards(tmp_path, shards) == shards
    assert not others[0].path.exists()


def test_plan_gives_each_task_its_shards_and_is_replaced_by_one_for_other_inputs(source, tmp_path):
    shards = plan_shards([source], tmp_path, "bars")
    plan = write_plan(tmp_path, shards)
    assert write_plan(tmp_path, shards) == plan
    tasks = [list(read_plan(plan, tmp_path, rank, 3)) for rank in range(3)]
    assert tasks == [[shards[0], shards[3]], [shards[1]], [shards[2]]]
    other = write_plan(tmp_path, shards[:2])
    assert list(read_plan(other, tmp_path, 0, 1)) == shards[:2]
    message = rf"{tmp_path} was planned for other inputs after this task was queued"
    with pytest.raises(ValueError, match=message):
        list(read_plan(plan, tmp_path, 0, 1))
