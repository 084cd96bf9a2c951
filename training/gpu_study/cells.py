"""Run cells in parallel until a deadline, and start none that would miss it."""

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scaling.counts import peak_flops, usual_share

from ..run.run_folder import RunFolder
from ..study.child_processes import signals_held, sigterm_as_interrupt
from ..study.kept_records import Records
from ..study.study_plan import Cell, Planned
from ..study.study_runner import POLL_SECONDS, RunningCell

START_SECONDS = 25.0  # imports, compiling, the last validation
# (up to this N, share of the device): small models spend their time on kernel launches
SHARES = ((2e6, 1 / 6), (1e7, 1 / 4), (3e7, 1 / 2))


@dataclass
class Costs:
    """The device of this machine, and how its speed compares with what was expected.

    Attributes:
        device: Its name.
        peak_flops_per_second: Dense, in bf16; None if unknown.
        factors: Measured over expected seconds of cells.
    """

    device: str
    peak_flops_per_second: float | None
    factors: list[float] = field(default_factory=list)

    @classmethod
    def of_this_machine(cls) -> "Costs":
        """Ask torch for the device."""
        import torch  # takes seconds

        has_gpu = torch.cuda.is_available()
        device = torch.cuda.get_device_name() if has_gpu else "cpu"
        return cls(device, peak_flops(device))

    @property
    def factor(self) -> float:
        """Multiplier for expected seconds."""
        return statistics.median(self.factors) if self.factors else 1.0


def seconds_expected(cell: Cell, run: RunFolder, costs: Costs) -> float | None:
    """How long a cell takes alone on this device; None if its peak is unknown."""
    if costs.peak_flops_per_second is None:
        return None
    model = run.config["model"]
    share = usual_share(model["model_type"], model["hidden_size"], 256)
    flops = cell.flops_train * cell.n_tokens_trained / cell.n_tokens
    return START_SECONDS + costs.factor * flops / (share * costs.peak_flops_per_second)


def part_of_device(cell: Cell) -> float:
    """The share of the device that a cell counts as, at most 1."""
    n_params = cell.flops_train / 6 / cell.n_tokens
    return next((share for most, share in SHARES if n_params <= most), 1.0)


def run_cells_until(
    cells: Sequence[Planned], end: float, costs: Costs, gpus: Sequence[str], records: Records
) -> list[str]:
    """Run cells, in this order, as long as they can finish in time; kill those that do not.

    Args:
        cells: The missing cells.
        end: Deadline by `time.monotonic`.
        costs: Updated with each finished cell.
        gpus: From `find_gpus`; all cells share the first.
        records: Receives the records of each cell as soon as it is finished.

    Returns:
        One line for each cell that failed on its own.
    """
    waiting, running, failures = list(cells), [], []
    began: dict[str, float] = {}
    with sigterm_as_interrupt():
        try:
            while (waiting or running) and time.monotonic() < end:
                free = 1.0 - sum(part_of_device(child.cell) for child in running)
                for planned in list(waiting):
                    left = end - time.monotonic()
                    fits = part_of_device(planned[0]) <= free + 1e-9
                    if not fits or (seconds_expected(*planned, costs) or 0.0) > left:
                        continue
                    waiting.remove(planned)
                    with signals_held():
                        running.append(RunningCell(*planned, 0, gpus[:1]))
                    began[planned[0].name] = time.monotonic()
                    free -= part_of_device(planned[0])
                if not running:
                    break  # none of the remaining cells would finish in time
                time.sleep(POLL_SECONDS)
                for child in [each for each in running if each.process.poll() is not None]:
                    running.remove(child)
                    child.output.close()
                    records.add(child.cell, child.run)
                    if failure := child.failure():
                        failures.append(failure)
                        continue
                    expected = seconds_expected(child.cell, child.run, costs)
                    if expected:
                        took = time.monotonic() - began[child.cell.name]
                        costs.factors.append(costs.factor * took / expected)
        finally:
            for child in running:  # what they could save would be lost with the machine
                child.process.kill()
                child.process.wait()
                child.output.close()
                records.add(child.cell, child.run)
    return failures


def speed_so_far(cell: Cell, run: RunFolder) -> dict[str, Any] | None:
    """Tokens per second of a run between the first and last line of its log; None below two lines.

    The time before the first line does not count, since the model may be compiled in it.
    """
    if not run.log.is_file():
        return None
    lines = [json.loads(line) for line in run.log.read_text("utf-8").splitlines() if line]
    timed = [line for line in lines if "loss_nats_per_token" in line]
    if len(timed) < 2:
        return None
    first, last = timed[0], timed[-1]
    per_second = (last["n_tokens"] - first["n_tokens"]) / (last["seconds"] - first["seconds"])
    flops = per_second * cell.flops_train / cell.n_tokens
    return {
        "name": cell.name,
        "n_tokens": last["n_tokens"],
        "tokens_per_second": per_second,
        "flops_per_second": flops,
        "peak_memory_bytes": last.get("peak_memory_bytes"),
    }
