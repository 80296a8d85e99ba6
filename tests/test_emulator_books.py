"""What the local gateway books, and how it is started and stopped."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiohttp
import pytest

from octoremix.testing import Emulator, Route

from .emulator_client import BODY, Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def test_the_books_say_what_happened() -> None:
    """Jobs in order with what they asked for, polls with their times, and counts by route."""
    async with Emulator() as gateway, Client(gateway) as client:
        loop = asyncio.get_running_loop()
        start = loop.time()
        ids = [(await client.remix(f"v{i}", prompt=f"p{i}", extra=[i]))["id"] for i in range(3)]
        await asyncio.sleep(5)
        await client.query(ids[0])
        await asyncio.sleep(10)
        await client.query(ids[0])

    books = gateway.books
    assert (books.accepted, books.charged) == (3, 3)
    assert [job.id for job in books.jobs] == ids
    assert [job.charged for job in books.jobs] == [True] * 3
    request = books.jobs[1].request
    assert (request.index, request.source_id, request.prompt) == (1, "v1", "p1")
    assert request.model == "veo_3_1-extend"
    assert request.body == BODY | {"prompt": "p1", "extra": [1]}
    assert start <= books.jobs[0].accepted_at <= start + 5
    assert books.polls == {ids[0]: 2}
    first, second = books.poll_times[ids[0]]
    assert second - first == pytest.approx(10, abs=1)
    assert books.requests == {"POST /v1/videos/{id}/remix": 3, "GET /v1/videos/{id}": 2}
    assert books.authorizations[Route.QUERY, "Bearer sk-emulator"] == 2
    assert (books.in_flight, books.most_in_flight) == (0, 1)
    assert "accepted=3" in repr(gateway)


async def test_the_books_know_how_many_came_at_once() -> None:
    """The most in flight is of all routes together, and of each by itself."""
    release = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        data = json.dumps(BODY).encode()
        yield data[:5]
        await release.wait()
        yield data[5:]

    async with Emulator() as gateway, Client(gateway) as client:
        path = "/v1/videos/v/remix"
        headers = client.headers | {"Content-Type": "application/json"}
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(client.json("POST", path, data=body(), headers=headers))
            await asyncio.sleep(1)
            assert gateway.books.in_flight == 5
            await client.query("v")
            release.set()
    assert gateway.books.in_flight == 0
    assert gateway.books.most_in_flight == 6
    assert gateway.books.most_in_flight_by_route == {Route.REMIX: 5, Route.QUERY: 1}


async def test_a_job_is_charged_before_it_is_answered() -> None:
    """A client that leaves without its answer has paid all the same."""
    async with Emulator() as gateway:
        _, writer = await asyncio.open_connection(*gateway.url.removeprefix("http://").split(":"))
        data = json.dumps(BODY)
        head = (
            "POST /v1/videos/v/remix HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-emulator\r\n"
        )
        kind = "Content-Type: application/json\r\n"
        writer.write(f"{head}{kind}Content-Length: {len(data)}\r\n\r\n{data}".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(1)
    assert (gateway.books.accepted, gateway.books.charged) == (1, 1)


async def test_without_records_the_books_hold_counts_only() -> None:
    """A run of very many jobs can do without a record of each."""
    async with Emulator(record=False) as gateway, Client(gateway) as client:
        video = await client.remix()
        await client.query(video["id"])
    books = gateway.books
    assert (books.accepted, books.charged, books.jobs) == (1, 1, [])
    assert (books.polls, books.poll_times) == ({video["id"]: 1}, {})


async def test_many_connections_at_once_are_all_served() -> None:
    """A burst of new connections is answered without one of them timing out."""
    async with Emulator() as gateway:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        headers = {"Authorization": f"Bearer {gateway.api_key}"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as http:

            async def poll(number: int) -> int:
                async with http.get(f"{gateway.url}/v1/videos/{number}") as response:
                    return response.status

            assert set(await asyncio.gather(*map(poll, range(300)))) == {200}
    assert gateway.books.requests[Route.QUERY] == 300


async def test_it_can_be_started_and_closed_by_hand() -> None:
    """Without ``async with`` it is the same; closing twice is nothing, starting twice an error."""
    gateway = Emulator(host="127.0.0.1")
    with pytest.raises(RuntimeError, match="start"):
        _ = gateway.url
    assert "closed" in repr(gateway)
    await gateway.aclose()
    assert await gateway.start() is gateway
    with pytest.raises(RuntimeError, match="already"):
        await gateway.start()
    await asyncio.gather(gateway.aclose(), gateway.aclose())
    await gateway.aclose()


async def test_after_an_outage_it_is_the_same_gateway() -> None:
    """Closed and started again it listens where it did and knows its jobs."""
    gateway = Emulator(duration=10)
    async with Client(gateway) as client:
        async with gateway:
            video = await client.remix()
            url = gateway.url
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.query(video["id"])
        await asyncio.sleep(10)
        async with gateway:
            assert gateway.url == url
            assert (await client.query(video["id"]))["status"] == "completed"


async def test_a_port_that_is_taken_leaves_nothing_behind() -> None:
    """A start that fails can be tried again."""
    async with Emulator() as first:
        port = int(first.url.rpartition(":")[2])
        second = Emulator(port=port)
        with pytest.raises(OSError, match="address"):
            await second.start()
    async with second:
        assert second.url == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::", "http://[::1]:8080"),
        ("localhost", "http://localhost:8080"),
    ],
)
def test_the_address_is_one_to_connect_to(host: str, url: str) -> None:
    """Listening everywhere still gives an address that a client can use."""
    assert Emulator(host=host, port=8080).url == url
