"""Faults that stay with a job, and what a session makes of each fault."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tenacity import wait_fixed

from octoremix import (
    OctoremixError,
    PollPolicy,
    Session,
    SubmitOutcomeUnknownError,
    TaskLostError,
)
from octoremix.testing import POLL_FAULTS, Emulator, Route

from .emulator_client import Client
from .sections import named

if TYPE_CHECKING:
    from collections.abc import Mapping


POLL = PollPolicy(first_delay=3.0, wait=wait_fixed(7.0))


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
    ("section", "fault", "paid", "error"),
    [
        ("§4.3", "lost_answer", 1, SubmitOutcomeUnknownError),
        ("§4.3", "hung_submit", 1, SubmitOutcomeUnknownError),
        ("§4.3", "cut:on=remix", 0, SubmitOutcomeUnknownError),
        ("§3.1 E7", "html_524:on=remix,accepted=true", 1, SubmitOutcomeUnknownError),
        ("§3.1 E7", "html_502:on=remix", 0, SubmitOutcomeUnknownError),
        ("§3.1 E8", "error_in_202", 0, OctoremixError),
        ("§4.1", "remix_bug", 0, OctoremixError),
        ("§3.2", "source_channel_disabled", 0, OctoremixError),
        ("§3.2", "source_unfinished", 0, OctoremixError),
        ("§3.2", "quota_exceeded", 0, OctoremixError),
        ("§3.2", "model_limited_key:on=remix", 0, OctoremixError),
        ("§4.6", "key_exhausted:on=remix", 0, OctoremixError),
        ("§4.3", "insert_lost", 1, TaskLostError),
        ("§1.3 trap 5", "stuck", 1, OctoremixError),
        ("§4.3", "restart:call=2", 1, TaskLostError),
    ],
)
async def test_a_session_names_what_became_of_a_submit(
    section: str, fault: str, paid: int, error: type[OctoremixError]
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
    """§3.2: each form of a 429 is free, and the job is bought once in the end."""
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
    """§4.3: its id doesn't exist for a few polls, and the wait goes on."""
    async with (
        Emulator(duration=5, faults=["late_visible:times=2"]) as gateway,
        Session(gateway.api_key, base_url=gateway.url, poll=POLL) as session,
    ):
        video = await session.remix("video_123", prompt="make it snow")
    assert gateway.books.polls == {video.id: 3}
    assert gateway.books.jobs[0].outcome == video.status


# How a job with each fault ends: the section of the reference, outcome in the books, refunds, a status or a field of its object.
ENDS: dict[str, tuple[str, str, int, int, Mapping[str, Any]]] = {
    "odd_end": ("§1.3 trap 6", "completed", 1, 200, {"status": "done"}),
    "odd_end:word=succeeded": ("§1.3 trap 6", "completed", 1, 200, {"status": "succeeded"}),
    "failure_text_as_url": (
        "§1.3 trap 2",
        "failed",
        1,
        200,
        {"video_url": "The video could not be generated"},
    ),
    "failure_as_error": ("§3.2", "failed", 1, 500, {"status": "failed", "object": "video"}),
    "failure_as_error:status=422": ("§3.2", "failed", 1, 422, {"status": "failed"}),
    "no_url": ("§1.3 trap 7", "completed", 0, 200, {"status": "completed", "progress": 100}),
    "error_without_status": ("§1.3 trap 4", "failed", 1, 200, {}),
    "stuck:seconds=4": ("§1.3 trap 5", "stuck", 0, 200, {"status": "processing", "progress": 40}),
}


@pytest.mark.parametrize("fault", named(ENDS))
async def test_a_job_can_end_oddly(fault: str) -> None:
    """The object is odd, and so is the money; the books say what a client is to make of it."""
    _, outcome, refunds, status, fields = ENDS[fault]
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
    """§1.3 trap 6: where the gateway builds the answer, a word that it doesn't know is a failure."""
    async with (
        Emulator(profile=profile, duration=0, faults=["odd_end"]) as gateway,
        Client(gateway) as client,
    ):
        video_id = (await client.remix())["id"]
        answer = await client.query(video_id)
    assert answer["status"] in {"failed", "FAILURE"}
    assert gateway.books.jobs[0].outcome == "failed"


async def test_a_failure_text_stands_where_the_dialect_has_its_link() -> None:
    """§1.3 trap 2: also where that is two levels deep, or nowhere."""
    for profile, field in (("grok", "output"), ("rc30", "metadata")):
        async with (
            Emulator(profile=profile, duration=0, faults=["failure_text_as_url"]) as gateway,
            Client(gateway) as client,
        ):
            await client.remix()
            answer = await client.query(gateway.books.jobs[0].id)
        assert answer[field] == {"url": "The video could not be generated"}


async def test_an_answer_can_name_the_source_instead_of_the_job() -> None:
    """§1.1: the id is the source's, in every place; the job itself exists and is paid for."""
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
