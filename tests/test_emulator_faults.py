"""Faults in how a call is answered: what comes over the wire, and what is bought."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from octoremix.testing import FAULTS, POLL_FAULTS, Emulator

from .emulator_client import BODY, Client
from .sections import named

PATH = "/v1/videos/video_123/remix"


# What a call is answered with: the section of the reference, the status, the type, and a text in the body.
ANSWERS: dict[str, tuple[str, int, str, str]] = {
    "empty": ("§3.1 E5", 200, "application/json", ""),
    "html": ("§3.1 E7", 200, "text/html", "Just a moment"),
    "html_502": ("§3.1 E7", 502, "text/html", "Bad gateway"),
    "html_503": ("§3.1 E7", 503, "text/html", "Service Temporarily Unavailable"),
    "html_504": ("§3.1 E7", 504, "text/html", "Gateway time-out"),
    "html_524": ("§3.1 E7", 524, "text/html", "A timeout occurred"),
    "panic": ("§3.1 E6", 500, "application/json", '"type": "new_api_panic"'),
    "database_error": ("§3.1 E2", 500, "application/json", '"type": "new_api_error"'),
    "upstream_error": ("§3.1 E1", 500, "application/json", '"code": "fail_to_fetch_task"'),
    "rate_limited": ("§3.1 E1", 429, "application/json", '"code": "fail_to_fetch_task"'),
    "rate_limited_empty": ("§3.1 E5", 429, "", ""),
    "rate_limited_edge": ("§3.1 E7", 429, "text/html", "Too Many Requests"),
    "key_exhausted": ("§4.6", 401, "application/json", "Invalid token (request id: "),
    "model_limited_key": ("§3.2", 403, "application/json", "no access to model  (request id: "),
    "not_found": ("§3.1 E1", 400, "application/json", '"code": "task_not_exist"'),
    "not_implemented": ("§3.2", 501, "application/json", '"code": "not_implemented"'),
    "error_in_202": ("§3.1 E8", 202, "application/json", '"code": "fail_to_fetch_task"'),
    "remix_bug": ("§4.1", 400, "application/json", "task does not exist"),
    "source_channel_disabled": ("§3.2", 400, "application/json", '"code": "task_channel_disable"'),
    "source_unfinished": ("§3.2", 400, "application/json", '"code": "origin_task_not_completed"'),
    "quota_exceeded": ("§3.2", 403, "application/json", '"code": "insufficient_user_quota"'),
}


async def test_the_plugin_of_a_task_can_be_gone() -> None:
    """§1.4: its files can't be listed then, and its task is there all the same."""
    async with Emulator(profile="rc30", faults=["artifact_unavailable"]) as gateway:
        async with Client(gateway) as client:
            status, answer = await client.json("GET", "/v1/tasks/v/artifacts")
            found, _ = await client.json("GET", "/v1/tasks/v")
    assert (status, answer["error"]["code"]) == (503, "artifact_plugin_unavailable")
    assert found == 200


def fault_of(gateway: Emulator, name: str, **settings: Any) -> str:
    """Add it, and return what it happens on."""
    return gateway.faults.add(name, **settings).on


@pytest.mark.parametrize("name", named(ANSWERS))
async def test_a_fault_answers_as_the_gateway_or_its_edge_would(name: str) -> None:
    """Status, type and envelope are those of whoever answers; the edge has no ids of ours."""
    async with Emulator(duration=0) as gateway, Client(gateway) as client:
        video_id = (await client.remix())["id"]
        on = fault_of(gateway, name, next=1)
        method, path = ("GET", f"/v1/videos/{video_id}") if on == "query" else ("POST", PATH)
        status, headers, body = await client.call(method, path, json=BODY)
        again, _, _ = await client.call(method, path, json=BODY)
    _, wanted, kind, text = ANSWERS[name]
    assert (status, headers.get("Content-Type", "").partition(";")[0]) == (wanted, kind)
    assert text in body.decode()
    assert bool(text) is bool(body)
    assert ("cf-ray" in headers) is (kind == "text/html")
    assert ("X-Oneapi-Request-Id" in headers) is (kind != "text/html")
    assert ("Retry-After" in headers) is (name == "rate_limited_edge")
    assert again == 200
    assert gateway.faults.hits == {name: 1}
    if on != "query":
        assert gateway.books.charged == 2  # the first one and the last one: refusals are free


@pytest.mark.parametrize("name", ["cut", "hung", "lost_answer", "hung_submit"])
@pytest.mark.parametrize("accepted", [False, True])
async def test_a_submit_without_an_answer_is_paid_or_not_as_the_plan_says(
    name: str, accepted: bool
) -> None:
    """§4.3: the connection is reset at once or late, and the books say whether a job was bought."""
    async with Emulator() as gateway, Client(gateway) as client:
        gateway.faults.add(name, on="remix", accepted=accepted, seconds=30)
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.call("POST", PATH, json=BODY)
    assert gateway.books.charged == accepted
    assert gateway.books.in_flight == 0


@pytest.mark.parametrize("name", ["html_502", "html_524", "empty", "rate_limited_edge", "panic"])
async def test_any_answer_can_hide_a_job_that_was_bought(name: str) -> None:
    """§4.3: with ``accepted`` the job is charged and exists, whatever its client is told."""
    async with Emulator(duration=0) as gateway, Client(gateway) as client:
        gateway.faults.add(name, on="submit", accepted=True)
        await client.call("POST", PATH, json=BODY)
        await client.call("POST", "/v1/videos", json=BODY)
        found = await client.query(gateway.books.jobs[0].id)
    assert gateway.books.charged == 2
    assert found["status"] == "completed"


