import errno
import json
import os
import signal
import threading
import time

import pytest
from claim_holders import claim_in_another_process

from data_prep.storage import claims
from data_prep.storage.claims import SILENT_SECONDS, clear, holder, lock, take


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.claim"


def write_claim_of_another_machine(path, seconds_silent):
    path.write_text(json.dumps({"machine": "another", "host": "node7", "process": os.getpid()}))
    when = time.time() - seconds_silent
    os.utime(path, (when, when))


def test_one_process_holds_a_claim_until_it_releases_it(path):
    claim = take(path)
    assert take(path) is None
    assert not clear(path)
    claim.release()
    assert not path.exists()
    take(path).release()


def test_claim_of_a_killed_process_is_taken_over_at_once(path):
    process = claim_in_another_process(path)
    assert take(path) is None
    assert holder(path).startswith(f"process {process.pid} on ")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert path.exists()
    take(path).release()


def test_claim_of_a_stopped_process_is_kept_on_its_machine(path):
    process = claim_in_another_process(path)
    process.send_signal(signal.SIGSTOP)
    long_ago = time.time() - 10 * SILENT_SECONDS
    os.utime(path, (long_ago, long_ago))
    assert take(path) is None
    process.kill()
    process.wait()


def test_claim_of_another_machine_counts_until_it_was_silent_for_too_long(path):
    """Although no process holds a lock on it here, and its number is that of a living process."""
    write_claim_of_another_machine(path, SILENT_SECONDS - 5)
    assert take(path) is None
    assert holder(path) == f"process {os.getpid()} on node7"
    write_claim_of_another_machine(path, SILENT_SECONDS + 5)
    take(path).release()


def test_claim_that_is_being_written_counts_until_it_was_silent_for_too_long(path):
    path.touch()
    assert take(path) is None
    assert holder(path) == "another process"
    os.utime(path, (0, 0))
    assert clear(path)
    assert not path.exists()


def test_holder_keeps_touching_its_claim(path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.01)
    claim = take(path)
    os.utime(path, (0, 0))
    deadline = time.monotonic() + 30
    while path.stat().st_mtime == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.stat().st_mtime > 0
    claim.release()


def test_release_leaves_the_claim_of_a_successor_alone(path):
    claim = take(path)
    path.unlink()  # as another machine does after a long silence
    write_claim_of_another_machine(path, 0)
    claim.release()
    assert path.exists()


def test_many_that_claim_the_same_hold_it_one_after_the_other(path):
    inside, most = [], []

    def work():
        n_held = 0
        while n_held < 10:
            time.sleep(0.001)
            if claim := take(path):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
                claim.release()
                n_held += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 40
    assert not path.exists()


def test_locked_folder_is_refused_by_name_of_its_process(tmp_path):
    with lock(tmp_path):
        message = rf"{tmp_path}: process {os.getpid()} on .* is writing there; wait for it"
        with pytest.raises(ValueError, match=message), lock(tmp_path):
            pass
    with lock(tmp_path):
        pass


def test_lock_waits_as_long_as_it_is_told(tmp_path):
    claim = take(tmp_path / ".claim")
    threading.Timer(0.2, claim.release).start()
    with lock(tmp_path, patience_seconds=30):
        pass


def test_file_system_without_locks_is_named_and_left_as_it_was(path, monkeypatch):
    def flock(file, how):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(OSError, match=rf"{path.parent}: its file system has no file locks"):
        take(path)
    assert not path.exists()
