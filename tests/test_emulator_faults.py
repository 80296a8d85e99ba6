"""Each fault by its name: what comes over the wire, what is bought, and that a wait survives."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from tenacity import wait_fixed

from octoremix import (
    OctoremixError,
    PollPolicy,
    Session,
    SubmitOutcomeUnknownError,
    TaskLostError,
)
from octoremix.testing import FAULTS, POLL_FAULTS, Emulator, Route

from .emulator_client import BODY, Client

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

POLL = PollPolicy(first_delay=3.0, wait=wait_fixed(7.0))
PATH = "/v1/videos/video_123/remix"

# What a call is answered with: the status, the type, and a text in the body.
ANSWERS: dict[str, tuple[int, str, str]] = {
    "empty": (200, "application/json", ""),
    "html": (200, "text/html", "Just a moment"),
    "html_502": (502, "text/html", "Bad gateway"),
    "html_503": (503, "text/html", "Service Temporarily Unavailable"),
    "html_504": (504, "text/html", "Gateway time-out"),
    "html_524": (524, "text/html", "A timeout occurred"),
    "panic": (500, "application/json", '"type": "new_api_panic"'),
    "database_error": (500, "application/json", '"type": "new_api_error"'),
    "upstream_error": (500, "application/json", '"code": "fail_to_fetch_task"'),
    "rate_limited": (429, "application/json", '"code": "fail_to_fetch_task"'),
    "rate_limited_empty": (429, "", ""),
    "rate_limited_edge": (429, "text/html", "Too Many Requests"),
    "key_exhausted": (401, "application/json", "Invalid token (request id: "),
    "model_limited_key": (403, "application/json", "no access to model  (request id: "),
    "not_found": (400, "application/json", '"code": "task_not_exist"'),
    "not_implemented": (501, "application/json", '"code": "not_implemented"'),
    "error_in_202": (202, "application/json", '"code": "fail_to_fetch_task"'),
    "remix_bug": (400, "application/json", "task does not exist"),
    "source_channel_disabled": (400, "application/json", '"code": "task_channel_disable"'),
    "source_unfinished": (400, "application/json", '"code": "origin_task_not_completed"'),
    "quota_exceeded": (403, "application/json", '"code": "insufficient_user_quota"'),
}


def fault_of(gateway: Emulator, name: str, **settings: Any) -> str:
    """Add it, and return what it happens on."""
    return gateway.faults.add(name, **settings).on


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_fault_answers_as_the_gateway_or_its_edge_would(name: str) -> None:
    """Status, type and envelope are those of whoever answers; the edge has no ids of ours."""
    async with Emulator(duration=0) as gateway, Client(gateway) as client:
        video_id = (await client.remix())["id"]
        on = fault_of(gateway, name, next=1)
        method, path = ("GET", f"/v1/videos/{video_id}") if on == "query" else ("POST", PATH)
        status, headers, body = await client.call(method, path, json=BODY)
        again, _, _ = await client.call(method, path, json=BODY)
    wanted, kind, text = ANSWERS[name]
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
    """The connection is reset at once or late, and the books say whether a job was bought."""
    async with Emulator() as gateway, Client(gateway) as client:
        gateway.faults.add(name, on="remix", accepted=accepted, seconds=30)
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.call("POST", PATH, json=BODY)
    assert gateway.books.charged == accepted
    assert gateway.books.in_flight == 0


@pytest.mark.parametrize("name", ["html_502", "html_524", "empty", "rate_limited_edge", "panic"])
async def test_any_answer_can_hide_a_job_that_was_bought(name: str) -> None:
    """With ``accepted`` the job is charged and exists, whatever its client is told."""
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
    """The gateway goes on for nobody, and charges at the end."""
    async with Emulator() as gateway, Client(gateway) as client:
        gateway.faults.add("hung_submit", seconds=100)
        with pytest.raises(TimeoutError):
            await client.call("POST", PATH, json=BODY, timeout=aiohttp.ClientTimeout(total=30))
        assert gateway.books.charged == 0
        await asyncio.sleep(71)
        assert gateway.books.charged == 1


async def test_slow_and_odd_bodies() -> None:
    """Late, compressed, half or too short: the answer is the right one underneath."""
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
EDITS: dict[str, dict[str, Any]] = {
    "unknown": {"status": "unknown"},
    "odd_status": {"status": "moderating"},
    "status_flap": {"status": "queued"},
    "progress_regress": {"progress": 1},
    "task_id_mismatch": {"task_id": "upstream_0123456789"},
    "numeric_seconds": {"seconds": 8},
}


@pytest.mark.parametrize("name", EDITS)
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
    assert odd | right | EDITS[name] == odd
    assert end["status"] == "completed"
    assert end["progress"] == 100


async def test_times_can_be_odd() -> None:
    """In milliseconds, and with ``completed_at`` set before the end."""
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


@pytest.mark.parametrize("name", POLL_FAULTS)
@pytest.mark.parametrize("outcome", ["completed", "failed"])
async def test_a_wait_survives_each_poll_fault(name: str, outcome: Any) -> None:
    """Three polls in a row go wrong, and the job still ends as the books say, paid once."""
    async with (
        Emulator(duration=40, outcome=outcome) as gateway,
        Session(gateway.api_key, base_url=gateway.url, poll=POLL) as session,
    ):
        gateway.faults.add(name, first=3)
        future = await session.submit("video_123", prompt="make it snow")
        try:
            video = await future
        except OctoremixError as error:
            video = error.video  # type: ignore[attr-defined]
    assert video.status == gateway.books.jobs[0].outcome == outcome
    assert gateway.faults.hits == {name: 3}
    gateway.books.assert_charged_once(1)
    assert gateway.books.refunded == (outcome == "failed")


@pytest.mark.parametrize(
    ("fault", "paid", "error"),
    [
        ("lost_answer", 1, SubmitOutcomeUnknownError),
        ("hung_submit", 1, SubmitOutcomeUnknownError),
        ("cut:on=remix", 0, SubmitOutcomeUnknownError),
        ("html_524:on=remix,accepted=true", 1, SubmitOutcomeUnknownError),
        ("html_502:on=remix", 0, SubmitOutcomeUnknownError),
        ("error_in_202", 0, OctoremixError),
        ("remix_bug", 0, OctoremixError),
        ("source_channel_disabled", 0, OctoremixError),
        ("source_unfinished", 0, OctoremixError),
        ("quota_exceeded", 0, OctoremixError),
        ("model_limited_key:on=remix", 0, OctoremixError),
        ("key_exhausted:on=remix", 0, OctoremixError),
        ("insert_lost", 1, TaskLostError),
        ("stuck", 1, OctoremixError),
        ("restart:call=2", 1, TaskLostError),
    ],
)
async def test_a_session_names_what_became_of_a_submit(
    fault: str, paid: int, error: type[OctoremixError]
) -> None:
    """One POST for each job, and an error that fits what the books say."""
    async with (
        Emulator(duration=200, faults=[fault]) as gateway,
        Session(gateway.api_key, base_url=gateway.url, poll=POLL) as session,
    ):
        with pytest.raises(error):
            await session.remix("video_123", prompt="make it snow", deadline=900)
        await asyncio.sleep(200)
    assert gateway.books.requests[Route.REMIX] == 1
    assert gateway.books.charged == paid
    if paid:
        gateway.books.assert_charged_once(1)
    if error is TaskLostError:
        assert gateway.books.jobs[0].outcome == "lost"


async def test_a_429_is_the_one_refusal_that_is_sent_again() -> None:
    """Each form of it is free, and the job is bought once in the end."""
    async with (
        Emulator(duration=5) as gateway,
        Session(gateway.api_key, base_url=gateway.url, poll=POLL) as session,
    ):
        for name in ("rate_limited", "rate_limited_empty", "rate_limited_edge"):
            gateway.faults.add(name, on="remix", next=1)
        # All three hit the first call, which meets the first of them; then none is left.
        await session.remix("video_123", prompt="make it snow")
    assert gateway.books.requests[Route.REMIX] == 2
    gateway.books.assert_charged_once(1)


async def test_a_late_job_is_found_in_the_end() -> None:
    """Its id doesn't exist for a few polls, and the wait goes on."""
    async with (
        Emulator(duration=5, faults=["late_visible:times=2"]) as gateway,
        Session(gateway.api_key, base_url=gateway.url, poll=POLL) as session,
    ):
        video = await session.remix("video_123", prompt="make it snow")
    assert gateway.books.polls == {video.id: 3}
    assert gateway.books.jobs[0].outcome == video.status


