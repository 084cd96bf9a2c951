"""What the site shows of the rest of the project: the figures of results/, and the page that plays.

`make docs MODEL=<run>` sets ABC_PAGE and builds the page of that model into the site.
"""

import os
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

FIGURES = Path(__file__).resolve().parent.parent / "results" / "figures"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds results/figures/* as assets/*."""
    for figure in sorted(FIGURES.iterdir()):
        files.append(File.generated(config, f"assets/{figure.name}", abs_src_path=str(figure)))
    return files


def on_page_content(html: str, page: Page, **_: object) -> str:
    """Puts the page that plays below the first heading of its own page, if it is built."""
    place = os.environ.get("ABC_PAGE")
    if not place or page.file.src_uri != "how-to/page.md":
        return html
    frame = (
        f'<iframe class="plays" src="../{place}/index.html" title="A model writes music"></iframe>'
    )
    heading, end, rest = html.partition("</h1>")
    return f"{heading}{end}\n{frame}\n{rest}"
