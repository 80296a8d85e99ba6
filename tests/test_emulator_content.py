"""The bytes that the local gateway serves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octoremix.testing import Emulator, _canned

from .emulator_client import Client

if TYPE_CHECKING:
    from pathlib import Path


async def test_content_is_a_real_mp4_of_the_wanted_size() -> None:
    """The content streams once the video is ready, with its length, type and caching."""
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
