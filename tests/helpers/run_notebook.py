"""Executes a notebook in place: python tests/helpers/run_notebook.py results/scaling_study.ipynb

Machine-dependent metadata (times, versions) is not saved, so that a notebook changes only when its
figures do.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def execute(notebook: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with new outputs, its cells run in a folder; raises if a cell does."""
    content = nbformat.read(notebook, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(content, timeout=300, record_timing=False, resources=resources)
    client.execute()
    content.metadata.language_info = {"name": "python"}
    return content


if __name__ == "__main__":
    path = Path(sys.argv[1])
    nbformat.write(execute(path, path.parent), path)
    print(f"-> {path}")
