"""A dataset -> a folder ready for the Hub: parquet files of the splits, and a dataset card.

    python -m model_cards.publish_data data/music21/demo user/name --licence cc0-1.0 --dry-run

The folder is written to `<dataset>/publish/`; without --dry-run it is then pushed. The license must
be given: music has owners, and this code cannot know them.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from scaling.writing.commands import command, first_line

from .card import render
from .publish import push

TEMPLATE = Path(__file__).with_name("dataset_template.md")


def render_card(folder: Path, repo: str, licence: str) -> str:
    """Returns the dataset card, made from the stage.json files of a dataset.

    Args:
        folder: data/<dataset>/<preset>.
        repo: user/name on the Hub.
        licence: The Hub's identifier of a license, such as cc0-1.0.
    """
    files = sorted(folder.glob("[1-4]_*/stage.json"))
    stages = [json.loads(file.read_text("utf-8")) for file in files]
    last = stages[-1]
    settings = {stage["stage"]: stage["settings"] for stage in stages if stage["settings"]}
    return render(
        TEMPLATE,
        dataset=folder.parent.name,
        preset=folder.name,
        repo=repo,
        licence=licence,
        stages=[{"dropped": {}} | stage for stage in stages],
        splits={name: last["splits"][name] for name in ("train", "validation", "test")},
        settings=json.dumps(settings, sort_keys=True),
        digest=last["digest"],
    )


def build_folder(dataset: Path, repo: str, licence: str) -> Path:
    """Writes `<dataset>/publish/` and returns its path.

    Raises:
        FileNotFoundError: If the dataset has not been split yet.
    """
    source = dataset / "4_split"
    if not (source / "stage.json").is_file():
        raise FileNotFoundError(
            f"{source / 'stage.json'} not found: expected a dataset such as data/<name>/<preset>, "
            "made by make data"
        )
    card = render_card(dataset, repo, licence)
    folder = dataset / "publish"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file in sorted(source.glob("*.parquet")):
        shutil.copy(file, folder)
    (folder / "README.md").write_text(card, "utf-8")
    return folder


@command(ValueError, OSError, say=first_line)
def main(arguments: list[str] | None = None) -> None:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="model_cards.publish_data", description=__doc__)
    parser.add_argument("dataset", type=Path, help="data/<name>/<preset>")
    parser.add_argument("repo", help="user/name on the Hub")
    parser.add_argument("--licence", required=True, help="a license you may publish it under")
    parser.add_argument("--dry-run", action="store_true", help="write the folder without pushing")
    options = parser.parse_args(arguments)
    folder = build_folder(options.dataset, options.repo, options.licence)
    if not options.dry_run:
        push(folder, options.repo, "dataset")
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


if __name__ == "__main__":
    sys.exit(main())
