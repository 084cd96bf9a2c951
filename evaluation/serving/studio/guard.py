"""What is refused before it is read: other hosts, other origins, bodies that are too large."""

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_SECONDS = 30.0
HEADERS = {
    # the page has a stricter policy of its own; only this part does not work inside a page
    b"content-security-policy": b"frame-ancestors 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}


class Refused(Exception):
    """A question that is not answered.

    Args:
        status: Of the answer.
        line: Why, for the person at the page.
    """

    def __init__(self, status: int, line: str) -> None:
        super().__init__(status, line)
        self.status, self.line = status, line


class SameOrigin:
    """Lets in what the studio's own page asks, and nobody else.

    A page of another site can make a browser ask a server on this machine. Its `Origin` tells it
    apart; and where a name of that site is pointed at this machine (DNS rebinding), its `Host`.

    Args:
        app: What answers.
        hosts: `name:port` of the studio, as a browser's address bar has it.
    """

    def __init__(self, app: ASGIApp, hosts: set[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it with one line."""
        if scope["type"] != "http":
            return
        reason = self._reason(Request(scope))
        app = JSONResponse({"error": reason}, 403) if reason else self.app

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS.items()]
            await send(message)

        await app(scope, receive, send_guarded)

    def _reason(self, request: Request) -> str | None:
        host, origin = request.headers.get("host"), request.headers.get("origin")
        if host not in self.hosts:
            return f"a request to {host!r}, expected one of {', '.join(sorted(self.hosts))}"
        if request.method in ("GET", "HEAD") and origin is None:
            return None
        if origin != f"http://{host}":
            return f"a request from {origin!r}, expected one from this studio's own page"
        return None


async def body_of(request: Request, most_bytes: int) -> bytes:
    """Returns the body of a request.

    Raises:
        Refused: If it is too large, takes too long to come, or does not come.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > most_bytes:
                    raise Refused(413, f"more than {most_bytes:,} bytes, the limit of what is sent")
    except ClientDisconnect:
        raise Refused(400, "the client has left") from None
    except TimeoutError:
        raise Refused(408, f"not all had come after {BODY_SECONDS:g} s") from None
    return bytes(body)
