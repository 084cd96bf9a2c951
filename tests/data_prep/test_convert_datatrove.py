import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from data_prep.collections.sources import open_source
from data_prep.convert import convert_collection, write_summary
from data_prep.shards.shard_files import SHARD_FILES

ROOT = Path(__file__).parents[2]
TIMES = {"seconds", "files_per_second"}


@pytest.fixture(scope="module")
def engine():
    pytest.importorskip("datatrove", reason='needs pip install --editable ".[datatrove]"')
    from data_prep import convert_datatrove

    return convert_datatrove


@pytest.fixture(scope="module")
def music(tmp_path_factory, tune_files):
    """Three shards of two sources, with a page that is no MIDI and a name that is no UTF-8."""
    top = tmp_path_factory.mktemp("music")
    folder = top / "folder"
    folder.mkdir()
    with zipfile.ZipFile(top / "b.zip", "w") as archive:
        for number in range(SHARD_FILES + 2):
            archive.write(tune_files[number % len(tune_files)], f"{number:03d}.mid")
    for file in tune_files[:4]:
        shutil.copy2(file, folder)
    shutil.copy2(tune_files[5], os.fsdecode(os.fsencode(folder) + b"/\xff.mid"))
    (folder / "page.mid").write_text("<html>")
    return [top / "b.zip", folder]


@pytest.fixture(scope="module")
def whole(music, tmp_path_factory):
    """The output of the default engine: name -> bytes, and its stage.json."""
    out = tmp_path_factory.mktemp("whole") / "out"
    sources = [open_source(str(path), out) for path in music]
    converted = convert_collection(sources, out, workers=1)
    return contents(out), write_summary(out, converted, "bars")


def contents(out):
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*"))}


def command(music, out, *options):
    names = [str(path) for path in music]
    return subprocess.run(
        [sys.executable, "-m", "data_prep.convert_datatrove", *names, str(out), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_tasks_write_the_same_bytes_as_the_default_engine(engine, music, whole, tmp_path):
    shards, stage = whole
    assert len(shards) == 3
    out = tmp_path / "out"
    process = command(music[::-1], out, "--tasks", "2", "--workers", "2")
    assert process.returncode == 0, process.stderr
    assert contents(out) == shards
    found = json.loads((out / "stage.json").read_text())
    assert found.keys() == stage.keys()
    assert [name for name in found if found[name] != stage[name] and name not in TIMES] == []
    n_files = SHARD_FILES + 8
    assert f"{n_files:,} files -> {n_files - 1:,} tunes" in process.stdout

    lost, *kept = sorted(out.glob("part-*"))
    lost.unlink()
    (out / "stage.json").unlink()
    (out / "part-00009-0123456789ab.parquet").touch()  # of another input
    times = [path.stat().st_mtime_ns for path in kept]
    process = command(music, out, "--tasks", "3", "--workers", "1")
    assert process.returncode == 0, process.stderr
    assert contents(out) == shards
    assert [path.stat().st_mtime_ns for path in kept] == times
    assert json.loads((out / "stage.json").read_text())["files_converted"] == SHARD_FILES


def test_summary_waits_for_all_shards(engine, music, whole, tmp_path):
    sources = [open_source(str(path), tmp_path) for path in music]
    job = engine.plan_job(sources, tmp_path / "out", "bars")
    engine.ConvertShards(job).run(rank=1, world_size=2)
    with pytest.raises(ValueError, match=r"2 of 3 shards are missing, the first is part-00000-"):
        engine.summarize(job)
    assert not (job.folder / "stage.json").exists()
    engine.ConvertShards(job).run(rank=0, world_size=2)
    engine.summarize(job)
    assert contents(job.folder) == whole[0]
    assert (job.folder / "stage.json").exists()


def test_last_slurm_job_runs_whatever_becomes_of_the_tasks(engine, music, tmp_path, monkeypatch):
    """With `afterok`, it would wait forever for a task that failed and was queued again."""
    log, sbatch = tmp_path / "log", tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(f'#!/bin/sh\necho "$@" >> {log}\necho Submitted job $(wc -l < {log})\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sbatch.parent}{os.pathsep}{os.environ['PATH']}")
    slurm = ("--executor", "slurm", "--tasks", "2", "--partition", "cpu", "--time", "01:00:00")
    process = command(music, tmp_path / "out", *slurm)
    assert process.returncode == 0, process.stderr
    jobs = log.read_text().splitlines()
    assert [job for job in jobs if "--dependency" in job] == [jobs[2]]
    assert "--dependency=afterany:1 " in jobs[2]
    scripts = list(tmp_path.glob("out/.datatrove/*/*/launch_script.slurm"))
    assert len(scripts) == 2
    assert all("#SBATCH --kill-on-invalid-dep=yes" in path.read_text() for path in scripts)


def test_tasks_queued_for_other_inputs_make_nothing(engine, music, tmp_path):
    zipped, folder = [open_source(str(path), tmp_path) for path in music]
    queued = engine.plan_job([zipped], tmp_path / "out", "bars")
    again = engine.plan_job([zipped], tmp_path / "out", "bars")
    assert (queued.plan, queued.n_files) == (again.plan, again.n_files)
    assert queued.logs != again.logs  # its tasks read their pipeline from there
    engine.plan_job([folder], tmp_path / "out", "bars")
    for task in (engine.ConvertShards(queued).run, lambda: engine.summarize(queued)):
        with pytest.raises(ValueError, match="planned for other inputs after this task was queued"):
            task()
    assert not contents(tmp_path / "out")


def test_without_the_extra_one_line_says_what_to_install():
    program = (
        "import runpy, sys; sys.modules['datatrove'] = None; "
        "runpy.run_module('data_prep.convert_datatrove', run_name='__main__')"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1
    assert 'pip install --editable ".[datatrove]"' in process.stderr
