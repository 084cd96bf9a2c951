"""What the site shows of the rest of the project: the figures of results/, under assets/."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

FIGURES = Path(__file__).resolve().parent.parent / "results" / "figures"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds results/figures/* as assets/*."""
    for figure in sorted(FIGURES.iterdir()):
        files.append(File.generated(config, f"assets/{figure.name}", abs_src_path=str(figure)))
    return files
