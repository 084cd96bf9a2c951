"""Train one model: one YAML -> data, model, Trainer -> runs/<study>/<run>/.

python train.py configs/gpt_tiny.yaml [training.seed=2 budget.tokens=2_000_000 name=trial ...]
accelerate launch train.py configs/gpt_tiny.yaml
python train.py configs/finetune.yaml model.pretrained=runs/single/gpt_tiny data.dataset=<name>
"""

import argparse
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.writing.commands import command, use_huge_pages

if TYPE_CHECKING:
    from training.budget import RunPlan
    from training.data.blocks import TrainingData
    from training.run.run_folder import RunFolder


def train_one(config_path: Path, overrides: list[str]) -> None:
    """Run all stages; repeating the command resumes an interrupted run."""
    # torch takes seconds to import, so the command line is parsed first
    from transformers.utils import logging as library_logging

    from training.budget import plan_run
    from training.config import load_config
    from training.data.blocks import load_blocks
    from training.run.branches import branch_config
    from training.run.run_folder import choose_run_folder, is_main_process

    library_logging.set_verbosity_error()
    library_logging.disable_progress_bar()  # for saving; training has its own
    config = load_config(config_path, overrides)
    show_bar = not config["training"].get("disable_tqdm")
    data = load_blocks(config)
    plan = plan_run(config, data.files.block_length, data.files.n_blocks)
    trunk = choose_run_folder(config, data.files)
    with trunk.locked():
        train_run(trunk, plan, data, show_bar)
        for branch in plan.branches:
            run = choose_run_folder(branch_config(trunk.config, branch.tokens), data.files)
            with run.locked():
                train_run(run, branch, data, show_bar)
        if is_main_process():
            shutil.rmtree(trunk.branch_points, ignore_errors=True)


def train_run(run: "RunFolder", plan: "RunPlan", data: "TrainingData", show_bar: bool) -> None:
    """Train one run to the end and write its record; skip a finished run."""
    from training.model import build_model
    from training.pretrained import overfitting
    from training.record import remove_checkpoints, write_record
    from training.run.run_folder import is_main_process
    from training.trainer import train

    if run.reason:
        logging.getLogger("train").warning(run.reason)
    if run.is_finished:
        if is_main_process():  # it may have been killed before this
            remove_checkpoints(run)
        print(f"{run.path} is finished; nothing to do")
        return
    model = build_model(run.config, data)
    trained = train(run, plan, model, data, show_bar)
    if is_main_process():
        write_record(run, plan, data, trained)
        loss, songs = trained.validation.loss_nats_per_token, len(trained.validation.n_targets)
        print(f"run folder       {run.path}")
        print(f"validation loss  {loss:.4f} nats per token over {songs} songs")
        if "pretrained" in run.config["model"]:
            step, before = trained.validation_log[0]
            print(f"                 {before:.4f} after step {step}")
            if advice := overfitting(run.config, trained.validation_log):
                logging.getLogger("train").warning(advice)
        print(f"next             make samples MODEL={run.path}")


def leave_process_group() -> None:
    """End the threads between processes: left running, they may abort one of them as it exits."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


@command(ValueError, OSError)
def main(argv: list[str] | None = None) -> int:
    """Parse the command line; report errors that the user can fix in one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="size file, or the config.yaml of an earlier run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. training.seed=2")
    arguments = parser.parse_intermixed_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # accelerate leaves starting several CPU processes to MPI
    is_left_to_mpi = "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ
    if is_left_to_mpi and os.environ.get("ACCELERATE_USE_CPU") == "True":
        logging.getLogger("train").warning(
            "accelerate launch --cpu started only one process; for several, use: "
            "torchrun --standalone --nproc_per_node 2 train.py ..."
        )
    try:
        train_one(arguments.config, arguments.overrides)
        leave_process_group()
    except KeyboardInterrupt as stop:
        print(f"{str(stop) or 'stopped'}; repeat the command to resume", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    use_huge_pages()
    sys.exit(main())
