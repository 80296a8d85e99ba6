"""The bytes that the local gateway serves."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octoremix.testing import Emulator, Route, _canned

from .emulator_client import Client

if TYPE_CHECKING:
    from pathlib import Path


async def test_content_is_a_real_mp4_of_the_wanted_size() -> None:
    """§1.4: the content streams once the video is ready, with its length, type and caching."""
    async with (
        Emulator(duration=5, content_size=300_000) as gateway,
        Client(gateway) as client,
    ):
        path = f"/v1/videos/{(await client.remix())['id']}/content"
        status, answer = await client.json("GET", path)
        assert (status, answer) == (
            400,
            {
                "error": {
                    "message": "Task is not completed yet, current status: QUEUED",
                    "type": "invalid_request_error",
                }
            },
        )
        await asyncio.sleep(2)
        _, answer = await client.json("GET", path)
        assert answer["error"]["message"].endswith("IN_PROGRESS")
        await asyncio.sleep(3)
        status, headers, body = await client.call("GET", path)
    assert status == 200
    assert headers["Content-Type"] == "video/mp4"
    assert headers["Content-Length"] == "300000"
    assert headers["Cache-Control"] == "public, max-age=86400"
    assert headers["X-Oneapi-Request-Id"]
    assert len(body) == 300_000
    assert body[4:8] == b"ftyp"


async def test_a_client_that_leaves_in_the_middle_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A download that is cut by its reader ends quietly and is in flight no more."""
    async with Emulator(content_size=200_000_000) as gateway, Client(gateway) as client:
        url = f"{gateway.url}/v1/videos/any/content"
        async with client.http.get(url, headers=client.headers) as response:
            await response.content.read(10)
            assert gateway.books.in_flight == 1
            response.close()
        async with asyncio.timeout(60):
            while gateway.books.in_flight:
                await asyncio.sleep(0.01)
    assert not caplog.records


@given(st.integers(min_value=0, max_value=300_000))
def test_canned_files_have_exactly_the_wanted_size(extra: int) -> None:
    """Any size from the least one on can be made, and its boxes add up."""
    size = _canned.BASE_SIZE + (_canned.BOX_HEADER + extra if extra else 0)
    _canned.check_size(size)
    data = b"".join(_canned.canned_chunks(size))
    assert len(data) == size
    at, kinds = 0, []
    while at < size:
        kinds.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4])
    assert at == size
    assert kinds[:2] == [b"ftyp", b"moov"]
    assert (kinds[-1] == b"free") is bool(extra)


def test_a_canned_file_may_be_larger_than_a_box_can_say() -> None:
    """Beyond 4 GiB the last box says that it goes to the end."""
    chunks = _canned.canned_chunks(2**33)
    next(chunks)
    assert next(chunks) == b"\0\0\0\0free"


async def test_a_source_can_be_a_file(tmp_path: Path) -> None:
    """A file of the user's is the content of its id, until it is gone."""
    file = tmp_path / "cow.webm"
    file.write_bytes(bytes(range(256)) * 3000)
    async with Emulator(sources={"cow": file}) as gateway, Client(gateway) as client:
        status, headers, body = await client.call("GET", "/v1/videos/cow/content")
        assert (status, headers["Content-Type"]) == (200, "video/webm")
        assert body == file.read_bytes()
        file.unlink()
        status, answer = await client.json("GET", "/v1/videos/cow/content")
    assert status == 502
    assert answer["error"] == {"message": "Failed to fetch video content", "type": "server_error"}


SIZE = 200_000

# What is asked for, and of 200,000 bytes the first and the one after the last that come, or the
# status of an answer without any.
RANGES: dict[str, tuple[int, int] | int] = {
    "bytes=0-": (0, SIZE),
    "bytes=0-0": (0, 1),
    "bytes=1000-1999": (1000, 2000),
    "bytes=150000-": (150_000, SIZE),
    "bytes=199999-": (199_999, SIZE),
    "bytes=100-9999999": (100, SIZE),
    "bytes=-10": (199_990, SIZE),
    "bytes=-9999999": (0, SIZE),
    " bytes=5-6 ": (5, 7),
    "bytes=200000-": 416,
    "bytes=300000-300001": 416,
    "bytes=-0": 416,
    "bytes=2-1": 200,
    "bytes=0-1,5-6": 200,
    "bytes=-": 200,
    "bytes=a-b": 200,
    "bytes=\u0661-": 200,
    "lines=0-1": 200,
    "0-1": 200,
    "": 200,
}


