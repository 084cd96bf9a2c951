"""A finished run -> a folder ready for the Hub: weights, tokenizer, model code, and a model card.

    python -m model_cards.publish runs/single/gpt_tiny user/name --dry-run [--stock] [--revisions]
        [--formats gguf onnx] [--datasets user/songs]

The folder is written to `<run>/publish/`; without --dry-run it is then pushed. It contains only
safetensors, JSON, Python, the grammar for other engines and the card, never the Trainer's optimizer
state or arguments, which are pickles.

With --stock, a GPT is exported to a class that ships with transformers, see `stock_export`. With
--formats, files for other engines are added, see `formats.formats`. With --revisions, the run's
remaining checkpoints are written to `<run>/publish-revisions/step-<n>/` and pushed to branches
`step-<n>`, without those files.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError
from huggingface_hub.utils import validate_repo_id
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import GenerationConfig
from transformers.utils import logging as library_logging

from modeling.lark_abc import readable_tokenizer, save_grammar
from scaling.families import family_of
from scaling.writing.commands import command, first_line

from .card import PIPELINE_CODE, Publication, read_metrics, render_card
from .formats.formats import FORMATS, check_installed, check_type, write_formats
from .published_files import check_files
from .stock_export import export_stock

WEIGHTS = "model.safetensors"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
# Keys of the tokenizer config that describe the machine that wrote it.
LOCAL_FACTS = ("is_local", "local_files_only")
# The name of our tokenizers' class that transformers 4 also knows.
STOCK_TOKENIZER_CLASS = "PreTrainedTokenizerFast"


def build_folder(
    run: Path, publication: Publication, record: dict[str, Any], metrics: dict[str, Any] | None
) -> Path:
    """Writes `<run>/publish/`, or the folder of a step, and returns its path.

    Args:
        run: A finished run.
        publication: What is published.
        record: The run's record.json.
        metrics: The run's metrics.json, if it was evaluated.

    Raises:
        ValueError: If a file must not be published, or the stock export is impossible.
    """
    saved = weights = run / "checkpoint"
    folder = run / "publish"
    if publication.step is not None:
        weights = run / "checkpoints" / f"checkpoint-{publication.step}"
        folder = run / "publish-revisions" / f"step-{publication.step}"
    with TemporaryDirectory(dir=run) as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        for file in (weights / WEIGHTS, *saved.glob("*.json"), *saved.glob("*.py")):
            shutil.copy(file, new)
        if publication.is_stock:
            stock = Path(temporary) / "stock"
            difference = export_stock(new, stock)
            print(f"{folder}: logits of the stock export differ by at most {difference:.2g}")
            for name in TOKENIZER:
                if (new / name).is_file():
                    shutil.copy(new / name, stock)
            new = stock
        family = family_of(record["model_type"])
        is_library_class = publication.is_stock or family.is_stock
        _set_tokenizer(new, is_library_class, has_state=family.context == "state")
        end_id = _write_generation_config(new, publication.is_stock)
        save_grammar(new, end_id)
        files = _add_formats(new, publication)
        card = render_card(record, metrics, new, publication, files)
        (new / "README.md").write_text(card, "utf-8")
        check_files(new)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(exist_ok=True)
        new.replace(folder)
    return folder


def list_revisions(run: Path) -> list[int]:
    """Returns the steps of a run's remaining checkpoints, ascending.

    Raises:
        FileNotFoundError: If there are none.
        ValueError: If one is incomplete or damaged.
    """
    names = [path.name.rpartition("-")[2] for path in run.glob("checkpoints/checkpoint-*")]
    steps = sorted(int(name) for name in names if name.isdigit())
    if not steps:
        raise FileNotFoundError(
            f"{run / 'checkpoints'} has no checkpoint-<step>: training removes them at the end of "
            "a run unless training.save_total_limit is null; publish without the revisions"
        )
    for step in steps:
        _check_weights(run / "checkpoints" / f"checkpoint-{step}")
    return steps


def push(folder: Path, repo: str, repo_type: str, branch: str | None = None) -> None:
    """Uploads a folder, creating repository and branch on the Hub if they are missing.

    Raises:
        ConnectionError: If the Hub cannot be reached, or rejects the upload.
    """
    api = HfApi()  # huggingface_hub handles the token: `hf auth login`
    place = {"repo_id": repo, "repo_type": repo_type}
    try:
        sdk = "static" if repo_type == "space" else None
        api.create_repo(**place, exist_ok=True, space_sdk=sdk)
        if branch:
            api.create_branch(**place, branch=branch, exist_ok=True)
        api.upload_folder(**place, folder_path=folder, revision=branch)
    except HTTPError as error:
        raise ConnectionError(f"{repo} was not pushed: {error}") from error


def _set_tokenizer(folder: Path, is_library_class: bool, has_state: bool) -> None:
    """Makes the tokenizer serve those who know nothing about this model.

    It adds the start token, without which the model sees a text with no beginning. For a class of
    the library it pads on the right, since the library's training collators pad with it and such a
    class counts positions from the first padding; its text-generation pipeline pads on the left.
    """
    file = folder / "tokenizer_config.json"
    content = json.loads(file.read_text("utf-8"))
    dropped = {*LOCAL_FACTS, "model_max_length"} if has_state else LOCAL_FACTS
    kept = {name: value for name, value in content.items() if name not in dropped}
    if is_library_class:
        kept["tokenizer_class"] = STOCK_TOKENIZER_CLASS
        # By default that class also returns token_type_ids, which GPT-2 adds as extra embeddings.
        kept["model_input_names"] = ["input_ids", "attention_mask"]
        kept["padding_side"] = "right"
    file.write_text(json.dumps(kept, indent=2) + "\n", "utf-8")
    tokenizer, start = Tokenizer.from_file(str(folder / "tokenizer.json")), kept["bos_token"]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{start} $A",
        pair=f"{start} $A $B:1",
        special_tokens=[(start, tokenizer.token_to_id(start))],
    )
    text = readable_tokenizer(tokenizer.to_str(pretty=True))
    (folder / "tokenizer.json").write_text(text, "utf-8")


def _write_generation_config(folder: Path, is_stock: bool) -> int:
    """Writes the default sampling: the unmodified distribution, as in the evaluation.

    Returns:
        The end token.
    """
    config = json.loads((folder / "config.json").read_text("utf-8"))
    # The library's default of 256 new tokens would exceed a short GPT-2 context.
    limit = {"max_new_tokens": config["n_positions"] // 2} if is_stock else {}
    GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        **{name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")},
        **limit,
    ).save_pretrained(folder)
    return config["eos_token_id"]


def _add_formats(folder: Path, publication: Publication) -> dict[str, str]:
    """Returns the files for other engines that were added, and what their checks found."""
    if not publication.formats:
        return {}
    check_type(json.loads((folder / "config.json").read_text("utf-8"))["model_type"])
    files = write_formats(publication.formats, folder, publication.repo.rpartition("/")[2])
    for file, found in files.items():
        print(f"{file}: {found}")
    return files


def _check_weights(checkpoint: Path) -> None:
    """Raises ValueError if a checkpoint's weights do not match its manifest."""
    manifest, fault = checkpoint / "manifest.json", "no manifest.json"
    if manifest.is_file():
        files, fault = json.loads(manifest.read_text("utf-8"))["files"], f"no {WEIGHTS}"
        if WEIGHTS in files and (checkpoint / WEIGHTS).is_file():
            with (checkpoint / WEIGHTS).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == files[WEIGHTS][1]:
                    return
            fault = f"damaged {WEIGHTS}"
    raise ValueError(
        f"{checkpoint} is not a complete model ({fault}); remove it, or publish without the "
        "revisions"
    )


