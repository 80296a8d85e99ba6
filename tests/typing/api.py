"""The public face as users call it: read by mypy in strict mode, never run.

Where a call must be refused it stands with an ignore, which is an error itself once it is not
needed any more.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, KeysView, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, assert_type

import aiohttp
import tenacity

import octoremix
from octoremix import (
    APIError,
    Batch,
    BatchEvent,
    DownloadStream,
    Event,
    InvalidResponseError,
    KeyUsage,
    OctoremixError,
    Outcome,
    PollPolicy,
    RemixChain,
    RemixError,
    RemixFuture,
    RemixRequest,
    RetryPolicy,
    Session,
    SessionStats,
    SubmitOutcomeUnknownError,
    TaskStatus,
    UnexpectedRedirectError,
    Video,
    VideoError,
    WaitError,
)

assert_type(octoremix.__version__, str)


def on_event(event: Event) -> None:
    assert_type(event.kind, str)
    assert_type(event.id, str | None)
    assert_type(event.video, Video | None)
    assert_type(event.error, Exception | None)
    assert_type(event.delay, float | None)


async def rotating_key() -> str:
    return "sk-..."


async def sessions(http: aiohttp.ClientSession, context: ssl.SSLContext) -> None:
    Session()
    Session("sk-...")
    Session(lambda: "sk-...")
    Session(rotating_key)
    Session(
        "sk-...",
        base_url="https://octopusx.ai",
        poll=PollPolicy(wait=tenacity.wait_fixed(10) + tenacity.wait_random(0, 2), deadline=None),
        retry=RetryPolicy(wait=tenacity.wait_none(), attempts=3, submit="never"),
        request_timeout=30,
        submit_timeout=120.0,
        submit_concurrency=16,
        http=http,
        proxy="http://proxy.example:3128",
        ssl=context,
        headers={"X-Team": "video"},
        max_tasks=1000,
        allow_private_links=True,
        on_event=on_event,
    )
    Session(proxy=False, ssl=False)
    PollPolicy(wait=lambda state: 10.0 * state.attempt_number)
    RetryPolicy(submit="sometimes")  # type: ignore[arg-type]
    Session("sk-...", "https://octopusx.ai")  # type: ignore[call-arg]
    Session(token="sk-...")  # type: ignore[call-arg]


async def use(session: Session) -> None:
    async with Session() as entered:
        assert_type(entered, Session)

    future = await session.submit("video_123", prompt="make it snow")
    assert_type(future, RemixFuture)
    await session.submit(
        future, prompt="now rain", model="veo_3_1-extend", extra={"size": "720P"}, deadline=None
    )
    await session.submit("video_123", "make it snow")  # type: ignore[call-arg]
    await session.submit("video_123")  # type: ignore[call-arg]

    video = await future
    assert_type(video, Video)
    assert_type(await session.remix(video, prompt="snow", timeout=60), Video)
    assert_type(await session.retrieve("video_123"), Video)
    assert_type(session.track("video_123"), RemixFuture)
    assert_type(session.track("video_123", deadline=600), RemixFuture)
    assert_type(await session.download(video, "snow.mp4"), Path)
    assert_type(await session.download("video_123", Path("snow.mp4")), Path)
    assert_type(await session.download(future, "snow.mp4"), Path)
    await session.download(video, "snow.mp4", max_size=10**9)
    async with session.open(video, max_size=None) as stream:
        assert_type(stream, DownloadStream)
        assert_type(stream.length, int | None)
        assert_type([chunk async for chunk in stream], list[bytes])
    assert_type(session.stats, SessionStats)
    assert_type(session.stats.cool_down, float)
    assert_type(session.pending, KeysView[str])
    await session.aclose()
    await session.aclose(grace=0)


async def follow(future: RemixFuture) -> None:
    assert_type(future.id, str)
    assert_type(future.request, RemixRequest | None)
    assert_type(future.video, Video | None)
    assert_type(future.status, TaskStatus)
    assert_type(future.progress, float | None)
    assert_type(future.done(), bool)
    assert_type(future.cancelled(), bool)
    assert_type(future.result(), Video)
    assert_type(future.exception(), OctoremixError | None)
    assert_type(await future.wait(timeout=5), Video)
    async for video in future.updates():
        assert_type(video, Video)

    def tell(done: RemixFuture) -> None: ...

    future.add_done_callback(tell)
    assert_type(future.remove_done_callback(tell), int)
    future.detach()

    both = await asyncio.gather(future, future)
    assert_type(both[0], Video)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(future.wait())
    assert_type(task.result(), Video)
    async with asyncio.timeout(5):
        assert_type(await asyncio.wait_for(future, 5), Video)
    future.cancel()  # type: ignore[attr-defined]


async def batches(
    session: Session, requests: list[RemixRequest], later: AsyncIterator[Any]
) -> None:
    chain = RemixChain(video_id="a", prompts=["p", "q"], key="k")
    assert_type(chain.prompts, tuple[str, ...])
    session.map([*requests, chain])
    session.map(later)
    session.map({"video": "a", "prompt": prompt} for prompt in "pq")
    session.map("requests")
    session.map(5)  # type: ignore[arg-type]

    def show(event: BatchEvent) -> None:
        assert_type(event.video, Video | None)

    batch = session.map(requests, max_jobs=5, download_to=Path("videos"), on_progress=show)
    assert_type(batch, Batch)
    assert_type(batch.stopped, str | None)
    async with batch as same:
        assert_type(same, Batch)
        assert_type(await anext(batch), Outcome)
        async for outcome in batch:
            assert_type(outcome.id, str | None)
            assert_type(outcome.video, Video | None)
            assert_type(outcome.error, OctoremixError | None)
            assert_type(outcome.path, Path | None)
    assert_type(batch.detached, list[str])
    batch.stop("enough")
    assert_type(await session.chain("a", ["p"], deadline=None), Video)
    assert_type(await session.usage(), KeyUsage)


def values(video: Video, request: RemixRequest) -> None:
    assert_type(video.id, str)
    assert_type(video.status, TaskStatus)
    assert_type(video.status.terminal, bool)
    assert_type(video.raw_status, str | None)
    assert_type(video.progress, float | None)
    assert_type(video.created_at, datetime | None)
    assert_type(video.seconds, str | None)
    assert_type(video.url, str | None)
    assert_type(video.error, VideoError | None)
    assert_type(video.raw, Mapping[str, Any])
    assert_type(RemixRequest(video_id="a", prompt="p", key="k", metadata=1), RemixRequest)
    assert_type(request.extra, Mapping[str, Any])
    video.status = TaskStatus.FAILED  # type: ignore[misc]
    RemixRequest("a", "p")  # type: ignore[call-arg]


def errors(error: OctoremixError) -> None:
    assert_type(error.id, str | None)
    if isinstance(error, SubmitOutcomeUnknownError):
        assert_type(error.request, RemixRequest | None)
        assert_type(error.sent_at, datetime | None)
        assert_type(error.request_id, str | None)
    elif isinstance(error, (RemixError, WaitError)):
        assert_type(error.video, Video | None)
    elif isinstance(error, InvalidResponseError):
        assert_type(error.problems, tuple[str, ...])
    elif isinstance(error, UnexpectedRedirectError):
        assert_type(error.location, str | None)
    elif isinstance(error, APIError):
        assert_type(error.status, int)
        assert_type(error.code, str | None)
        assert_type(error.message, str)
        assert_type(error.request_id, str | None)
        assert_type(error.body, str)
        assert_type(error.safe_to_resubmit, bool)
        assert_type(error.retry_after, float | None)
