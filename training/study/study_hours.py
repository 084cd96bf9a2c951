"""The plan of a study as text, with the hours it would take on rented GPUs.

The hours are FLOPs over the share of a GPU's peak that training reaches, which is an estimate: wide
models fill a GPU, narrow ones and short contexts are limited by kernel launches. Validation and
checkpoints are not included.
"""

from scaling.counts import PEAK_FLOPS, usual_share

from ..data.data_files import locate_data
from .study_plan import Study

RENTED = {gpu: PEAK_FLOPS[gpu] for gpu in ("a100", "h100")}


def plan_lines(study: Study) -> list[str]:
    """One line per run, which begins with the number of its cell, and the totals."""
    peaks = ", ".join(f"{gpu} {peak / 1e12:.0f}" for gpu, peak in RENTED.items())
    head = f"{'cell':>4} {'run':32} {'tokens':>14} {'FLOPs':>9} {'MFU':>4}"
    lines = [" ".join([head, *(f"{'h ' + gpu:>8}" for gpu in RENTED), "state"])]
    total_flops, total_hours = 0.0, dict.fromkeys(RENTED, 0.0)
    for number, (cell, folder) in enumerate(study.runs):
        model, context = folder.config["model"], locate_data(folder.config).block_length
        share = usual_share(model["model_type"], model["hidden_size"], context)
        shared = {branch.name: branch.n_tokens_shared for branch in cell.branches}
        for run in (cell, *cell.branches):
            # the steps that a branch has in common with its cell's run are trained once
            flops = run.flops_train * (1 - shared.get(run.name, 0) / run.n_tokens)
            hours = {gpu: flops / (share * peak) / 3600 for gpu, peak in RENTED.items()}
            total_flops += flops
            total_hours = {gpu: total_hours[gpu] + hours[gpu] for gpu in hours}
            is_finished = (folder.path.with_name(run.name) / "record.json").is_file()
            lines.append(
                f"{number:4} {run.name:32} {run.n_tokens:14,} {run.flops_train:9.2e} {share:4.0%} "
                + " ".join(_hours(of) for of in hours.values())
                + (" finished" if is_finished else " missing")
            )
    total = " ".join(_hours(of) for of in total_hours.values())
    lines.append(f"{'':4} {'all, shared steps once':32} {'':14} {total_flops:9.2e} {'':4} {total}")
    lines.append(
        f"h: hours on one GPU at the MFU (share of its dense bf16 peak, TFLOP/s: {peaks}) "
        "expected for the width; an estimate, without validation and checkpoints"
    )
    return lines


def duration(seconds: float) -> str:
    """A time as text: 50 s, 2 min 50 s, 12 min, 1 h 50 min, 3 days 4 h."""
    minutes, rest = divmod(round(seconds), 60)
    if seconds < 600:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days:,} days {hours} h"


def counted(count: int, what: str) -> str:
    """1 cell, 2 cells."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _hours(hours: float) -> str:
    return f"{hours:8.2f}" if hours >= 0.01 else f"{'<0.01':>8}"