def publish(
    run: Path,
    repo: str,
    is_stock: bool,
    has_revisions: bool,
    is_dry: bool,
    formats: Sequence[str] = (),
    datasets: Sequence[str] = (),
) -> list[Path]:
    """Builds the folders of a run, and pushes them unless it is a dry run.

    Args:
        run: A finished run.
        repo: user/name on the Hub.
        is_stock: Whether to export a GPT to a class that ships with transformers.
        has_revisions: Whether to add the run's checkpoints.
        is_dry: Whether to leave out the upload.
        formats: Of `FORMATS`, for other engines; not for the checkpoints.
        datasets: user/name of the training data on the Hub, if it is there.

    Returns:
        The folders: the finished model first, then earlier steps.

    Raises:
        FileNotFoundError: If the run is not finished, or there is no checkpoint for a revision.
        ValueError: If a file must not be published, the metrics are for other weights, a
            checkpoint is incomplete, or another engine cannot run the model.
    """
    for name in (repo, *datasets):
        validate_repo_id(name)
    check_installed(formats)
    file = run / "record.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file} not found: publish a finished run, as in runs/single")
    record, metrics = json.loads(file.read_text("utf-8")), read_metrics(run)
    shutil.rmtree(run / "publish-revisions", ignore_errors=True)
    steps = list_revisions(run) if has_revisions else []
    branches = tuple(f"step-{step}" for step in steps)
    about = {"repo": repo, "is_stock": is_stock, "datasets": tuple(datasets)}
    publications = [Publication(**about, revisions=branches, formats=tuple(formats))]
    publications += [Publication(**about, step=step) for step in steps]
    folders = [build_folder(run, publication, record, metrics) for publication in publications]
    if not is_dry:
        for folder, branch in zip(folders, (None, *branches), strict=True):
            push(folder, repo, "model", branch)
    return folders


@command(ValueError, OSError, say=first_line)
def main(arguments: list[str] | None = None) -> None:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="model_cards.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="a finished run")
    parser.add_argument("repo", help="user/name on the Hub")
    parser.add_argument("--dry-run", action="store_true", help="write the folder without pushing")
    parser.add_argument("--stock", action="store_true", help="export a GPT as GPT2LMHeadModel")
    parser.add_argument("--revisions", action="store_true", help="add the run's checkpoints")
    parser.add_argument(
        "--formats", nargs="+", choices=FORMATS, default=(), help="add files for other engines"
    )
    parser.add_argument(
        "--datasets", nargs="+", default=(), help="user/name of its training data on the Hub"
    )
    options = parser.parse_args(arguments)
    library_logging.disable_progress_bar()  # for loading and saving weights
    folders = publish(
        *(options.run, options.repo, options.stock, options.revisions, options.dry_run),
        formats=options.formats,
        datasets=options.datasets,
    )
    for folder in folders:
        print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    if not (folders[0] / PIPELINE_CODE).is_file():
        print(f"note: {options.run} was saved without {PIPELINE_CODE}: no abc-music pipeline")


if __name__ == "__main__":
    sys.exit(main())