async def test_a_refusal_stays_one_under_a_fault() -> None:
    """A submit that would be refused is not bought by a fault that buys."""
    async with Emulator() as gateway, Client(gateway) as client:
        gateway.faults.add("lost_answer")
        status, answer = await client.json("POST", PATH, json={"model": "m"})
    assert (status, answer["code"]) == (400, "invalid_request")
    assert gateway.books.charged == 0


async def test_a_hung_submit_is_bought_though_its_client_left() -> None:
    """§4.3: the gateway goes on for nobody, and charges at the end."""
    async with Emulator() as gateway, Client(gateway) as client:
        gateway.faults.add("hung_submit", seconds=100)
        with pytest.raises(TimeoutError):
            await client.call("POST", PATH, json=BODY, timeout=aiohttp.ClientTimeout(total=30))
        assert gateway.books.charged == 0
        await asyncio.sleep(71)
        assert gateway.books.charged == 1


async def test_slow_and_odd_bodies() -> None:
    """§3.3: late, compressed, half or too short: the answer is the right one underneath."""
    async with Emulator(duration=0) as gateway, Client(gateway) as client:
        video_id = (await client.remix())["id"]
        loop = asyncio.get_running_loop()
        path = f"/v1/videos/{video_id}"
        _, _, right = await client.call("GET", path)

        gateway.faults.add("slow", next=1)
        started = loop.time()
        _, _, body = await client.call("GET", path)
        assert body == right
        assert loop.time() - started == pytest.approx(5, abs=1)

        gateway.faults.add("gzip", next=1)
        _, headers, body = await client.call("GET", path)
        assert (headers["Content-Encoding"], body) == ("gzip", right)
        async with aiohttp.ClientSession(auto_decompress=False, headers=client.headers) as http:
            gateway.faults.add("gzip", next=1)
            async with http.get(gateway.url + path) as response:
                assert gzip.decompress(await response.read()) == right

        gateway.faults.add("truncated", next=1)
        _, _, body = await client.call("GET", path)
        assert body == right[: len(right) // 2]

        gateway.faults.add("wrong_length", next=1)
        with pytest.raises(aiohttp.ClientPayloadError):
            await client.call("GET", path)


# What an answer about a running job says under each fault that changes it.
EDITS: dict[str, tuple[str, dict[str, Any]]] = {
    "unknown": ("§2.1", {"status": "unknown"}),
    "odd_status": ("§2.2", {"status": "moderating"}),
    "status_flap": ("§2.2", {"status": "queued"}),
    "progress_regress": ("§2.1", {"progress": 1}),
    "task_id_mismatch": ("§2.3", {"task_id": "upstream_0123456789"}),
    "numeric_seconds": ("§2.3", {"seconds": 8}),
}


@pytest.mark.parametrize("name", named(EDITS))
async def test_a_poll_can_say_something_odd(name: str) -> None:
    """One field of the running job's object is odd, and its end is never hidden."""
    async with Emulator(duration=20) as gateway, Client(gateway) as client:
        video_id = (await client.remix())["id"]
        await asyncio.sleep(10)
        gateway.faults.add(name)
        right = {"status": "processing", "progress": 50, "seconds": "8"}
        odd = await client.query(video_id)
        await asyncio.sleep(10)
        end = await client.query(video_id)
    assert odd | right | EDITS[name][1] == odd
    assert end["status"] == "completed"
    assert end["progress"] == 100


async def test_times_can_be_odd() -> None:
    """§2.3, §1.3 trap 1: in milliseconds, and with ``completed_at`` set before the end."""
    async with Emulator(duration=20) as gateway, Client(gateway) as client:
        video_id = (await client.remix())["id"]
        right = await client.query(video_id)
        gateway.faults.add("ms_timestamps", next=1)
        milliseconds = await client.query(video_id)
        gateway.faults.add("early_completed_at", next=1)
        early = await client.query(video_id)
    assert milliseconds["created_at"] == right["created_at"] * 1000
    assert milliseconds["expires_at"] == right["expires_at"] * 1000
    assert milliseconds["completed_at"] == 0
    assert (right["completed_at"], early["completed_at"]) == (0, right["created_at"])


@pytest.mark.parametrize("profile", ["rc30", "grok", "unified"])
@pytest.mark.parametrize("name", [*EDITS, "ms_timestamps", "early_completed_at"])
async def test_odd_answers_leave_alone_what_a_dialect_has_not(profile: str, name: str) -> None:
    """A dialect without the field is answered all the same."""
    async with (
        Emulator(profile=profile, refresh=15.0, duration=20) as gateway,
        Client(gateway) as client,
    ):
        video_id = (await client.remix())["id"]
        gateway.faults.add(name)
        answer = await client.query(video_id)
    assert answer.get("id", answer.get("task_id")) == video_id


async def test_a_client_that_left_before_a_broken_answer_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody is there to be answered, and nothing is logged."""
    async with Emulator() as gateway, Client(gateway) as client:
        for name in ("wrong_length", "cut", "gzip"):
            gateway.faults.clear()
            gateway.faults.add("slow")
            gateway.faults.add(name)
            with pytest.raises(TimeoutError):
                await client.call("GET", "/v1/videos/v", timeout=aiohttp.ClientTimeout(total=2))
            await asyncio.sleep(10)
            assert gateway.books.in_flight == 0
    assert not caplog.records


def test_every_fault_has_a_test() -> None:
    """What can be asked for is what is described, and all of it is tried in these files."""
    files = Path(__file__).parent.glob("test_emulator*_faults.py")
    text = "".join(file.read_text("utf-8") for file in files)
    for name in FAULTS:
        assert name in POLL_FAULTS or f'"{name}' in text, name
