"""A finished run -> a folder ready for the Hub: weights, tokenizer, model code, and a model card.

    python -m model_cards.publish runs/single/gpt_tiny user/name --dry-run

The folder goes to `<run>/publish/`; without --dry-run it is then pushed. Only safetensors and JSON
go in: never the Trainer's optimizer state or arguments, which are pickles.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import HfApi

import modeling

TEMPLATE = Path(__file__).with_name("template.md")
PUBLISHED = ("*.json", "*.safetensors", "*.py")
FAMILIES = {
    modeling.AbcGPTConfig.model_type: "GPT",
    modeling.AbcLSTMConfig.model_type: "LSTM",
}


def render_card(record: dict[str, Any], repo: str) -> str:
    """Returns the model card of a run, from its record.json."""
    validation = record["validation"]
    bits = {
        name: validation["nll_nats"] / math.log(2) / validation[f"n_{name}s"]
        for name in ("char", "note")
    }
    family = FAMILIES[record["model_type"]]
    return render(TEMPLATE, record=record, repo=repo, bits=bits, family=family)


def render(template: Path, **values: Any) -> str:
    """Returns a template filled in; a value that is not there is an error."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    return environment.from_string(template.read_text("utf-8")).render(values) + "\n"


def push(folder: Path, repo: str, repo_type: str) -> None:
    """Makes the repository on the Hub if it is not there, and uploads a folder."""
    api = HfApi()  # the token is huggingface_hub's own business: `hf auth login`
    api.create_repo(repo, repo_type=repo_type, exist_ok=True)
    api.upload_folder(folder_path=folder, repo_id=repo, repo_type=repo_type)


def build_folder(run: Path, repo: str) -> Path:
    """Writes `<run>/publish/` and returns it.

    Raises:
        FileNotFoundError: If the run is not finished.
    """
    record_file, checkpoint = run / "record.json", run / "checkpoint"
    if not record_file.is_file():
        raise FileNotFoundError(
            f"{record_file} not found: publish a finished run, as in runs/single"
        )
    folder = run / "publish"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for pattern in PUBLISHED:
        for file in checkpoint.glob(pattern):
            shutil.copy(file, folder)
    card = render_card(json.loads(record_file.read_text("utf-8")), repo)
    (folder / "README.md").write_text(card, "utf-8")
    return folder


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="model_cards.publish", description=__doc__)
    parser.add_argument("run", type=Path, help="a finished run")
    parser.add_argument("repo", help="user/name on the Hub")
    parser.add_argument("--dry-run", action="store_true", help="write the folder, push nothing")
    options = parser.parse_args(arguments)
    try:
        folder = build_folder(options.run, options.repo)
        if not options.dry_run:
            push(folder, options.repo, "model")
    except (ValueError, OSError) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
