"""Answers of any size and shape are read in bounded memory and time."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest
import tenacity
from yarl import URL

from octoremix import (
    APIConnectionError,
    APITimeoutError,
    InvalidResponseError,
    OctoremixError,
    PollingFailedError,
    PollPolicy,
    RetryPolicy,
    Session,
    SubmitOutcomeUnknownError,
)
from octoremix._protocol import Request
from octoremix._transport import LONGEST_BODY

from .raw_servers import KEY, Behaviour, RawCall, RawServer, answering, http, transport_to

MiB = 2**20
TASK = b'{"id": "task_1", "status": "completed", "video_url": "https://cdn.example/1.mp4"}'


def head(headers: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{headers}\r\n".encode()


def flood(
    beginning: bytes, piece: bytes, pieces: int, sent: list[int], end: bytes = b""
) -> Behaviour:
    """Send a body piece by piece, as fast as the client takes it, and count what it took."""

    async def behave(_: RawCall, writer: asyncio.StreamWriter) -> bool:
        writer.write(beginning)
        for _number in range(pieces):
            writer.write(piece)
            await writer.drain()
            sent.append(len(piece))
        writer.write(end)
        return False

    return behave


@contextlib.contextmanager
def peak_below(limit: int) -> Iterator[None]:
    """Fail if more memory than that is taken at any time meanwhile."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def bomb(window_bits: int) -> bytes:
    """Much of nothing, compressed to a thousandth."""
    compressor = zlib.compressobj(9, wbits=window_bits)
    block = b" " * MiB
    return b"".join(compressor.compress(block) for _ in range(160)) + compressor.flush()


async def retrieve(server: RawServer, **settings: object) -> object:
    async with Session(
        KEY,
        base_url=server.url,
        retry=RetryPolicy(attempts=1),
        request_timeout=30,
        **settings,  # type: ignore[arg-type]
    ) as octo:
        return await octo.retrieve("task_1")


@pytest.mark.parametrize(
    "headers",
    ["Content-Length: 52428800\r\n", "Connection: close\r\n"],
    ids=["50 MB announced", "without an end"],
)
async def test_an_answer_of_any_length_is_read_to_its_limit_only(headers: str) -> None:
    """§3.3: the rest of a long answer is not taken, and its connection is closed."""
    sent: list[int] = []
    pieces = 50 if "Length" in headers else 10_000
    async with RawServer([flood(head(headers), b" " * MiB, pieces, sent)]) as server:
        with peak_below(40 * MiB), pytest.raises(InvalidResponseError, match="longer than"):
            await retrieve(server)
        await asyncio.wait_for(server.hung_up.wait(), 5)
    # What the kernel's buffers hold is taken as well.
    assert sum(sent) < LONGEST_BODY + 30 * MiB


async def test_an_answer_up_to_the_limit_is_read_whole() -> None:
    """The limit does not concern an answer that just fits."""
    body = TASK + b" " * (LONGEST_BODY - len(TASK))
    async with RawServer([answering(http(body))]) as server:
        await retrieve(server)


@pytest.mark.parametrize(
    ("coding", "window_bits"), [("gzip", 31), ("deflate", 15), ("deflate", -15)]
)
async def test_a_bomb_is_not_unpacked(coding: str, window_bits: int) -> None:
    """§3.3: a small body that would become a huge one is given up at the limit."""
    body = bomb(window_bits)
    answer = head(f"Content-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n") + body
    async with RawServer([answering(answer)]) as server:
        with peak_below(120 * MiB), pytest.raises((InvalidResponseError, APIConnectionError)):
            await retrieve(server)


PACKED = gzip.compress(TASK * 100)

UNREADABLE: dict[str, bytes] = {
    "truncated gzip": head(f"Content-Encoding: gzip\r\nContent-Length: {len(PACKED) - 20}\r\n")
    + PACKED[:-20],
    "gzip that is none": http(TASK, headers="Content-Encoding: gzip\r\n"),
    "deflate that is none": http(TASK, headers="Content-Encoding: deflate\r\n"),
    "brotli": http(b"\x8b\x03\x80abc\x03", headers="Content-Encoding: br\r\n"),
    "zstd": http(b"(\xb5/\xfd\x04\x00", headers="Content-Encoding: zstd\r\n"),
    "an unknown coding": http(b"\x01\x02\x03", headers="Content-Encoding: pied-piper\r\n"),
    "shorter than announced": http(TASK, length=1000),
    "shorter chunk than announced": head("Transfer-Encoding: chunked\r\n")
    + b"40\r\nabc\r\n0\r\n\r\n",
    "chunks that are none": head("Transfer-Encoding: chunked\r\n") + b"zz\r\nabc\r\n",
    "chunks without an end": head("Transfer-Encoding: chunked\r\n") + b"3\r\nabc\r\n",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n" + TASK,
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + TASK,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 39\r\n\r\n" + TASK,
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "an old HTTP": TASK,
    "a status that is none": b"HTTP/1.1 two hundred\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-",
    "nothing": b"",
    "a head that is too long": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    "an empty body": http(b""),
    "no body at all": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a body cut in a character": http(b'{"id": "\xc3'),
    "NUL bytes": http(bytes(1000)),
    "a list": http(b"[]"),
    "deep nesting": http(b"[" * 200_000),
    "an endless number": http(b'{"id": ' + b"9" * 10_000 + b"}"),
    "a switch of protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
}


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE)
async def test_what_can_not_be_read_is_an_error_of_ours(answer: bytes) -> None:
    """§3.3: an answer that is broken in any way is one of our errors, and of a submit a doubt."""
    async with RawServer([answering(answer)]) as server:
        with pytest.raises((InvalidResponseError, APIConnectionError)) as caught:
            await retrieve(server)
        assert f"127.0.0.1:{server.port}" in str(caught.value) or "task 'task_1'" in str(
            caught.value
        )
        async with Session(KEY, base_url=server.url) as octo:
            with pytest.raises(SubmitOutcomeUnknownError):
                await octo.submit("v", prompt="snow")
        assert [call.method for call in server.calls].count("POST") == 1


