"""What `make cluster-check` does without a cluster: its commands, its comparisons, its packages."""

import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.cluster_check import convert_by_ray, convert_by_slurm, installed, train_by_slurm
from benchmarks.cluster_check.checks import Checks
from benchmarks.cluster_check.collection import Collection, shards_in
from benchmarks.cluster_check.commands import CheckError, environment, run
from benchmarks.cluster_check.processes import Daemon, kill, with_environment

ROOT = Path(__file__).parents[1]


def test_page_shows_the_commands_that_are_run():
    page = (ROOT / "docs" / "how-to" / "cluster.md").read_text("utf-8")
    for part in (convert_by_slurm, convert_by_ray, train_by_slurm):
        assert f"\n{part.COMMAND}\n" in page


def test_missing_programs_are_named_where_they_cannot_be_installed(monkeypatch):
    monkeypatch.setattr(installed, "find_program", {"munged": "/usr/sbin/munged"}.get)
    monkeypatch.setattr("os.geteuid", lambda: 1)
    with pytest.raises(CheckError) as raised:
        installed.install_slurm()
    message = str(raised.value)
    assert message.startswith("no program slurmctld, slurmd, sbatch")
    assert "munged" not in message
    assert "apt-get install slurm-wlm munge" in message


def test_conversion_that_differs_is_a_failed_check(tmp_path, capsys):
    out = tmp_path / "alone"
    out.mkdir()
    (out / "part-00000-x.parquet").write_bytes(b"rows")
    (out / "stage.json").write_text(
        '{"stage": "alone", "rows_in": 2, "rows_out": 1, "dropped": {}}'
    )
    collection = Collection("music", shards_in(out), {"rows_in": 2, "rows_out": 1, "dropped": {}})
    good, bad = Checks(), Checks()
    collection.compare(out, "one", good)
    assert (good.n_passed, good.n_failed) == (3, 0)
    assert "FAILED" not in capsys.readouterr().out
    (out / "part-00000-x.parquet").write_bytes(b"other")
    (out / "part-00001-x.claim").touch()
    (out / "stage.json").write_text(
        '{"stage": "alone", "rows_in": 2, "rows_out": 2, "dropped": {}}'
    )
    collection.compare(out, "another", bad)
    assert (bad.n_passed, bad.n_failed) == (0, 3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "FAILED  shards of another: 1 shards, 1 other than those of one process"
    assert lines[1].endswith("other rows_out")
    assert lines[2] == "FAILED  files left behind by another: part-00001-x.claim"


def test_run_of_other_weights_or_that_is_missing_is_a_failed_check(capsys):
    record = {"max_steps": 2}
    alone = {"weights": {"a": "1", "b": "2"}, "records": {"a": record, "b": record}}
    for weights, records, n_failed in (
        ({"a": "1", "b": "2"}, {"a": record, "b": record}, 0),
        ({"a": "1", "b": "3"}, {"a": record, "b": record}, 1),
        ({"a": "1"}, {"a": record}, 2),
        ({}, {}, 2),
    ):
        checks = Checks()
        train_by_slurm.compare(alone, {"weights": weights, "records": records}, checks)
        assert checks.n_failed == n_failed


def test_part_that_breaks_off_is_a_failed_check_and_the_next_one_runs(capsys):
    checks = Checks()
    with checks.part("first"):
        run([sys.executable, "-c", "raise SystemExit('no such partition')"], environment())
    with checks.part("second"):
        checks.tell(True, "second", "done")
    assert (checks.n_passed, checks.n_failed) == (1, 1)
    assert "ended with 1: no such partition" in capsys.readouterr().out


def test_environment_is_that_of_no_other_cluster(monkeypatch):
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    monkeypatch.setenv("SBATCH_PARTITION", "gpu")
    found = environment(SLURM_CONF="ours")
    assert (found["SLURM_CONF"], "SBATCH_PARTITION" in found) == ("ours", False)
    assert shutil.which("python", path=found["PATH"]) == str(Path(sys.executable).parent / "python")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_processes_are_found_by_what_they_were_started_with(tmp_path):
    env = {**environment(), "OF_THIS_TEST": str(tmp_path)}
    command = [sys.executable, "-c", "import time; time.sleep(300)"]
    first, second = (Daemon(command, tmp_path / "sleeper.log", env) for _ in range(2))
    both = [first.process.pid, second.process.pid]
    assert with_environment(OF_THIS_TEST=str(tmp_path)) == both
    kill(both[:1])
    first.process.wait()
    assert with_environment(OF_THIS_TEST=str(tmp_path)) == both[1:]
    second.stop()
    assert with_environment(OF_THIS_TEST=str(tmp_path)) == []


def test_daemon_that_ends_is_not_waited_for(tmp_path):
    command = [sys.executable, "-c", "print('ready', flush=True); raise SystemExit('no key')"]
    daemon = Daemon(command, tmp_path / "munged.log", environment())
    daemon.process.wait()
    with pytest.raises(CheckError, match="munged ended: no key"):
        daemon.has_said("ready")
