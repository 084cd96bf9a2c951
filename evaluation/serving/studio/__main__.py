"""The page of a model, served on this machine: with MIDI and scores, and for models of any size.

    python -m evaluation.serving.studio runs/single/gpt_tiny runs/studio

`make studio` builds the page first. Whoever can reach the address can use the model: it is this
machine alone, unless --host names another address of it.
"""

import logging
import sys
from importlib.util import find_spec
from pathlib import Path

from data_prep.storage.explain import explain
from scaling.writing.commands import command, parser_of

from ..jobs import open_jobs

LOOPBACK = ("127.0.0.1", "localhost")
MOST_CONNECTIONS = 64


@command(ValueError, OSError, say=explain, interrupted="stopped")
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = parser_of("evaluation.serving.studio", __doc__)
    parser.add_argument("model", help="a study, a finished run, a model folder, or a Hub name")
    parser.add_argument("page", type=Path, help="the folder of its page, without weights")
    parser.add_argument("--host", default=LOOPBACK[0], help="name or address to serve at")
    parser.add_argument("--port", type=int, default=8008)
    parser.add_argument("--seconds", type=float, default=600.0, help="time limit of a job")
    options = parser.parse_args(arguments)
    missing = [name for name in ("starlette", "uvicorn", "pydantic") if find_spec(name) is None]
    if missing:
        raise ValueError(f"no package {missing[0]}: pip install --editable '.[studio]'")
    if not (options.page / "index.html").is_file():
        raise ValueError(f"no index.html in {options.page}, expected a page; run make studio")
    if options.host in ("0.0.0.0", "::", ""):
        raise ValueError("--host is every address; expected the one that browsers will ask for")
    import uvicorn

    from .app import build_app

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    hosts = {f"{name}:{options.port}" for name in (*LOOPBACK, options.host)}
    with open_jobs(options.model, options.seconds) as jobs:
        print(
            f"the studio is at http://{options.host}:{options.port}/ (Ctrl+C ends it)", flush=True
        )
        uvicorn.run(
            build_app(jobs, options.page, hosts),
            host=options.host,
            port=options.port,
            log_level="warning",
            limit_concurrency=MOST_CONNECTIONS,
            proxy_headers=False,  # whom a client is, is not for it to say
            server_header=False,
            ws="none",
            lifespan="off",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
