"""The one poller over a scripted gateway, in virtual time."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
import tenacity
from aiohttp import web

import octoremix
from octoremix._pace import Pace
from octoremix._poller import Poller
from octoremix.testing import Emulator

from .scripted import Answer, ScriptedGateway, cut, reply, task

STEADY = octoremix.PollPolicy(wait=tenacity.wait_fixed(10), first_delay=5)
NOT_FOUND = reply({"code": "task_not_exist", "message": "task_not_exist", "data": None}, status=400)
UNAUTHORIZED = reply({"error": {"message": "Invalid token", "code": ""}}, status=401)


def session(
    gateway: ScriptedGateway, poll: octoremix.PollPolicy = STEADY, **settings: Any
) -> octoremix.Session:
    return octoremix.Session("key", base_url=gateway.url, poll=poll, **settings)


def now() -> float:
    return asyncio.get_running_loop().time()


def after(seconds: float, answer: Answer) -> Answer:
    async def late(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        given = answer(request)
        assert isinstance(given, web.StreamResponse)
        return given

    return late


async def test_a_future_resolves_only_on_a_terminal_answer() -> None:
    """A task is asked for at its pace until a poll says that it is completed."""
    script = [task("processing"), task("word-nobody-knows"), task("unknown"), task("completed")]
    async with ScriptedGateway(polls=script) as gateway, session(gateway) as octo:
        video = await octo.track("task_1")
        assert video.status is octoremix.TaskStatus.COMPLETED
        assert len(gateway.gets) == 4
        assert now() == pytest.approx(35, abs=0.1)


async def test_one_id_is_polled_once_however_many_ask() -> None:
    """Futures, waiters and callers of one id share its polls and each answer."""
    async with ScriptedGateway(polls=[task("queued"), task("completed")]) as gateway:
        async with session(gateway) as octo:
            futures = [octo.track("task_1") for _ in range(10)]
            assert len(set(map(id, futures))) == 1
            await asyncio.gather(*futures, *(future.wait() for future in futures))
        assert len(gateway.gets) == 2


async def test_a_settled_task_is_forgotten_and_may_be_tracked_anew() -> None:
    """After its end a task takes no place, and the same id gives a new future."""
    async with ScriptedGateway() as gateway, session(gateway) as octo:
        first = octo.track("task_1")
        await first
        assert octo.stats.tasks_followed == 0
        assert octo.track("task_1") is not first


async def test_a_task_that_is_due_sooner_wakes_the_poller() -> None:
    """A task tracked while the poller sleeps for another is asked for in its own time."""
    far = octoremix.PollPolicy(wait=tenacity.wait_fixed(1000), first_delay=5)
    async with ScriptedGateway(polls=[task("queued"), task("completed")]) as gateway:
        async with session(gateway, far) as octo:
            octo.track("task_1")
            await asyncio.sleep(100)
            await octo.track("task_2")
            assert now() == pytest.approx(105, abs=0.1)


async def test_a_slow_answer_holds_back_nobody_but_itself() -> None:
    """While one poll hangs, the others are sent and answered at their pace."""
    script = [after(25, task("completed", "slow")), task("queued"), task("queued"), task("failed")]
    async with ScriptedGateway(polls=script) as gateway, session(gateway) as octo:
        slow, quick = octo.track("slow"), octo.track("quick")
        with pytest.raises(octoremix.RemixFailedError):
            await quick
        assert now() == pytest.approx(25, abs=0.1)
        await slow
        assert now() == pytest.approx(30, abs=0.1)


async def test_a_poll_that_takes_too_long_is_broken_off_and_repeated() -> None:
    """A poll without an answer within the request's time-out counts as failed."""
    async with (
        ScriptedGateway(polls=[after(1000, task("queued")), task("completed")]) as gateway,
        session(gateway, request_timeout=30) as octo,
    ):
        future = octo.track("task_1")
        await asyncio.sleep(34.9)
        assert octo.stats.requests_in_flight == 1
        await future
        assert now() == pytest.approx(45, abs=0.1)


async def test_late_polls_are_broken_off_while_every_slot_is_taken() -> None:
    """With all slots full of hanging polls each still ends in its own time."""
    policy = octoremix.PollPolicy(wait=tenacity.wait_fixed(10), first_delay=5, concurrency=2)
    hanging = [after(1000, task("queued"))] * 4
    async with (
        ScriptedGateway(polls=[*hanging, task("completed")]) as gateway,
        session(gateway, policy, request_timeout=20) as octo,
    ):
        await asyncio.gather(*(octo.track(f"task_{number}") for number in range(4)))
        # 5 s: two polls hang; 25 s: the other two; the first are answered at 45 s, when the others
        # are broken off, to be asked again 10 s later.
        assert now() == pytest.approx(55, abs=0.2)