@pytest.mark.parametrize("name", ["brotli", "chunks that are none", "no HTTP", "an empty body"])
async def test_a_poll_that_can_not_be_read_is_a_failed_poll(name: str) -> None:
    """§3.3: the task is asked for again, and given up only by the policy."""
    broken = answering(UNREADABLE[name])
    async with RawServer([broken, broken, answering(http(TASK))]) as server:
        async with Session(KEY, base_url=server.url) as octo:
            video = await octo.track("task_1")
    assert video.status == "completed"
    assert len(server.calls) == 3

    patient = PollPolicy(wait=tenacity.wait_fixed(1), max_failures=3, failure_window=0)
    async with RawServer([broken]) as server:
        async with Session(KEY, base_url=server.url, poll=patient) as octo:
            with pytest.raises(PollingFailedError) as caught:
                await octo.track("task_1")
    assert isinstance(caught.value.__cause__, OctoremixError)


@pytest.mark.parametrize("more", [b'{"id": "evil"}', http(b'{"id": "evil"}')])
async def test_what_follows_an_answer_is_no_part_of_the_next_one(more: bytes) -> None:
    """§3.3: a connection on which more came than was asked for is not used again."""
    long = answering(http(TASK) + more, keep=True)
    async with RawServer([long, answering(http(b'{"id": "task_2"}'))]) as server:
        transport = transport_to(server.url)
        request = Request(method="GET", url=URL(server.url + "/v1/videos/task_1"))
        with contextlib.suppress(APIConnectionError):
            assert (await transport.send(request, timeout=5)).body == TASK
        assert (await transport.send(request, timeout=5)).body == b'{"id": "task_2"}'
        await transport.aclose()
    assert [call.connection for call in server.calls] == [1, 2]


def dripping(beginning: bytes, drop: bytes) -> Behaviour:
    async def behave(_: RawCall, writer: asyncio.StreamWriter) -> bool:
        writer.write(beginning)
        while True:
            await writer.drain()
            await asyncio.sleep(10)
            writer.write(drop)

    return behave


@pytest.mark.parametrize(
    ("beginning", "drop"),
    [
        (b"", b"X-Header: x\r\n"),
        (head("Content-Length: 1000\r\n"), b" "),
        (head("Transfer-Encoding: chunked\r\n"), b"1\r\n \r\n"),
    ],
    ids=["in the head", "in the body", "in chunks"],
)
async def test_a_slow_drip_is_ended_as_a_whole(beginning: bytes, drop: bytes) -> None:
    """§3.3: `request_timeout` covers the call to its last byte, however regularly something comes."""
    loop = asyncio.get_running_loop()
    async with RawServer([dripping(beginning or b"HTTP/1.1 200 OK\r\n", drop)]) as server:
        started = loop.time()
        with pytest.raises(APITimeoutError, match="did not answer within 30 s"):
            await retrieve(server)
        assert loop.time() - started == pytest.approx(30, abs=1)
        await server.hung_up.wait()


async def test_a_submit_that_drips_is_ended_by_its_own_time_out() -> None:
    """`submit_timeout` covers the answer to a submit, which is a doubt from then on."""
    loop = asyncio.get_running_loop()
    async with RawServer([dripping(head("Content-Length: 1000\r\n"), b" ")]) as server:
        async with Session(KEY, base_url=server.url, submit_timeout=120) as octo:
            started = loop.time()
            with pytest.raises(SubmitOutcomeUnknownError, match="120 s"):
                await octo.submit("v", prompt="snow")
            assert loop.time() - started == pytest.approx(120, abs=1)


CODED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}


@pytest.mark.parametrize("coding", CODED)
async def test_usual_codings_are_read(coding: str) -> None:
    """§3.3: what we say that we accept is understood, also in chunks."""
    body = CODED[coding](TASK)
    chunked = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    coded = f"Content-Encoding: {coding}\r\n"
    async with RawServer(
        [
            answering(http(body, headers=coded)),
            answering(head(f"{coded}Transfer-Encoding: chunked\r\n") + chunked),
            answering(head(f"{coded}Connection: close\r\n") + body),
        ]
    ) as server:
        for _ in range(3):
            await retrieve(server)