# How a job with each fault ends: outcome in the books, refunds, a status or a field of its object.
ENDS: dict[str, tuple[str, int, int, Mapping[str, Any]]] = {
    "odd_end": ("completed", 1, 200, {"status": "done"}),
    "odd_end:word=succeeded": ("completed", 1, 200, {"status": "succeeded"}),
    "failure_text_as_url": ("failed", 1, 200, {"video_url": "The video could not be generated"}),
    "failure_as_error": ("failed", 1, 500, {"status": "failed", "object": "video"}),
    "failure_as_error:status=422": ("failed", 1, 422, {"status": "failed"}),
    "no_url": ("completed", 0, 200, {"status": "completed", "progress": 100}),
    "error_without_status": ("failed", 1, 200, {}),
    "stuck:seconds=4": ("stuck", 0, 200, {"status": "processing", "progress": 40}),
}


@pytest.mark.parametrize("fault", ENDS)
async def test_a_job_can_end_oddly(fault: str) -> None:
    """The object is odd, and so is the money; the books say what a client is to make of it."""
    outcome, refunds, status, fields = ENDS[fault]
    async with (
        Emulator(duration=10, sweep_after=float("inf"), faults=[fault]) as gateway,
        Client(gateway) as client,
    ):
        video_id = (await client.remix())["id"]
        await asyncio.sleep(10)
        found, answer = await client.json("GET", f"/v1/videos/{video_id}")
        async with Session(gateway.api_key, base_url=gateway.url, poll=POLL) as session:
            try:
                video = await session.track(video_id, deadline=60)
            except OctoremixError as error:
                video = error.video  # type: ignore[attr-defined]
    assert found == status
    assert answer | fields == answer
    assert gateway.books.jobs[0].outcome == outcome
    assert gateway.books.refunded == refunds
    assert str(video.status) == {"stuck": "processing"}.get(outcome, outcome)
    if fault == "error_without_status":
        assert set(answer) == {"error", "id"}
    if fault == "no_url":
        assert "video_url" not in answer