async def test_no_more_requests_than_allowed_are_in_flight() -> None:
    """Hundreds of jobs use at most `submit_concurrency` POSTs and `concurrency` polls at once."""
    open_now = {"POST": 0, "GET": 0}
    most = {"POST": 0, "GET": 0}

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        open_now[request.method] += 1
        most[request.method] = max(most[request.method], open_now[request.method])
        task_id = f"task_{len(gateway.posts)}"
        await asyncio.sleep(5 if request.method == "POST" else 25)
        open_now[request.method] -= 1
        return web.json_response({"id": task_id, "status": "completed"})

    async with ScriptedGateway(submits=[answer], polls=[answer]) as gateway:
        async with session(gateway, submit_concurrency=8) as octo:
            submits = [octo.submit("video_1", prompt=f"snow {number}") for number in range(200)]
            await asyncio.gather(*await asyncio.gather(*submits))
    assert most == {"POST": 8, "GET": 16}


async def test_thousands_submitted_at_once_do_not_stay_in_step() -> None:
    """With the default strategy the polls of tasks that began together spread over time."""
    async with Emulator(duration=400) as gateway:
        async with octoremix.Session(gateway.api_key, base_url=gateway.url) as octo:
            for number in range(300):
                octo.track((await octo.submit("video_1", prompt=f"snow {number}")).id)
            await asyncio.sleep(300)
        polls = sorted(t for times in gateway.books.poll_times.values() for t in times)
        last = [t for t in polls if 260 <= t < 290]
        busiest = max(
            sum(1 for t in last if second <= t < second + 1) for second in range(260, 290)
        )
        # 300 tasks in 30 s are 10 a second; in step they would come all within one.
        assert len(last) > 270
        assert busiest < 40


@pytest.mark.parametrize(
    "failure",
    [
        reply(status=500),
        reply("<html>bad gateway</html>", status=502),
        reply("<html>not the gateway</html>"),
        reply("<html>blocked</html>", status=403),
        reply("<html>log in</html>", status=401),
        reply(b""),
        reply(b'{"id": "task_1", "stat'),
        reply([1, 2]),
        reply({"id": "task_1", "status": 7}),
        reply({"id": "task_1", "status": "completed"}, status=302, headers={"Location": "/x"}),
        cut,
    ],
)
async def test_a_failed_poll_is_repeated_and_the_task_lives(failure: Answer) -> None:
    """Whatever a single poll brings but a clear answer, the task is asked for again."""
    async with ScriptedGateway(polls=[failure, failure, task("completed")]) as gateway:
        async with session(gateway) as octo:
            await octo.track("task_1")
        assert len(gateway.gets) == 3


async def test_a_task_survives_an_outage_shorter_than_the_window() -> None:
    """Ten failures in a row end no task before the failure window has passed."""
    policy = octoremix.PollPolicy(
        wait=tenacity.wait_fixed(5), first_delay=5, max_failures=10, failure_window=120
    )
    async with ScriptedGateway(polls=[reply(status=503)] * 20 + [task("completed")]) as gateway:
        async with session(gateway, policy) as octo:
            await octo.track("task_1")
        assert len(gateway.gets) == 21


async def test_a_task_that_keeps_failing_is_given_up_with_its_id() -> None:
    """After enough failures and time the wait ends in an error that says how to go on."""
    async with ScriptedGateway(polls=[reply(status=503)]) as gateway, session(gateway) as octo:
        with pytest.raises(octoremix.PollingFailedError, match=r"session\.track") as caught:
            await octo.track("task_1")
        assert caught.value.id == "task_1"
        assert isinstance(caught.value.__cause__, octoremix.ServerError)
        assert now() == pytest.approx(125, abs=0.2)


async def test_a_refused_key_ends_every_wait() -> None:
    """Two 401 answers of the gateway's own, 10 s apart, end all waits; each error has its id."""
    async with ScriptedGateway(polls=[UNAUTHORIZED]) as gateway, session(gateway) as octo:
        futures = [octo.track(f"task_{number}") for number in range(600)]
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert {type(error) for error in results} == {octoremix.PollingFailedError}
        assert [error.id for error in results] == [future.id for future in futures]
        assert isinstance(results[0].__cause__, octoremix.AuthenticationError)
        assert now() == pytest.approx(15, abs=0.5)
        gateway.polls[:] = [task("completed")]
        await octo.track("task_1")  # the session lives on, perhaps with another key