@pytest.mark.parametrize("asked", RANGES)
@pytest.mark.parametrize("source", ["canned", "file"])
async def test_a_part_of_the_bytes_can_be_asked_for(
    source: str, asked: str, tmp_path: Path
) -> None:
    """§1.4: one range is a 206, one beyond the end a 416, and what is no range gives the whole."""
    file = tmp_path / "cow.mp4"
    file.write_bytes(b"".join(_canned.canned_chunks(SIZE)))
    sources = {"v": file} if source == "file" else None
    async with (
        Emulator(content_size=SIZE, sources=sources, cdn=True) as gateway,
        Client(gateway) as client,
    ):
        link = (await client.query("v"))["video_url"]
        answers = [
            await client.call("GET", url, headers=headers | {"Range": asked})
            for url, headers in ((link, {}), ("/v1/videos/v/content", client.headers))
        ]
    found = RANGES[asked]
    for status, headers, body in answers:
        assert headers["Accept-Ranges"] == "bytes"
        if isinstance(found, tuple):
            start, end = found
            assert status == 206
            assert headers["Content-Range"] == f"bytes {start}-{end - 1}/{SIZE}"
            assert body == file.read_bytes()[start:end]
            assert headers["Content-Length"] == str(len(body))
        elif found == 416:
            assert (status, body) == (416, b"")
            assert headers["Content-Range"] == f"bytes */{SIZE}"
        else:
            assert (status, len(body)) == (200, SIZE)
            assert "Content-Range" not in headers


async def test_a_part_is_one_of_the_same_bytes_only(tmp_path: Path) -> None:
    """§1.4: ``If-Range`` with another tag or date gives the whole, and a tag follows the bytes."""
    file = tmp_path / "cow.mp4"
    file.write_bytes(bytes(1000))
    async with Emulator(sources={"v": file}) as gateway, Client(gateway) as client:

        async def ask(condition: str) -> int:
            headers = client.headers | {"Range": "bytes=10-", "If-Range": condition}
            status, _, _ = await client.call("GET", "/v1/videos/v/content", headers=headers)
            return status

        _, headers, _ = await client.call("GET", "/v1/videos/v/content")
        tag, date = headers["ETag"], headers["Last-Modified"]
        assert [await ask(tag), await ask(date)] == [206, 206]
        others = [f"W/{tag}", '"other"', "yesterday", formatdate(0, usegmt=True)]
        assert [await ask(condition) for condition in others] == [200] * 4
        file.write_bytes(bytes(1001))
        assert await ask(tag) == 200


async def test_the_head_of_the_content_can_be_asked_for() -> None:
    """§1.4: a HEAD tells the length and sends nothing, on the gateway and on the second origin."""
    async with (
        Emulator(content_size=SIZE, cdn=True) as gateway,
        Client(gateway) as client,
    ):
        link = (await client.query("v"))["video_url"]
        calls: list[tuple[str, dict[str, Any]]] = [
            (link, {}),
            ("/v1/videos/v/content", client.headers),
        ]
        for url, headers in calls:
            status, told, body = await client.call("HEAD", url, headers=headers)
            assert (status, body, told["Content-Length"]) == (200, b"", str(SIZE))
            part = headers | {"Range": "bytes=-5"}
            status, told, body = await client.call("HEAD", url, headers=part)
            assert (status, body, told["Content-Length"]) == (206, b"", "5")
        unknown, _, _ = await client.call("HEAD", "/v1/videos/v/nothing")
    assert unknown == 404
    assert gateway.books.requests[Route.CONTENT_HEAD] == 2
    assert gateway.books.cdn_requests == 2
