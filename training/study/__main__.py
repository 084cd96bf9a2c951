"""A study: sizes x token budgets x seeds, each one a run of train.py.

python -m training.study configs/studies/demo.yaml [--jobs 2] [--no-estimate] [key=value ...]
python -m training.study configs/studies/demo.yaml --dry-run [--estimate]
python -m training.study configs/studies/demo.yaml --index 3    # one cell, for array jobs; --count

The study file contains `name`, `sizes` (each with `config`, the stem of a size file, and optionally
its own `name`, `tokens` and `seeds`, `learning_rates` to sweep over, and dotted keys), `tokens`,
`seeds` and `overrides` (dotted keys for all cells). Optional keys are `base`, a file that these
extend; `learning_rate_rule`, a file with the learning rate by size; `records`, a file whose records
count as done and to which those of new runs are added; and `fit`, the settings for the fit of its
runs (scaling/fit_options.py). With `budget.branches` a cell also yields a run for each of its
branches. The plan is written to runs/<study>/plan.json.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scaling.writing.commands import command

from ..config import load_config
from ..run.run_folder import RUNS
from .gpus import find_gpus
from .kept_records import Records
from .study_file import read_study
from .study_hours import counted, duration, plan_lines
from .study_plan import Planned, Study, is_finished, plan_study, write_fit, write_plan
from .study_runner import run_cells
from .timing import Estimate, estimate

logger = logging.getLogger(__name__)


def run_study(
    study: Study,
    jobs: int,
    gpus: Sequence[str],
    with_estimate: bool,
    records: Records | None = None,
) -> list[str]:
    """Run what is missing; return one line for each run that failed.

    Args:
        study: The study.
        jobs: Number of parallel processes.
        gpus: From `find_gpus`.
        with_estimate: Whether to measure first how long it will take.
        records: Receives the records of the study's runs.
    """
    missing = study.missing()
    _check_cells(study.runs, missing)
    if records:
        for planned in study.runs:
            if is_finished(*planned) and not records.hold(*planned):
                records.add(*planned)
    expected = _estimate(missing, jobs, gpus) if with_estimate and missing else None
    plan = write_plan(study, expected and expected.for_plan)
    done = sum(cell.n_tokens_trained for cell, run in study.runs if is_finished(cell, run))
    begin, failures = time.monotonic(), []
    if missing:
        in_order = [planned for planned, _ in expected.cells] if expected else missing
        kept = {"on_finished": records.add} if records else {}
        failures = run_cells(in_order, jobs, gpus, done_tokens=done, **kept)
    finished = sum(cell.n_finished(run.path.parent) for cell, run in study.runs)
    n_runs = len(study.run_names())
    print(f"{finished} of {n_runs} runs of {study.name} finished; plan in {plan}")
    if expected:
        print(f"took {duration(time.monotonic() - begin)}; estimated: {expected.words}")
    return failures


def run_one_cell(study: Study, index: int, gpus: Sequence[str]) -> list[str]:
    """Run one cell of the plan, as the tasks of an array job do; return like `run_study`.

    Raises:
        ValueError: If there is no such cell.
    """
    if not 0 <= index < len(study.runs):
        raise ValueError(
            f"--index is {index}, but {study.name} has {len(study.runs)} cells; expected 0 to "
            f"{len(study.runs) - 1}"
        )
    cell, run = study.runs[index]
    if is_finished(cell, run):
        print(f"cell {index}, {run.path}, is finished; nothing to do")
        return []
    _check_cells([(cell, run)], [(cell, run)])
    write_plan(study)
    failures = run_cells([(cell, run)], 1, gpus)
    if not failures:
        print(f"cell {index} finished: {run.path}")
    return failures


def _check_cells(planned: Sequence[Planned], missing: Sequence[Planned]) -> None:
    """Warn if a run is not where it was expected; check the keys of all configs.

    Raises:
        ValueError: One line for an error that would otherwise fail every cell, one by one.
    """
    for _, run in planned:
        if run.reason:
            logger.warning(run.reason)
    for cell, _ in missing:
        load_config(Path(cell.config), cell.overrides)


def _estimate(
    missing: Sequence[Planned], jobs: int, gpus: Sequence[str], by_size: bool = False
) -> Estimate:
    sizes = counted(len({run.config["size"] for _, run in missing}), "size")
    print(f"measuring the speed of {sizes} (--no-estimate skips this)", flush=True)
    expected = estimate(missing, jobs, gpus)
    unmeasured = [line for line in expected.lines if "not measured" in line]
    lines = expected.lines if by_size else unmeasured
    print("\n".join([*lines, expected.words]), flush=True)
    return expected


def _default_jobs(gpus: Sequence[str]) -> int:
    """One run per GPU, or one per core if there is no GPU."""
    if gpus:
        return len(gpus)
    # a container may grant fewer cores than the machine has; only Linux reports it
    granted = getattr(os, "sched_getaffinity", None)
    return len(granted(0)) if granted else os.cpu_count() or 1


def _parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="study file, e.g. configs/studies/demo.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="applied to all cells")
    parser.add_argument(
        "--jobs", type=int, help="parallel runs; default: one per GPU, or one per core"
    )
    parser.add_argument(
        "--estimate",
        action=argparse.BooleanOptionalAction,
        help="time some steps of each size first, and print how long the study will take; the "
        "default when all cells are run",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--index", type=int, help="run this cell only, from 0, for array jobs")
    what.add_argument("--count", action="store_true", help="print the number of cells only")
    what.add_argument("--dry-run", action="store_true", help="print the plan and run nothing")
    what.add_argument("--folder", action="store_true", help="print the study's folder only")
    return parser.parse_intermixed_args(argv)


def _do(arguments: argparse.Namespace) -> list[str]:
    """Do what the command line asks for; return one line for each run that failed."""
    if arguments.jobs is not None and arguments.jobs < 1:
        raise ValueError(f"--jobs is {arguments.jobs}, expected 1 or more")
    if arguments.folder:
        content, _ = read_study(arguments.study, arguments.overrides)
        folder = RUNS / str(content.get("name", arguments.study.stem))
        if folder.is_dir():  # the fit uses the current study file
            write_fit(folder, content["fit"])
        print(folder)
        return []
    study = plan_study(arguments.study, arguments.overrides)
    if arguments.count:
        print(len(study.runs))
        return []
    records = Records(study.records) if study.records else None
    if records:
        for planned in study.missing():
            if records.hold(*planned):
                records.restore(*planned)
    gpus = find_gpus()
    jobs = arguments.jobs or _default_jobs(gpus)
    if arguments.dry_run:
        print("\n".join(plan_lines(study)))
        if arguments.estimate and (missing := study.missing()):
            _estimate(missing, jobs, gpus, by_size=True)
        return []
    if arguments.index is not None:
        return run_one_cell(study, arguments.index, gpus)
    return run_study(study, jobs, gpus, arguments.estimate is not False, records)


@command(ValueError, OSError)
def main(argv: list[str] | None = None) -> int:
    """Command line of a study."""
    arguments = _parse_arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        failures = _do(arguments)
    except KeyboardInterrupt:
        print("stopped; repeat the command to run what is missing", file=sys.stderr)
        return 130
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
