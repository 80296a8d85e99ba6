"""The older route is asked where the usual answer can't be believed, and an answer may ask to wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import tenacity
from aiohttp import web

import octoremix

from .scripted import Answer, ScriptedGateway, cut, reply, task

LINK = "https://cdn.example/1.mp4"
STEADY = octoremix.PollPolicy(wait=tenacity.wait_fixed(10), first_delay=5)
NOT_IMPLEMENTED = reply({"code": "not_implemented", "message": "no", "data": None}, status=501)


def session(gateway: ScriptedGateway, **settings: Any) -> octoremix.Session:
    return octoremix.Session("key", base_url=gateway.url, **{"poll": STEADY, **settings})


def record(status: str, **fields: Any) -> Answer:
    """Answer as new-api's older route does: its own record around what the upstream said last."""
    data = {"id": 7, "task_id": "task_1", "status": status, "data": {"status": "queued"}, **fields}
    return reply({"code": "success", "message": "", "data": data})


def asked(gateway: ScriptedGateway) -> int:
    """How often the older route was asked."""
    return sum("/v1/video/generations/task_1" in call.path for call in gateway.calls)


async def hanging(_: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(10_000)
    return web.Response()


async def test_a_frozen_answer_is_checked_once_and_the_record_wins() -> None:
    """§1.3 trap 5: a task that the gateway's sweep has failed, but whose answer stays the same, is found out."""
    async with ScriptedGateway(polls=[task("queued")], contents=[record("FAILURE")]) as gateway:
        async with session(gateway) as octo:
            with pytest.raises(octoremix.RemixFailedError):
                await octo.track("task_1")
            assert asyncio.get_running_loop().time() == pytest.approx(605, abs=10.1)
        assert asked(gateway) == 1


async def test_a_frozen_answer_whose_record_goes_on_is_asked_for_once() -> None:
    """§1.3 trap 5: one look is enough for each time that an answer stays the same."""
    script = [task("queued")] * 150 + [task("processing")] * 150 + [task("completed", url=LINK)]
    async with ScriptedGateway(polls=script, contents=[record("IN_PROGRESS")]) as gateway:
        async with session(gateway) as octo:
            await octo.track("task_1")
        assert asked(gateway) == 2


async def test_the_time_until_a_stall_can_be_chosen() -> None:
    """`stall_after` says when, and `None` says never."""
    for stall_after, looks in ((30, 1), (None, 0)):
        policy = octoremix.PollPolicy(
            wait=tenacity.wait_fixed(10), first_delay=5, stall_after=stall_after
        )
        async with ScriptedGateway(polls=[task("queued")], contents=[reply(status=404)]) as gateway:
            async with session(gateway, poll=policy) as octo:
                octo.track("task_1")
                await asyncio.sleep(1000)
            assert asked(gateway) == looks


async def test_an_answer_that_changes_is_no_stall() -> None:
    """A task whose progress moves is not asked for elsewhere."""
    script = [task("processing", progress=step) for step in range(100)]
    async with ScriptedGateway(polls=[*script, task("completed", url=LINK)]) as gateway:
        async with session(gateway) as octo:
            await octo.track("task_1")
        assert asked(gateway) == 0


async def test_a_look_that_was_lost_to_an_outage_is_made_up_for() -> None:
    """If the poll of a stalled task fails, the next one looks."""
    script = [task("queued")] * 60 + [reply(status=502), task("queued")]
    async with ScriptedGateway(polls=script, contents=[record("FAILURE")]) as gateway:
        async with session(gateway) as octo:
            with pytest.raises(octoremix.RemixFailedError):
                await octo.track("task_1")


async def test_a_route_that_can_not_tell_is_replaced_by_the_older_one() -> None:
    """§1.3, §1.5: where the usual route answers 501, the task is followed by its record."""
    script = [record("IN_PROGRESS"), record("SUCCESS", result_url=LINK)]
    async with ScriptedGateway(polls=[NOT_IMPLEMENTED], contents=script) as gateway:
        async with session(gateway) as octo:
            video = await octo.track("task_1")
        assert video.url == LINK
        assert len(gateway.gets) == 2


async def test_where_neither_route_can_tell_the_poll_failed() -> None:
    """§3.2: 501 on one route and nothing on the other is a failed poll like any other."""
    script = [NOT_IMPLEMENTED, task("completed", url=LINK)]
    async with ScriptedGateway(polls=script) as gateway, session(gateway) as octo:
        assert (await octo.track("task_1")).url == LINK


@pytest.mark.parametrize(
    ("told", "status", "url"),
    [
        (record("SUCCESS", result_url=LINK), "completed", LINK),
        (record("SUCCESS"), "completed", None),
        (record("FAILURE", fail_reason="moderated"), "failed", None),
        (record("UNKNOWN"), "completed", None),
        (reply(status=404), "completed", None),
        (reply("<html>"), "completed", None),
        (cut, "completed", None),
        (hanging, "completed", None),
    ],
)
async def test_a_finished_task_without_a_link_is_checked(
    told: Answer, status: str, url: str | None
) -> None:
    """§1.5: the record of a task that is done without a link decides; else the first answer stands."""
    async with ScriptedGateway(polls=[task("completed")], contents=[told]) as gateway:
        async with session(gateway) as octo:
            future = octo.track("task_1")
            await asyncio.wait([future])  # type: ignore[type-var]
        assert future.status == status
        assert future.video is not None
        assert future.video.url == url
        assert len(gateway.gets) == 1


async def test_a_slow_answer_leaves_no_time_for_the_record() -> None:
    """A finished answer that took all of a poll's time is taken as it is."""

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(29.8)
        return web.json_response({"id": "task_1", "status": "completed"})

    async with ScriptedGateway(polls=[slow], contents=[hanging]) as gateway:
        async with session(gateway) as octo:
            await octo.track("task_1")
        assert asked(gateway) == 0


async def test_a_task_that_is_done_too_early_goes_on() -> None:
    """§1.5: a finished answer without a link whose record still runs keeps the task polling."""
    script = [record("IN_PROGRESS"), record("SUCCESS", result_url=LINK)]
    async with ScriptedGateway(polls=[task("completed")], contents=script) as gateway:
        async with session(gateway) as octo:
            assert (await octo.track("task_1")).url == LINK
        assert len(gateway.gets) == 2


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"Retry-After": "40"}, 40),
        ({"openai-poll-after-ms": "25000"}, 25),
        ({"openai-poll-after-ms": "25000", "Retry-After": "40"}, 40),
        ({"Retry-After": "100000"}, 300),
        ({"openai-poll-after-ms": "1"}, 10),
        ({"openai-poll-after-ms": "1.5s"}, 10),
        ({"openai-poll-after-ms": "nan"}, 10),
        ({"Retry-After": "soon"}, 10),
        ({}, 10),
    ],
)
async def test_a_good_answer_may_ask_for_a_longer_pause(
    headers: dict[str, str], pause: float
) -> None:
    """§3.3: `Retry-After` and `openai-poll-after-ms` are a floor under that task's next pause alone."""
    waiting = {"id": "task_1", "status": "queued"}
    script = [reply(waiting, headers=headers), reply(waiting), task("completed", url=LINK)]
    async with ScriptedGateway(polls=script) as gateway, session(gateway) as octo:
        await octo.track("task_1")
        # Read anew each time: the second answer repeats the first, without its header.
        assert asyncio.get_running_loop().time() == pytest.approx(5 + pause + 10, abs=0.2)
