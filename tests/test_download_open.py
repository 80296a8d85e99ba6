"""A video can be read without a file, and an end of the reading means that all has come."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
import tenacity

from octoremix import (
    APIConnectionError,
    DownloadError,
    DownloadStream,
    IncompleteDownloadError,
    NotAVideoError,
    OctoremixError,
    RemixFailedError,
    RetryPolicy,
    Session,
    SessionClosedError,
    TaskStatus,
    TooLargeError,
    Video,
)
from octoremix._download.body import LEAST_PROGRESS
from octoremix.testing import Emulator

from .raw_servers import KEY, Behaviour, RawServer, answering, http
from .results import ETAG, MP4, Result
from .scripted import ScriptedGateway, reply, task

PATIENT = RetryPolicy(attempts=3, wait=tenacity.wait_fixed(2))
DONE = Video(id="task_1", status=TaskStatus.COMPLETED)
FAR = 4 * LEAST_PROGRESS


def session(gateway: Any, **settings: Any) -> Session:
    return Session(KEY, base_url=gateway.url, **{"retry": PATIENT} | settings)


async def read(script: list[Behaviour], **settings: Any) -> tuple[bytes, OctoremixError | None]:
    """What was read of a video whose server behaves so, and the error that ended it."""
    read = b""
    async with RawServer(script) as gateway, session(gateway) as octo:
        try:
            async with octo.open(DONE, **settings) as stream:
                async for chunk in stream:
                    read += chunk
        except OctoremixError as error:
            return read, error
    return read, None


@pytest.mark.parametrize("kind", ["id", "Video", "unfinished Video", "RemixFuture"])
async def test_whatever_names_the_task_is_opened(kind: str) -> None:
    """As for `download`, and what the stream says of itself is right."""
    async with Emulator(api_key=KEY, duration=20, content_size=300_000) as gateway:
        async with session(gateway) as octo:
            future = await octo.submit("video_1", prompt="snow")
            first = future.video
            source: Any = future
            if kind != "RemixFuture":
                done = await future
                source = {"id": future.id, "Video": done, "unfinished Video": first}[kind]
            async with octo.open(source) as stream:
                assert isinstance(stream, DownloadStream)
                assert (stream.id, stream.length) == (future.id, 300_000)
                assert stream.content_type == "video/mp4"
                assert stream.url == f"{gateway.url}/v1/videos/{future.id}/content"
                assert repr(stream) == (
                    f"<octoremix.DownloadStream of {future.id!r}, of 300000 bytes>"
                )
                sizes = [len(chunk) async for chunk in stream]
    assert sum(sizes) == 300_000
    assert max(sizes) < 300_000  # it was not collected first


async def test_what_can_not_be_opened_is_told_before_anything_is_read() -> None:
    """No block is entered for a task without a video, a failed future, or a page."""
    async with ScriptedGateway(polls=[task("processing"), task("failed")]) as gateway:
        gateway.contents = [reply("<html>log in</html>")]
        async with session(gateway) as octo:
            future = octo.track("task_1")
            for source, kind in (
                ("task_1", DownloadError),
                (future, RemixFailedError),
                (DONE, NotAVideoError),
            ):
                with pytest.raises(kind):
                    async with octo.open(source):
                        pytest.fail("it is not there")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_cut_is_not_noticed(chunked: bool) -> None:
    """Where the server goes on from there, the reader gets each byte once."""
    result = Result(cuts=[FAR, 2 * LEAST_PROGRESS], chunked=chunked)
    assert await read([result]) == (MP4, None)
    assert len(result.asked) == 3


@pytest.mark.parametrize("kind", ["no ranges", "no validator", "changed", "another range"])
async def test_what_was_read_can_not_be_taken_back(kind: str) -> None:
    """Where it would have to start anew, the reader is told, at once, and nothing is repeated."""
    result = Result(cuts=[FAR], ranges=kind != "no ranges", etag="" if "val" in kind else ETAG)
    script: list[Behaviour] = [result]
    if kind == "changed":
        script.append(Result(etag='"the-second"'))
    if kind == "another range":
        head = f"Content-Range: bytes 0-{len(MP4) - 1}/{len(MP4)}\r\n"
        script += [answering(http(MP4, status="206 Partial Content", headers=head)), Result()]
    got, error = await read(script)
    assert isinstance(error, IncompleteDownloadError)
    assert "its server does not go on from there" in str(error)
    assert MP4.startswith(got)
    assert LEAST_PROGRESS < len(got) <= FAR
    assert len(result.asked) <= 2


async def test_before_anything_was_read_it_may_start_anew() -> None:
    """A cut before the first bytes were given away is mended in any case."""
    result = Result(cuts=[4, 0, FAR * 100], ranges=False, etag="")
    assert await read([result]) == (MP4, None)
    assert len(result.asked) == 3


async def test_cuts_without_progress_end_the_reading() -> None:
    """After as many attempts as the policy allows."""
    result = Result(cuts=[FAR, *[10] * 50])
    got, error = await read([result])
    assert isinstance(error, APIConnectionError)
    assert MP4.startswith(got)
    assert len(result.asked) == 3


async def test_a_limit_ends_the_reading() -> None:
    """By the announced length before anything is read, and without one as soon as it is passed."""
    got, error = await read([Result()], max_size=len(MP4) - 1)
    assert isinstance(error, TooLargeError)
    assert got == b""
    got, error = await read([Result(chunked=True)], max_size=FAR)
    assert isinstance(error, TooLargeError)
    assert 0 < len(got) <= FAR
    assert (await read([Result(chunked=True)], max_size=len(MP4)))[1] is None


async def test_a_length_that_is_not_told_is_none() -> None:
    """An answer in chunks has no length, until a range tells it."""
    result = Result(chunked=True, cuts=[FAR], headers="Content-Type: VIDEO/\xa0mp4; x=y\r\n")
    async with RawServer([result]) as gateway, session(gateway) as octo:
        async with octo.open(DONE) as stream:
            assert stream.length is None
            assert repr(stream) == "<octoremix.DownloadStream of 'task_1', of unknown length>"
            assert stream.content_type.isprintable()
            got = b"".join([chunk async for chunk in stream])
            assert stream.length == len(MP4)
            assert [chunk async for chunk in stream] == []  # it is at its end and stays there
    assert got == MP4


async def test_leaving_early_closes_the_connection() -> None:
    """Who has read enough leaves the block, and the server is not kept busy."""
    async with RawServer([Result(MP4 * 50)]) as gateway, session(gateway) as octo:
        async with octo.open(DONE) as stream:
            async for _ in stream:
                break
        await asyncio.wait_for(gateway.hung_up.wait(), 5)
        with pytest.raises(DownloadError, match="inside its async with"):
            async for _ in stream:
                pytest.fail("it is closed")


async def test_an_error_of_the_readers_comes_out_as_it_is() -> None:
    """What fails in the block is not mistaken for a failure of the download."""
    async with RawServer([Result()]) as gateway, session(gateway) as octo:
        for error in (KeyError("mine"), APIConnectionError("mine"), DownloadError("mine")):
            with pytest.raises(type(error), match="mine") as caught:
                async with octo.open(DONE) as stream:
                    async for _ in stream:
                        raise error
            assert caught.value is error
        assert len(gateway.calls) == 3


async def test_a_cancelled_reader_leaves_nothing_open() -> None:
    """A time-out in the block closes the connection on its way out."""

    async def half(_: Any, writer: asyncio.StreamWriter) -> bool:
        writer.write(http(MP4[:1000], headers="", length=len(MP4)))
        while True:
            await asyncio.sleep(1)
            writer.write(b"x")
            await writer.drain()

    async with RawServer([half]) as gateway, session(gateway, request_timeout=1000) as octo:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(50), octo.open(DONE) as stream:
                async for _ in stream:
                    pass
        await asyncio.wait_for(gateway.hung_up.wait(), 5)


async def test_a_stream_of_a_closed_session_fails() -> None:
    """Closing the session ends the reading with an error, not with a short video."""
    async with RawServer([Result(cuts=[FAR])]) as gateway:
        octo = session(gateway)
        with pytest.raises(SessionClosedError):
            async with octo.open(DONE) as stream:
                async for _ in stream:
                    await octo.aclose()
        with pytest.raises(SessionClosedError):
            async with octo.open(DONE):
                pytest.fail("it is closed")


async def test_an_upload_needs_no_disk() -> None:
    """The stream is what aiohttp takes for the body of a request."""
    async with (
        RawServer([Result()]) as gateway,
        ScriptedGateway(submits=[reply({})]) as storage,
        session(gateway) as octo,
        aiohttp.ClientSession() as client,
        octo.open(DONE) as stream,
        client.post(storage.url, data=stream) as answer,
    ):
        assert answer.status == 200
    assert storage.posts[0].body == MP4
