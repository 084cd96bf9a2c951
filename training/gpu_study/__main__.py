"""Run as much of a study as fits in a few minutes of one GPU, from a bundle, on a bare machine.

    python -m training.gpu_study dev.bundle --minutes 9 --out gpu [--nanogpt <checkout>]
    python -m training.gpu_study dev.bundle --minutes 9 --out gpu2 --done gpu/records.jsonl

First come three checks (precision, exact resume, greedy tokens as on the CPU), then the cells of
the study, small ones first and in parallel, as long as the next one can finish in time. OUT gets
records.jsonl (one line per run: its record and its config), report.json (plan, checks, speeds) and
weights-*.safetensors (bf16, small runs first): at most eight files of 15 MB. Runs in --done with
equal settings and data are skipped, so the next call resumes where this one ended.
"""

import argparse
import contextlib
import logging
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from scaling.counts import peak_flops
from scaling.writing.commands import command
from scaling.writing.files import write_json

from ..config import load_config
from ..study.gpus import find_gpus
from ..study.kept_records import Records
from ..study.study_plan import Planned, plan_study
from .cells import Costs, run_cells_until, seconds_expected, speed_so_far
from .checks import run_checks
from .outputs import write_weights

STUDY = Path(__file__).resolve().parents[2] / "configs" / "studies" / "a_minutes.yaml"
OUTPUT_SECONDS = 20.0  # for weights and report
CHECK_SHARE = 1 / 4  # at most, of the minutes
logger = logging.getLogger(__name__)


class Paths(NamedTuple):
    """Paths from the command line, made absolute."""

    bundle: Path
    study: Path
    out: Path
    done: Path | None
    nanogpt: Path | None


def plan_lines(cells: list[Planned], costs: Costs) -> list[str]:
    """The plan as text: the missing cells, smallest first, and the expected time of each."""
    lines = [f"{'cell':32} {'tokens':>12} {'FLOPs':>9} {'seconds':>8}"]
    for cell, run in cells:
        expected = seconds_expected(cell, run, costs)
        seconds = "unknown" if expected is None else f"{expected:.0f}"
        lines.append(
            f"{cell.name:32} {cell.n_tokens_trained:12,} {cell.flops_train:9.1e} {seconds:>8}"
        )
    return lines


def study_for_minutes(options: argparse.Namespace, begin: float) -> dict[str, Any]:
    """Check, train, and write the results; return the report."""
    end = begin + 60 * options.minutes - OUTPUT_SECONDS
    named = (options.bundle, options.study, options.out, options.done, options.nanogpt)
    paths = Paths(*(path and path.resolve() for path in named))
    out = paths.out
    work = out.with_name(f"{out.name}.work")
    work.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(work):  # runs/ is there
        report = _train(options, paths, end)
    report["seconds"] = time.monotonic() - begin
    write_json(out / "report.json", report)
    shutil.rmtree(work)
    return report


def _train(options: argparse.Namespace, paths: Paths, end: float) -> dict[str, Any]:
    overrides = [f"data.root={paths.bundle}", "data.dataset=latest", *options.overrides]
    study = plan_study(paths.study, overrides)
    records = Records(paths.out / "records.jsonl", paths.done)
    records.write()
    missing = [planned for planned in study.runs if not records.hold(*planned)]
    missing.sort(key=lambda planned: planned[0].flops_train)
    for cell, _ in missing:  # report an unknown key once, before training
        load_config(Path(cell.config), cell.overrides)
    device = options.plan_for
    costs = Costs(device, peak_flops(device)) if device else Costs.of_this_machine()
    lines = plan_lines(missing, costs)
    print("\n".join([*lines, f"{len(missing)} of {len(study.runs)} cells are missing"]), flush=True)
    report: dict[str, Any] = {"study": study.name, "minutes": options.minutes, "plan": lines}
    report |= {"machine": asdict(costs), "checks": [], "nanogpt": []}
    write_json(paths.out / "report.json", report)
    if device:
        return report | {"failures": [], "speeds": [], "weights": []}

    left = end - time.monotonic()
    if missing and not options.no_checks:
        report["checks"] = run_checks(missing[0], paths.bundle, end - (1 - CHECK_SHARE) * left)
    if paths.nanogpt:
        from .nanogpt import time_nanogpt  # torch takes seconds to import

        report["nanogpt"] = time_nanogpt(paths.nanogpt, end)
    report["failures"] = run_cells_until(missing, end, costs, find_gpus(), records)
    speeds = (speed_so_far(*planned) for planned in missing)
    report["speeds"] = [speed for speed in speeds if speed is not None]
    report["weights"] = write_weights([run for _, run in missing], paths.out)
    return report


@command(ValueError, OSError)
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 1 if a check or a cell failed."""
    begin = time.monotonic()
    parser = argparse.ArgumentParser(
        prog="training.gpu_study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path, help="file written by `make bundle`")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="applied to all cells")
    parser.add_argument("--minutes", type=float, required=True, help="time limit of the whole call")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--done", type=Path, help="records.jsonl of an earlier call")
    parser.add_argument("--nanogpt", type=Path, help="nanoGPT checkout to time for comparison")
    parser.add_argument("--study", type=Path, default=STUDY, help=f"default: {STUDY.name}")
    parser.add_argument("--plan-for", metavar="DEVICE", help='plan only, e.g. for "NVIDIA H200"')
    parser.add_argument("--no-checks", action="store_true", help="skip the checks")
    options = parser.parse_intermixed_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.minutes <= 0:
        raise ValueError(f"--minutes is {options.minutes}, expected above 0")
    report = study_for_minutes(options, begin)
    failed = [check["check"] for check in report["checks"] if check["passed"] is False]
    for line in [*(f"check {name} failed" for name in failed), *report["failures"]]:
        print(line, file=sys.stderr)
    n_runs, out = len(report["speeds"]), options.out
    print(f"{n_runs} runs started in {report['seconds']:.0f} s; records and report in {out}")
    return 1 if failed or report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
