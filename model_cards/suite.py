"""Finished runs -> `pretrained/`, complete folders small enough for git; and these -> the Hub.

    python -m model_cards.suite build runs/single/pretrained_llama_small [...] --out pretrained
    python -m model_cards.suite publish USER [--folder pretrained] [--dry-run]

A folder is that of `model_cards.publish`, with weights rounded to bfloat16, which halves them; its
config says float32, so that transformers computes in it. Its code is links to `modeling/`, of which
there is one copy in the repository; what is published holds the files themselves.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as library_logging

import modeling
from scaling.writing.commands import command, first_line, parser_of

from .card import Publication, bits_per_unit, read_metrics
from .formats.reference import sample_texts
from .publish import WEIGHTS, build_folder, push
from .published_files import check_files

CODE = Path(modeling.__file__).parent
RUN_PREFIX = "pretrained_"
TRIALS = Path("results/records/pretrained_trials.jsonl")
CHANGES = {
    "note": "nothing",
    "note_longer": "1.7 times the text: the computing of the trial with characters",
    "char": "characters instead of note tokens, as much text",
    "share_0": "no passages to fill in",
    "copies_0": "no copies in other keys",
}
TITLE = "Symbolic music: small pretrained models"
LARGEST_LOSS = 0.002  # nats per token that rounding may cost
MOST_BYTES = 16_000_000  # of all weights: each clone downloads them
N_TOKENS = 1024  # of the models' own texts, which the loss is compared on


def build(run: Path, out: Path) -> Path:
    """Writes the folder of a run, `<out>/<size>`.

    Args:
        run: A finished run of `configs/pretrained_<size>.yaml`, or one of its branches.
        out: Folder of the suite.

    Raises:
        FileNotFoundError: If the run is not finished.
        ValueError: If rounding costs too much, or a code file is not that of `modeling/`.
    """
    file = run / "record.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file} not found: train it first, with make pretrained")
    record = json.loads(file.read_text("utf-8"))
    name = record["size"].removeprefix(RUN_PREFIX)
    publication = Publication(f"{out.name}/{name}", trials=trials())
    built = build_folder(run, publication, record, read_metrics(run))
    cost = round_weights(built)
    print(f"{built}: rounding costs {cost:.5f} nats per token")
    for path in built.glob("*.py"):
        if path.read_bytes() != (CODE / path.name).read_bytes():
            raise ValueError(f"{path} is not the file in {CODE}: save the run with this version")
        path.unlink()
        path.symlink_to(Path("../..") / CODE.name / path.name)
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(built, folder, symlinks=True)
    return folder


def trials() -> tuple[tuple[str, float], ...]:
    """Returns what was changed in each trial, with its bits per note.

    Empty where there are no records of configs/studies/pretrained_trials.yaml.
    """
    if not TRIALS.is_file():
        return ()
    records = [json.loads(line)["record"] for line in TRIALS.read_text("utf-8").splitlines()]
    bits = {each["size"]: bits_per_unit(each["validation"])["bits_per_note"] for each in records}
    return tuple((change, bits[name]) for name, change in CHANGES.items() if name in bits)


def round_weights(folder: Path) -> float:
    """Rounds the weights of a folder to bfloat16.

    Returns:
        By how many nats per token the model's own texts are less likely.

    Raises:
        ValueError: If that is more than `LARGEST_LOSS`.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = sample_texts(model, tokenizer, N_TOKENS, goes_on=True)
    before = _loss(model, texts)
    weights = {name: each.bfloat16() for name, each in load_file(folder / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    rounded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    cost = _loss(rounded, texts) - before
    if not abs(cost) <= LARGEST_LOSS:  # also true for NaN
        raise ValueError(
            f"rounding {folder / WEIGHTS} to bfloat16 changes the loss by {cost:.4f} nats per "
            f"token, expected at most {LARGEST_LOSS:g}"
        )
    return cost


@torch.inference_mode()
def _loss(model: PreTrainedModel, texts: torch.Tensor) -> float:
    logits = model(texts).logits[:, :-1].double()
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), texts[:, 1:].flatten()))


def check_size(out: Path) -> None:
    """Raises ValueError if the weights of the suite are more than `MOST_BYTES`."""
    n_bytes = sum(path.stat().st_size for path in out.glob(f"*/{WEIGHTS}"))
    if n_bytes > MOST_BYTES:
        raise ValueError(
            f"the weights in {out} are {n_bytes:,} bytes, expected at most {MOST_BYTES:,}"
        )


def publish_suite(user: str, suite: Path, is_dry: bool) -> list[Path]:
    """Writes the folders as they are on the Hub to `runs/suite/`; uploads them as a collection.

    Args:
        user: Name on the Hub.
        suite: The folder of the suite.
        is_dry: Whether to leave out the upload.

    Raises:
        FileNotFoundError: If the suite has no model.
        ValueError: If a file must not be published.
        ConnectionError: If the Hub cannot be reached, or rejects the upload.
    """
    models = sorted(path.parent for path in suite.glob(f"*/{WEIGHTS}"))
    if not models:
        raise FileNotFoundError(f"no model in {suite}: expected folders as make pretrained writes")
    folders = []
    for model in models:
        folder = Path("runs") / "suite" / model.name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(model, folder)  # follows the links to the code
        card = (folder / "README.md").read_text("utf-8")
        card = card.replace(f"{suite.name}/{model.name}", f"{user}/{model.name}")
        (folder / "README.md").write_text(card, "utf-8")
        check_files(folder)
        folders.append(folder)
    if not is_dry:
        _push_collection(user, folders)
    return folders


def _push_collection(user: str, folders: list[Path]) -> None:
    for folder in folders:
        push(folder, f"{user}/{folder.name}", "model")
    try:
        api = HfApi()
        slug = api.create_collection(TITLE, namespace=user, exists_ok=True).slug
        for folder in folders:
            api.add_collection_item(slug, f"{user}/{folder.name}", "model", exists_ok=True)
    except HTTPError as error:
        raise ConnectionError(f"the collection was not made: {error}") from error


@command(ValueError, OSError, say=first_line)
def main(arguments: list[str] | None = None) -> None:
    """Command line; returns the exit code."""
    parser = parser_of("model_cards.suite", __doc__)
    ways = parser.add_subparsers(dest="way", required=True)
    way = ways.add_parser("build", help="finished runs -> folders")
    way.add_argument("runs", type=Path, nargs="+", help="of configs/pretrained_<size>.yaml")
    way.add_argument("--out", type=Path, default=Path("pretrained"))
    way = ways.add_parser("publish", help="folders -> the Hub")
    way.add_argument("user", help="name on the Hub")
    way.add_argument("--folder", type=Path, default=Path("pretrained"))
    way.add_argument("--dry-run", action="store_true", help="write the folders without pushing")
    options = parser.parse_args(arguments)
    library_logging.disable_progress_bar()
    if options.way == "publish":
        folders = publish_suite(options.user, options.folder, options.dry_run)
    else:
        folders = [build(run, options.out) for run in options.runs]
        check_size(options.out)
    for folder in folders:
        print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


if __name__ == "__main__":
    sys.exit(main())