@pytest.mark.parametrize("profile", ["newapi-built", "newapi-gemini", "rc30"])
async def test_a_dialect_of_the_gateways_own_state_tells_its_own_end(profile: str) -> None:
    """Where the gateway builds the answer, a word that it doesn't know is a failure."""
    async with (
        Emulator(profile=profile, duration=0, faults=["odd_end"]) as gateway,
        Client(gateway) as client,
    ):
        video_id = (await client.remix())["id"]
        answer = await client.query(video_id)
    assert answer["status"] in {"failed", "FAILURE"}
    assert gateway.books.jobs[0].outcome == "failed"


async def test_a_failure_text_stands_where_the_dialect_has_its_link() -> None:
    """Also where that is two levels deep, or nowhere."""
    for profile, field in (("grok", "output"), ("rc30", "metadata")):
        async with (
            Emulator(profile=profile, duration=0, faults=["failure_text_as_url"]) as gateway,
            Client(gateway) as client,
        ):
            await client.remix()
            answer = await client.query(gateway.books.jobs[0].id)
        assert answer[field] == {"url": "The video could not be generated"}


async def test_an_answer_can_name_the_source_instead_of_the_job() -> None:
    """The id is the source's, in every place; the job itself exists and is paid for."""
    async with (
        Emulator(profile="newapi-sora", faults=["id_echo"]) as gateway,
        Client(gateway) as client,
    ):
        answer = await client.remix("video_123")
    assert (answer["id"], answer["task_id"]) == ("video_123", "video_123")
    assert gateway.books.jobs[0].id != "video_123"


async def test_a_restart_loses_what_has_not_ended() -> None:
    """Finished jobs are still there afterwards, by a fault or by hand."""

    def duration(request: Any) -> float:
        return 5.0 if request.index == 0 else 50.0

    async with Emulator(duration=duration) as gateway, Client(gateway) as client:
        ids = [(await client.remix(prompt=str(number)))["id"] for number in range(2)]
        await asyncio.sleep(10)
        gateway.faults.add("restart", call=1)
        assert (await client.query(ids[0]))["status"] == "completed"
        status, answer = await client.json("GET", f"/v1/videos/{ids[1]}")
        assert (status, answer["code"]) == (400, "task_not_exist")
        third = (await client.remix(prompt="2"))["id"]
        gateway.forget_unfinished()
        status, _ = await client.json("GET", f"/v1/videos/{third}")
        assert status == 400
    assert [job.outcome for job in gateway.books.jobs] == ["completed", "lost", "lost"]
    assert gateway.books.refunded == 0


@pytest.mark.parametrize("cdn", [True, False])
async def test_a_link_can_expire(cdn: bool, tmp_path: Path) -> None:
    """The old link is refused, a later query has one that works, and no key is shown."""
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
    """On the gateway in its envelope, on the second origin in pages of the edge."""
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
    """Content that fails at first is fetched in the end, and nothing is bought again."""
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


def test_every_fault_has_a_test_here() -> None:
    """What can be asked for is what is described, and all of it is tried above."""
    text = __import__("pathlib").Path(__file__).read_text("utf-8")
    for name in FAULTS:
        assert name in POLL_FAULTS or f'"{name}' in text, name
