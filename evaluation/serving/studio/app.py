"""The studio: the files of the page, and what the page asks of Python.

| address | what is sent | what is answered |
|---|---|---|
| /model/about.json | | what the page knows of the model, and which files are converted |
| /studio/write | `Writing` | lines of JSON: `text` so far; then `abc` and `nTokens`, or `error` |
| /studio/next | `Next` | the probability of each token |
| /studio/convert?name= | a file of music | `abc`, `title`, `warnings` |

All else is a file of the page. Each client, told apart by its address, has one job at a time.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from data_prep.importers.kinds import SUFFIXES, kind_of

from .. import work
from ..answers import first_problem
from ..jobs import JobError, Jobs
from .asked import MOST_IDS, Next, Writing
from .guard import Refused, SameOrigin, body_of

MOST_BYTES = 16 * MOST_IDS  # of a question: tokens as numbers, or two tunes
MOST_FILE_BYTES = 16_000_000  # of music, unless its kind allows less
LOOK_SECONDS = 0.1  # between looks at what is written
N_LOOKS = 10  # whether a client's job before has ended
STOP_SECONDS = 10.0  # that a job gets to end by itself
Question = TypeVar("Question", bound=BaseModel)


def build_app(jobs: Jobs, folder: Path, hosts: set[str]) -> Starlette:
    """Returns the server.

    Args:
        jobs: Of the model.
        folder: The page, built around the model's tokenizer and settings.
        hosts: As `SameOrigin` takes them.
    """
    studio = Studio(jobs, folder)
    return Starlette(
        routes=[
            Route("/model/about.json", studio.about),
            Route("/studio/write", studio.write, methods=["POST"]),
            Route("/studio/next", studio.next, methods=["POST"]),
            Route("/studio/convert", studio.convert, methods=["POST"]),
            Mount("/", StaticFiles(directory=folder, html=True)),
        ],
        middleware=[Middleware(SameOrigin, hosts=hosts)],
        exception_handlers={Refused: _refuse},
    )


class Studio:
    """Answers the page; for the arguments see `build_app`."""

    def __init__(self, jobs: Jobs, folder: Path) -> None:
        self.jobs, self.folder = jobs, folder
        self._busy: set[str] = set()  # clients
        self._ending: set[asyncio.Task] = set()  # kept, or they could be collected

    async def about(self, _: Request) -> Response:
        """Tells the page what this studio can do."""
        known = json.loads((self.folder / "model" / "about.json").read_text("utf-8"))
        return JSONResponse(known | {"isServed": True, "converts": SUFFIXES})

    async def write(self, request: Request) -> Response:
        """Writes a tune, and shows how it grows."""
        asked = await _read(request, Writing)
        client = await self._begin(request)
        place = TemporaryDirectory(prefix="studio-")
        so_far = Path(place.name, "so_far.abc")
        so_far.touch()
        job = asyncio.create_task(
            self.jobs.run("model", work.draft, *self._told(asked), so_far),
        )
        job.add_done_callback(lambda _: self._busy.discard(client))
        lines = self._lines(request, job, place, so_far)
        return StreamingResponse(lines, media_type="application/x-ndjson")

    def _told(self, asked: Writing) -> tuple[str, dict[str, Any], dict[str, Any]]:
        return self.jobs.model, asked.request.for_pipeline(), asked.settings()

    async def _lines(
        self, request: Request, job: asyncio.Task, place: TemporaryDirectory, so_far: Path
    ) -> AsyncIterator[str]:
        """Yields the text while it grows, then the end; if the client leaves, the job is ended."""
        try:
            shown = ""
            while not (await asyncio.wait([job], timeout=LOOK_SECONDS))[0]:
                if await request.is_disconnected():
                    return
                text = so_far.read_text("utf-8")
                if text != shown:
                    yield json.dumps({"text": text}) + "\n"
                    shown = text
            try:
                abc, n_tokens = job.result()
                yield json.dumps({"abc": abc, "nTokens": n_tokens}) + "\n"
            except JobError as error:
                yield json.dumps({"error": str(error)}) + "\n"
        finally:
            place.cleanup()  # by which the job knows that nobody waits
            ending = asyncio.create_task(_end(job))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def next(self, request: Request) -> Response:
        """Says what the model would write next."""
        asked = await _read(request, Next)
        async with self._one_job(request):
            given = (self.jobs.model, asked.ids, asked.temperature)
            return JSONResponse(await self._run("model", work.probabilities, *given))

    async def convert(self, request: Request) -> Response:
        """Reads a file of music of any kind."""
        name = request.query_params.get("name", "")[-200:]
        kind = kind_of(name)
        if kind is None:
            raise Refused(400, f"{name!r}: expected a name ending in {' '.join(SUFFIXES)}")
        async with self._one_job(request):
            content = await body_of(request, min(kind.most_bytes, MOST_FILE_BYTES))
            music = await self._run("reader", work.read, name, content)
            warnings = list(music.remarks)
            return JSONResponse({"abc": music.bars, "title": "", "warnings": warnings})

    async def _run(self, *job: Any) -> Any:
        try:
            return await self.jobs.run(*job)
        except JobError as error:
            raise Refused(400, str(error)) from None

    @contextlib.asynccontextmanager
    async def _one_job(self, request: Request) -> AsyncIterator[None]:
        client = await self._begin(request)
        try:
            yield
        finally:
            self._busy.discard(client)

    async def _begin(self, request: Request) -> str:
        """Returns the client, which is then busy.

        Raises:
            Refused: If it is busy already, and stays so. A job that was just stopped may be ending.
        """
        client = request.client.host if request.client else ""
        for _ in range(N_LOOKS):
            if client not in self._busy:
                self._busy.add(client)
                return client
            await asyncio.sleep(LOOK_SECONDS)
        raise Refused(429, "one job at a time: wait for the one before, or stop it")


async def _end(job: asyncio.Task) -> None:
    """Waits for a job that was told to end; one that does not is ended with its process."""
    _, open_jobs = await asyncio.wait([job], timeout=STOP_SECONDS)
    if open_jobs:
        job.cancel()
        await asyncio.wait([job])
    if not job.cancelled():
        job.exception()  # has been told to the client, if there still was one


async def _read(request: Request, kind: type[Question]) -> Question:
    try:
        return kind.model_validate_json(await body_of(request, MOST_BYTES))
    except ValidationError as error:
        raise Refused(400, first_problem(error)) from None


async def _refuse(_: Request, error: Exception) -> Response:
    """Answers what is refused with its line."""
    return JSONResponse({"error": error.line}, error.status)