async def test_one_refusal_of_the_key_ends_nothing() -> None:
    """A 401 that is followed by a good answer is a failed poll."""
    script = [UNAUTHORIZED, task("queued"), UNAUTHORIZED, task("completed")]
    async with ScriptedGateway(polls=script) as gateway, session(gateway) as octo:
        await octo.track("task_1")


async def test_a_new_task_may_be_unknown_for_a_while() -> None:
    """`task_not_exist` soon after our own submit is a failed poll."""
    async with ScriptedGateway(polls=[NOT_FOUND, NOT_FOUND, task("completed")]) as gateway:
        async with session(gateway) as octo:
            assert await octo.remix("video_1", prompt="snow")


async def test_a_task_of_ours_that_stays_unknown_is_lost() -> None:
    """`task_not_exist` a minute after our own submit ends the wait as lost, with its id."""
    async with ScriptedGateway(polls=[NOT_FOUND]) as gateway, session(gateway) as octo:
        with pytest.raises(octoremix.TaskLostError) as caught:
            await octo.remix("video_1", prompt="snow")
        assert caught.value.id == "task_1"
        assert now() == pytest.approx(65, abs=0.2)


async def test_a_tracked_id_that_never_was() -> None:
    """An id that the gateway does not know ends at its first poll."""
    async with ScriptedGateway(polls=[NOT_FOUND]) as gateway, session(gateway) as octo:
        with pytest.raises(octoremix.TaskNotFoundError) as caught:
            await octo.track("task_1")
        assert caught.value.id == "task_1"
        assert len(gateway.gets) == 1


async def test_a_429_pauses_all_polls_and_fails_none() -> None:
    """After a 429 nothing is asked until its Retry-After has passed, and then not in a burst."""
    limited = reply(status=429, headers={"Retry-After": "40"})
    one_by_one = octoremix.PollPolicy(wait=tenacity.wait_fixed(10), first_delay=5, concurrency=1)
    times: list[float] = []
    async with ScriptedGateway(polls=[limited, task("completed")]) as gateway:
        async with session(gateway, one_by_one, on_event=lambda _: times.append(now())) as octo:
            futures = [octo.track(f"task_{number}") for number in range(10)]
            await asyncio.sleep(6)
            assert octo.stats.cool_down == pytest.approx(39, abs=0.1)
            await asyncio.sleep(38)
            assert len(gateway.gets) == 1
            await asyncio.gather(*futures)
        assert times[2] == pytest.approx(45, abs=0.1)
        assert times[-1] == pytest.approx(54, abs=1)


async def test_a_cool_down_holds_submits_back_too() -> None:
    """A poll's 429 keeps the next POST waiting, which pays for nothing meanwhile."""
    limited = reply(status=429, headers={"Retry-After": "30"})
    async with ScriptedGateway(polls=[limited, task("completed")]) as gateway:
        async with session(gateway) as octo:
            octo.track("task_0")
            await asyncio.sleep(6)
            await octo.submit("video_1", prompt="snow")
            assert now() == pytest.approx(35, abs=0.1)


async def test_the_deadline_makes_one_last_poll() -> None:
    """A task that is done by its deadline is found by the poll that is made then."""
    rare = octoremix.PollPolicy(wait=tenacity.wait_fixed(1000), first_delay=5)
    async with ScriptedGateway(polls=[task("queued"), task("completed")]) as gateway:
        async with session(gateway, rare) as octo:
            await octo.track("task_1", deadline=60)
            assert now() == pytest.approx(60, abs=0.1)


async def test_the_deadline_ends_the_wait_with_the_last_snapshot() -> None:
    """A task that goes on at its deadline is given up with its id and what was seen."""
    async with ScriptedGateway(polls=[task("queued")]) as gateway, session(gateway) as octo:
        with pytest.raises(TimeoutError, match=r"last seen queued.*billed") as caught:
            await octo.track("task_1", deadline=12)
        assert isinstance(caught.value, octoremix.WaitTimeoutError)
        assert caught.value.video is not None
        assert caught.value.video.status is octoremix.TaskStatus.QUEUED
        assert now() == pytest.approx(12, abs=0.1)
        assert len(gateway.gets) == 2


