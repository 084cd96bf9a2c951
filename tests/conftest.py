"""Small real music files, results and runs, shared by all tests."""

import gc
from pathlib import Path

import pytest
from warm_processes import DATA as DATA_MODULES
from warm_processes import forkserver

# Imports leave a million objects and no cycles: collecting less often makes them a tenth cheaper.
gc.set_threshold(50_000, 20, 20)

DATA = Path(__file__).parent / "data"
STRANGERS = "where_this_project_is_absent"  # in the names of their tests
# The tests of a group share something slow to create, such as a trained model, a process that has
# imported torch, or one that has imported only transformers. A single worker creates it and runs
# the whole group.
KEPT_TOGETHER = {
    name: name
    for name in (
        *("test_benchmarks", "test_convert", "test_convert_datatrove", "test_data_pipeline"),
        "test_make_shards",
        *("test_families", "test_finetune", "test_judges", "test_ladders", "test_whole_way"),
        *("test_gpu_study", "test_page_browser", "test_serving", "test_studio_browser"),
    )
} | {
    "test_evaluate_modules": STRANGERS,
    **dict.fromkeys(("test_context_use", "test_likelihood"), "scored runs"),
    **dict.fromkeys(("test_results", "test_study_figures"), "made results"),
    **dict.fromkeys(("test_faults", "test_processes", "test_study", "test_study_time"), "forks"),
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Assign each test to whichever worker is free, except for the modules above."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = Path(nodeid.partition("::")[0]).stem
            return STRANGERS if STRANGERS in nodeid else KEPT_TOGETHER.get(module, nodeid)

    return Scheduling(config, log)


def pytest_collection_finish():
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def warm_workers():
    """Pipeline workers with preloaded imports: a new pool per stage would take seconds.

    Tests that run commands as separate processes check that new interpreters work as well.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.storage.stages.get_context", lambda _: forkserver(DATA_MODULES))
        yield


@pytest.fixture(scope="session")
def tune_files() -> list[Path]:
    """Sixty public-domain fiddle tunes as MIDI; see tests/data/README.md."""
    return sorted((DATA / "tunes").glob("*.mid"))


@pytest.fixture(scope="session")
def chorale() -> bytes:
    """A four-part chorale by J. S. Bach as MIDI."""
    return (DATA / "bach_bwv269.mid").read_bytes()


@pytest.fixture(scope="session")
def made_results(tmp_path_factory) -> Path:
    """A folder of results from a known law; see tests/helpers/study_results.py. Read-only."""
    from study_results import make_results

    return make_results(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def scored_runs(tmp_path_factory) -> Path:
    """The folder of tiny trained runs and their data; see tests/helpers/scored_runs.py."""
    from scored_runs import train_runs  # its imports are not needed by most tests

    folder = tmp_path_factory.mktemp("scored")
    train_runs(folder)
    return folder
