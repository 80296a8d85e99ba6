"""Servers that mean harm: none of them fills disk or memory, leads astray, or goes on for ever."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path
from typing import Any

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from octoremix import (
    APIConnectionError,
    APITimeoutError,
    DownloadError,
    NotAVideoError,
    OctoremixError,
    RetryPolicy,
    Session,
    TaskStatus,
    TooLargeError,
    Video,
)
from octoremix._download.links import MOST_REDIRECTS, next_hop

from .raw_servers import KEY, Behaviour, RawServer, answering, http
from .scripted import ScriptedGateway, reply

MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(50_000)
VIDEO = "Content-Type: video/mp4\r\n"
ONCE = RetryPolicy(attempts=1)
PATIENT = RetryPolicy(attempts=3, wait=tenacity.wait_fixed(1))
DONE = Video(id="task_1", status=TaskStatus.COMPLETED)


async def fails(
    script: list[Behaviour], folder: Path, *, retry: RetryPolicy = PATIENT, **settings: Any
) -> tuple[OctoremixError, RawServer]:
    """Download what a gateway serves so; nothing may be left."""
    limit = settings.pop("max_size", None)
    async with RawServer(script) as gateway:
        async with Session(KEY, base_url=gateway.url, retry=retry, **settings) as octo:
            with pytest.raises(OctoremixError) as caught:
                await octo.download(DONE, folder / "clip.mp4", max_size=limit)
    assert list(folder.iterdir()) == []
    assert str(caught.value).isprintable()
    return caught.value, gateway


async def endless(_: Any, writer: asyncio.StreamWriter) -> bool:
    """A video without a length and without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n")
    while True:
        writer.write(MP4)
        await writer.drain()


async def test_a_body_without_end_is_left_at_the_limit(tmp_path: Path) -> None:
    """`max_size` holds where no length is told, and no other attempt is made."""
    error, gateway = await fails([endless], tmp_path, max_size=1_000_000)
    assert type(error) is TooLargeError
    assert "more than max_size=1000000 bytes" in str(error)
    assert error.id == "task_1"
    assert len(gateway.calls) == 1


async def test_an_announced_length_over_the_limit_is_not_read(tmp_path: Path) -> None:
    """The announcement is enough, however the rest would come."""
    huge = answering(http(MP4, headers=VIDEO, length=10**15))
    error, gateway = await fails([huge], tmp_path, max_size=1_000_000)
    assert type(error) is TooLargeError
    assert len(gateway.calls) == 1


async def test_the_limit_itself_is_allowed(tmp_path: Path) -> None:
    """A video of exactly so many bytes is fetched."""
    async with RawServer([answering(http(MP4, headers=VIDEO))]) as gateway:
        async with Session(KEY, base_url=gateway.url, retry=ONCE) as octo:
            path = await octo.download(DONE, tmp_path / "clip.mp4", max_size=len(MP4))
    assert path.read_bytes() == MP4


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip"])
async def test_an_encoded_body_is_refused_and_not_inflated(coding: str, tmp_path: Path) -> None:
    """Kilobytes that would become megabytes are not even read."""
    bomb = gzip.compress(MP4 + bytes(10_000_000)) if "z" in coding else zlib.compress(MP4)
    head = f"{VIDEO}Content-Encoding: {coding}\r\n"
    error, gateway = await fails([answering(http(bomb, headers=head))], tmp_path)
    assert isinstance(error, NotAVideoError)
    assert f"in the coding {coding.lower()}, though none was wanted" in str(error)
    assert gateway.calls[0].header("Accept-Encoding") == "identity"
    assert len(gateway.calls) == 1


async def test_a_coding_that_is_none_is_no_matter(tmp_path: Path) -> None:
    """`Content-Encoding: identity` says nothing."""
    answer = answering(http(MP4, headers=f"{VIDEO}Content-Encoding: Identity\r\n"))
    async with RawServer([answer]) as gateway:
        async with Session(KEY, base_url=gateway.url, retry=ONCE) as octo:
            await octo.download(DONE, tmp_path / "clip.mp4")


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_redirects_in_a_circle_end(size: int, tmp_path: Path) -> None:
    """However long the circle is, hops are counted, and it is not entered again."""

    async def circle(call: Any, writer: asyncio.StreamWriter) -> bool:
        number = (int(call.target[-1]) + 1) % size if call.target[-1].isdigit() else 0
        head = f"Location: /{number}\r\n"
        writer.write(http(b"", status="302 Found", headers=head))
        return True

    error, gateway = await fails([circle], tmp_path)
    assert f"redirected {MOST_REDIRECTS} times" in str(error)
    assert len(gateway.calls) == MOST_REDIRECTS


@pytest.mark.parametrize(
    "location",
    [
        "/x%0d%0aHost:%20evil.example",
        "/x\tHost: evil.example",
        "/x y",
        "//127.0.0.1:{port}/x\xa0y",
        "http://127.0.0.1:{port}/\x7f",
        "?\xe9=1#\xe9",
        "http:x",
    ],
)
async def test_a_location_can_not_inject_a_header(location: str, tmp_path: Path) -> None:
    """Whatever stands in it stays within the first line of the request, and the key at home."""
    server = RawServer([])
    async with server:
        head = f"Location: {location.format(port=server.port)}\r\n"
        raw = f"HTTP/1.1 302 Found\r\n{head}Content-Length: 0\r\n\r\n".encode("latin-1")
        server.script = [answering(raw), answering(http(MP4, headers=VIDEO))]
        async with Session(KEY, base_url=server.url, retry=ONCE) as octo:
            await octo.download(DONE, tmp_path / "clip.mp4")
        _, second = server.calls
        first_line, *others = second.head.decode().split("\r\n")
        assert first_line.count(" ") == 2
        assert first_line.isascii()
        assert [line for line in others if line.lower().startswith("host:")] == [
            f"Host: 127.0.0.1:{server.port}"
        ]