async def test_an_answer_on_its_way_at_the_deadline_is_taken() -> None:
    """A poll sent before the deadline whose answer comes within the grace decides."""
    async with ScriptedGateway(polls=[after(9, task("completed"))]) as gateway:
        async with session(gateway) as octo:
            await octo.track("task_1", deadline=6)
            assert now() == pytest.approx(14, abs=0.1)


async def test_a_hanging_poll_does_not_stretch_the_deadline() -> None:
    """At most 10 s after its deadline a wait is over, whatever the gateway does."""
    async with ScriptedGateway(polls=[after(1000, task("completed"))]) as gateway:
        async with session(gateway) as octo:
            with pytest.raises(octoremix.WaitTimeoutError):
                await octo.track("task_1", deadline=6)
            assert now() == pytest.approx(16, abs=0.2)


async def test_deadlines_hold_while_the_gateway_answers_nothing() -> None:
    """Hundreds of tasks end in time although hanging polls take every slot."""
    async with ScriptedGateway(polls=[after(1000, task("completed"))]) as gateway:
        async with session(gateway, request_timeout=60) as octo:
            futures = [octo.track(f"task_{number}", deadline=30) for number in range(700)]
            results = await asyncio.gather(*futures, return_exceptions=True)
            assert {type(error) for error in results} == {octoremix.WaitTimeoutError}
            assert now() == pytest.approx(40, abs=0.5)


async def test_without_a_deadline_a_task_is_followed_for_ever() -> None:
    """`deadline=None` follows for days."""
    hourly = octoremix.PollPolicy(wait=tenacity.wait_fixed(3600))
    async with ScriptedGateway(polls=[task("queued")]) as gateway, session(gateway, hourly) as octo:
        future = octo.track("task_1", deadline=None)
        await asyncio.sleep(3 * 24 * 3600)
        assert not future.done()


@pytest.mark.parametrize(
    "wait", [lambda _: 1 / 0, lambda _: -1, lambda _: float("nan"), lambda _: None]
)
async def test_a_broken_strategy_ends_its_task_alone(wait: Any) -> None:
    """A strategy that raises or returns nonsense fails that task, and the poller goes on."""

    def sometimes(state: tenacity.RetryCallState) -> float:
        return wait(state) if state.kwargs["task"].id == "task_bad" else 10

    policy = octoremix.PollPolicy(wait=sometimes, first_delay=5)
    script = [task("queued"), task("queued"), task("completed")]
    async with ScriptedGateway(polls=script) as gateway, session(gateway, policy) as octo:
        bad, good = octo.track("task_bad"), octo.track("task_good")
        with pytest.raises(octoremix.PollingFailedError, match="strategy") as caught:
            await bad
        assert caught.value.id == "task_bad"
        await good


async def test_detaching_stops_the_polls_of_a_task() -> None:
    """A detached task is asked for no more, and its waiters get its id."""
    async with ScriptedGateway(polls=[task("queued")]) as gateway, session(gateway) as octo:
        future = octo.track("task_1")
        await asyncio.sleep(6)
        future.detach()
        with pytest.raises(octoremix.DetachedError) as caught:
            await future
        assert caught.value.id == "task_1"
        asked = len(gateway.gets)
        await asyncio.sleep(100)
        assert len(gateway.gets) == asked
        assert octo.track("task_1") is not future


async def test_detaching_while_a_poll_is_out() -> None:
    """An answer that comes after its task was detached and tracked anew goes to nobody wrongly."""
    script = [after(20, task("failed")), task("completed")]
    async with ScriptedGateway(polls=script) as gateway, session(gateway) as octo:
        future = octo.track("task_1")
        await asyncio.sleep(6)
        future.detach()
        again = octo.track("task_1")
        assert (await again).status is octoremix.TaskStatus.COMPLETED
        await asyncio.sleep(30)


async def test_events_tell_what_happens() -> None:
    """`on_event` hears of the submit, each poll, each cool-down and the end, in order."""
    events: list[octoremix.Event] = []
    script = [reply(status=429), reply(status=500), task("queued"), task("completed")]
    async with ScriptedGateway(polls=script) as gateway:
        async with session(gateway, on_event=events.append) as octo:
            await octo.remix("video_1", prompt="snow")
    told = [(event.kind, event.id, type(event.error).__name__) for event in events]
    assert told == [
        ("accepted", "task_1", "NoneType"),
        ("cool_down", None, "NoneType"),
        ("polled", "task_1", "RateLimitError"),
        ("polled", "task_1", "ServerError"),
        ("polled", "task_1", "NoneType"),
        ("polled", "task_1", "NoneType"),
        ("settled", "task_1", "NoneType"),
    ]
    assert events[1].delay == 1
    assert events[-1].video is not None


