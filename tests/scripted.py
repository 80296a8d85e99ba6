"""A loopback server that answers each call as a test says, and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Self

from aiohttp import web
from attrs import define, field, frozen

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse] | web.StreamResponse]


@frozen
class Call:
    """One request as it arrived: method, raw path, headers, body, raw query."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    query: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def reply(
    content: object = None, *, status: int = 200, headers: dict[str, str] | None = None
) -> Answer:
    """Answer with an object as JSON, or with a text as an HTML page, or with bytes as they are."""

    def answer(_: web.BaseRequest) -> web.StreamResponse:
        if isinstance(content, bytes):
            return web.Response(body=content, status=status, headers=headers)
        if isinstance(content, str):
            return web.Response(
                text=content, status=status, headers=headers, content_type="text/html"
            )
        return web.json_response(content, status=status, headers=headers)

    return answer


def task(status: str = "processing", task_id: str = "task_1", **fields: Any) -> Answer:
    """Answer with a task's object of that status."""
    return reply({"id": task_id, "object": "video", "status": status, **fields})


async def cut(request: web.BaseRequest) -> web.StreamResponse:
    """Take the request and close the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@define(eq=False)
class ScriptedGateway:
    """Answers the calls with the script's entries in turn; the last one goes on for ever.

    Args:
        submits: Answers to POSTs.
        polls: Answers to GETs of a task.
        contents: Answers to GETs of everything else, `/content` included.
    """

    submits: list[Answer] = field(factory=lambda: [task("queued")])
    polls: list[Answer] = field(factory=lambda: [task("completed")])
    contents: list[Answer] = field(factory=lambda: [reply(status=404)])
    calls: list[Call] = field(factory=list, init=False)
    url: str = field(default="", init=False)
    _runner: web.ServerRunner | None = field(default=None, init=False)

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def posts(self) -> list[Call]:
        return [call for call in self.calls if call.method == "POST"]

    @property
    def gets(self) -> list[Call]:
        """The queries, but for those of the older route."""
        return [
            call for call in self.calls if call.method == "GET" and "/generations/" not in call.path
        ]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        path = request.rel_url.raw_path
        query = request.rel_url.raw_query_string
        self.calls.append(Call(request.method, path, dict(request.headers), body, query))
        if request.method == "POST":
            script = self.submits
        elif path.startswith("/v1/videos/") and not path.endswith("/content"):
            script = self.polls
        else:
            script = self.contents
        answer = script.pop(0) if len(script) > 1 else script[0]
        given = answer(request)
        return await given if isinstance(given, Awaitable) else given
