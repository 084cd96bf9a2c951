"""A trained model as an MCP server: a client program's assistant writes and edits music with it.

    python -m evaluation.serving runs/single/gpt_tiny --files ~/music

The client program starts this command and speaks over its standard input and output.
"""

import asyncio
import logging
import sys
from importlib.util import find_spec
from pathlib import Path

from data_prep.storage.explain import explain
from scaling.writing.commands import command, parser_of

from .folder import Folder
from .jobs import open_jobs


@command(ValueError, OSError, say=explain, interrupted="interrupted")
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = parser_of("evaluation.serving", __doc__)
    parser.add_argument("model", help="a study, a finished run, a model folder, or a Hub name")
    parser.add_argument("--files", type=Path, help="the folder that clients may use; default: none")
    parser.add_argument("--seconds", type=float, default=120.0, help="time limit of a job")
    options = parser.parse_args(arguments)
    if find_spec("mcp") is None:
        raise ValueError("the package mcp is missing: pip install --editable '.[mcp]'")
    from .mcp_server import serve
    from .tools import Desk

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    folder = options.files and Folder(options.files)
    with open_jobs(options.model, options.seconds) as jobs:
        asyncio.run(serve(Desk(jobs, folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
