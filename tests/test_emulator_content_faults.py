"""Faults of the content and of the second origin, and what a download makes of them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from tenacity import wait_fixed

from octoremix import (
    PollPolicy,
    Session,
)
from octoremix.testing import Emulator

from .emulator_client import Client

if TYPE_CHECKING:
    from pathlib import Path


POLL = PollPolicy(first_delay=3.0, wait=wait_fixed(7.0))


@pytest.mark.parametrize("cdn", [True, False])
async def test_a_link_can_expire(cdn: bool, tmp_path: Path) -> None:
    """§2.3: the old link is refused, a later query has one that works, and no key is shown."""
    async with (
        Emulator(duration=0, cdn=cdn, faults=["url_expired:times=2,status=404"]) as gateway,
        Client(gateway) as client,
    ):
        video_id = (await client.remix())["id"]
        headers = {} if cdn else client.headers
        statuses, links = [], []
        if cdn:  # the gateway's own way is another
            content, _, _ = await client.call("GET", f"/v1/videos/{video_id}/content")
            assert content == 200
        for _ in range(4):
            links.append((await client.query(video_id))["video_url"])
            statuses.append((await client.call("GET", links[-1], headers=headers))[0])
        if cdn:
            assert statuses == [404, 404, 200, 200]
            assert links[0] != links[1] != links[2] == links[3]
            status, _, _ = await client.call("GET", links[0], headers={})
            assert status == 404  # it stays expired
        else:
            assert statuses == [502, 502, 200, 200]
        async with Session(gateway.api_key, base_url=gateway.url, poll=POLL) as session:
            await session.download(video_id, tmp_path / "video.mp4")
    assert not gateway.books.cdn_keys


@pytest.mark.parametrize("on", ["content", "cdn"])
async def test_content_can_go_wrong(on: str) -> None:
    """§1.4, §3.1 E3: on the gateway in its envelope, on the second origin in pages of the edge."""
    async with (
        Emulator(duration=0, content_size=100_000, cdn=True) as gateway,
        Client(gateway) as client,
    ):
        video = await client.query((await client.remix())["id"])
        path = video["video_url"] if on == "cdn" else f"/v1/videos/{video['id']}/content"
        headers = {} if on == "cdn" else client.headers

        async def fetch(name: str) -> tuple[int, Any, bytes]:
            gateway.faults.add(name, on=on, next=1)
            return await client.call("GET", path, headers=headers)

        status, answer_headers, body = await fetch("content_no_length")
        assert (status, len(body)) == (200, 100_000)
        assert "Content-Length" not in answer_headers
        status, answer_headers, body = await fetch("content_json")
        assert (status, answer_headers["Content-Type"]) == (200, "video/mp4")
        assert json.loads(body)["error"]
        for name, wanted in (("content_502", 502), ("content_blocked", 403)):
            status, answer_headers, body = await fetch(name)
            assert status == wanted
            assert body.startswith(b"{") is (on == "content")
        with pytest.raises(aiohttp.ClientPayloadError):
            await fetch("content_truncated")
        if on == "cdn":
            assert (await fetch("html_503"))[0] == 503


async def test_a_download_survives_what_passes(tmp_path: Path) -> None:
    """§1.4: content that fails at first is fetched in the end, and nothing is bought again."""
    async with (
        Emulator(duration=5, cdn=True) as gateway,
        Session(gateway.api_key, base_url=gateway.url, poll=POLL) as session,
    ):
        gateway.faults.add("content_502", on="content", first=2)
        gateway.faults.add("content_truncated", on="cdn", first=2)
        video = await session.remix("video_123", prompt="make it snow")
        await session.download(video, tmp_path / "video.mp4")
    gateway.books.assert_charged_once(1)
    assert gateway.books.cdn_requests == 3
    assert not gateway.books.cdn_keys


async def test_the_cdn_knows_only_what_is_finished() -> None:
    """Unknown and unfinished videos are a 404 there; sources from before are there too."""
    async with (
        Emulator(cdn=True, sources=["old"]) as gateway,
        Client(gateway) as client,
    ):
        video_id = (await client.remix("old"))["id"]
        for name, status in ((video_id, 404), ("nothing", 404), ("old", 200)):
            found, _, _ = await client.call("GET", f"{gateway.cdn_url}/{name}.mp4", headers={})
            assert found == status
        await client.call("GET", f"{gateway.cdn_url}/old.mp4")
    assert gateway.books.cdn_keys == {f"Bearer {gateway.api_key}": 1}
    assert gateway.books.cdn_requests == 4


async def test_a_file_that_is_gone_is_gone_from_the_cdn_too(tmp_path: Path) -> None:
    """A source's file is served there until it is removed."""
    file = tmp_path / "cow.mp4"
    file.write_bytes(bytes(1000))
    async with Emulator(cdn=True, sources={"cow": file}) as gateway, Client(gateway) as client:
        path = (await client.query("cow"))["video_url"]
        status, _, body = await client.call("GET", path, headers={})
        assert (status, len(body)) == (200, 1000)
        file.unlink()
        status, _, _ = await client.call("GET", path, headers={})
    assert status == 404


@pytest.mark.parametrize("on", ["content", "cdn"])
async def test_content_can_be_cut_by_time(on: str) -> None:
    """§1.4: after its 60 s the gateway cuts what it sends, and the rest can be asked for."""
    async with (
        Emulator(duration=0, content_size=100_000, cdn=True) as gateway,
        Client(gateway) as client,
    ):
        video = await client.query((await client.remix())["id"])
        path = video["video_url"] if on == "cdn" else f"/v1/videos/{video['id']}/content"
        headers = {} if on == "cdn" else client.headers
        _, _, whole = await client.call("GET", path, headers=headers)
        gateway.faults.add("content_timeout", on=on, next=1)
        loop = asyncio.get_running_loop()
        started = loop.time()
        came = bytearray()
        url = path if on == "cdn" else gateway.url + path
        with pytest.raises(aiohttp.ClientPayloadError):
            async with client.http.get(url, headers=headers) as response:
                assert response.content_length == 100_000
                async for chunk in response.content.iter_any():
                    came += chunk
        assert loop.time() - started == pytest.approx(60, abs=1)
        assert len(came) == 50_000
        part = headers | {"Range": f"bytes={len(came)}-"}
        status, _, rest = await client.call("GET", path, headers=part)
    assert status == 206
    assert came + rest == whole


@pytest.mark.parametrize("on", ["content", "cdn"])
async def test_a_part_can_be_denied(on: str) -> None:
    """§1.4: many builds know no ranges, and answer with the whole and without a tag."""
    async with Emulator(cdn=True) as gateway, Client(gateway) as client:
        video = await client.query("v")
        path = video["video_url"] if on == "cdn" else "/v1/videos/v/content"
        gateway.faults.add("content_no_range", on=on)
        headers = ({} if on == "cdn" else client.headers) | {"Range": "bytes=5-"}
        status, told, body = await client.call("GET", path, headers=headers)
    assert (status, len(body)) == (200, 2059)
    assert not {"ETag", "Last-Modified", "Accept-Ranges", "Content-Range"} & set(told)


async def test_a_cut_of_next_to_nothing_is_a_cut() -> None:
    """Of a single byte none comes."""
    async with Emulator() as gateway, Client(gateway) as client:
        gateway.faults.add("content_timeout")
        headers = client.headers | {"Range": "bytes=0-0"}
        with pytest.raises(aiohttp.ClientPayloadError):
            await client.call("GET", "/v1/videos/v/content", headers=headers)
