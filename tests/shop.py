"""A gateway that sells remixes: what it answers to a POST is chosen by the prompt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import tenacity
from aiohttp import web
from attrs import define, field

import octoremix

from .scripted import Answer, ScriptedGateway, reply, task

STEADY = octoremix.PollPolicy(wait=tenacity.wait_fixed(10), first_delay=5, concurrency=200)
ONCE = octoremix.RetryPolicy(wait=tenacity.wait_fixed(1), attempts=1)
FILE = b"\x00\x00\x00\x18ftypmp42" + bytes(100)

REFUSED = reply({"code": "invalid_request", "message": "no", "data": None}, status=400)
LIMITED = reply({"code": "fail_to_fetch_task", "message": "busy", "data": None}, status=429)
UNCLEAR = reply("<html>a time-out</html>", status=524)


@define(eq=False)
class Shop:
    """Accepts every remix, unless told otherwise.

    Attributes:
        answers: For a prompt, what its POSTs are answered with in turn, before one is accepted.
        every: What every POST is answered with, or `None`.
        late: Seconds until a POST is answered.
        seconds: How long a task takes.
        endings: For a prompt, how its task ends, if not well.
        tells: What every query is answered with, or `None`.
        file: What a video is downloaded as.
        posts: Time and prompt of each POST.
        sources: The video of each POST.
        sold: The prompts that were accepted, by task.
        fetched: The tasks whose files were asked for.
        most: The most POSTs that waited for their answer together.
    """

    answers: dict[str, list[Answer]] = field(factory=dict, kw_only=True)
    every: Answer | None = field(default=None, kw_only=True)
    late: float = field(default=0.0, kw_only=True)
    seconds: float = field(default=20.0, kw_only=True)
    endings: dict[str, str] = field(factory=dict, kw_only=True)
    tells: Answer | None = field(default=None, kw_only=True)
    file: Answer = field(factory=lambda: reply(FILE), kw_only=True)
    posts: list[tuple[float, str]] = field(factory=list, init=False)
    sources: list[str] = field(factory=list, init=False)
    sold: dict[str, str] = field(factory=dict, init=False)
    fetched: list[str] = field(factory=list, init=False)
    most: int = field(default=0, init=False)
    url: str = field(default="", init=False)
    _born: dict[str, float] = field(factory=dict, init=False)
    _waiting: int = field(default=0, init=False)

    @property
    def prompts(self) -> list[str]:
        return [prompt for _, prompt in self.posts]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Shop]:
        async with ScriptedGateway(
            submits=[self._sell], polls=[self._tell], contents=[self._give]
        ) as gateway:
            self.url = gateway.url
            yield self

    async def _sell(self, request: web.BaseRequest) -> web.StreamResponse:
        prompt = (await request.json())["prompt"]
        now = asyncio.get_running_loop().time()
        self.posts.append((now, prompt))
        self.sources.append(request.path.split("/")[3])
        self._waiting += 1
        self.most = max(self.most, self._waiting)
        await asyncio.sleep(self.late)
        self._waiting -= 1
        script = self.answers.get(prompt)
        answer = script.pop(0) if script else self.every
        if answer is not None:
            given = answer(request)
            return await given if isinstance(given, Awaitable) else given
        name = f"task_{len(self.sold)}"
        self.sold[name] = prompt
        self._born[name] = asyncio.get_running_loop().time()
        return web.json_response({"id": name, "status": "queued"})

    def _tell(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.tells is not None:
            return self.tells(request)  # type: ignore[return-value]  # none that is late
        name = request.path.split("/")[-1]
        done = asyncio.get_running_loop().time() >= self._born[name] + self.seconds
        status = self.endings.get(self.sold[name], "completed") if done else "processing"
        url = f"http://{request.host}/files/{name}.mp4"
        given = task(status, name, **({"url": url} if status == "completed" else {}))(request)
        assert isinstance(given, web.StreamResponse)
        return given

    async def _give(self, request: web.BaseRequest) -> web.StreamResponse:
        self.fetched.append(request.path.split("/")[-1].removesuffix(".mp4"))
        given = self.file(request)
        return await given if isinstance(given, Awaitable) else given


@asynccontextmanager
async def open_shop(
    shop: Shop | None = None, **settings: Any
) -> AsyncIterator[tuple[octoremix.Session, Shop]]:
    """A shop and a session at it."""
    async with (shop or Shop()).opened() as opened:
        async with session_at(opened, **settings) as octo:
            yield octo, opened


def session_at(shop: Shop, **settings: Any) -> octoremix.Session:
    given = {"poll": STEADY, "retry": ONCE, **settings}
    return octoremix.Session("key", base_url=shop.url, **given)


def remixes(count: int, **fields: Any) -> list[octoremix.RemixRequest]:
    """Requests with the prompts ``p0``, ``p1``…"""
    return [
        octoremix.RemixRequest(video_id="video_1", prompt=f"p{number}", **fields)
        for number in range(count)
    ]


def keyed(count: int) -> list[octoremix.RemixRequest]:
    """Requests with the keys ``k0``, ``k1``…"""
    return [
        octoremix.RemixRequest(video_id="video_1", prompt=f"p{number}", key=f"k{number}")
        for number in range(count)
    ]


async def outcomes(batch: octoremix.Batch) -> list[octoremix.Outcome]:
    return [outcome async for outcome in batch]


def errors(found: list[octoremix.Outcome]) -> list[str]:
    """The names of the errors in the order of the input, and ``""`` where there is none."""
    ordered = sorted(found, key=lambda outcome: outcome.index)
    return ["" if each.error is None else type(each.error).__name__ for each in ordered]