@pytest.mark.parametrize("sign", ["\r", "\n", "\0"])
async def test_a_location_with_a_line_break_is_no_answer(sign: str, tmp_path: Path) -> None:
    """A bare break or NUL in a header is malformed HTTP or no address, and is not followed."""
    raw = f"HTTP/1.1 302 Found\r\nLocation: /x{sign}X-Evil: 1\r\nContent-Length: 0\r\n\r\n"
    script = [answering(raw.encode()), answering(http(b"", status="404 No"))]
    error, gateway = await fails(script, tmp_path, retry=ONCE)
    assert isinstance(error, (APIConnectionError, DownloadError))
    assert not any(call.header("X-Evil") for call in gateway.calls)


@given(st.text(), st.sampled_from(["http", "https"]))
def test_any_location_is_a_web_address_or_refused(location: str, scheme: str) -> None:
    """No text leads to another protocol, to none, or from an encrypted address to a plain one."""
    url = URL(f"{scheme}://gateway.example/v1/videos/task_1/content")
    hop: URL | None
    try:
        hop = next_hop("task_1", url, location)
    except DownloadError as error:
        hop, shown = None, str(error)
    else:
        shown = str(hop)
    assert shown.isprintable()
    if hop is None:
        return
    assert hop.host
    assert hop.scheme in ({"https"} if scheme == "https" else {"http", "https"})
    assert shown.isascii()


@pytest.mark.parametrize(
    "link", ["file:///etc/passwd", "FILE:/etc/passwd", "ftp://x/y", "//etc/passwd", "/etc/passwd"]
)
async def test_a_link_to_a_file_is_none(link: str, tmp_path: Path) -> None:
    """What is no web address is not opened, and `/content` serves."""
    done = Video(id="task_1", status=TaskStatus.COMPLETED, url=link)
    async with ScriptedGateway(contents=[reply(MP4)]) as gateway:
        async with Session(KEY, base_url=gateway.url, retry=ONCE) as octo:
            path = await octo.download(done, tmp_path / "clip.mp4")
        assert [call.path for call in gateway.calls] == ["/v1/videos/task_1/content"]
    assert path.read_bytes() == MP4


async def test_headers_that_drip_are_ended(tmp_path: Path) -> None:
    """The answer as a whole must begin within `request_timeout`, not each of its bytes."""

    async def drip(_: Any, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X: y\r\n")
            await writer.drain()
            await asyncio.sleep(5)

    loop = asyncio.get_running_loop()
    error, _ = await fails([drip], tmp_path, retry=ONCE, request_timeout=30)
    assert isinstance(error, APITimeoutError)
    assert loop.time() == pytest.approx(30, abs=1)


async def test_a_body_that_drips_is_the_callers_to_bound(tmp_path: Path) -> None:
    """A slow download may go on; a time-out around it ends it and leaves nothing."""

    async def drip(_: Any, writer: asyncio.StreamWriter) -> bool:
        writer.write(http(MP4[:100], headers=VIDEO, length=len(MP4)))
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(5)

    async with RawServer([drip]) as gateway:
        async with Session(KEY, base_url=gateway.url, request_timeout=30) as octo:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3600):
                    await octo.download(DONE, tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


async def test_headers_without_end_are_refused(tmp_path: Path) -> None:
    """An answer whose head does not end is no answer."""

    async def babble(_: Any, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-Long: " + b"y" * 60_000 + b"\r\n")
            await writer.drain()

    error, _ = await fails([babble], tmp_path, retry=ONCE)
    assert isinstance(error, APIConnectionError)


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: -5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: \u0665\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
    ],
)
async def test_lengths_that_contradict_are_no_video(head: str, tmp_path: Path) -> None:
    """Malformed and doubled lengths, and codings of the transfer, never end as a file."""
    raw = f"HTTP/1.1 200 OK\r\n{VIDEO}{head}\r\n".encode() + b"5\r\n" + MP4[:5] + b"\r\n0\r\n\r\n"
    error, _ = await fails([answering(raw)], tmp_path, retry=ONCE)
    assert isinstance(error, (APIConnectionError, DownloadError))


PROGRAM = """
    import asyncio, resource, sys
    from octoremix import Session, TaskStatus, Video

    MP4 = b"\\0\\0\\0\\x18ftypmp42"
    CHUNK = bytes(1024 * 1024)
    MEGABYTES = 100

    async def serve(reader, writer):
        await reader.readuntil(b"\\r\\n\\r\\n")
        length = MEGABYTES * len(CHUNK) + len(MP4)
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % length + MP4)
        for _ in range(MEGABYTES):
            writer.write(CHUNK)
            await writer.drain()
        writer.close()

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        done = Video(id="task_1", status=TaskStatus.COMPLETED)
        async with Session("sk-live-0123456789", base_url=f"http://127.0.0.1:{port}") as octo:
            async with octo.open(done) as stream:  # what is loaded for a first call is loaded
                async for _ in stream:
                    break
            before = peak()
            await octo.download(done, sys.argv[1])
            async with octo.open(done) as stream:
                async for _ in stream:
                    pass
        server.close()
        print(peak() - before)

    asyncio.run(main())
"""


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    """A hundred megabytes, to a file and then without one, raise the peak by less than 20."""
    target = tmp_path / "clip.mp4"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(target)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) < 20
    assert target.stat().st_size == 100 * 2**20 + 12
