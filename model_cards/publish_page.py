"""A page that plays -> a static Space of the Hub.

    python -m model_cards.publish_page runs/page user/name --dry-run

Adds the README.md with which the Hub recognizes a static Space; without --dry-run the folder is
then pushed. `make publish-page` builds the page first.
"""

import json
import sys
from pathlib import Path

from huggingface_hub.utils import validate_repo_id

from scaling.writing.commands import command, first_line, parser_of

from .card import render
from .publish import push

TEMPLATE = Path(__file__).with_name("page_template.md")
SUFFIXES = {".css", ".html", ".js", ".json", ".md", ".mjs", ".safetensors", ".sf3", ".svg", ".txt"}
SUFFIXES |= {".wasm", ".zip"}


def complete_space(folder: Path, repo: str) -> None:
    """Adds README.md to the folder of a page.

    Args:
        folder: The page, as `make page` builds it.
        repo: user/name on the Hub.

    Raises:
        ValueError: If the folder is no page, is a studio's, or holds other files.
    """
    validate_repo_id(repo)
    about = folder / "model" / "about.json"
    if not about.is_file() or not (folder / "index.html").is_file():
        raise ValueError(f"{folder} is no page, expected a folder that make page has built")
    known = json.loads(about.read_text("utf-8"))
    if known["isServed"]:
        raise ValueError(f"{folder} belongs to a studio and has no weights, expected a page")
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or (path.is_file() and path.suffix not in SUFFIXES):
            raise ValueError(f"{path} is not published: expected only what make page writes")
    (folder / "README.md").write_text(render(TEMPLATE, **known), "utf-8")


@command(ValueError, OSError, say=first_line)
def main(arguments: list[str] | None = None) -> None:
    """Command line; returns the exit code."""
    parser = parser_of("model_cards.publish_page", __doc__)
    parser.add_argument("folder", type=Path, help="a page that make page has built")
    parser.add_argument("repo", help="user/name on the Hub")
    parser.add_argument("--dry-run", action="store_true", help="write README.md without pushing")
    options = parser.parse_args(arguments)
    complete_space(options.folder, options.repo)
    if not options.dry_run:
        push(options.folder, options.repo, "space")
    n_bytes = sum(path.stat().st_size for path in options.folder.rglob("*") if path.is_file())
    print(f"{options.folder}: a static Space of {n_bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