async def test_an_event_handler_may_fail_or_detach(loop_errors: list[dict[str, Any]]) -> None:
    """A handler that raises goes to the loop's handler; one that detaches is obeyed."""
    future: octoremix.RemixFuture | None = None

    def handler(event: octoremix.Event) -> None:
        if event.kind == "polled":
            assert future is not None
            future.detach()
            raise ValueError("broken handler")

    async with ScriptedGateway(polls=[task("queued")]) as gateway:
        async with session(gateway, on_event=handler) as octo:
            future = octo.track("task_1")
            with pytest.raises(octoremix.DetachedError):
                await future
            await asyncio.sleep(100)
            assert len(gateway.gets) == 1
    assert [str(context["exception"]) for context in loop_errors] == ["broken handler"]
    loop_errors.clear()


def poller(fetch: Any, **settings: Any) -> Poller:
    return Poller(
        fetch, STEADY, Pace(), request_timeout=30, max_tasks=1000, notify=None, **settings
    )


async def test_a_fetch_that_fails_unexpectedly_is_a_failed_poll(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An exception that nobody foresaw is logged and costs one poll, not the poller."""
    calls = 0

    async def fetch(*_: object) -> Any:
        nonlocal calls
        calls += 1
        raise KeyError("unforeseen")

    octo = poller(fetch)
    future = octo.follow("task_1", deadline=None)
    await asyncio.sleep(30)
    assert calls == 3
    assert not future.done()
    assert "unforeseen" in caplog.text
    await octo.aclose()


async def test_a_poller_that_dies_tells_everybody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If deciding fails, every open future fails with its id, and nothing new is taken."""
    async with ScriptedGateway() as gateway, session(gateway) as octo:
        futures = [octo.track(f"task_{number}") for number in range(3)]

        def broken(*_: object) -> None:
            raise AssertionError("a bug in the schedule")

        monkeypatch.setattr("octoremix._schedule.Schedule.observe", broken)
        for future in futures:
            with pytest.raises(octoremix.SessionClosedError, match="bug in the schedule") as caught:
                await future
            assert caught.value.id == future.id
        with pytest.raises(octoremix.SessionClosedError, match="poller has stopped"):
            octo.track("task_9")
        with pytest.raises(octoremix.SessionClosedError, match="poller has stopped"):
            await octo.submit("video_1", prompt="snow")
        assert gateway.posts == []
    assert caplog.records[0].levelno == logging.CRITICAL


async def test_a_runner_that_dies_tells_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds when the coroutine itself fails, or is cancelled by somebody."""
    async with ScriptedGateway() as gateway, session(gateway) as octo:
        future = octo.track("task_1")
        await asyncio.sleep(0)
        for each in asyncio.all_tasks():
            if each.get_name() == "octoremix poller":
                each.cancel()
        with pytest.raises(octoremix.SessionClosedError, match="cancelled") as caught:
            await future
        assert caught.value.id == "task_1"


async def test_a_poll_cancelled_by_somebody_is_asked_again() -> None:
    """Whoever cancels a poll's task does not lose the poll."""
    async with ScriptedGateway(polls=[after(20, task("queued")), task("completed")]) as gateway:
        async with session(gateway) as octo:
            future = octo.track("task_1")
            before = asyncio.all_tasks()
            await asyncio.sleep(6)
            for each in asyncio.all_tasks() - before:
                if "Poller._poll" in repr(each.get_coro()):
                    each.cancel()
            await future
            assert now() == pytest.approx(6, abs=0.1)


async def test_more_tasks_than_allowed_are_refused_before_anything_is_sent() -> None:
    """`max_tasks` bounds what is followed and what is on its way."""
    async with ScriptedGateway(polls=[task("queued")]) as gateway:
        async with session(gateway, max_tasks=2) as octo:
            octo.track("task_1")
            octo.track("task_2")
            assert octo.track("task_2").id == "task_2"
            with pytest.raises(octoremix.ConfigurationError, match="max_tasks"):
                octo.track("task_3")
            with pytest.raises(octoremix.ConfigurationError, match="max_tasks"):
                await octo.submit("video_1", prompt="snow")
            assert gateway.posts == []
